"""The audit log, as it is stored."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from store import audit
from store.audit import Action
from store.database import Pool, connect
from store.errors import Refused, translated
from tests.support.plans import indexes_in, plan_of


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    pool = await connect(database, size=2)
    yield pool
    await pool.close()


async def note(pool: Pool, actor_id: str, action: Action = "tutor_assigned", subject: str = "kid") -> None:
    async with pool.acquire() as connection:
        await audit.append(
            connection, actor_id=actor_id, action=action, subject=subject, details={"session_id": UUID(int=7)}
        )


async def test_an_act_is_noted_with_who_when_what_and_to_whom(pool: Pool) -> None:
    await note(pool, "boss", "participant_kicked", "kid")
    [entry] = await audit.newest(pool, limit=10)
    assert (entry.actor_id, entry.action, entry.subject) == ("boss", "participant_kicked", "kid")
    assert entry.details == {"session_id": str(UUID(int=7))}
    assert entry.at.utcoffset() is not None


async def test_an_act_that_is_undone_is_not_noted(pool: Pool) -> None:
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await audit.append(connection, actor_id="boss", action="tutor_assigned", subject="kid", details={})
        await transaction.rollback()
    assert await audit.newest(pool, limit=10) == []


@pytest.mark.parametrize(
    "statement", ["UPDATE audit_log SET actor_id = 'somebody'", "DELETE FROM audit_log", "TRUNCATE audit_log"]
)
async def test_the_log_is_only_appended_to(pool: Pool, statement: str) -> None:
    await note(pool, "boss")
    with pytest.raises(Refused) as refusal, translated():
        await pool.execute(statement)
    assert refusal.value.constraint == "audit_log_append_only"
    assert len(await audit.newest(pool, limit=10)) == 1


async def test_the_log_is_read_from_its_end_in_pieces(pool: Pool) -> None:
    for number in range(5):
        await note(pool, f"a{number}")
    newest = await audit.newest(pool, limit=2)
    older = await audit.newest(pool, before=newest[-1].id, limit=10)
    assert [entry.actor_id for entry in newest + older] == ["a4", "a3", "a2", "a1", "a0"]


async def test_entries_about_somebody_are_what_they_did_and_what_was_done_to_them(pool: Pool) -> None:
    await note(pool, "boss", "participant_kicked", "kid")
    await note(pool, "kid", "message_deleted", "mum")
    await note(pool, "kid", "message_deleted", "kid")
    await note(pool, "teach", "message_deleted", "mum")

    async def acts(about: str, before: int | None = None) -> list[tuple[str, str]]:
        entries = await audit.newest(pool, about=about, before=before, limit=2)
        return [(entry.actor_id, entry.subject) for entry in entries]

    assert await acts("kid") == [("kid", "kid"), ("kid", "mum")]
    assert await acts("kid", before=2) == [("boss", "kid")]
    assert await acts("message_deleted") == [("teach", "mum"), ("kid", "kid")]
    assert await acts("nobody") == []


async def test_a_long_log_is_read_by_its_indexes(pool: Pool) -> None:
    async with pool.acquire() as connection:
        for count in (0, 20_000):
            await connection.execute(
                "INSERT INTO audit_log (actor_id, action, subject)"
                f" SELECT 'a' || n % 50, 'tutor_assigned', 's' || n FROM generate_series(1, {count}) AS n"
            )
            if count:
                await connection.execute("ANALYZE audit_log")
            plan = await plan_of(connection, f"{audit._NEWEST_OF} ORDER BY id DESC LIMIT $2", 3)
            assert {"audit_log_by_actor", "audit_log_by_subject", "audit_log_by_action"} <= indexes_in(plan), plan
            plan = await plan_of(connection, audit._NEWEST, 2)
            assert indexes_in(plan) == {"audit_log_pkey"}
            assert "Sort" not in plan
