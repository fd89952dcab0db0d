"""Pages of history that were read before, ready to be sent again: per worker, bounded, and never out of date.

A session's `last_seq` names the state of its whole history (:class:`store.messages.Page`). A request learns it with
its right to enter; a page read at that state, or at a later one, is what the database would say now. So there is
nothing to invalidate, whichever worker wrote.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from multidict import CIMultiDict

#: What one worker keeps: the newest pages of some hundred lessons under way.
MAX_CACHE_BYTES: Final = 16 * 1024 * 1024
#: A larger page is read each time, rather than have it push out many others.
MAX_CACHED_PAGE_BYTES: Final = MAX_CACHE_BYTES // 32
#: What a page takes beside its body and its address: headers, key, this record.
PAGE_OVERHEAD_BYTES: Final = 2048


@dataclass(frozen=True, kw_only=True, slots=True)
class CachedPage:
    """An answer as it is sent; `headers` are copied into each. `last_seq`: the state of the session it shows."""

    last_seq: int
    etag: str
    headers: CIMultiDict[str]
    body: bytes


class PageCache:
    """The pages asked for last, each in its newest state. A page's key is its session and the request's target."""

    def __init__(self, most_bytes: int = MAX_CACHE_BYTES, most_page_bytes: int = MAX_CACHED_PAGE_BYTES) -> None:
        self._most_bytes = most_bytes
        self._most_page_bytes = most_page_bytes
        self._pages: OrderedDict[tuple[UUID, str], CachedPage] = OrderedDict()  # least recently used first
        self._bytes = 0

    @property
    def bytes_held(self) -> int:
        return self._bytes

    def get(self, session_id: UUID, target: str, *, last_seq: int) -> CachedPage | None:
        """The page as it is when the session has reached `last_seq`, or later. None: it must be read."""
        key = (session_id, target)
        page = self._pages.get(key)
        if page is None or page.last_seq < last_seq:
            return None
        self._pages.move_to_end(key)
        return page

    def put(self, session_id: UUID, target: str, page: CachedPage) -> CachedPage:
        """Keep a page that was read. Answers it, or the newer one that another request read meanwhile.

        What is answered is to be sent: then nobody is shown an older page after a newer one.
        """
        key = (session_id, target)
        known = self._pages.get(key)
        if known is not None:
            if known.last_seq > page.last_seq:
                return known
            self._bytes -= _size(key, self._pages.pop(key))
        size = _size(key, page)
        if size <= self._most_page_bytes:
            self._pages[key] = page
            self._bytes += size
            while self._bytes > self._most_bytes:
                self._bytes -= _size(*self._pages.popitem(last=False))
        return page


def _size(key: tuple[UUID, str], page: CachedPage) -> int:
    return len(page.body) + len(key[1]) + PAGE_OVERHEAD_BYTES
