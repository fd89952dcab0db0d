r"""Finding people, reviewing lessons, and what an administrator keeps: allocations and the audit log.

`directory` holds one row per person, kept by a trigger on `users`: what they are found by, and the order in which
lists show them. It stands beside `users` because that table is read with every token, and these words are long.

Words are folded here, in SQL, when they are written and when they are asked for, so that both always agree: without
accents (no extension is needed: Unicode takes them off), in lower case, without punctuation.
"""

from alembic import op

from migrations import online

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

#: The words of a person: everybody's name, e-mail and id; a teacher's headline, and all that they say of themself.
_WORDS = """
    to_tsvector('simple'::regconfig, search_folded(concat_ws(' ', u.first_name, u.last_name, u.email, u.id)))
"""
_HEADLINE = """
    setweight(to_tsvector('simple'::regconfig, search_folded(array_to_string(u.topics, ' '))), 'A')
    || setweight(to_tsvector('simple'::regconfig, search_folded(array_to_string(u.subjects, ' '))), 'B')
    || setweight(to_tsvector('simple'::regconfig, search_folded(concat_ws(' ', u.first_name, u.last_name))), 'C')
"""
_BIO = "setweight(to_tsvector('simple'::regconfig, search_folded(u.bio)), 'D')"
_ROW = f"""
    u.id, u.role, left(btrim(search_folded(concat_ws(' ', u.last_name, u.first_name))), 200), {_WORDS},
    CASE WHEN u.role = 'teacher' THEN {_HEADLINE} END,
    CASE WHEN u.role = 'teacher' THEN {_HEADLINE} || {_BIO} END
"""

#: The directory, and whatever keeps it. It can be run again: it is committed before everybody is put into it.
DIRECTORY = (
    "LOCK TABLE users IN SHARE ROW EXCLUSIVE MODE",
    # NFKD takes letters and their accents apart; the letters that it leaves whole are written out. + and # are words'
    # own in the names of languages (C++, C#); all other punctuation parts words.
    r"""
    CREATE OR REPLACE FUNCTION search_folded(words text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN replace(replace(translate(
        replace(replace(replace(replace(translate(
            lower(regexp_replace(normalize(words, NFKD), '[\u0300-\u036f]+', '', 'g')),
            'øłđðħı', 'olddhi'
        ), 'ß', 'ss'), 'æ', 'ae'), 'œ', 'oe'), 'þ', 'th'),
        '!"$%&''()*,-./:;<=>?@[\]^_`{|}~', repeat(' ', 30)
    ), '+', 'plus'), '#', 'sharp')
    """,
    # What is asked for, every word of it, as the beginning of a word; a single letter is a whole one (C, R), or it
    # would find everything. No lexeme holds a quote or a backslash: folding has parted words at them. More words than
    # anybody types to find someone are left out: each is a walk through the index.
    r"""
    CREATE OR REPLACE FUNCTION search_query(words text) RETURNS tsquery LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN (
        SELECT string_agg(
            '''' || lexeme || CASE WHEN lexeme ~ '^[a-z0-9]$' THEN '''' ELSE ''':*' END, ' & '
        )::tsquery
        FROM (
            SELECT lexeme FROM unnest(to_tsvector('simple'::regconfig, search_folded(words))) LIMIT 16
        ) AS asked
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS directory (
        user_id   text PRIMARY KEY,
        role      text NOT NULL,
        sort_name text NOT NULL,
        words     tsvector NOT NULL,
        headline  tsvector,
        document  tsvector,
        CONSTRAINT directory_user_exists FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE
    )
    """,
    "COMMENT ON TABLE directory IS 'what people are found by; written by a trigger on users'",
    "COMMENT ON COLUMN directory.headline IS 'a teacher''s topics (A), subjects (B) and name (C)'",
    "COMMENT ON COLUMN directory.document IS 'the headline and the bio (D)'",
    f"""
    CREATE OR REPLACE FUNCTION directory_follow_users() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO directory (user_id, role, sort_name, words, headline, document)
        SELECT {_ROW} FROM (SELECT NEW.*) AS u
        ON CONFLICT (user_id) DO UPDATE SET
            role = excluded.role, sort_name = excluded.sort_name, words = excluded.words,
            headline = excluded.headline, document = excluded.document;
        RETURN NULL;
    END
    $$
    """,  # noqa: S608  # constants of this file
    """
    CREATE OR REPLACE TRIGGER users_are_in_the_directory AFTER INSERT ON users
        FOR EACH ROW EXECUTE FUNCTION directory_follow_users()
    """,
    """
    CREATE OR REPLACE TRIGGER users_change_in_the_directory
        AFTER UPDATE OF role, first_name, last_name, email, bio, topics, subjects ON users
        FOR EACH ROW
        WHEN ((OLD.role, OLD.first_name, OLD.last_name, OLD.email, OLD.bio, OLD.topics, OLD.subjects)
              IS DISTINCT FROM (NEW.role, NEW.first_name, NEW.last_name, NEW.email, NEW.bio, NEW.topics, NEW.subjects))
        EXECUTE FUNCTION directory_follow_users()
    """,
    "CREATE INDEX IF NOT EXISTS directory_in_order ON directory (role, sort_name, user_id)",
    # Without a list of pending entries, which every search would read through: profiles change seldom.
    "CREATE INDEX IF NOT EXISTS directory_by_words ON directory USING gin (words) WITH (fastupdate = off)",
    # One for each place in which a teacher may be found, with all the better ones in it: `store.search` reads them in
    # this order. GIN keeps no weights, so that one index alone would find topics among all the subjects.
    *(
        f"CREATE INDEX IF NOT EXISTS directory_by_{name} ON directory USING gin ({place})"
        f" WITH (fastupdate = off) WHERE {column} IS NOT NULL"
        for name, place, column in (
            ("topics", "ts_filter(headline, '{a}')", "headline"),
            ("subjects", "ts_filter(headline, '{a,b}')", "headline"),
            ("headline", "headline", "headline"),
            ("document", "document", "document"),
        )
    ),
)

#: The triggers keep those who come or change meanwhile, and what they have written stands. The rows are locked against
#: removal alone, each batch for a moment.
EVERYBODY = f"""
    WITH batch AS (
        SELECT * FROM users WHERE id > :after ORDER BY id LIMIT 1000 FOR KEY SHARE
    ), written AS (
        INSERT INTO directory (user_id, role, sort_name, words, headline, document)
        SELECT {_ROW} FROM batch u ORDER BY u.id ON CONFLICT DO NOTHING
    )
    SELECT max(id) FROM batch
"""  # noqa: S608  # constants of this file

#: What is counted for the administrator's first page. Messages lie in the order in which they came: a few bytes for
#: every megabyte of them say where today begins.
INDEXES = (
    ("session_messages_by_day", "ON session_messages USING brin (created_at) WITH (autosummarize = on)"),
    ("sessions_live", "ON sessions (id) WHERE status = 'live'"),
    ("sessions_upcoming", "ON sessions (starts_at) WHERE status = 'scheduled'"),
)

STATEMENTS = (
    "LOCK TABLE users, bookings IN SHARE ROW EXCLUSIVE MODE",
    """
    CREATE TABLE reviews (
        booking_id uuid PRIMARY KEY,
        author_id  text NOT NULL,
        rating     smallint NOT NULL,
        comment    text NOT NULL DEFAULT '',
        created_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT reviews_booking_exists FOREIGN KEY (booking_id) REFERENCES bookings (id) ON DELETE CASCADE,
        CONSTRAINT reviews_author_exists FOREIGN KEY (author_id) REFERENCES users (id),
        CONSTRAINT reviews_rating_in_stars CHECK (rating BETWEEN 1 AND 5),
        CONSTRAINT reviews_comment_length CHECK (char_length(comment) <= 2000)
    )
    """,
    """
    CREATE TABLE teacher_ratings (
        teacher_id text PRIMARY KEY,
        stars      bigint NOT NULL,
        reviews    bigint NOT NULL,
        CONSTRAINT teacher_ratings_teacher_exists FOREIGN KEY (teacher_id) REFERENCES users (id) ON DELETE CASCADE,
        CONSTRAINT teacher_ratings_of_reviews CHECK (reviews > 0)
    )
    """,
    "CREATE INDEX teacher_ratings_best_first ON teacher_ratings ((stars::float8 / reviews) DESC, teacher_id)",
    "COMMENT ON TABLE teacher_ratings IS 'the sum of a teacher''s reviews, written with each of them'",
    """
    CREATE TABLE allocations (
        id         uuid PRIMARY KEY,
        number     bigint GENERATED ALWAYS AS IDENTITY,
        student_id text NOT NULL,
        tutor_id   text NOT NULL,
        subject_id text NOT NULL,
        created_by text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        words      tsvector NOT NULL
            GENERATED ALWAYS AS (to_tsvector('simple'::regconfig, search_folded(subject_id))) STORED,
        CONSTRAINT allocations_number_unique UNIQUE (number),
        CONSTRAINT allocations_made_once UNIQUE (student_id, tutor_id, subject_id),
        CONSTRAINT allocations_student_exists FOREIGN KEY (student_id) REFERENCES users (id) ON DELETE CASCADE,
        CONSTRAINT allocations_tutor_exists FOREIGN KEY (tutor_id) REFERENCES users (id) ON DELETE CASCADE,
        CONSTRAINT allocations_subject_length CHECK (char_length(subject_id) BETWEEN 1 AND 100)
    )
    """,
    "COMMENT ON COLUMN allocations.number IS 'the order in which they were made'",
    "CREATE INDEX allocations_by_tutor ON allocations (tutor_id)",
    "CREATE INDEX allocations_by_words ON allocations USING gin (words) WITH (fastupdate = off)",
    # Without foreign keys: what somebody did stays known when they are gone.
    """
    CREATE TABLE audit_log (
        id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        at       timestamptz NOT NULL DEFAULT clock_timestamp(),
        actor_id text NOT NULL,
        action   text NOT NULL,
        subject  text NOT NULL,
        details  jsonb NOT NULL DEFAULT '{}'
    )
    """,
    "COMMENT ON COLUMN audit_log.subject IS 'the id of the person to whom it was done'",
    "CREATE INDEX audit_log_by_actor ON audit_log (actor_id, id)",
    "CREATE INDEX audit_log_by_subject ON audit_log (subject, id)",
    "CREATE INDEX audit_log_by_action ON audit_log (action, id)",
    """
    CREATE FUNCTION audit_log_stays_as_it_is() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'the audit log is only appended to' USING ERRCODE = 'restrict_violation',
            CONSTRAINT = 'audit_log_append_only';
    END
    $$
    """,
    """
    CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
        FOR EACH STATEMENT EXECUTE FUNCTION audit_log_stays_as_it_is()
    """,
)


def upgrade() -> None:
    for statement in DIRECTORY:
        op.execute(statement)
    with online.apart():
        online.in_batches(EVERYBODY)
        for name, definition in INDEXES:
            online.make_index(name, definition)
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    for index, _ in INDEXES:
        op.execute(f"DROP INDEX {index}")
    for trigger in ("users_are_in_the_directory", "users_change_in_the_directory"):
        op.execute(f"DROP TRIGGER {trigger} ON users")
    for table in ("audit_log", "allocations", "teacher_ratings", "reviews", "directory"):
        op.execute(f"DROP TABLE {table}")
    for function in (
        "audit_log_stays_as_it_is()",
        "directory_follow_users()",
        "search_query(text)",
        "search_folded(text)",
    ):
        op.execute(f"DROP FUNCTION {function}")
