-- The tables of S1 that a message touches, with the index that its history lacks.
CREATE TABLE users (
    id         text PRIMARY KEY,
    first_name text NOT NULL,
    last_name  text NOT NULL DEFAULT '',
    parent_id  text REFERENCES users (id)
);
CREATE TABLE bookings (
    id         uuid PRIMARY KEY,
    student_id text REFERENCES users (id),
    tutor_id   text REFERENCES users (id),
    parent_id  text REFERENCES users (id)
);
CREATE TABLE session_messages (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    session_id uuid NOT NULL REFERENCES bookings (id) ON DELETE CASCADE,
    user_id    text NOT NULL REFERENCES users (id),
    text       text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX session_messages_by_session ON session_messages (session_id, created_at);
