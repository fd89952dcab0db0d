"""Pages that are sent again: the newest alone, and no more of them than fit."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from multidict import CIMultiDict

from handlers.http.page_cache import MAX_CACHE_BYTES, MAX_CACHED_PAGE_BYTES, PAGE_OVERHEAD_BYTES, CachedPage, PageCache

SESSION = uuid4()


def page(last_seq: int = 1, size: int = 0) -> CachedPage:
    return CachedPage(last_seq=last_seq, etag=f"x-{last_seq}", headers=CIMultiDict(), body=b"x" * size)


def test_a_page_is_good_for_the_state_it_shows_and_for_earlier_ones() -> None:
    cache = PageCache()
    kept = page(5)
    assert cache.put(SESSION, "/", kept) is kept
    assert cache.get(SESSION, "/", last_seq=5) is kept
    assert cache.get(SESSION, "/", last_seq=4) is kept, "who asked before the fifth event may know of it"
    assert cache.get(SESSION, "/", last_seq=6) is None


def test_a_page_is_its_sessions_and_its_addresss_own() -> None:
    cache = PageCache()
    cache.put(SESSION, "/a", page())
    assert cache.get(uuid4(), "/a", last_seq=0) is None
    assert cache.get(SESSION, "/b", last_seq=0) is None


def test_a_newer_page_takes_the_place_of_an_older_one_and_never_the_other_way() -> None:
    cache = PageCache()
    old, new = page(5, size=10), page(6, size=20)
    cache.put(SESSION, "/", old)
    held = cache.bytes_held
    assert cache.put(SESSION, "/", new) is new
    assert cache.bytes_held == held + 10
    assert cache.put(SESSION, "/", old) is new, "what was read earlier and came later is not shown"
    assert cache.get(SESSION, "/", last_seq=5) is new


def test_what_was_asked_for_longest_ago_makes_room() -> None:
    sessions = [uuid4() for _ in range(4)]
    cache = PageCache(most_bytes=3 * (PAGE_OVERHEAD_BYTES + 101), most_page_bytes=10_000)
    for session_id in sessions[:3]:
        cache.put(session_id, "/", page(size=100))
    cache.get(sessions[0], "/", last_seq=1)
    cache.put(sessions[3], "/", page(size=100))
    assert [known(cache, session_id) for session_id in sessions] == [True, False, True, True]


@pytest.mark.parametrize("size", [0, 1000, 100_000, MAX_CACHED_PAGE_BYTES])
def test_however_many_pages_are_asked_for_the_cache_stays_in_its_bounds(size: int) -> None:
    cache = PageCache()
    for n in range(20_000):
        cache.put(SESSION, f"/?x={n}", page(n, size))
        assert cache.bytes_held <= MAX_CACHE_BYTES
    assert (cache.bytes_held > MAX_CACHE_BYTES * 0.9) == (size < MAX_CACHED_PAGE_BYTES)


def test_a_page_too_large_is_not_kept_and_leaves_no_older_one_behind() -> None:
    cache = PageCache()
    cache.put(SESSION, "/", page(1))
    large = page(2, MAX_CACHED_PAGE_BYTES)
    assert cache.put(SESSION, "/", large) is large
    assert not known(cache, SESSION)
    assert cache.bytes_held == 0


def known(cache: PageCache, session_id: UUID) -> bool:
    return cache.get(session_id, "/", last_seq=0) is not None
