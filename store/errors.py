"""What the database refused, said once at the store's border.

A driver's error never leaves `store`: a violated constraint becomes :class:`Refused` with the constraint's
name, a database that cannot be reached becomes :class:`Away`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg


class Refused(Exception):
    """A constraint did not hold. `constraint` is its name in the schema."""

    def __init__(self, constraint: str) -> None:
        super().__init__(f"the constraint {constraint} does not hold")
        self.constraint = constraint


class Away(Exception):
    """The database cannot be reached, or gave up: the same request may succeed later."""


class Deadlocked(Away):
    """It waited for somebody who waited for it, and gave way: nothing of its transaction was written, and it may be
    tried again at once."""


#: SQLSTATE classes after which a retry may succeed: connection, resources, operator intervention, serialization,
#: system; and a standby that is about to be promoted.
_PASSING = ("08", "53", "57", "40", "58", "25006")


@contextmanager
def translated() -> Iterator[None]:
    """Turn asyncpg's errors into the store's. Programming errors pass through as they are."""
    try:
        yield
    except asyncpg.IntegrityConstraintViolationError as error:
        raise Refused(error.constraint_name or "") from error
    except asyncpg.DeadlockDetectedError as error:
        raise Deadlocked(str(error)) from error
    except asyncpg.PostgresError as error:
        # A migration changed what a prepared statement answers: asyncpg prepares it again, but not in a transaction.
        if (error.sqlstate or "").startswith(_PASSING) or isinstance(error, asyncpg.InvalidCachedStatementError):
            raise Away(str(error)) from error
        raise
    except (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        # InternalClientError is what asyncpg meets on an idle connection that a server took leave of as it stopped.
        if isinstance(error, asyncpg.InterfaceError) and not _is_lost_connection(error):
            raise
        raise Away(str(error) or type(error).__name__) from error


def _is_lost_connection(error: asyncpg.InterfaceError) -> bool:
    """asyncpg raises InterfaceError for misuse, too; only these sentences mean a connection or pool is gone."""
    if isinstance(error, ValueError):
        return False  # an argument that cannot be sent; the sentence repeats it, whatever it says
    said = str(error)
    return "closed" in said or "closing" in said or "released back" in said
