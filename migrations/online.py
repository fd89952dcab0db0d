"""What revisions do to tables that are in use, so that nobody waits for them longer than for a statement.

A revision is one transaction, which begins with its strongest lock on each table that others use: whoever holds a weak
one and asks for a strong one waits for those who do the same. A lock that is not had within a moment makes the
revision fail and be tried anew (`store.schema`), because all who come later wait behind it.

What takes long stands before that transaction, in :func:`apart`, and is such that it can be done again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from alembic import op
from sqlalchemy import text

#: Seconds that an index in the making waits for the transactions that are older than it. Nobody waits behind it.
INDEX_SECONDS: Final = 300


@contextmanager
def apart() -> Iterator[None]:
    """Outside of any transaction: each statement is committed by itself, and so is what came before."""
    with op.get_context().autocommit_block():
        yield


def make_index(name: str, definition: str) -> None:
    """Make an index while others write to its table: `definition` is what follows its name. Inside :func:`apart`.

    What an earlier attempt left unfinished is dropped; one that is finished stays.
    """
    op.execute(f"SET lock_timeout = '{INDEX_SECONDS}s'")
    is_broken = op.get_bind().scalar(
        text("SELECT NOT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)"), {"name": name}
    )
    if is_broken:
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
    op.execute(f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} {definition}")
    op.execute("RESET lock_timeout")


def in_batches(statement: str) -> None:
    """Run `statement` until it answers NULL, each time with the answer before it as `:after`, '' at first.

    Inside :func:`apart`: what a batch has written is committed before the next one.
    """
    after: str | None = ""
    while after is not None:
        after = op.get_bind().scalar(text(statement), {"after": after})
