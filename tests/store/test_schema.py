"""Migrations: applied once, all or nothing, whoever starts first."""

from __future__ import annotations

import asyncio
import multiprocessing
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import asyncpg
import pytest

from store import schema

ROOT = Path(__file__).parents[2]


def add_revision(folder: Path, name: str, after: str | None, *statements: str) -> None:
    executed = "\n    ".join(f"op.execute({statement!r})" for statement in statements) or "pass"
    (folder / "versions" / f"{name}_x.py").write_text(
        dedent(f"""\
        from alembic import op

        revision = {name!r}
        down_revision = {after!r}


        def upgrade() -> None:
            {{executed}}
        """).replace("{executed}", executed)
    )


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    """A history of one revision, which fails if it is applied twice."""
    folder = tmp_path / "100% migrations"
    (folder / "versions").mkdir(parents=True)
    (folder / "env.py").write_text((schema.MIGRATIONS / "env.py").read_text())
    add_revision(folder, "0001", None, "CREATE TABLE a (id int)", "INSERT INTO a VALUES (1)")
    return folder


async def ask(dsn: str, query: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def test_an_empty_database_gets_everything_once(empty_database: str) -> None:
    assert await schema.pending(empty_database)
    applied = await schema.migrate(empty_database)
    assert applied == sorted(applied)
    assert applied[0] == "0001"
    assert not await schema.pending(empty_database)
    assert await schema.migrate(empty_database) == []
    assert await ask(empty_database, "SELECT count(*) FROM users") == 0


async def test_only_what_is_missing_is_applied(empty_database: str, migrations: Path) -> None:
    await schema.migrate(empty_database, migrations=migrations)
    add_revision(migrations, "0002", "0001", "ALTER TABLE a ADD b int")
    add_revision(migrations, "0003", "0002", "UPDATE a SET b = 2")
    assert await schema.pending(empty_database, migrations=migrations)
    assert await schema.migrate(empty_database, migrations=migrations) == ["0002", "0003"]
    assert await ask(empty_database, "SELECT b FROM a") == 2


async def test_a_failure_leaves_nothing_behind(empty_database: str, migrations: Path) -> None:
    add_revision(migrations, "0002", "0001", "CREATE TABLE b (id int)", "SELECT 1/0")
    with pytest.raises(schema.MigrationFailed, match="division by zero"):
        await schema.migrate(empty_database, migrations=migrations)
    assert await ask(empty_database, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
    assert await schema.pending(empty_database, migrations=migrations)


async def test_workers_that_start_at_once_apply_it_once(empty_database: str, migrations: Path) -> None:
    add_revision(migrations, "0002", "0001", "SELECT pg_sleep(0.1)")
    applied = await asyncio.gather(*(schema.migrate(empty_database, migrations=migrations) for _ in range(4)))
    assert sorted(applied) == [[], [], [], ["0001", "0002"]]
    assert await ask(empty_database, "SELECT count(*) FROM a") == 1


def migrate_in_a_process(dsn: str, migrations: Path) -> list[str]:
    return asyncio.run(schema.migrate(dsn, migrations=migrations))


async def test_processes_that_start_at_once_apply_it_once(empty_database: str, migrations: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        arguments = [(empty_database, migrations)] * 4
        applied = await asyncio.to_thread(pool.starmap, migrate_in_a_process, arguments, 1)
        pool.close()
        pool.join()
    assert sorted(applied) == [[], [], [], ["0001"]]
    assert await ask(empty_database, "SELECT count(*) FROM a") == 1


async def test_a_strict_isolation_level_changes_nothing(empty_database: str, migrations: Path) -> None:
    name = await ask(empty_database, "SELECT current_database()")
    await ask(empty_database, f'ALTER DATABASE "{name}" SET default_transaction_isolation = serializable')
    add_revision(migrations, "0002", "0001", "SELECT pg_sleep(0.1)")
    applied = await asyncio.gather(*(schema.migrate(empty_database, migrations=migrations) for _ in range(4)))
    assert sorted(applied) == [[], [], [], ["0001", "0002"]]


async def test_a_database_of_a_newer_release_is_left_alone(empty_database: str, migrations: Path) -> None:
    add_revision(migrations, "0002", "0001")
    await schema.migrate(empty_database, migrations=migrations)
    (migrations / "versions" / "0002_x.py").unlink()
    assert not await schema.pending(empty_database, migrations=migrations)
    assert await schema.migrate(empty_database, migrations=migrations) == []
    # As in a race: the newer release came between the look and the lock.
    assert await schema._upgrade(empty_database, migrations) == []


async def test_two_newest_revisions_are_a_mistake(migrations: Path) -> None:
    add_revision(migrations, "0002", "0001")
    add_revision(migrations, "0002b", "0001")
    with pytest.raises(ValueError, match="one newest revision"):
        await schema.pending("postgresql://nowhere", migrations=migrations)


async def test_without_a_database_it_says_so() -> None:
    with pytest.raises(OSError, match="Connect call failed"):
        await schema.migrate("postgresql://u@127.0.0.1:1/x")


async def test_a_start_with_nothing_to_do_imports_no_migration_tool(database: str) -> None:
    code = (
        "import asyncio, sys; from store import schema;"
        f"assert asyncio.run(schema.migrate({database!r})) == [];"
        "assert not {'alembic', 'sqlalchemy'} & sys.modules.keys()"
    )
    ran = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr


def test_every_revision_of_ours_is_named_as_its_file() -> None:
    known, head = schema._revisions(schema.MIGRATIONS)
    files = {file.name.partition("_")[0] for file in (schema.MIGRATIONS / "versions").glob("[0-9]*.py")}
    assert known == files
    assert head == max(files)
