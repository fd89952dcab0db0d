"""Meetings: the provider's rooms of sessions, one after the other."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE meetings (
        id         uuid PRIMARY KEY,
        session_id uuid NOT NULL,
        generation integer NOT NULL,
        provider   text NOT NULL,
        room_id    text NOT NULL,
        room_name  text NOT NULL,
        url        text,
        data       jsonb NOT NULL DEFAULT '{}',
        created_at timestamptz NOT NULL DEFAULT now(),
        closes_at  timestamptz NOT NULL,
        ended_at   timestamptz,
        deleted_at timestamptz,
        attempts   integer NOT NULL DEFAULT 0,
        retry_at   timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT meetings_session_exists FOREIGN KEY (session_id) REFERENCES sessions (id) ON DELETE CASCADE,
        CONSTRAINT meetings_generation_once UNIQUE (session_id, generation),
        CONSTRAINT meetings_generation_counts CHECK (generation > 0),
        CONSTRAINT meetings_deleted_are_over CHECK (deleted_at IS NULL OR ended_at IS NOT NULL)
    )
    """,
    "COMMENT ON COLUMN meetings.generation IS 'the first room of a session is 1; the one that it is moved to, 2'",
    "COMMENT ON COLUMN meetings.deleted_at IS 'when its provider had deleted the room; till then, retry_at'",
    "CREATE UNIQUE INDEX meetings_one_at_a_time ON meetings (session_id) WHERE ended_at IS NULL",
    "CREATE INDEX meetings_not_deleted ON meetings (retry_at) WHERE deleted_at IS NULL",
    """
    CREATE TABLE meeting_tellings (
        session_id uuid NOT NULL,
        user_id    text NOT NULL,
        changes    integer NOT NULL DEFAULT 1,
        attempts   integer NOT NULL DEFAULT 0,
        retry_at   timestamptz NOT NULL DEFAULT now(),
        held_until timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (session_id, user_id),
        CONSTRAINT meeting_tellings_session_exists
            FOREIGN KEY (session_id) REFERENCES sessions (id) ON DELETE CASCADE
    )
    """,
    "COMMENT ON TABLE meeting_tellings IS 'people of whom the provider is to be told what they may do now'",
    "CREATE INDEX meeting_tellings_due ON meeting_tellings (retry_at)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE meeting_tellings")
    op.execute("DROP TABLE meetings")
