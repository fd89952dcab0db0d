"""Live classes: courses and who is enrolled, what a host sets in a session, reactions, whiteboards, notifications."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE courses (
        id            uuid PRIMARY KEY,
        instructor_id text NOT NULL,
        title         text NOT NULL,
        description   text NOT NULL DEFAULT '',
        created_at    timestamptz NOT NULL DEFAULT now(),
        updated_at    timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT courses_instructor_exists FOREIGN KEY (instructor_id) REFERENCES users (id),
        CONSTRAINT courses_title_length CHECK (char_length(title) BETWEEN 1 AND 200),
        CONSTRAINT courses_description_length CHECK (char_length(description) <= 10000)
    )
    """,
    "CREATE INDEX courses_by_instructor ON courses (instructor_id, created_at DESC, id)",
    "CREATE INDEX courses_in_order ON courses (created_at DESC, id)",
    """
    CREATE TABLE enrollments (
        course_id  uuid NOT NULL,
        user_id    text NOT NULL,
        tier       text NOT NULL DEFAULT 'standard',
        created_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (course_id, user_id),
        CONSTRAINT enrollments_course_exists FOREIGN KEY (course_id) REFERENCES courses (id) ON DELETE CASCADE,
        CONSTRAINT enrollments_user_exists FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE,
        CONSTRAINT enrollments_tier_known CHECK (tier IN ('standard', 'premium'))
    )
    """,
    "CREATE INDEX enrollments_by_user ON enrollments (user_id)",
    # What a host sets. A session of a booking has no course, and one of a course no booking.
    """
    ALTER TABLE sessions
        ADD COLUMN course_id uuid,
        ADD COLUMN max_participants integer,
        ADD COLUMN locked boolean NOT NULL DEFAULT false,
        ADD COLUMN waiting_room boolean NOT NULL DEFAULT false,
        ADD COLUMN chat_muted boolean NOT NULL DEFAULT false,
        ADD COLUMN slow_mode_seconds integer NOT NULL DEFAULT 0,
        ADD COLUMN pinned_message_id uuid,
        ADD COLUMN whiteboard_locked boolean NOT NULL DEFAULT false,
        ADD CONSTRAINT sessions_course_exists FOREIGN KEY (course_id) REFERENCES courses (id),
        ADD CONSTRAINT sessions_of_courses_have_one CHECK ((kind = 'course') = (course_id IS NOT NULL)),
        ADD CONSTRAINT sessions_max_participants_sane CHECK (max_participants BETWEEN 1 AND 10000),
        ADD CONSTRAINT sessions_slow_mode_sane CHECK (slow_mode_seconds BETWEEN 0 AND 3600),
        ADD CONSTRAINT sessions_pinned_message_exists
            FOREIGN KEY (pinned_message_id) REFERENCES session_messages (id) ON DELETE SET NULL
    """,
    "COMMENT ON COLUMN sessions.locked IS 'nobody comes in any more who has not been in'",
    "COMMENT ON COLUMN sessions.waiting_room IS 'who comes in waits until the host admits them'",
    "COMMENT ON COLUMN sessions.chat_muted IS 'only the host writes'",
    "COMMENT ON COLUMN sessions.slow_mode_seconds IS 'between two messages of one person; 0: none'",
    "CREATE INDEX sessions_by_course ON sessions (course_id, starts_at DESC, id) WHERE course_id IS NOT NULL",
    """
    CREATE INDEX sessions_by_pinned_message ON sessions (pinned_message_id) WHERE pinned_message_id IS NOT NULL
    """,
    "ALTER TABLE session_participants ADD COLUMN admitted_at timestamptz, ADD COLUMN chatted_at timestamptz",
    "COMMENT ON COLUMN session_participants.admitted_at IS 'when the host let them out of the waiting room'",
    "COMMENT ON COLUMN session_participants.chatted_at IS 'when they last wrote while slow mode was on'",
    """
    CREATE TABLE session_waiters (
        session_id uuid NOT NULL,
        user_id    text NOT NULL,
        worker_id  uuid NOT NULL,
        since      timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (session_id, user_id, worker_id),
        CONSTRAINT session_waiters_session_exists
            FOREIGN KEY (session_id) REFERENCES sessions (id) ON DELETE CASCADE,
        CONSTRAINT session_waiters_user_exists FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE
    )
    """,
    "COMMENT ON TABLE session_waiters IS 'who waits to be admitted, and through which worker; see workers'",
    "CREATE INDEX session_waiters_by_worker ON session_waiters (worker_id)",
    "ALTER TABLE session_messages ADD COLUMN reactions jsonb",
    "COMMENT ON COLUMN session_messages.reactions IS 'how many people reacted with which emoji; null: nobody'",
    """
    CREATE TABLE message_reactions (
        message_id uuid NOT NULL,
        user_id    text NOT NULL,
        emoji      text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (message_id, user_id, emoji),
        CONSTRAINT message_reactions_message_exists
            FOREIGN KEY (message_id) REFERENCES session_messages (id) ON DELETE CASCADE,
        CONSTRAINT message_reactions_user_exists FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE,
        CONSTRAINT message_reactions_emoji_length CHECK (char_length(emoji) BETWEEN 1 AND 32)
    )
    """,
    "ALTER TABLE session_events DROP CONSTRAINT session_events_kind_known",
    """
    ALTER TABLE session_events ADD CONSTRAINT session_events_kind_known CHECK (kind IN (
        'message_edited', 'message_deleted', 'message_pinned', 'message_reaction', 'session_status',
        'session_settings', 'hand_raised', 'permissions_changed', 'participant_kicked', 'whiteboard_cleared'
    ))
    """,
    """
    CREATE TABLE whiteboard_elements (
        session_id    uuid NOT NULL,
        element_id    text NOT NULL,
        version       bigint NOT NULL,
        version_nonce bigint NOT NULL,
        element       jsonb NOT NULL,
        bytes         integer NOT NULL,
        PRIMARY KEY (session_id, element_id),
        CONSTRAINT whiteboard_elements_session_exists
            FOREIGN KEY (session_id) REFERENCES sessions (id) ON DELETE CASCADE,
        CONSTRAINT whiteboard_elements_id_length CHECK (char_length(element_id) BETWEEN 1 AND 64),
        CONSTRAINT whiteboard_elements_bytes_positive CHECK (bytes > 0)
    )
    """,
    "COMMENT ON TABLE whiteboard_elements IS 'Excalidraw elements, the winning version of each; deleted ones stay'",
    """
    CREATE TABLE notifications (
        id         uuid PRIMARY KEY,
        kind       text NOT NULL,
        title      text NOT NULL,
        body       text NOT NULL,
        data       jsonb NOT NULL DEFAULT '{}',
        created_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT notifications_kind_known CHECK (kind IN (
            'session_scheduled', 'session_started', 'content_added', 'booking_created', 'booking_changed',
            'allocation', 'recording_ready', 'session_reminder'
        ))
    )
    """,
    "COMMENT ON COLUMN notifications.id IS 'UUIDv7: in the order of time'",
    # One notification may go to a whole course: what it says is stored once.
    """
    CREATE TABLE notification_recipients (
        user_id         text NOT NULL,
        notification_id uuid NOT NULL,
        read_at         timestamptz,
        PRIMARY KEY (user_id, notification_id),
        CONSTRAINT notification_recipients_user_exists
            FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE,
        CONSTRAINT notification_recipients_notification_exists
            FOREIGN KEY (notification_id) REFERENCES notifications (id) ON DELETE CASCADE
    )
    """,
    """
    CREATE INDEX notification_recipients_unread ON notification_recipients (user_id, notification_id)
        WHERE read_at IS NULL
    """,
    "CREATE INDEX notification_recipients_by_notification ON notification_recipients (notification_id)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    # What older versions cannot show is taken out of the log; their seqs stay empty.
    op.execute(
        "DELETE FROM session_events WHERE kind IN "
        "('message_pinned', 'message_reaction', 'session_settings', 'whiteboard_cleared')"
    )
    op.execute("DELETE FROM sessions WHERE kind = 'course'")
    for table in (
        "notification_recipients",
        "notifications",
        "whiteboard_elements",
        "message_reactions",
        "session_waiters",
    ):
        op.execute(f"DROP TABLE {table}")
    op.execute("ALTER TABLE session_messages DROP COLUMN reactions")
    op.execute("ALTER TABLE session_participants DROP COLUMN admitted_at, DROP COLUMN chatted_at")
    op.execute("ALTER TABLE session_events DROP CONSTRAINT session_events_kind_known")
    op.execute("""
        ALTER TABLE session_events ADD CONSTRAINT session_events_kind_known CHECK (kind IN (
            'message_edited', 'message_deleted', 'session_status', 'hand_raised',
            'permissions_changed', 'participant_kicked'
        ))
    """)
    for column in (
        "course_id",
        "max_participants",
        "locked",
        "waiting_room",
        "chat_muted",
        "slow_mode_seconds",
        "pinned_message_id",
        "whiteboard_locked",
    ):
        op.execute(f"ALTER TABLE sessions DROP COLUMN {column}")
    for table in ("enrollments", "courses"):
        op.execute(f"DROP TABLE {table}")
