"""Files: what their owners' take, who looks through them, and objects that are to go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from store import files, uploads
from store.database import Pool
from store.files import File
from store.ids import new_id
from tests.support.lessons import database_pool
from tests.support.plans import indexes_in, plan_of


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


async def announced(pool: Pool, *, owner: str = "kid", size: int = 10) -> File:
    file_id = new_id()
    async with pool.acquire() as connection, connection.transaction():
        file = await files.insert(
            connection,
            file_id=file_id,
            key=f"document/{file_id}",
            owner_id=owner,
            purpose="document",
            name="x.pdf",
            size=size,
            details={"a": [1, None]},
        )
        await uploads.insert(
            connection,
            file_id=file_id,
            length=size,
            metadata="",
            mime_wanted=None,
            families=["image"],
            watchers=["teach"],
            resumable=True,
            expires_at=datetime.now(UTC) + timedelta(hours=1),
        )
    return file


async def processing(pool: Pool) -> File:
    file = await announced(pool)
    await files.save_type(pool, file.id, mime="video/mp4", name="x.mp4")
    async with pool.acquire() as connection, connection.transaction():
        return await files.save_whole(connection, file.id, size=file.size, state="processing")


async def taken(pool: Pool, owner: str = "kid") -> int:
    async with pool.acquire() as connection, connection.transaction():
        return (await files.usage(connection, owner)).bytes


async def failed(pool: Pool, file_id: UUID) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await files.save_failed(connection, file_id, "because")


async def test_a_file_is_found_as_it_was_announced(pool: Pool) -> None:
    file = await announced(pool)
    assert await files.find(pool, file.id) == file
    assert (file.state, file.mime, file.details) == ("uploading", "", {"a": [1, None]})
    assert await files.find(pool, uuid4()) is None


async def test_what_somebodys_files_take_follows_every_change(pool: Pool) -> None:
    assert await taken(pool) == 0
    first, second = await announced(pool, size=10), await announced(pool, size=100)
    await announced(pool, owner="teach", size=1000)
    assert await taken(pool) == 110
    await files.save_type(pool, first.id, mime="image/png", name="x.png")
    async with pool.acquire() as connection, connection.transaction():
        await files.save_whole(connection, first.id, size=7, state="ready")
    assert await taken(pool) == 107
    await failed(pool, second.id)
    assert await taken(pool) == 7
    async with pool.acquire() as connection, connection.transaction():
        assert await files.delete(connection, first.id)
        assert await files.delete(connection, second.id)
        assert not await files.delete(connection, second.id)
    assert await taken(pool) == 0


async def test_two_who_ask_how_much_is_taken_ask_one_after_the_other(pool: Pool) -> None:
    async def add_up_to(bound: int) -> bool:
        async with pool.acquire() as connection, connection.transaction():
            if (await files.usage(connection, "kid")).bytes + 10 > bound:
                return False
            file_id = new_id()
            await files.insert(
                connection,
                file_id=file_id,
                key=str(file_id),
                owner_id="kid",
                purpose="document",
                name="x",
                size=10,
                details={},
            )
            return True

    assert sum(await asyncio.gather(*(add_up_to(30) for _ in range(9)))) == 3
    assert await taken(pool) == 30


async def test_a_file_that_fails_ends_its_upload_and_its_object(pool: Pool) -> None:
    file = await announced(pool)
    await failed(pool, file.id)
    assert await uploads.find(pool, file.id) is None
    assert await files.objects_to_delete(pool, limit=10) == [file.key]
    found = await files.find(pool, file.id)
    assert found is not None
    assert (found.state, found.reason) == ("failed", "because")


async def test_a_file_is_looked_through_by_one_and_by_the_next_when_that_one_is_gone(pool: Pool) -> None:
    file, one, two = await processing(pool), uuid4(), uuid4()
    claims = await asyncio.gather(*(files.claim_to_look_through(pool, uuid4(), seconds=60) for _ in range(5)))
    assert [claim.id for claim in claims if claim is not None] == [file.id]
    await pool.execute("UPDATE files SET lease_until = now() - interval '1 second'")
    again = await files.claim_to_look_through(pool, one, seconds=60)
    assert again is not None
    assert again.tries == 2
    assert await files.keep_looking_through(pool, file.id, one, seconds=60)
    assert not await files.keep_looking_through(pool, file.id, two, seconds=60)
    await files.let_go(pool, file.id, two)
    assert await files.claim_to_look_through(pool, two, seconds=60) is None
    await files.let_go(pool, file.id, one)
    third = await files.claim_to_look_through(pool, two, seconds=60)
    assert third is not None
    assert third.tries == 2
    async with pool.acquire() as connection, connection.transaction():
        assert await files.locked_by_holder(connection, file.id, one) is None
        assert await files.locked_by_holder(connection, file.id, two) is not None


async def test_an_object_that_was_written_goes_unless_it_is_kept(pool: Pool) -> None:
    await files.delete_object_later(pool, "a", seconds=60)
    await files.delete_object_later(pool, "b")
    assert await files.objects_to_delete(pool, limit=10) == ["b"]
    async with pool.acquire() as connection, connection.transaction():
        assert await files.keep_object(connection, "a")
        assert not await files.keep_object(connection, "a")
    await files.object_deleted(pool, "b")
    assert await files.objects_to_delete(pool, limit=10) == []


async def test_a_file_that_is_deleted_leaves_its_objects_to_be_deleted(pool: Pool) -> None:
    file = await processing(pool)
    async with pool.acquire() as connection, connection.transaction():
        await files.save_ready(
            connection,
            file.id,
            key=f"{file.key}.1",
            size=9,
            thumbnail_key=f"{file.key}.2",
            seconds=1.5,
            width=320,
            height=180,
            video_codec="vp8",
            audio_codec=None,
        )
    await pool.execute("DELETE FROM files WHERE id = $1", file.id)
    assert set(await files.objects_to_delete(pool, limit=10)) == {f"{file.key}.1", f"{file.key}.2"}


async def test_what_failed_long_ago_is_forgotten(pool: Pool) -> None:
    old, new = await announced(pool), await announced(pool)
    await failed(pool, old.id)
    await failed(pool, new.id)
    await pool.execute("UPDATE files SET updated_at = now() - interval '40 days' WHERE id = $1", old.id)
    before = datetime.now(UTC) - timedelta(days=30)
    assert await files.forget_failed(pool, before=before, limit=10) == 1
    assert await files.find(pool, old.id) is None
    assert await files.find(pool, new.id) is not None


async def test_everything_is_found_by_an_index(pool: Pool) -> None:
    async with pool.acquire() as connection:
        for statement, arguments, index in (
            (files._ON_THEIR_WAY, 1, "files_on_their_way"),
            (files._CLAIM, 2, "files_to_look_through"),
            (files._FORGET_FAILED, 2, "files_that_failed"),
            (files._DUE, 1, "objects_to_delete_by_time"),
            (uploads._TAKE_EXPIRED, 3, "uploads_by_expiry"),
        ):
            plan = await plan_of(connection, statement, arguments)
            assert index in indexes_in(plan), plan
            assert "Seq Scan" not in plan, plan
