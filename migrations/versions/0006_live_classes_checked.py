"""The rows that were there before live classes hold what 0005 asks of new ones."""

from alembic import op

from migrations import online

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

CONSTRAINTS = (
    ("sessions", "sessions_of_courses_have_one"),
    ("sessions", "sessions_max_participants_sane"),
    ("sessions", "sessions_slow_mode_sane"),
    ("sessions", "sessions_course_exists"),
    ("sessions", "sessions_pinned_message_exists"),
    ("session_events", "session_events_kind_known"),
)


def upgrade() -> None:
    # Each reads a table once, beside those who read and write it. What was checked before is not checked again.
    with online.apart():
        # Nobody waits behind it, and it may have to wait for a VACUUM.
        op.execute(f"SET lock_timeout = '{online.INDEX_SECONDS}s'")
        for table, constraint in CONSTRAINTS:
            op.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT {constraint}")
        op.execute("RESET lock_timeout")


def downgrade() -> None:
    pass
