"""Files, by key: a folder of this machine, or a bucket of S3. The one interface that both have.

Nothing is held whole: what comes is written as it comes, what goes is read as it goes. A key is made by the server,
never from a file's name, and a file that can be read under its key is whole: it appears when its upload is finished.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from datetime import datetime
from io import IOBase
from typing import Final, Protocol, TypeVar

from store.errors import Away

T = TypeVar("T")

#: What a key looks like: words of the server's own, with slashes between them.
_KEY: Final = re.compile(r"[a-z0-9][a-z0-9._-]*(?:/[a-z0-9][a-z0-9._-]*)*")
MAX_KEY_CHARACTERS: Final = 200
#: Bytes that a reader is handed at a time, at most.
CHUNK_BYTES: Final = 256 * 1024
#: What is said of a file to whoever reads it by a link: it is theirs alone, and may be deleted.
CACHE_CONTROL: Final = "private, max-age=0, must-revalidate"


class ObjectsAway(Away):
    """Where files are kept cannot be reached, or gave up: the same request may succeed later."""


class ObjectMissing(Exception):
    """There is no file under this key."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stat:
    """A file as it lies there. `etag` is opaque, without quotes: another content has another one."""

    size: int
    etag: str
    modified_at: datetime


class Upload(Protocol):
    """A file on its way in. Used by one task at a time; whoever may not be alone takes a lease first. It holds memory
    and files until it is finished or dropped: one of them is always its end."""

    @property
    def offset(self) -> int:
        """Bytes written so far, here or by those who went before."""

    async def write(self, chunk: bytes) -> None:
        """Append. What is written may be lost until :meth:`keep`. Raises ObjectsAway; ObjectMissing where the upload
        was finished, given up or swept meanwhile."""

    async def keep(self) -> str:
        """Make last what was written, and answer the state from which :meth:`ObjectStore.resume` goes on, also on
        another machine where the files are in S3. Until it is written down the one before is still good; nothing is
        written to this object before that. Raises ObjectsAway.
        """

    async def finish(self) -> None:
        """The file is whole, and can be read under its key from now on. Raises as :meth:`write`."""

    def drop(self) -> None:
        """Let go of it: what was written since the last :meth:`keep` is lost. After its end this does nothing."""


class ObjectStore(Protocol):
    """Files by key. Every method raises ObjectsAway; a key that is none of ours is a ValueError."""

    @property
    def place(self) -> str:
        """Where files are kept, as whoever runs the server calls it."""

    @property
    def crowded(self) -> bool:
        """Whether others may have to wait for an upload that holds much, until it is dropped."""

    async def check(self) -> None:
        """Return if files can be written now."""

    async def stat(self, key: str) -> Stat | None:
        """The file under this key, if there is one."""

    def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        """The bytes from `start` up to, but without, `end`; in chunks of CHUNK_BYTES at most. Raises ObjectMissing."""

    async def delete(self, key: str) -> None:
        """Remove the file. That there is none is no error."""

    async def begin(self, key: str, content_type: str) -> str:
        """Begin an upload: the state to resume it from."""

    async def resume(self, key: str, state: str) -> Upload:
        """Go on with an upload from where it was kept last. Raises ObjectMissing where it was finished, given up or
        swept."""

    async def give_up(self, key: str, state: str) -> None:
        """Remove what an upload has written. That there is nothing is no error."""

    async def clear(self, *, before: datetime) -> None:
        """Remove what uploads have written that nobody wrote to since: of whoever died before they noted the state."""

    async def link(self, key: str, *, seconds: int, content_type: str, disposition: str) -> str | None:
        """A URL that serves the file to whoever has it, for so long, under these headers. None: read it here."""

    async def origin(self) -> str | None:
        """Where :meth:`link` leads, as browsers name it (RFC 6454: scheme, host and port). None: it leads nowhere."""

    async def source(self, key: str, *, seconds: int) -> str:
        """Where another program of this machine reads the file: a path, or a URL that is good for so long."""

    async def close(self) -> None: ...


async def in_thread(work: Callable[[], T]) -> T:
    """`work` in a thread. Who is cancelled meanwhile waits for its end: it may be using a file that is closed next. A
    file that it opened is closed then, as nobody gets it."""
    working = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait((working,))
        if working.exception() is None and isinstance(opened := working.result(), IOBase):
            opened.close()
        raise


def checked(key: str) -> str:
    """The key, if it is one. Raises ValueError: a key from elsewhere must never reach a path."""
    if len(key) > MAX_KEY_CHARACTERS or not _KEY.fullmatch(key):
        raise ValueError(f"not a key of an object: {key[:MAX_KEY_CHARACTERS]!r}")
    return key
