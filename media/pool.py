"""Media work beside the server: a few processes at a time, each with one file, limits, and an end.

Nothing that decodes what people send runs in the server's own process.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from media.job import Answer, Facts, Job, Limits

#: Files that are worked on at a time, per worker; the rest wait their turn.
PROCESSES: Final = 1
#: Seconds of the clock, and of the processor, for one file.
SECONDS: Final = 900.0
PROCESSOR_SECONDS: Final = 900
#: Bytes of memory that one may address. FFmpeg's libraries alone map some 400 MiB.
MEMORY_BYTES: Final = 1536 * 1024 * 1024
#: Bytes of an answer; it is a short document. What a broken decoder says may be anything.
MAX_ANSWER_BYTES: Final = 64 * 1024

_ROOT: Final = Path(__file__).parents[1]


class Unreadable(Exception):
    """The file cannot be read, or asked for too much; the sentence is for whoever sent it."""


class SourceGone(Exception):
    """There is no such file, as far as the process sees."""


class SourceAway(Exception):
    """Where the file lies, or is written to, could not be reached: nothing is known of the file."""


class Broken(Exception):
    """The process ended before it answered. That may have been the file, or whoever is short of memory."""


class MediaPool:
    """Runs :class:`media.job.Job`s, `processes` at a time."""

    def __init__(
        self,
        *,
        processes: int = PROCESSES,
        seconds: float = SECONDS,
        processor_seconds: int = PROCESSOR_SECONDS,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        self._places = asyncio.Semaphore(processes)
        self._seconds = seconds
        self._limits = Limits(memory_bytes=memory_bytes, seconds=processor_seconds)

    async def run(self, job: Job) -> Facts:
        """What the file holds. Raises Unreadable, SourceGone, SourceAway, Broken; cancelled, it ends the process."""
        async with self._places:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "media.work",
                # The process sets them itself, before it hears of the file: what is run between fork and exec (a
                # `preexec_fn`) can hang in a server that has threads.
                msgspec.json.encode(self._limits).decode(),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                cwd=_ROOT,
                env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(_ROOT), "OMP_NUM_THREADS": "1"},
                start_new_session=True,
            )
            try:
                async with asyncio.timeout(self._seconds):
                    said = await _answer(process, msgspec.json.encode(job))
            except TimeoutError:
                raise _too_long(self._seconds) from None
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        if process.returncode == -signal.SIGXCPU:
            raise _too_long(self._limits.seconds)
        if process.returncode != 0 or not said:
            raise Broken(f"The process that looked through the file ended with {process.returncode}.")
        try:
            answer = msgspec.json.decode(said, type=Answer)
        except msgspec.DecodeError as error:
            raise Broken(f"The process that looked through the file said what is no answer: {error}") from None
        if answer.away is not None:
            raise SourceAway(answer.away)
        if answer.gone:
            raise SourceGone("The file is gone.")
        if answer.facts is None:
            raise Unreadable(answer.problem or "The file cannot be read.")
        return answer.facts


async def _answer(process: Process, job: bytes) -> bytes:
    """What the process says of the job until it ends. Raises Broken where that is more than an answer has."""
    assert process.stdin is not None, "it is a pipe"
    assert process.stdout is not None, "it is a pipe"
    with suppress(ConnectionError):  # it ended before it heard of the job: its return code says so
        process.stdin.write(job)
        await process.stdin.drain()
    process.stdin.close()
    try:
        await process.stdout.readexactly(MAX_ANSWER_BYTES + 1)
    except asyncio.IncompleteReadError as whole:
        await process.wait()
        return whole.partial
    raise Broken(f"The process that looked through the file said more than {MAX_ANSWER_BYTES} bytes.")


def _too_long(seconds: float) -> Unreadable:
    return Unreadable(f"The file took longer than {seconds:.0f} s to look through; send a shorter one, or as MP4.")
