"""``python -m tests.support.dying``: a worker that looks through one file, and stops at a step of it to be killed.

It reads one JSON document from its input, and says on its output when it is there.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, Literal, NoReturn, get_args

from domain.processing import Processing
from media.job import Facts, Job
from media.pool import MediaPool
from store.objects.objects import ObjectStore
from store.objects.objects import Upload as Stored
from tests.support.apps import running_app

#: Where the worker stops: in the midst of the media work; when an object was begun, written, or put away whole; in the
#: transaction in which the file becomes ready; behind it.
Step = Literal["looking", "begun", "written", "put", "committing", "committed"]
STEPS: Final[tuple[Step, ...]] = get_args(Step)
#: What the worker says there.
THERE: Final = b"there\n"

REMUXED: Final = b"as it can be sought in"
THUMBNAIL: Final = b"\xff\xd8\xff a picture"


async def stop_here() -> NoReturn:
    sys.stdout.buffer.write(THERE)
    sys.stdout.flush()
    await asyncio.Event().wait()
    raise AssertionError("nobody goes on from there")


class Writing(MediaPool):
    """Media work that writes all that is asked for."""

    def __init__(self, then: Callable[[], Awaitable[None]] | None = None) -> None:
        super().__init__()
        self._then = then

    async def run(self, job: Job) -> Facts:
        assert job.remuxed is not None
        assert job.thumbnail is not None
        await asyncio.to_thread(Path(job.remuxed).write_bytes, REMUXED)
        if self._then is not None:
            await self._then()
        await asyncio.to_thread(Path(job.thumbnail).write_bytes, THUMBNAIL)
        return Facts(seconds=2.0, has_thumbnail=True, was_remuxed=True)


class _Stopping:
    """A store in which one stops."""

    def __init__(self, objects: ObjectStore, step: Step) -> None:
        self._objects = objects
        self._step = step

    async def begin(self, key: str, content_type: str) -> str:
        state = await self._objects.begin(key, content_type)
        if self._step == "begun":
            await stop_here()
        return state

    async def resume(self, key: str, state: str) -> Stored:
        stored = await self._objects.resume(key, state)
        write, finish = stored.write, stored.finish

        async def write_all(chunk: bytes) -> None:
            await write(chunk)
            if self._step == "written":
                await stop_here()

        async def finish_it() -> None:
            await finish()
            if self._step == "put":
                await stop_here()

        stored.write, stored.finish = write_all, finish_it  # type: ignore[method-assign]
        return stored

    def __getattr__(self, name: str) -> Any:
        return getattr(self._objects, name)


async def _main(*, dsn: str, folder: str, step: Step, settings: dict[str, str]) -> None:
    Processing.start = lambda self: None  # type: ignore[method-assign]  # the application's own does nothing
    async with running_app(dsn, data_dir=Path(folder), **settings) as app:
        app.uploads.objects = _Stopping(app.uploads.objects, step)
        moved = app.uploads.moved

        async def stop_as_it_moves(*arguments: Any) -> Any:
            shown = await moved(*arguments)
            if step == "committing":
                await stop_here()
            return shown

        app.uploads.moved = stop_as_it_moves  # type: ignore[assignment, method-assign]
        media = Writing(stop_here if step == "looking" else None)
        await Processing(app.uploads, media, Path(folder) / "work").work()
        await stop_here()


if __name__ == "__main__":
    asyncio.run(_main(**json.loads(sys.stdin.buffer.read())))
