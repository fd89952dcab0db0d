"""A file that FFmpeg reads through Python: from a folder, or from a URL in ranges.

FFmpeg itself is never given a name to open: a playlist in disguise would have it open others.
"""

from __future__ import annotations

import io
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from typing import BinaryIO, Final
from urllib.parse import urlsplit

#: Bytes asked for at a time.
BLOCK_BYTES: Final = 4 * 1024 * 1024
#: Seconds for an answer to begin, and between its bytes.
TIMEOUT_SECONDS: Final = 30.0


class Unreachable(Exception):
    """The file cannot be read just now, whatever it holds. No OSError: FFmpeg's own are, and say other things."""


class Gone(Exception):
    """There is no such file."""


def open_source(source: str) -> BinaryIO:
    """Raises Unreachable and Gone, as reading from it does."""
    with _told_apart():
        if urlsplit(source).scheme in ("http", "https"):
            return io.BufferedReader(_Ranges(source), BLOCK_BYTES)
        return io.BufferedReader(_Local(source))


@contextmanager
def _told_apart() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise Gone(str(error)) from error
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in (404, 410):
            raise Gone(str(error)) from error
        raise Unreachable(str(error)) from error
    except (OSError, HTTPException) as error:
        raise Unreachable(str(error)) from error


class _Local(io.FileIO):
    def readinto(self, buffer: object) -> int:
        with _told_apart():
            return super().readinto(buffer)  # type: ignore[arg-type]  # whatever RawIOBase is given


class _Ranges(io.RawIOBase):
    """What a URL serves, read where it is asked for."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._place = 0
        with self._asked(0, 1) as answer:
            # `Content-Range: bytes 0-0/SIZE`; a file without a byte has none.
            said = answer.headers.get("Content-Range", "").rpartition("/")[2]
        self._size = int(said) if said.isdecimal() else 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._place = max(0, start + offset)
        return self._place

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]  # whatever RawIOBase is given
        count = min(len(view), self._size - self._place)
        if count <= 0:
            return 0
        with _told_apart(), self._asked(self._place, self._place + count) as answer:
            # By the header, not by the status: servers there are that say 200 of a part, and which one it is.
            if self._place and not answer.headers.get("Content-Range", "").startswith(f"bytes {self._place}-"):
                raise Unreachable("what was asked for from its middle came from its beginning")
            data = answer.read(count)
        if not data:
            raise Unreachable("the answer broke off")  # none at all would be the file's end
        view[: len(data)] = data
        self._place += len(data)
        return len(data)

    def _asked(self, start: int, end: int) -> urllib.request._UrlopenRet:
        request = urllib.request.Request(self._url, headers={"Range": f"bytes={start}-{end - 1}"})  # noqa: S310
        return urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)  # noqa: S310  # http and https alone
