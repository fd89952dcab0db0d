"""Calendars and reminders: how often each booking has changed, the links to feeds, and which lessons were announced."""

from alembic import op

from migrations import online

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


STATEMENTS = (
    # That of the bookings last: nobody else reads them until the end of the transaction.
    "LOCK TABLE users IN SHARE ROW EXCLUSIVE MODE",
    "ALTER TABLE bookings ADD COLUMN calendar_sequence integer NOT NULL DEFAULT 0",
    "COMMENT ON COLUMN bookings.calendar_sequence IS 'iCalendar''s SEQUENCE: counts changes of time and status'",
    # Several statements change bookings, and a calendar must see each of them: the table itself counts.
    """
    CREATE FUNCTION bookings_count_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        NEW.calendar_sequence = OLD.calendar_sequence + 1;
        RETURN NEW;
    END
    $$
    """,
    """
    CREATE TRIGGER bookings_count_changes BEFORE UPDATE ON bookings FOR EACH ROW
        WHEN ((OLD.start_time, OLD.end_time, OLD.status) IS DISTINCT FROM (NEW.start_time, NEW.end_time, NEW.status))
        EXECUTE FUNCTION bookings_count_change()
    """,
    """
    CREATE TABLE server_keys (
        name       text PRIMARY KEY,
        key        bytea NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT server_keys_key_length CHECK (length(key) >= 32)
    )
    """,
    "COMMENT ON TABLE server_keys IS 'random keys of this installation, shared by its workers'",
    # Two random UUIDs are 244 random bits; gen_random_bytes() would need an extension.
    """
    INSERT INTO server_keys (name, key) VALUES
        ('calendar', decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'))
    """,
    """
    CREATE TABLE calendar_links (
        user_id    text PRIMARY KEY,
        generation integer NOT NULL,
        CONSTRAINT calendar_links_user_exists FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE,
        CONSTRAINT calendar_links_generation_counts CHECK (generation > 0)
    )
    """,
    "COMMENT ON TABLE calendar_links IS 'how often a person took back the link to their calendar; no row: never'",
    """
    CREATE TABLE booking_reminders (
        booking_id  uuid NOT NULL,
        start_time  timestamptz NOT NULL,
        reminded_at timestamptz NOT NULL,
        PRIMARY KEY (booking_id, start_time),
        CONSTRAINT booking_reminders_booking_exists FOREIGN KEY (booking_id) REFERENCES bookings (id) ON DELETE CASCADE
    )
    """,
    "COMMENT ON TABLE booking_reminders IS 'the starts that people were reminded of; a new start is a new reminder'",
)


def upgrade() -> None:
    with online.apart():
        online.make_index("bookings_confirmed_by_start", "ON bookings (start_time) WHERE status = 'confirmed'")
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    for statement in (
        "DROP TABLE booking_reminders",
        "DROP TABLE calendar_links",
        "DROP TABLE server_keys",
        "DROP INDEX bookings_confirmed_by_start",
        "DROP TRIGGER bookings_count_changes ON bookings",
        "DROP FUNCTION bookings_count_change()",
        "ALTER TABLE bookings DROP COLUMN calendar_sequence",
    ):
        op.execute(statement)
