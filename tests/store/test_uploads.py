"""Files on their way: one writer at a time, and what was written down stays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from store import uploads
from store.database import Pool
from tests.store.test_files import announced
from tests.support.lessons import database_pool


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


@pytest.fixture
async def file_id(pool: Pool) -> UUID:
    return (await announced(pool)).id


async def test_an_upload_has_one_writer(pool: Pool, file_id: UUID) -> None:
    holders = [uuid4() for _ in range(5)]
    found = await asyncio.gather(*(uploads.take(pool, file_id, holder, seconds=60) for holder in holders))
    [upload] = [one for one in found if one is not None]
    holder = holders[found.index(upload)]
    assert (upload.offset, upload.length, upload.families, upload.watchers) == (0, 10, ["image"], ["teach"])
    assert await uploads.hold_on(pool, file_id, holder, seconds=60)
    assert not await uploads.hold_on(pool, file_id, uuid4(), seconds=60)
    await uploads.let_go(pool, file_id, uuid4())
    assert await uploads.take(pool, file_id, uuid4(), seconds=60) is None
    await uploads.let_go(pool, file_id, holder)
    assert await uploads.take(pool, file_id, uuid4(), seconds=60) is not None


async def test_a_writer_hears_that_another_wants_to(pool: Pool, file_id: UUID) -> None:
    assert not await uploads.want(pool, file_id), "nobody writes"
    one, two = uuid4(), uuid4()
    await uploads.take(pool, file_id, one, seconds=60)
    assert await uploads.want(pool, file_id)
    assert not await uploads.hold_on(pool, file_id, one, seconds=60)
    assert await uploads.save(pool, file_id, one, offset=5, head=b"12345", state=None), "what came is kept"
    await uploads.let_go(pool, file_id, one)
    taken = await uploads.take(pool, file_id, two, seconds=60)
    assert taken is not None
    assert (taken.offset, taken.head) == (5, b"12345")
    assert await uploads.hold_on(pool, file_id, two, seconds=60)


async def test_a_writer_that_is_gone_is_written_after_and_writes_no_more(pool: Pool, file_id: UUID) -> None:
    one, two = uuid4(), uuid4()
    await uploads.take(pool, file_id, one, seconds=60)
    await pool.execute("UPDATE uploads SET lease_until = now() - interval '1 second'")
    assert await uploads.take(pool, file_id, two, seconds=60) is not None
    assert not await uploads.save(pool, file_id, one, offset=9, head=b"", state="x")
    async with pool.acquire() as connection, connection.transaction():
        assert not await uploads.delete(connection, file_id, one)
        assert await uploads.delete(connection, file_id, two)


async def test_what_cannot_be_ended_is_put_off_unless_somebody_goes_on_with_it(pool: Pool, file_id: UUID) -> None:
    sweeper, writer = uuid4(), uuid4()
    for lets_go in (False, True):
        await pool.execute("UPDATE uploads SET expires_at = now() - interval '1 hour'")
        assert len(await uploads.take_expired(pool, sweeper, seconds=60, limit=5)) == 1
        if lets_go:
            await uploads.let_go(pool, file_id, sweeper)
        await uploads.put_off(pool, file_id, sweeper, seconds=60)
        assert await uploads.take_expired(pool, sweeper, seconds=60, limit=5) == []
    await uploads.take(pool, file_id, writer, seconds=60)
    await uploads.put_off(pool, file_id, sweeper, seconds=60)
    assert await uploads.hold_on(pool, file_id, writer, seconds=60)


async def test_only_what_has_expired_and_is_not_written_to_is_swept(pool: Pool, file_id: UUID) -> None:
    holder = uuid4()
    assert await uploads.take_expired(pool, holder, seconds=60, limit=5) == []
    past = datetime.now(UTC) - timedelta(seconds=1)
    writer = uuid4()
    await uploads.take(pool, file_id, writer, seconds=60)
    await uploads.save(pool, file_id, writer, offset=1, head=b"1", state=None, expires_at=past)
    assert await uploads.take_expired(pool, holder, seconds=60, limit=5) == []
    await uploads.let_go(pool, file_id, writer)
    found = await asyncio.gather(*(uploads.take_expired(pool, uuid4(), seconds=60, limit=5) for _ in range(3)))
    assert sorted(len(one) for one in found) == [0, 0, 1]
