"""Live classes: courses and who is enrolled, what a host sets in a session, reactions, whiteboards, notifications.

No order suits the tables of sessions: a batch of messages locks `session_messages` before `sessions` (a prepared INSERT
locks its target first), an edit `sessions` before `session_messages`. So each is altered alone, and none waits for the
next. Rows that were there are checked in the revision after this one.
"""

from alembic import op
from sqlalchemy import text

from migrations import online

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_COLUMN_IS_THERE = """
    SELECT EXISTS (
        SELECT FROM pg_attribute
        WHERE attrelid = '{table}'::regclass AND attname = '{column}' AND NOT attisdropped
    )
"""

#: Each alone, and only while the question before it is answered by no: an attempt does not ask for locks again whose
#: work an earlier one has done.
ALTERATIONS = (
    # What a host sets. A session of a booking has no course, and one of a course no booking.
    (
        _COLUMN_IS_THERE.format(table="sessions", column="course_id"),
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
            ADD CONSTRAINT sessions_of_courses_have_one
                CHECK ((kind = 'course') = (course_id IS NOT NULL)) NOT VALID,
            ADD CONSTRAINT sessions_max_participants_sane
                CHECK (max_participants BETWEEN 1 AND 10000) NOT VALID,
            ADD CONSTRAINT sessions_slow_mode_sane
                CHECK (slow_mode_seconds BETWEEN 0 AND 3600) NOT VALID
        """,
    ),
    (
        _COLUMN_IS_THERE.format(table="session_participants", column="admitted_at"),
        "ALTER TABLE session_participants ADD COLUMN admitted_at timestamptz, ADD COLUMN chatted_at timestamptz",
    ),
    (
        _COLUMN_IS_THERE.format(table="session_messages", column="reactions"),
        "ALTER TABLE session_messages ADD COLUMN reactions jsonb",
    ),
    (
        """
        SELECT pg_get_constraintdef(oid) LIKE '%whiteboard_cleared%' FROM pg_constraint
        WHERE conrelid = 'session_events'::regclass AND conname = 'session_events_kind_known'
        """,
        """
        ALTER TABLE session_events
            DROP CONSTRAINT session_events_kind_known,
            ADD CONSTRAINT session_events_kind_known CHECK (kind IN (
                'message_edited', 'message_deleted', 'message_pinned', 'message_reaction', 'session_status',
                'session_settings', 'hand_raised', 'permissions_changed', 'participant_kicked', 'whiteboard_cleared'
            )) NOT VALID
        """,
    ),
)

COMMENTS = (
    "COMMENT ON COLUMN sessions.locked IS 'nobody comes in any more who has not been in'",
    "COMMENT ON COLUMN sessions.waiting_room IS 'who comes in waits until the host admits them'",
    "COMMENT ON COLUMN sessions.chat_muted IS 'only the host writes'",
    "COMMENT ON COLUMN sessions.slow_mode_seconds IS 'between two messages of one person; 0: none'",
    "COMMENT ON COLUMN session_participants.admitted_at IS 'when the host let them out of the waiting room'",
    "COMMENT ON COLUMN session_participants.chatted_at IS 'when they last wrote while slow mode was on'",
    "COMMENT ON COLUMN session_messages.reactions IS 'how many people reacted with which emoji; null: nobody'",
)

INDEXES = (
    ("sessions_by_course", "ON sessions (course_id, starts_at, id) WHERE course_id IS NOT NULL"),
    # Beside those of bookings, of which a teacher has thousands.
    ("sessions_of_courses_by_host", "ON sessions (host_id, starts_at, id) WHERE course_id IS NOT NULL"),
    ("sessions_by_pinned_message", "ON sessions (pinned_message_id) WHERE pinned_message_id IS NOT NULL"),
    # They take no place in a session, so that they are looked up wherever places are counted.
    ("users_who_are_admins", "ON users (id) WHERE role = 'admin'"),
)

STATEMENTS = (
    # Foreign keys ask for no more. Batches of messages wait for the messages first, with nothing in their hands; of the
    # others only those that edit one just now can make this give way, and be tried anew.
    "LOCK TABLE users, session_messages, sessions IN SHARE ROW EXCLUSIVE MODE",
    """
    CREATE TABLE courses (
        id               uuid PRIMARY KEY,
        instructor_id    text NOT NULL,
        title            text NOT NULL,
        description      text NOT NULL DEFAULT '',
        enrollment_count integer NOT NULL DEFAULT 0,
        created_at       timestamptz NOT NULL DEFAULT now(),
        updated_at       timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT courses_instructor_exists FOREIGN KEY (instructor_id) REFERENCES users (id),
        CONSTRAINT courses_enrollment_count_counts CHECK (enrollment_count >= 0),
        CONSTRAINT courses_title_length CHECK (char_length(title) BETWEEN 1 AND 200),
        CONSTRAINT courses_description_length CHECK (char_length(description) <= 10000)
    )
    """,
    "COMMENT ON COLUMN courses.enrollment_count IS 'kept by triggers: a list of courses does not count ten thousands'",
    # Read from their ends: newest first, and on from a place by one comparison of both columns.
    "CREATE INDEX courses_by_instructor ON courses (instructor_id, created_at, id)",
    "CREATE INDEX courses_in_order ON courses (created_at, id)",
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
    """
    CREATE FUNCTION courses_count_enrollments() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        UPDATE courses c SET enrollment_count = c.enrollment_count + CASE TG_OP WHEN 'INSERT' THEN n ELSE -n END
        FROM (SELECT course_id, count(*) AS n FROM changed GROUP BY course_id) AS counted
        WHERE c.id = counted.course_id;
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE TRIGGER enrollments_are_counted AFTER INSERT ON enrollments REFERENCING NEW TABLE AS changed
        FOR EACH STATEMENT EXECUTE FUNCTION courses_count_enrollments()
    """,
    """
    CREATE TRIGGER enrollments_are_counted_off AFTER DELETE ON enrollments REFERENCING OLD TABLE AS changed
        FOR EACH STATEMENT EXECUTE FUNCTION courses_count_enrollments()
    """,
    """
    ALTER TABLE sessions
        ADD CONSTRAINT sessions_course_exists FOREIGN KEY (course_id) REFERENCES courses (id) NOT VALID,
        ADD CONSTRAINT sessions_pinned_message_exists
            FOREIGN KEY (pinned_message_id) REFERENCES session_messages (id) ON DELETE SET NULL NOT VALID
    """,
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
    """
    CREATE TABLE message_reactions (
        message_id uuid NOT NULL,
        user_id    text NOT NULL,
        emoji      text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (message_id, emoji, user_id),
        CONSTRAINT message_reactions_message_exists
            FOREIGN KEY (message_id) REFERENCES session_messages (id) ON DELETE CASCADE,
        CONSTRAINT message_reactions_user_exists FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE,
        CONSTRAINT message_reactions_emoji_length CHECK (char_length(emoji) BETWEEN 1 AND 32)
    )
    """,
    # A board's row is its lock and its counters, so that drawing holds up neither the chat nor other boards.
    """
    CREATE TABLE whiteboards (
        session_id uuid PRIMARY KEY,
        revision   bigint NOT NULL DEFAULT 0,
        elements   integer NOT NULL DEFAULT 0,
        bytes      integer NOT NULL DEFAULT 0,
        CONSTRAINT whiteboards_session_exists FOREIGN KEY (session_id) REFERENCES sessions (id) ON DELETE CASCADE,
        CONSTRAINT whiteboards_count_up CHECK (revision >= 0 AND elements >= 0 AND bytes >= 0)
    )
    """,
    "COMMENT ON COLUMN whiteboards.revision IS 'counts what was drawn; each step has elements of its own'",
    """
    CREATE TABLE whiteboard_elements (
        session_id    uuid NOT NULL,
        element_id    text NOT NULL,
        version       bigint NOT NULL,
        version_nonce bigint NOT NULL,
        deleted       boolean NOT NULL,
        element       json,
        bytes         integer NOT NULL,
        revision      bigint NOT NULL,
        changed_at    timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (session_id, element_id),
        CONSTRAINT whiteboard_elements_whiteboard_exists
            FOREIGN KEY (session_id) REFERENCES whiteboards (session_id) ON DELETE CASCADE,
        CONSTRAINT whiteboard_elements_id_length CHECK (char_length(element_id) BETWEEN 1 AND 64),
        CONSTRAINT whiteboard_elements_cleared_are_deleted CHECK (element IS NOT NULL OR deleted),
        CONSTRAINT whiteboard_elements_bytes_counted CHECK ((element IS NULL) = (bytes = 0) AND bytes >= 0)
    )
    """,
    "COMMENT ON TABLE whiteboard_elements IS 'Excalidraw elements, the winning version of each; deleted ones stay'",
    # As text: jsonb would write 1e300 out in full, and reorder what is the client's own.
    "COMMENT ON COLUMN whiteboard_elements.element IS 'as it was sent; null: a clear took it away'",
    "CREATE INDEX whiteboard_elements_in_order ON whiteboard_elements (session_id, revision)",
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
    """
    CREATE TABLE notification_handouts (
        notification_id uuid PRIMARY KEY,
        course_id       uuid NOT NULL,
        but_user_id     text,
        after_user_id   text NOT NULL,
        CONSTRAINT notification_handouts_notification_exists
            FOREIGN KEY (notification_id) REFERENCES notifications (id) ON DELETE CASCADE,
        CONSTRAINT notification_handouts_course_exists
            FOREIGN KEY (course_id) REFERENCES courses (id) ON DELETE CASCADE
    )
    """,
    """
    COMMENT ON TABLE notification_handouts IS
        'notifications that go to the rest of a course, too: to whom after after_user_id, except but_user_id'
    """,
    "CREATE INDEX notification_handouts_by_course ON notification_handouts (course_id)",
)


def upgrade() -> None:
    with online.apart():
        for is_done, statement in ALTERATIONS:
            if not op.get_bind().scalar(text(is_done)):
                op.execute(statement)
        for comment in COMMENTS:
            op.execute(comment)
        for name, definition in INDEXES:
            online.make_index(name, definition)
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute(
        "LOCK TABLE users, session_messages, sessions, session_participants, session_events IN ACCESS EXCLUSIVE MODE"
    )
    # What older versions cannot show is taken out of the log; their seqs stay empty.
    op.execute(
        "DELETE FROM session_events WHERE kind IN "
        "('message_pinned', 'message_reaction', 'session_settings', 'whiteboard_cleared')"
    )
    op.execute("DELETE FROM sessions WHERE kind = 'course'")
    for table in (
        "notification_handouts",
        "notification_recipients",
        "notifications",
        "whiteboard_elements",
        "whiteboards",
        "message_reactions",
        "session_waiters",
    ):
        op.execute(f"DROP TABLE {table}")
    op.execute("DROP INDEX users_who_are_admins")
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
    op.execute("DROP FUNCTION courses_count_enrollments()")
