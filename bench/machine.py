"""The machine: which core does what, how many files may be open, and what it is."""

from __future__ import annotations

import os
import platform
import resource
import shutil
from pathlib import Path
from typing import Final

#: What is measured has a core of its own; the load, Postgres, Redis and the harness share the other one.
SERVER_CORE: Final = 0
LOAD_CORE: Final = 1
#: Files beside a server's connections: its pool, its log, its libraries.
SPARE_FILES: Final = 500


def require(*programs: str) -> None:
    """Raises SystemExit with a sentence when one of them is not on PATH."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        raise SystemExit(f"The bench needs {' and '.join(missing)} on PATH.")


def pin(core: int) -> None:
    """Keep this process, and what it starts from now on, on one core, where the machine has it."""
    if hasattr(os, "sched_setaffinity") and core < (os.cpu_count() or 1):
        os.sched_setaffinity(0, {core})


def allow_many_files() -> int:
    """Raise the limit of open files as far as allowed. Answers the connections that one process may hold."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (1 << 18, hard):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, hard)))
            soft = wanted
            break
        except (ValueError, OSError):
            continue
    return soft - SPARE_FILES


def description() -> str:
    """One line: processor, cores, memory, system."""
    fields = dict[str, str]()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{fields.get('model name', platform.machine())}, {os.cpu_count()} cores, {gib:.0f} GiB, "
        f"{platform.system()} {platform.release().partition('-')[0]}"
    )
