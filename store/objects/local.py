"""Files in a folder: `objects/` holds what is whole, `incoming/` what is on its way. Both lie on one file system."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Final, Literal, TypeVar
from uuid import UUID, uuid4

from store.objects.objects import CHUNK_BYTES, ObjectMissing, ObjectsAway, Stat, checked

T = TypeVar("T")

#: Bytes gathered before a thread writes them: a chunk from the network is much smaller.
GATHERED_BYTES: Final = 1024 * 1024


class LocalStore:
    """An :class:`store.objects.objects.ObjectStore` in the folder `root`, which is made when it is needed.

    Several workers may share it; several machines, if the folder is shared between them.
    """

    def __init__(self, root: Path) -> None:
        root = root.absolute()  # other programs are given paths, and stand elsewhere
        self._root = root
        self._objects = root / "objects"
        self.incoming = root / "incoming"

    async def check(self) -> None:
        await _in_thread(self._make_folders)

    def _make_folders(self) -> None:
        for folder in (self._objects, self.incoming):
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
                raise PermissionError(f"{folder} cannot be written to")

    async def stat(self, key: str) -> Stat | None:
        try:
            found = await _in_thread(partial(os.stat, self._path(key)))
        except FileNotFoundError:
            return None
        return Stat(
            size=found.st_size,
            # A file is written once: when, and how long it is, say which one it is.
            etag=f"{found.st_mtime_ns:x}-{found.st_size:x}",
            modified_at=datetime.fromtimestamp(found.st_mtime, UTC),
        )

    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        try:
            file = await _in_thread(partial(_open, self._path(key), "rb"))
        except FileNotFoundError:
            raise ObjectMissing(key) from None
        try:
            await _in_thread(partial(file.seek, start))
            left = None if end is None else end - start
            while left is None or left > 0:
                chunk = await _in_thread(partial(file.read, CHUNK_BYTES if left is None else min(CHUNK_BYTES, left)))
                if not chunk:
                    break
                if left is not None:
                    left -= len(chunk)
                yield chunk
        finally:
            file.close()

    async def delete(self, key: str) -> None:
        with suppress(FileNotFoundError):
            await _in_thread(partial(os.unlink, self._path(key)))

    async def begin(self, key: str, content_type: str) -> str:
        checked(key)
        name = str(uuid4())
        await _in_thread(partial(self._begin, self.incoming / name))
        return _state(name, 0)

    def _begin(self, path: Path) -> None:
        self._make_folders()
        with path.open("xb"):
            pass

    async def resume(self, key: str, state: str) -> LocalUpload:
        source, offset = self._on_its_way(state)
        try:
            file = await _in_thread(partial(_open, source, "r+b"))
            await _in_thread(partial(_cut, file, offset))
        except FileNotFoundError:
            raise ObjectMissing(key) from None
        return LocalUpload(file, source, self._path(key), offset)

    async def give_up(self, key: str, state: str) -> None:
        with suppress(FileNotFoundError):
            await _in_thread(partial(os.unlink, self._on_its_way(state)[0]))

    async def clear(self, *, before: datetime) -> None:
        await _in_thread(partial(self._clear, before.timestamp()))

    def _clear(self, before: float) -> None:
        self._make_folders()
        for left in self.incoming.iterdir():
            with suppress(FileNotFoundError):  # finished, or given up, just now
                if left.stat().st_mtime < before:
                    left.unlink()

    async def link(self, key: str, *, seconds: int, content_type: str, disposition: str) -> str | None:
        return None

    async def source(self, key: str, *, seconds: int) -> str:
        return str(self._path(key))

    async def close(self) -> None: ...

    def _path(self, key: str) -> Path:
        return self._objects / checked(key)

    def _on_its_way(self, state: str) -> tuple[Path, int]:
        name, _, offset = state.partition(":")
        return self.incoming / str(UUID(name)), int(offset)


class LocalUpload:
    """A file on its way into a folder."""

    def __init__(self, file: FileIO, source: Path, target: Path, offset: int) -> None:
        self._file = file
        self._source = source
        self._target = target
        self._written = offset
        self._gathered = bytearray()

    @property
    def offset(self) -> int:
        return self._written + len(self._gathered)

    async def write(self, chunk: bytes) -> None:
        self._gathered += chunk
        if len(self._gathered) >= GATHERED_BYTES:
            await self._flush()

    async def keep(self) -> str:
        await self._flush()
        await _in_thread(partial(os.fsync, self._file.fileno()))
        self._file.close()
        return _state(self._source.name, self._written)

    async def finish(self) -> None:
        await self.keep()
        try:
            await _in_thread(self._move)
        except FileNotFoundError:
            raise ObjectMissing(self._source.name) from None

    def drop(self) -> None:
        self._file.close()

    async def _flush(self) -> None:
        gathered, self._gathered = self._gathered, bytearray()
        await _in_thread(partial(_write_all, self._file, gathered))
        self._written += len(gathered)

    def _move(self) -> None:
        self._target.parent.mkdir(parents=True, exist_ok=True)
        self._source.replace(self._target)
        # The new name must last as well as the bytes.
        folder = os.open(self._target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _open(path: Path, mode: Literal["rb", "r+b"]) -> FileIO:
    return open(path, mode, buffering=0)  # its owner closes it


def _state(name: str, offset: int) -> str:
    """Which file, and how much of it was kept: what was written after that may have holes, should the machine go."""
    return f"{name}:{offset}"


def _cut(file: FileIO, offset: int) -> None:
    """Take off what was written and not kept. Raises FileNotFoundError where not even that is there."""
    try:
        if file.seek(0, os.SEEK_END) < offset:
            raise FileNotFoundError(file.name)
        file.truncate(offset)
        file.seek(offset)
    except OSError:
        file.close()
        raise


def _write_all(file: FileIO, data: bytearray) -> None:
    with memoryview(data) as view:
        done = 0
        while done < len(view):
            done += file.write(view[done:])


async def _in_thread(work: Callable[[], T]) -> T:
    with _translated():
        return await asyncio.to_thread(work)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        where = "" if error.filename is None else f" ({error.filename})"
        raise ObjectsAway(f"files cannot be kept just now: {error.strerror or error}{where}") from error
