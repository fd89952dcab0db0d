"""Meetings: the provider's rooms of sessions, one after the other."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

STATEMENTS = (
    # Foreign keys and triggers ask for no more. Batches of messages wait for the messages, with nothing in their hands.
    "LOCK TABLE session_messages, sessions IN SHARE ROW EXCLUSIVE MODE",
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
        retry_at   timestamptz NOT NULL,
        CONSTRAINT meetings_session_exists FOREIGN KEY (session_id) REFERENCES sessions (id) ON DELETE CASCADE,
        CONSTRAINT meetings_generation_once UNIQUE (session_id, generation),
        CONSTRAINT meetings_generation_counts CHECK (generation > 0),
        CONSTRAINT meetings_deleted_are_over CHECK (deleted_at IS NULL OR ended_at IS NOT NULL)
    )
    """,
    "COMMENT ON COLUMN meetings.generation IS 'the first room of a session is 1; the one that it is moved to, 2'",
    "COMMENT ON COLUMN meetings.deleted_at IS 'when its provider had deleted the room'",
    "COMMENT ON COLUMN meetings.retry_at IS 'when the room is to be deleted: at its close, or sooner, when it is over'",
    "CREATE UNIQUE INDEX meetings_one_at_a_time ON meetings (session_id) WHERE ended_at IS NULL",
    "CREATE INDEX meetings_not_deleted ON meetings (provider, retry_at) WHERE deleted_at IS NULL",
    """
    CREATE FUNCTION sessions_end_meetings() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        UPDATE meetings SET retry_at = now() WHERE session_id = NEW.id AND deleted_at IS NULL;
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE TRIGGER sessions_end_meetings AFTER UPDATE OF status ON sessions
        FOR EACH ROW WHEN (NEW.status = 'ended' AND OLD.status <> 'ended') EXECUTE FUNCTION sessions_end_meetings()
    """,
    """
    CREATE TABLE meeting_tellings (
        session_id uuid NOT NULL,
        user_id    text NOT NULL,
        changes    integer NOT NULL DEFAULT 1,
        changed_at timestamptz NOT NULL DEFAULT now(),
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
    """
    CREATE TABLE meeting_people (
        meeting_id uuid NOT NULL,
        user_id    text NOT NULL,
        came_at    timestamptz,
        tabs       text[] NOT NULL DEFAULT '{}',
        ejected    integer NOT NULL DEFAULT 0,
        PRIMARY KEY (meeting_id, user_id),
        CONSTRAINT meeting_people_meeting_exists FOREIGN KEY (meeting_id) REFERENCES meetings (id) ON DELETE CASCADE
    )
    """,
    "COMMENT ON COLUMN meeting_people.came_at IS 'when they last got a pass; null: they have none'",
    "COMMENT ON COLUMN meeting_people.tabs IS 'that have a pass and have not given it back, the latest first'",
    "COMMENT ON COLUMN meeting_people.ejected IS 'how often the provider has put them out of this meeting'",
    """
    CREATE TABLE meeting_intents (
        room_name  text PRIMARY KEY,
        session_id uuid NOT NULL,
        provider   text NOT NULL,
        attempts   integer NOT NULL DEFAULT 0,
        due_at     timestamptz NOT NULL,
        given_up   boolean NOT NULL DEFAULT false
    )
    """,
    "COMMENT ON TABLE meeting_intents IS 'rooms that providers were asked for and that may be nobody''s yet'",
    "COMMENT ON COLUMN meeting_intents.due_at IS 'when the room is deleted, unless it has become a meeting by then'",
    "CREATE UNIQUE INDEX meeting_intents_one_at_a_time ON meeting_intents (session_id, provider) WHERE NOT given_up",
    "CREATE INDEX meeting_intents_due ON meeting_intents (provider, due_at)",
    # A meeting may go with its session, and whatever takes that away; its room is still at the provider.
    """
    CREATE FUNCTION meetings_leave_rooms() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO meeting_intents (room_name, session_id, provider, due_at, given_up)
        VALUES (OLD.room_name, OLD.session_id, OLD.provider, now(), true)
        ON CONFLICT (room_name) DO NOTHING;
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE TRIGGER meetings_leave_rooms AFTER DELETE ON meetings
        FOR EACH ROW WHEN (OLD.deleted_at IS NULL) EXECUTE FUNCTION meetings_leave_rooms()
    """,
)

#: Recordings that providers make. What they have of one outlives the recording here, until they have deleted it.
RECORDINGS = (
    "LOCK TABLE recordings IN ACCESS EXCLUSIVE MODE",
    # It reads the table once: there are few.
    """
    ALTER TABLE recordings ADD COLUMN provider text, DROP CONSTRAINT recordings_completed_have_a_file,
        ADD CONSTRAINT recordings_completed_can_be_seen
            CHECK (status <> 'completed' OR file_id IS NOT NULL OR provider IS NOT NULL)
    """,
    "COMMENT ON COLUMN recordings.provider IS 'who records it and keeps its file; null: the host''s browser, and we'",
    """
    CREATE TABLE provider_recordings (
        recording_id uuid PRIMARY KEY,
        session_id   uuid NOT NULL,
        meeting_id   uuid NOT NULL,
        provider     text NOT NULL,
        room_name    text NOT NULL,
        room         jsonb NOT NULL,
        instance_id  uuid NOT NULL,
        provider_id  text,
        phase        text NOT NULL DEFAULT 'starting',
        asked_at     timestamptz NOT NULL DEFAULT now(),
        stopped_at   timestamptz,
        changes      integer NOT NULL DEFAULT 1,
        attempts     integer NOT NULL DEFAULT 0,
        retry_at     timestamptz NOT NULL,
        held_until   timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT provider_recordings_phase_known CHECK (phase IN ('starting', 'running', 'stopped', 'settled')),
        CONSTRAINT provider_recordings_instance_once UNIQUE (instance_id)
    )
    """,
    "COMMENT ON TABLE provider_recordings IS 'written before the provider is asked; gone when it has nothing any more'",
    "COMMENT ON COLUMN provider_recordings.recording_id IS 'of recordings, whose row comes later and may go earlier'",
    "COMMENT ON COLUMN provider_recordings.phase IS 'at the provider, as far as it is known here'",
    "COMMENT ON COLUMN provider_recordings.changes IS 'counts what happened to the recording, for who looks meanwhile'",
    "COMMENT ON COLUMN provider_recordings.retry_at IS 'when it is looked at next'",
    "CREATE UNIQUE INDEX provider_recordings_one_starting ON provider_recordings (session_id) WHERE phase = 'starting'",
    "CREATE UNIQUE INDEX provider_recordings_one_of_each ON provider_recordings (provider, provider_id)",
    "CREATE INDEX provider_recordings_by_room ON provider_recordings (room_name)",
    "CREATE INDEX provider_recordings_due ON provider_recordings (retry_at) WHERE retry_at < 'infinity'",
    # Whatever stops or deletes a recording here, the provider is to do the same.
    """
    CREATE FUNCTION recordings_tell_provider() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        UPDATE provider_recordings SET changes = changes + 1, attempts = 0, retry_at = now()
        WHERE recording_id = OLD.id;
        RETURN NULL;
    END
    $$
    """,
    # What is recorded of a meeting that is over is to be stopped before its room is deleted.
    """
    CREATE FUNCTION meetings_end_recordings() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        UPDATE provider_recordings SET changes = changes + 1, attempts = 0, retry_at = now()
        WHERE room_name = NEW.room_name AND meeting_id = NEW.id AND phase = 'running';
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE TRIGGER meetings_ended_at_provider AFTER UPDATE OF ended_at ON meetings
        FOR EACH ROW WHEN (OLD.ended_at IS NULL AND NEW.ended_at IS NOT NULL)
        EXECUTE FUNCTION meetings_end_recordings()
    """,
    """
    CREATE TRIGGER recordings_deleted_at_provider AFTER DELETE ON recordings
        FOR EACH ROW WHEN (OLD.provider IS NOT NULL) EXECUTE FUNCTION recordings_tell_provider()
    """,
    """
    CREATE TRIGGER recordings_stopped_at_provider AFTER UPDATE OF status ON recordings
        FOR EACH ROW WHEN (OLD.provider IS NOT NULL AND OLD.status = 'recording' AND NEW.status <> 'recording')
        EXECUTE FUNCTION recordings_tell_provider()
    """,
)


def upgrade() -> None:
    # Sessions before recordings, as everybody takes them.
    for statement in (*STATEMENTS, *RECORDINGS):
        op.execute(statement)


def downgrade() -> None:
    for statement in (
        "LOCK TABLE session_messages, sessions, recordings IN ACCESS EXCLUSIVE MODE",
        "DROP TRIGGER sessions_end_meetings ON sessions",
        "DROP TABLE meeting_intents, meeting_people, meeting_tellings, meetings",
        "DROP FUNCTION sessions_end_meetings(), meetings_leave_rooms()",
        "DROP TRIGGER recordings_stopped_at_provider ON recordings",
        "DROP TRIGGER recordings_deleted_at_provider ON recordings",
        "DROP FUNCTION recordings_tell_provider()",
        "DROP FUNCTION meetings_end_recordings()",
        "DROP TABLE provider_recordings",
        # An older release cannot show them; what the providers have stays there.
        "UPDATE recordings SET status = 'failed' WHERE status = 'completed' AND file_id IS NULL",
        """
        ALTER TABLE recordings DROP COLUMN provider,
            ADD CONSTRAINT recordings_completed_have_a_file CHECK (status <> 'completed' OR file_id IS NOT NULL)
        """,
    ):
        op.execute(statement)
