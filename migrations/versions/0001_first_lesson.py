"""The first lesson: people, bookings, their sessions, and each session's ordered log.

Everything that a session shows in order carries a `seq` from one counter, `sessions.last_seq`: messages in
`session_messages`, all else in `session_events`. Whoever writes one holds the session's row lock, so the
counter has no gaps and commits in order.
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


STATEMENTS = (
    """
    CREATE TABLE users (
        id          text PRIMARY KEY,
        role        text NOT NULL,
        first_name  text NOT NULL DEFAULT '',
        last_name   text NOT NULL DEFAULT '',
        email       text,
        bio         text NOT NULL DEFAULT '',
        topics      text[] NOT NULL DEFAULT '{}',
        subjects    text[] NOT NULL DEFAULT '{}',
        timezone    text NOT NULL DEFAULT 'UTC',
        parent_id   text,
        parent_accepted boolean NOT NULL DEFAULT false,
        name_set    boolean NOT NULL DEFAULT false,
        email_set   boolean NOT NULL DEFAULT false,
        created_at  timestamptz NOT NULL DEFAULT now(),
        updated_at  timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT users_id_length CHECK (char_length(id) BETWEEN 1 AND 128),
        CONSTRAINT users_role_known CHECK (role IN ('student', 'parent', 'teacher', 'admin')),
        CONSTRAINT users_parent_exists FOREIGN KEY (parent_id) REFERENCES users (id) ON DELETE SET NULL,
        CONSTRAINT users_not_own_parent CHECK (parent_id <> id)
    )
    """,
    "COMMENT ON COLUMN users.name_set IS 'it was set here; the token''s no longer replaces it, and so with email_set'",
    "COMMENT ON COLUMN users.parent_accepted IS 'the parent, or an administrator, has said so, too'",
    "CREATE INDEX users_by_parent ON users (parent_id) WHERE parent_id IS NOT NULL",
    """
    CREATE TABLE bookings (
        id         uuid PRIMARY KEY,
        student_id text NOT NULL,
        teacher_id text NOT NULL,
        parent_id  text,
        start_time timestamptz NOT NULL,
        end_time   timestamptz NOT NULL,
        status     text NOT NULL DEFAULT 'pending',
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT bookings_student_exists FOREIGN KEY (student_id) REFERENCES users (id),
        CONSTRAINT bookings_teacher_exists FOREIGN KEY (teacher_id) REFERENCES users (id),
        CONSTRAINT bookings_parent_exists FOREIGN KEY (parent_id) REFERENCES users (id) ON DELETE SET NULL,
        CONSTRAINT bookings_two_people CHECK (student_id <> teacher_id),
        CONSTRAINT bookings_status_known CHECK (status IN ('pending', 'confirmed', 'completed', 'cancelled')),
        CONSTRAINT bookings_end_after_start CHECK (end_time > start_time),
        CONSTRAINT bookings_not_too_long CHECK (end_time - start_time <= interval '8 hours'),
        -- The id stands as a one-point range, which GiST can compare without an extension.
        CONSTRAINT bookings_teacher_free EXCLUDE USING gist (
            int8range(hashtextextended(teacher_id, 0), hashtextextended(teacher_id, 0), '[]') WITH &&,
            tstzrange(start_time, end_time) WITH &&
        ) WHERE (status IN ('pending', 'confirmed')),
        CONSTRAINT bookings_student_free EXCLUDE USING gist (
            int8range(hashtextextended(student_id, 0), hashtextextended(student_id, 0), '[]') WITH &&,
            tstzrange(start_time, end_time) WITH &&
        ) WHERE (status IN ('pending', 'confirmed'))
    )
    """,
    "CREATE INDEX bookings_by_student ON bookings (student_id, start_time)",
    "CREATE INDEX bookings_by_teacher ON bookings (teacher_id, start_time)",
    "CREATE INDEX bookings_by_parent ON bookings (parent_id, start_time) WHERE parent_id IS NOT NULL",
    """
    CREATE TABLE sessions (
        id                uuid PRIMARY KEY,
        kind              text NOT NULL,
        booking_id        uuid,
        room_name         text NOT NULL,
        title             text NOT NULL DEFAULT '',
        host_id           text NOT NULL,
        status            text NOT NULL DEFAULT 'scheduled',
        chat_open         boolean NOT NULL DEFAULT true,
        starts_at         timestamptz NOT NULL,
        ends_at           timestamptz,
        recording_enabled boolean NOT NULL DEFAULT true,
        notes             jsonb NOT NULL DEFAULT '[]',
        files             jsonb NOT NULL DEFAULT '[]',
        last_seq          bigint NOT NULL DEFAULT 0,
        requested_at      timestamptz,
        created_at        timestamptz NOT NULL DEFAULT now(),
        updated_at        timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT sessions_kind_known CHECK (kind IN ('booking', 'course')),
        CONSTRAINT sessions_status_known CHECK (status IN ('scheduled', 'live', 'ended')),
        CONSTRAINT sessions_booking_exists FOREIGN KEY (booking_id) REFERENCES bookings (id) ON DELETE CASCADE,
        CONSTRAINT sessions_of_a_booking_share_its_id
            CHECK ((kind = 'booking') = (booking_id IS NOT NULL AND booking_id = id)),
        CONSTRAINT sessions_host_exists FOREIGN KEY (host_id) REFERENCES users (id),
        CONSTRAINT sessions_room_name_unique UNIQUE (room_name),
        CONSTRAINT sessions_last_seq_counts CHECK (last_seq >= 0)
    ) WITH (fillfactor = 70)
    """,
    "CREATE INDEX sessions_by_host ON sessions (host_id, starts_at DESC)",
    "COMMENT ON COLUMN sessions.requested_at IS 'when POST /sessions first asked for it'",
    "COMMENT ON COLUMN sessions.chat_open IS 'false once its booking was cancelled: read, but not written'",
    """
    CREATE TABLE session_messages (
        id          uuid PRIMARY KEY,
        session_id  uuid NOT NULL,
        seq         bigint NOT NULL,
        user_id     text NOT NULL,
        sender_name text NOT NULL,
        text        text NOT NULL,
        client_id   text,
        created_at  timestamptz NOT NULL,
        edited_at   timestamptz,
        deleted_at  timestamptz,
        CONSTRAINT session_messages_session_exists
            FOREIGN KEY (session_id) REFERENCES sessions (id) ON DELETE CASCADE,
        CONSTRAINT session_messages_author_exists FOREIGN KEY (user_id) REFERENCES users (id),
        CONSTRAINT session_messages_seq_unique UNIQUE (session_id, seq),
        CONSTRAINT session_messages_client_id_unique UNIQUE (session_id, user_id, client_id),
        CONSTRAINT session_messages_text_length CHECK (char_length(text) <= 2000),
        CONSTRAINT session_messages_deleted_are_empty CHECK (deleted_at IS NULL OR text = '')
    )
    """,
    """
    CREATE TABLE session_events (
        session_id uuid NOT NULL,
        seq        bigint NOT NULL,
        kind       text NOT NULL,
        user_id    text,
        message_id uuid,
        data       jsonb NOT NULL DEFAULT '{}',
        at         timestamptz NOT NULL,
        PRIMARY KEY (session_id, seq),
        CONSTRAINT session_events_session_exists
            FOREIGN KEY (session_id) REFERENCES sessions (id) ON DELETE CASCADE,
        CONSTRAINT session_events_actor_exists FOREIGN KEY (user_id) REFERENCES users (id),
        CONSTRAINT session_events_message_exists
            FOREIGN KEY (message_id) REFERENCES session_messages (id) ON DELETE CASCADE,
        CONSTRAINT session_events_kind_known CHECK (kind IN (
            'message_edited', 'message_deleted', 'session_status', 'hand_raised',
            'permissions_changed', 'participant_kicked'
        ))
    )
    """,
    "CREATE INDEX session_events_by_message ON session_events (message_id) WHERE message_id IS NOT NULL",
    """
    CREATE TABLE session_participants (
        id               uuid NOT NULL DEFAULT gen_random_uuid(),
        session_id       uuid NOT NULL,
        user_id          text NOT NULL,
        joined_at        timestamptz,
        left_at          timestamptz,
        was_kicked       boolean NOT NULL DEFAULT false,
        mic_allowed      boolean NOT NULL DEFAULT true,
        camera_allowed   boolean NOT NULL DEFAULT true,
        hand_raised      boolean NOT NULL DEFAULT false,
        read_seq         bigint NOT NULL DEFAULT 0,
        presence_version bigint NOT NULL DEFAULT 0,
        created_at       timestamptz NOT NULL DEFAULT now(),
        updated_at       timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (session_id, user_id),
        CONSTRAINT session_participants_id_unique UNIQUE (id),
        CONSTRAINT session_participants_session_exists
            FOREIGN KEY (session_id) REFERENCES sessions (id) ON DELETE CASCADE,
        CONSTRAINT session_participants_user_exists FOREIGN KEY (user_id) REFERENCES users (id)
    )
    """,
    """
    COMMENT ON COLUMN session_participants.presence_version
        IS 'counts arrivals and departures; the higher one is the later'
    """,
    """
    CREATE TABLE session_visits (
        id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        session_id uuid NOT NULL,
        user_id    text NOT NULL,
        worker_id  uuid NOT NULL,
        joined_at  timestamptz NOT NULL,
        left_at    timestamptz,
        CONSTRAINT session_visits_participant_exists FOREIGN KEY (session_id, user_id)
            REFERENCES session_participants (session_id, user_id) ON DELETE CASCADE,
        CONSTRAINT session_visits_in_order CHECK (left_at >= joined_at)
    )
    """,
    """
    CREATE UNIQUE INDEX session_visits_one_open ON session_visits (session_id, user_id, worker_id)
        WHERE left_at IS NULL
    """,
    "CREATE INDEX session_visits_open_by_worker ON session_visits (worker_id) WHERE left_at IS NULL",
    "CREATE INDEX session_visits_by_session ON session_visits (session_id, user_id)",
    """
    CREATE TABLE workers (
        id          uuid PRIMARY KEY,
        started_at  timestamptz NOT NULL DEFAULT now(),
        lease_until timestamptz NOT NULL
    )
    """,
    "COMMENT ON TABLE workers IS 'a worker whose lease ran out is gone, and so are its open visits'",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    for table in (
        "workers",
        "session_visits",
        "session_participants",
        "session_events",
        "session_messages",
        "sessions",
        "bookings",
        "users",
    ):
        op.execute(f"DROP TABLE {table}")
