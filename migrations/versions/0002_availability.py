"""Availability: the slots that teachers offer, and the weekly series that some of them were made from.

Which slots are booked is not written here: a slot is booked while a booking of its teacher overlaps it that was not
cancelled.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


STATEMENTS = (
    """
    CREATE TABLE availability_series (
        id         uuid PRIMARY KEY,
        teacher_id text NOT NULL,
        weekday    smallint NOT NULL,
        starts     time NOT NULL,
        ends       time NOT NULL,
        timezone   text NOT NULL,
        until      date NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT availability_series_teacher_exists FOREIGN KEY (teacher_id) REFERENCES users (id),
        CONSTRAINT availability_series_weekday_known CHECK (weekday BETWEEN 1 AND 7),
        -- Midnight at the end is the next day's beginning.
        CONSTRAINT availability_series_end_after_start CHECK (ends > starts OR ends = '00:00')
    )
    """,
    "COMMENT ON COLUMN availability_series.weekday IS 'ISO 8601: 1 is Monday'",
    "COMMENT ON COLUMN availability_series.starts IS 'on the wall clock of the time zone, like ends'",
    """
    CREATE TABLE availability_slots (
        id         uuid PRIMARY KEY,
        teacher_id text NOT NULL,
        series_id  uuid,
        start_time timestamptz NOT NULL,
        end_time   timestamptz NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT availability_slots_teacher_exists FOREIGN KEY (teacher_id) REFERENCES users (id),
        CONSTRAINT availability_slots_series_exists FOREIGN KEY (series_id) REFERENCES availability_series (id),
        CONSTRAINT availability_slots_end_after_start CHECK (end_time > start_time),
        -- Queries look so far back for the slot that holds a moment.
        CONSTRAINT availability_slots_not_too_long CHECK (end_time - start_time <= interval '24 hours'),
        -- The id stands as a one-point range, which GiST can compare without an extension.
        CONSTRAINT availability_slots_apart EXCLUDE USING gist (
            int8range(hashtextextended(teacher_id, 0), hashtextextended(teacher_id, 0), '[]') WITH &&,
            tstzrange(start_time, end_time) WITH &&
        )
    )
    """,
    "CREATE INDEX availability_slots_by_teacher ON availability_slots (teacher_id, start_time)",
    "CREATE INDEX availability_slots_by_start ON availability_slots (start_time, id)",
    """
    CREATE INDEX availability_slots_by_series ON availability_slots (series_id, start_time)
        WHERE series_id IS NOT NULL
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    for table in ("availability_slots", "availability_series"):
        op.execute(f"DROP TABLE {table}")
