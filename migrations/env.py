"""How alembic runs the revisions: on the connection that `store.schema` hands over, each in a transaction of its own.

``alembic revision -m "…"`` makes a new file without this one; applying is ``encounters migrate``.
"""

from __future__ import annotations

from alembic import context

_attributes = context.config.attributes
if "connection" not in _attributes:
    raise SystemExit("The database is migrated by `encounters migrate`, or by the server as it starts.")

context.configure(
    connection=_attributes["connection"],
    on_version_apply=_attributes["on_version_apply"],
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
