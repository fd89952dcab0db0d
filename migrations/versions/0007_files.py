"""Files: what people upload, on its way in and as it lies there; recordings of sessions, and what courses hold."""

from alembic import op
from sqlalchemy import text

from migrations import online

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_COLUMN_IS_THERE = """
    SELECT EXISTS (
        SELECT FROM pg_attribute
        WHERE attrelid = '{table}'::regclass AND attname = '{column}' AND NOT attisdropped
    )
"""
_KINDS_ARE_NAMED = """
    SELECT pg_get_constraintdef(oid) LIKE '%recording_state%' FROM pg_constraint
    WHERE conrelid = 'session_events'::regclass AND conname = 'session_events_kind_known'
"""

#: What tables in use become. Each alone, and only while the question before it is answered by no.
ALTERATIONS = (
    (
        _COLUMN_IS_THERE.format(table="sessions", column="recording_consent"),
        "ALTER TABLE sessions ADD COLUMN recording_consent boolean NOT NULL DEFAULT false",
    ),
    (
        _COLUMN_IS_THERE.format(table="courses", column="thumbnail_file_id"),
        "ALTER TABLE courses ADD COLUMN thumbnail_file_id uuid, ADD COLUMN content_count integer NOT NULL DEFAULT 0",
    ),
    (
        _KINDS_ARE_NAMED,
        """
        ALTER TABLE session_events
            DROP CONSTRAINT session_events_kind_known,
            ADD CONSTRAINT session_events_kind_known CHECK (kind IN (
                'message_edited', 'message_deleted', 'message_pinned', 'message_reaction', 'session_status',
                'session_settings', 'hand_raised', 'permissions_changed', 'participant_kicked', 'whiteboard_cleared',
                'recording_state'
            )) NOT VALID
        """,
    ),
)

COMMENTS = (
    "COMMENT ON COLUMN sessions.recording_consent IS 'nobody is recorded who has not agreed to it'",
    "COMMENT ON COLUMN courses.content_count IS 'kept by triggers, as enrollment_count is'",
)

# Foreign keys and triggers ask for no more. Batches of messages wait for the messages, with nothing in their hands, as
# they do for 0005.
LOCK = "LOCK TABLE users, session_messages, sessions, courses IN SHARE ROW EXCLUSIVE MODE"

FILES = (
    """
    CREATE TABLE files (
        id            uuid PRIMARY KEY,
        key           text NOT NULL,
        owner_id      text NOT NULL,
        purpose       text NOT NULL,
        session_id    uuid,
        course_id     uuid,
        details       jsonb NOT NULL DEFAULT '{}',
        name          text NOT NULL,
        mime          text NOT NULL DEFAULT '',
        size          bigint NOT NULL,
        sent_size     bigint NOT NULL DEFAULT 0,
        state         text NOT NULL DEFAULT 'uploading',
        reason        text,
        seconds       double precision,
        width         integer,
        height        integer,
        video_codec   text,
        audio_codec   text,
        thumbnail_key text,
        tries         integer NOT NULL DEFAULT 0,
        lease_holder  uuid,
        lease_until   timestamptz NOT NULL DEFAULT '-infinity',
        created_at    timestamptz NOT NULL DEFAULT now(),
        updated_at    timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT files_key_is_one UNIQUE (key),
        CONSTRAINT files_owner_exists FOREIGN KEY (owner_id) REFERENCES users (id) ON DELETE CASCADE,
        CONSTRAINT files_session_exists FOREIGN KEY (session_id) REFERENCES sessions (id) ON DELETE SET NULL,
        CONSTRAINT files_course_exists FOREIGN KEY (course_id) REFERENCES courses (id) ON DELETE SET NULL,
        CONSTRAINT files_purpose_known CHECK (purpose IN ('recording', 'content', 'document', 'thumbnail')),
        CONSTRAINT files_state_known CHECK (state IN ('uploading', 'processing', 'ready', 'failed')),
        CONSTRAINT files_size_counts CHECK (size >= 0),
        CONSTRAINT files_name_length CHECK (char_length(name) BETWEEN 1 AND 200),
        CONSTRAINT files_ready_are_judged CHECK (state NOT IN ('processing', 'ready') OR mime <> '')
    )
    """,
    "COMMENT ON COLUMN files.key IS 'under which it lies among the objects; made here, never of its name'",
    "COMMENT ON COLUMN files.mime IS 'by its first bytes; empty until those have come'",
    "COMMENT ON COLUMN files.size IS 'while uploading: what is set aside for it'",
    "COMMENT ON COLUMN files.sent_size IS 'bytes that came, once all have: what is kept may be made of them'",
    "COMMENT ON COLUMN files.lease_holder IS 'the worker that looks through it, until lease_until'",
    "CREATE INDEX files_by_owner ON files (owner_id, id)",
    "CREATE INDEX files_on_their_way ON files (owner_id) WHERE state = 'uploading'",
    "CREATE INDEX files_to_look_through ON files (lease_until) WHERE state = 'processing'",
    "CREATE INDEX files_that_failed ON files (updated_at) WHERE state = 'failed'",
    "CREATE INDEX files_by_session ON files (session_id) WHERE session_id IS NOT NULL",
    "CREATE INDEX files_by_course ON files (course_id) WHERE course_id IS NOT NULL",
    """
    CREATE TABLE uploads (
        file_id      uuid PRIMARY KEY,
        length       bigint,
        "offset"     bigint NOT NULL DEFAULT 0,
        head         bytea NOT NULL DEFAULT '',
        state        text,
        metadata     text NOT NULL DEFAULT '',
        mime_wanted  text,
        families     text[],
        watchers     text[] NOT NULL DEFAULT '{}',
        resumable    boolean NOT NULL,
        expires_at   timestamptz NOT NULL,
        lease_holder uuid,
        lease_until  timestamptz NOT NULL DEFAULT '-infinity',
        lease_wanted boolean NOT NULL DEFAULT false,
        CONSTRAINT uploads_file_exists FOREIGN KEY (file_id) REFERENCES files (id) ON DELETE CASCADE,
        CONSTRAINT uploads_offset_within CHECK ("offset" >= 0 AND "offset" <= coalesce(length, "offset"))
    )
    """,
    "COMMENT ON COLUMN uploads.length IS 'null: said only by the end of what is sent'",
    "COMMENT ON COLUMN uploads.head IS 'the first bytes, until there are enough to tell the type by'",
    "COMMENT ON COLUMN uploads.state IS 'from which the object store goes on; null: nothing lies there yet'",
    "COMMENT ON COLUMN uploads.mime_wanted IS 'the only type that may come; null: any of its purpose and families'",
    "COMMENT ON COLUMN uploads.watchers IS 'who is told of its progress beside its owner'",
    "COMMENT ON COLUMN uploads.lease_wanted IS 'somebody else came to write: the holder stops, and lets go'",
    "CREATE INDEX uploads_by_expiry ON uploads (expires_at)",
    # What somebody's files take, kept by triggers: it is held to a bound under any race.
    """
    CREATE TABLE file_usage (
        user_id text PRIMARY KEY,
        bytes   bigint NOT NULL DEFAULT 0,
        CONSTRAINT file_usage_user_exists FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE
    )
    """,
    "COMMENT ON TABLE file_usage IS 'what the files of a person take, those on their way included; failed ones do not'",
    # Removed with everything else of a person: then there is no row to count in, nor anybody to count for.
    """
    CREATE FUNCTION files_count_usage() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        before bigint := 0;
        after  bigint := 0;
    BEGIN
        IF TG_OP <> 'INSERT' AND OLD.state <> 'failed' THEN before := OLD.size; END IF;
        IF TG_OP <> 'DELETE' AND NEW.state <> 'failed' THEN after := NEW.size; END IF;
        IF TG_OP = 'INSERT' THEN
            INSERT INTO file_usage AS u (user_id, bytes) VALUES (NEW.owner_id, after)
            ON CONFLICT (user_id) DO UPDATE SET bytes = u.bytes + after;
        ELSIF before <> after THEN
            UPDATE file_usage SET bytes = bytes + after - before WHERE user_id = OLD.owner_id;
        END IF;
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE TRIGGER files_count_usage AFTER INSERT OR UPDATE OR DELETE ON files
        FOR EACH ROW EXECUTE FUNCTION files_count_usage()
    """,
    # An object outlives the statement that takes away its row; whoever comes by removes it. Whoever still writes to it
    # hears within seconds that it is gone, and the last request to the object store has ended some minutes later.
    """
    CREATE TABLE objects_to_delete (
        key    text PRIMARY KEY,
        due_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    "CREATE INDEX objects_to_delete_by_time ON objects_to_delete (due_at)",
    """
    COMMENT ON TABLE objects_to_delete IS
        'objects without a row of files any more; or, due later, that will have one if whoever writes them lives'
    """,
    """
    CREATE FUNCTION files_leave_objects() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO objects_to_delete (key, due_at)
        SELECT key, now() + CASE OLD.state WHEN 'uploading' THEN interval '5 minutes' ELSE interval '0' END
        FROM unnest(ARRAY[OLD.key, OLD.thumbnail_key]) AS i (key) WHERE key IS NOT NULL
        ON CONFLICT (key) DO UPDATE SET due_at = excluded.due_at;
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE TRIGGER files_leave_objects AFTER DELETE ON files
        FOR EACH ROW EXECUTE FUNCTION files_leave_objects()
    """,
    # So does what an upload has written.
    """
    CREATE TABLE uploads_to_give_up (
        key    text NOT NULL,
        state  text NOT NULL,
        due_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (key, state)
    )
    """,
    "CREATE INDEX uploads_to_give_up_by_time ON uploads_to_give_up (due_at)",
    """
    COMMENT ON TABLE uploads_to_give_up IS
        'what the object store holds of uploads without a row; or, due later, that are over if whoever writes dies'
    """,
    """
    CREATE FUNCTION files_leave_uploads() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO uploads_to_give_up (key, state, due_at)
        SELECT OLD.key, u.state, now() + interval '5 minutes' FROM uploads u
        WHERE u.file_id = OLD.id AND u.state IS NOT NULL
        ON CONFLICT DO NOTHING;
        RETURN OLD;
    END
    $$
    """,
    # Before: the upload's row goes with the file's.
    """
    CREATE TRIGGER files_leave_uploads BEFORE DELETE ON files
        FOR EACH ROW EXECUTE FUNCTION files_leave_uploads()
    """,
    # A file goes with what it is of, whatever takes that away; one that failed stays, to say why.
    """
    CREATE FUNCTION leave_files() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        DELETE FROM files WHERE state <> 'failed' AND id IN (
            (to_jsonb(OLD) ->> 'file_id')::uuid, (to_jsonb(OLD) ->> 'thumbnail_file_id')::uuid
        );
        RETURN NULL;
    END
    $$
    """,
    # Two random UUIDs are 244 random bits; gen_random_bytes() would need an extension.
    """
    INSERT INTO server_keys (name, key) VALUES
        ('links', decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex')),
        ('files', decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'))
    """,
)

# Recordings of sessions, and who has agreed to be in one. A recording's file comes later than the recording, or never.
RECORDINGS = (
    """
    CREATE TABLE recordings (
        id               uuid PRIMARY KEY,
        session_id       uuid NOT NULL,
        uploaded_by      text NOT NULL,
        status           text NOT NULL,
        started_at       timestamptz,
        stopped_at       timestamptz,
        file_id          uuid,
        duration_seconds integer,
        failure          text,
        created_at       timestamptz NOT NULL DEFAULT now(),
        updated_at       timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT recordings_session_exists FOREIGN KEY (session_id) REFERENCES sessions (id) ON DELETE CASCADE,
        CONSTRAINT recordings_uploader_exists FOREIGN KEY (uploaded_by) REFERENCES users (id),
        CONSTRAINT recordings_file_exists FOREIGN KEY (file_id) REFERENCES files (id),
        CONSTRAINT recordings_one_of_each_file UNIQUE (file_id),
        CONSTRAINT recordings_status_known CHECK (status IN ('recording', 'processing', 'completed', 'failed')),
        CONSTRAINT recordings_run_from_a_start
            CHECK (status <> 'recording' OR (started_at IS NOT NULL AND stopped_at IS NULL)),
        CONSTRAINT recordings_end_after_their_start CHECK (stopped_at >= started_at),
        CONSTRAINT recordings_completed_have_a_file CHECK (status <> 'completed' OR file_id IS NOT NULL),
        CONSTRAINT recordings_duration_sane CHECK (duration_seconds >= 0)
    )
    """,
    "COMMENT ON COLUMN recordings.uploaded_by IS 'who started it, then who sent its file'",
    "CREATE INDEX files_of_recordings ON files (size) WHERE purpose = 'recording' AND state = 'ready'",
    "CREATE INDEX recordings_by_uploader ON recordings (uploaded_by)",
    "COMMENT ON COLUMN recordings.id IS 'UUIDv7: in the order of time'",
    "CREATE UNIQUE INDEX recordings_one_running ON recordings (session_id) WHERE status = 'recording'",
    "CREATE INDEX recordings_by_session ON recordings (session_id, id)",
    "CREATE INDEX recordings_unfinished ON recordings (updated_at) WHERE status IN ('recording', 'processing')",
    """
    CREATE TABLE recording_consents (
        session_id uuid NOT NULL,
        user_id    text NOT NULL,
        agreed     boolean NOT NULL,
        decided_by text NOT NULL,
        decided_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (session_id, user_id),
        CONSTRAINT recording_consents_session_exists
            FOREIGN KEY (session_id) REFERENCES sessions (id) ON DELETE CASCADE,
        CONSTRAINT recording_consents_user_exists FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE,
        CONSTRAINT recording_consents_decider_exists FOREIGN KEY (decided_by) REFERENCES users (id) ON DELETE CASCADE
    )
    """,
    "COMMENT ON COLUMN recording_consents.decided_by IS 'the person, or the guardian of a child'",
    "CREATE INDEX recording_consents_by_user ON recording_consents (user_id)",
    "CREATE INDEX recording_consents_by_decider ON recording_consents (decided_by)",
    """
    CREATE TRIGGER recordings_leave_files AFTER DELETE ON recordings
        FOR EACH ROW EXECUTE FUNCTION leave_files()
    """,
)

# What a course holds beside its live classes: films and sounds, and what people make of them.
CONTENT = (
    # There is none to be checked.
    """
    ALTER TABLE courses ADD CONSTRAINT courses_thumbnail_exists
        FOREIGN KEY (thumbnail_file_id) REFERENCES files (id) ON DELETE SET NULL
    """,
    """
    CREATE TRIGGER courses_leave_files AFTER DELETE ON courses
        FOR EACH ROW EXECUTE FUNCTION leave_files()
    """,
    """
    CREATE TABLE course_content (
        id                uuid PRIMARY KEY,
        course_id         uuid NOT NULL,
        title             text NOT NULL,
        description       text NOT NULL DEFAULT '',
        content_type      text NOT NULL,
        file_id           uuid,
        file_name         text NOT NULL,
        file_size         bigint NOT NULL DEFAULT 0,
        mime_type         text,
        duration_seconds  integer,
        thumbnail_file_id uuid,
        upload_status     text NOT NULL,
        failure           text,
        content_order     integer NOT NULL,
        is_preview        boolean NOT NULL DEFAULT false,
        access_level      text NOT NULL DEFAULT 'enrolled_only',
        view_count        integer NOT NULL DEFAULT 0,
        like_count        integer NOT NULL DEFAULT 0,
        comment_count     integer NOT NULL DEFAULT 0,
        created_by        text NOT NULL,
        created_at        timestamptz NOT NULL DEFAULT now(),
        updated_at        timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT course_content_course_exists FOREIGN KEY (course_id) REFERENCES courses (id) ON DELETE CASCADE,
        CONSTRAINT course_content_file_exists FOREIGN KEY (file_id) REFERENCES files (id) ON DELETE SET NULL,
        CONSTRAINT course_content_one_of_each_file UNIQUE (file_id),
        CONSTRAINT course_content_thumbnail_exists
            FOREIGN KEY (thumbnail_file_id) REFERENCES files (id) ON DELETE SET NULL,
        CONSTRAINT course_content_author_exists FOREIGN KEY (created_by) REFERENCES users (id),
        CONSTRAINT course_content_type_known CHECK (content_type IN ('video', 'audio')),
        CONSTRAINT course_content_status_known
            CHECK (upload_status IN ('uploading', 'processing', 'completed', 'failed')),
        CONSTRAINT course_content_access_known CHECK (access_level IN ('free', 'enrolled_only', 'premium')),
        CONSTRAINT course_content_title_length CHECK (char_length(title) BETWEEN 1 AND 200),
        CONSTRAINT course_content_description_length CHECK (char_length(description) <= 10000),
        CONSTRAINT course_content_counts CHECK (view_count >= 0 AND like_count >= 0 AND comment_count >= 0)
    )
    """,
    "COMMENT ON COLUMN course_content.file_id IS 'null: it failed'",
    "CREATE INDEX course_content_in_order ON course_content (course_id, content_order, id)",
    """
    CREATE INDEX course_content_by_thumbnail ON course_content (thumbnail_file_id) WHERE thumbnail_file_id IS NOT NULL
    """,
    "CREATE INDEX course_content_by_author ON course_content (created_by)",
    """
    CREATE FUNCTION courses_count_content() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        UPDATE courses c SET content_count = c.content_count + CASE TG_OP WHEN 'INSERT' THEN n ELSE -n END
        FROM (SELECT course_id, count(*) AS n FROM changed GROUP BY course_id) AS counted
        WHERE c.id = counted.course_id;
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE TRIGGER content_is_counted AFTER INSERT ON course_content REFERENCING NEW TABLE AS changed
        FOR EACH STATEMENT EXECUTE FUNCTION courses_count_content()
    """,
    """
    CREATE TRIGGER content_is_counted_off AFTER DELETE ON course_content REFERENCING OLD TABLE AS changed
        FOR EACH STATEMENT EXECUTE FUNCTION courses_count_content()
    """,
    """
    CREATE TRIGGER content_leaves_files AFTER DELETE ON course_content
        FOR EACH ROW EXECUTE FUNCTION leave_files()
    """,
    # A view is a person's day: analytics read the days, the content's own count is kept beside.
    """
    CREATE TABLE content_views (
        content_id uuid NOT NULL,
        day        date NOT NULL,
        user_id    text NOT NULL,
        PRIMARY KEY (content_id, day, user_id),
        CONSTRAINT content_views_content_exists
            FOREIGN KEY (content_id) REFERENCES course_content (id) ON DELETE CASCADE,
        CONSTRAINT content_views_user_exists FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE
    )
    """,
    "CREATE INDEX content_views_by_user ON content_views (user_id)",
    """
    CREATE TABLE content_progress (
        content_id       uuid NOT NULL,
        user_id          text NOT NULL,
        position_seconds integer NOT NULL,
        completed        boolean NOT NULL DEFAULT false,
        updated_at       timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (content_id, user_id),
        CONSTRAINT content_progress_content_exists
            FOREIGN KEY (content_id) REFERENCES course_content (id) ON DELETE CASCADE,
        CONSTRAINT content_progress_user_exists FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE,
        CONSTRAINT content_progress_position_sane CHECK (position_seconds BETWEEN 0 AND 604800)
    )
    """,
    "CREATE INDEX content_progress_by_user ON content_progress (user_id)",
    """
    CREATE TABLE content_comments (
        id         uuid PRIMARY KEY,
        content_id uuid NOT NULL,
        user_id    text NOT NULL,
        text       text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT content_comments_content_exists
            FOREIGN KEY (content_id) REFERENCES course_content (id) ON DELETE CASCADE,
        CONSTRAINT content_comments_user_exists FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE,
        CONSTRAINT content_comments_text_length CHECK (char_length(text) BETWEEN 1 AND 2000)
    )
    """,
    "COMMENT ON COLUMN content_comments.id IS 'UUIDv7: in the order of time'",
    "CREATE INDEX content_comments_in_order ON content_comments (content_id, id)",
    "CREATE INDEX content_comments_by_user ON content_comments (user_id)",
    """
    CREATE TABLE content_likes (
        content_id uuid NOT NULL,
        user_id    text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (content_id, user_id),
        CONSTRAINT content_likes_content_exists
            FOREIGN KEY (content_id) REFERENCES course_content (id) ON DELETE CASCADE,
        CONSTRAINT content_likes_user_exists FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE
    )
    """,
    "CREATE INDEX content_likes_by_user ON content_likes (user_id)",
)


def upgrade() -> None:
    with online.apart():
        for is_done, statement in ALTERATIONS:
            if not op.get_bind().scalar(text(is_done)):
                op.execute(statement)
        for comment in COMMENTS:
            op.execute(comment)
        online.make_index("courses_by_thumbnail", "ON courses (thumbnail_file_id) WHERE thumbnail_file_id IS NOT NULL")
        # Reads the table once, beside those who write to it. Nobody waits behind it, and it may wait for a VACUUM.
        op.execute(f"SET lock_timeout = '{online.INDEX_SECONDS}s'")
        op.execute("ALTER TABLE session_events VALIDATE CONSTRAINT session_events_kind_known")
        op.execute("RESET lock_timeout")
    for statement in (LOCK, *FILES, *RECORDINGS, *CONTENT):
        op.execute(statement)


def downgrade() -> None:
    for statement in (
        "LOCK TABLE users, session_messages, sessions, session_events, courses IN ACCESS EXCLUSIVE MODE",
        # What older versions cannot show is taken out of the log; their seqs stay empty.
        "DELETE FROM session_events WHERE kind = 'recording_state'",
        "ALTER TABLE session_events DROP CONSTRAINT session_events_kind_known",
        """
        ALTER TABLE session_events ADD CONSTRAINT session_events_kind_known CHECK (kind IN (
            'message_edited', 'message_deleted', 'message_pinned', 'message_reaction', 'session_status',
            'session_settings', 'hand_raised', 'permissions_changed', 'participant_kicked', 'whiteboard_cleared'
        ))
        """,
        "DROP TRIGGER courses_leave_files ON courses",
        "ALTER TABLE courses DROP COLUMN thumbnail_file_id, DROP COLUMN content_count",
        "ALTER TABLE sessions DROP COLUMN recording_consent",
        *(
            f"DROP TABLE {table}"
            for table in (
                *("content_likes", "content_comments", "content_progress", "content_views", "course_content"),
                *("recording_consents", "recordings"),
                *("uploads_to_give_up", "objects_to_delete", "file_usage", "uploads", "files"),
            )
        ),
        *(
            f"DROP FUNCTION {function}()"
            for function in (
                *("courses_count_content", "leave_files"),
                *("files_leave_uploads", "files_leave_objects", "files_count_usage"),
            )
        ),
        "DELETE FROM server_keys WHERE name IN ('links', 'files')",
    ):
        op.execute(statement)
