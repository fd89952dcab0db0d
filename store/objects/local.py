"""Files in a folder: `objects/` holds what is whole, `incoming/` what is on its way. Both lie on one file system.

The folder may be a share that is not mounted now. What is there instead is an empty folder, in which nothing is
missing and to which nothing is to be written: a file named MARKER says whose files these are.
"""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Final, Literal, Protocol, TypeVar
from uuid import UUID, uuid4

from store.objects.objects import CHUNK_BYTES, ObjectMissing, ObjectsAway, Stat, checked, in_thread

T = TypeVar("T")

#: Whose folder it is: the installation's name, as the database has it.
MARKER: Final = ".encounters"
MAX_MARKER_BYTES: Final = 256
#: Bytes gathered before a thread writes them: a chunk from the network is much smaller.
GATHERED_BYTES: Final = 1024 * 1024


class Owner(Protocol):
    """Whose files lie in a folder."""

    async def name(self) -> str:
        """Of the installation: one line, which is nobody else's."""

    async def has_files(self) -> bool:
        """Whether any were kept before: then they are in the folder, or the folder is not theirs."""


class LocalStore:
    """An :class:`store.objects.objects.ObjectStore` in the folder `root`, which is made where its parent is there.

    Several workers may share it; several machines, if the folder is shared between them. A folder without the mark of
    the `owner`, who has files, or with somebody else's, is away; None: it is anybody's.
    """

    crowded = False  # what an upload holds here is little

    def __init__(self, root: Path, owner: Owner | None = None) -> None:
        root = root.absolute()  # other programs are given paths, and stand elsewhere
        self._root = root
        self._owner = owner
        self._objects = root / "objects"
        self.incoming = root / "incoming"

    @property
    def place(self) -> str:
        return str(self._root)

    async def check(self) -> None:
        await self._check_mounted()
        await _in_thread(self._make_folders)

    async def _check_mounted(self) -> None:
        """Raises ObjectsAway where the folder is not the one in which files were kept. Whatever is missing is missing
        only where this returns."""
        if self._owner is None:
            return
        name = await self._owner.name()
        marked = await _in_thread(self._mark)
        if marked is None and not await self._owner.has_files():
            marked = await _in_thread(partial(self._make_mark, name))
        if marked != name:
            raise ObjectsAway(
                f"{self._root} is not the folder in which files were kept: it has no file {MARKER} that says {name}; "
                "is it mounted?"
            )

    def _mark(self) -> str | None:
        try:
            with (self._root / MARKER).open("rb") as marker:
                return marker.read(MAX_MARKER_BYTES).decode(errors="replace").strip()
        except FileNotFoundError:
            return None

    def _make_mark(self, name: str) -> str | None:
        self._make_folders()
        made = self._root / f"{MARKER}-{uuid4()}"
        with made.open("xb") as file:
            file.write(f"{name}\n".encode())
            os.fsync(file.fileno())
        made.replace(self._root / MARKER)  # there at once with all that it says, whichever worker was first
        return self._mark()

    def _make_folders(self) -> None:
        # Not what is above it: where a share was to be mounted, nothing may be.
        try:
            self._root.mkdir(exist_ok=True)
        except FileNotFoundError as error:
            raise ObjectsAway(f"files cannot be kept: there is no {self._root.parent}") from error
        for folder in (self._objects, self.incoming):
            folder.mkdir(exist_ok=True)
            if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
                raise PermissionError(f"{folder} cannot be written to")

    async def stat(self, key: str) -> Stat | None:
        try:
            found = await _in_thread(partial(os.stat, self._path(key)))
        except FileNotFoundError:
            await self._check_mounted()
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
            await self._check_mounted()
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
        await self._remove(self._path(key))

    async def _remove(self, path: Path) -> None:
        try:
            await _in_thread(partial(os.unlink, path))
        except FileNotFoundError:
            await self._check_mounted()

    async def begin(self, key: str, content_type: str) -> str:
        checked(key)
        await self._check_mounted()
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
            file = await _in_thread(partial(_open_at, source, offset))
        except FileNotFoundError:
            await self._check_mounted()
            raise ObjectMissing(key) from None
        return LocalUpload(self, file, source, self._path(key), offset)

    async def give_up(self, key: str, state: str) -> None:
        await self._remove(self._on_its_way(state)[0])

    async def clear(self, *, before: datetime) -> None:
        await self.check()
        await _in_thread(partial(self._clear, before.timestamp()))

    def _clear(self, before: float) -> None:
        for left in self.incoming.iterdir():
            with suppress(FileNotFoundError):  # finished, or given up, just now
                found = left.stat(follow_symlinks=False)
                # A folder is none of ours.
                if stat.S_ISREG(found.st_mode) and found.st_mtime < before:
                    left.unlink()

    async def link(self, key: str, *, seconds: int, content_type: str, disposition: str) -> str | None:
        return None

    async def origin(self) -> str | None:
        return None

    async def source(self, key: str, *, seconds: int) -> str:
        await self._check_mounted()  # the program cannot tell
        return str(self._path(key))

    async def close(self) -> None: ...

    def _path(self, key: str) -> Path:
        return self._objects / checked(key)

    def _on_its_way(self, state: str) -> tuple[Path, int]:
        name, _, offset = state.partition(":")
        return self.incoming / str(UUID(name)), int(offset)


class LocalUpload:
    """A file on its way into a folder."""

    def __init__(self, store: LocalStore, file: FileIO, source: Path, target: Path, offset: int) -> None:
        self._store = store
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
        return _state(self._source.name, self._written)

    async def finish(self) -> None:
        await self.keep()
        self._file.close()
        try:
            await _in_thread(self._move)
        except FileNotFoundError:
            await self._store.check()
            raise ObjectMissing(self._source.name) from None

    def drop(self) -> None:
        self._file.close()

    async def _flush(self) -> None:
        gathered, self._gathered = self._gathered, bytearray()
        await _in_thread(partial(_write_all, self._file, gathered))
        self._written += len(gathered)

    def _move(self) -> None:
        self._target.parent.mkdir(exist_ok=True)
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


def _open_at(path: Path, offset: int) -> FileIO:
    """What was written and not kept is taken off. Raises FileNotFoundError where not even that is there."""
    file = _open(path, "r+b")
    try:
        if file.seek(0, os.SEEK_END) < offset:
            raise FileNotFoundError(file.name)
        file.truncate(offset)
        file.seek(offset)
    except OSError:
        file.close()
        raise
    return file


def _write_all(file: FileIO, data: bytearray) -> None:
    with memoryview(data) as view:
        done = 0
        while done < len(view):
            done += file.write(view[done:])


async def _in_thread(work: Callable[[], T]) -> T:
    with _translated():
        return await in_thread(work)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        where = "" if error.filename is None else f" ({error.filename})"
        raise ObjectsAway(f"files cannot be kept just now: {error.strerror or error}{where}") from error
