"""One real Postgres for everybody: fsync on, a fresh database for each run."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import asyncpg

from bench.crowd import Crowd
from bench.processes import cpu_seconds
from server.postgres import SUPERUSER, EmbeddedPostgres
from store import schema

#: Whose tables: this project's, or S1's.
Tables = Literal["ours", "theirs"]
Result = TypeVar("Result")

SCHEMA: Final = Path(__file__).parent / "peers" / "schema.sql"


class Database:
    """The running server. `theirs` and `ours` are templates with the tables and no rows."""

    def __init__(self, folder: Path) -> None:
        self._postgres = EmbeddedPostgres(folder / "data")
        self._number = 0

    def start(self) -> None:
        self._postgres.start()
        self._pid = int((self._postgres.cluster / "postmaster.pid").read_text().split()[0])
        _run(self._make_templates())

    def stop(self) -> None:
        self._postgres.stop()

    @property
    def cpu(self) -> float:
        """Processor seconds of the server and all its backends."""
        return cpu_seconds(self._pid)

    def version(self) -> str:
        return str(_run(self._fetch(SUPERUSER, "SHOW server_version"))).partition(" ")[0]

    def transactions(self, dsn: str) -> int:
        """Transactions of a database so far."""
        return int(_run(_fetch(dsn, "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()")))

    def execute(self, dsn: str, *statements: str) -> None:
        _run(_execute(dsn, *statements))

    @contextmanager
    def fresh(self, tables: Tables, crowd: Crowd) -> Iterator[str]:
        """The DSN of a new database in which the crowd and its sessions are known."""
        self._number += 1
        name = f"run_{self._number}"
        _run(_execute(self._postgres.dsn(SUPERUSER), f"CREATE DATABASE {name} TEMPLATE {tables}"))
        dsn = self._postgres.dsn(name)
        try:
            _run(_fill(dsn, tables, crowd))
            yield dsn
        finally:
            _run(_execute(self._postgres.dsn(SUPERUSER), f"DROP DATABASE {name} WITH (FORCE)"))

    async def _make_templates(self) -> None:
        for name in ("ours", "theirs"):
            await _execute(self._postgres.dsn(SUPERUSER), f"CREATE DATABASE {name}")
        await schema.migrate(self._postgres.dsn("ours"))
        await _execute(self._postgres.dsn("theirs"), SCHEMA.read_text("utf-8"))

    async def _fetch(self, database: str, query: str) -> Any:
        return await _fetch(self._postgres.dsn(database), query)


async def _fill(dsn: str, tables: Tables, crowd: Crowd) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        people, sessions = crowd.user_ids, crowd.session_ids
        if tables == "ours":
            await connection.execute(
                "INSERT INTO users (id, role, first_name, last_name) SELECT id, 'admin', 'Some', 'Body' "
                "FROM unnest($1::text[]) id",
                people,
            )
            await connection.execute(
                "WITH made AS ("
                "INSERT INTO courses (id, instructor_id, title) VALUES (gen_random_uuid(), $2, 'Bench') RETURNING id"
                ") INSERT INTO sessions (id, kind, course_id, room_name, host_id, starts_at) "
                "SELECT s.id, 'course', made.id, 'room-' || s.id, $2, now() FROM made, unnest($1::uuid[]) AS s (id)",
                sessions,
                people[0],
            )
        else:
            await connection.execute(
                "INSERT INTO users (id, first_name, last_name) SELECT id, 'Some', 'Body' FROM unnest($1::text[]) id",
                people,
            )
            await connection.execute(
                "INSERT INTO bookings (id, student_id, tutor_id, parent_id) "
                "SELECT id, $2, $2, $2 FROM unnest($1::uuid[]) id",
                sessions,
                people[0],
            )
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()


async def _execute(dsn: str, *statements: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def _fetch(dsn: str, query: str) -> Any:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


def _run(work: Coroutine[Any, Any, Result]) -> Result:
    return asyncio.run(work)
