"""The command ``encounters``: serve, migrate, demo, token.

A flag stands before the environment, the environment before the default. What cannot be done is said in one
sentence on stderr; the exit status is 2 for a wrong setting or usage, 1 for anything else.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import ipaddress
import os
import re
import sys
import textwrap
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from domain.errors import EncountersError
from domain.identity import ROLE_SYNONYMS, ROLES, Role, from_claims, role_named
from domain.tokens import issue
from server import logging
from server.parsers import MIN_SECRET_BYTES
from server.postgres import EmbeddedPostgresError, embedded
from server.settings import DEMO_SECRET_FILE, SETTINGS, Settings, SettingsError, from_environment
from store import schema

if TYPE_CHECKING:
    from domain.school import Filled
    from store.academy import SampleClass
    from store.school import SampleLesson

HELP_WIDTH: Final = 88
MAX_TTL_SECONDS: Final = 10 * 366 * 86400

_DESCRIPTION: Final = """\
A real-time session server for tutoring: lessons, chat, presence, recordings, bookings, courses.
"""

_EXAMPLES: Final = """\
examples:
  encounters serve --demo            look around: http://127.0.0.1:8080, sign in as anyone
  encounters serve                   serve, as the environment says (see encounters serve --help)
  encounters token --sub ada --role teacher --name "Ada Lovelace"
  encounters migrate                 bring the database's schema up to this release
  encounters demo                    fill the database with a sample school
"""

_SERVE: Final = """\
Serve until SIGTERM or Ctrl-C: new connections are refused then, open ones are told to move, and what was
sent is finished within DRAIN_SECONDS. Without DATABASE_URL a Postgres of its own runs in DATA_DIR.
"""

_SERVE_EXAMPLES: Final = """\
examples:
  encounters serve --demo
  JWT_SECRET=$(openssl rand -hex 32) encounters serve --host 0.0.0.0 --port 80
  DATABASE_URL=postgresql://… REDIS_URL=redis://… JWT_JWKS_URL=https://… encounters serve --workers 4

settings, from the environment (README, "Settings", says more):
"""

_MIGRATE: Final = """\
Apply the schema's missing revisions to DATABASE_URL, or to the embedded Postgres in DATA_DIR. The server does
the same as it starts; this is for doing it before. Safe to run at any time, and more than once at a time.
"""

_DEMO: Final = """\
Put a sample school into DATABASE_URL, or into the embedded Postgres in DATA_DIR: 20 teachers, 200 students
with their parents, a month of lessons around today, some chat, free hours and reviews, and five courses
with live classes. Run again, it adds the days that have come since, and completes the lessons that are
over. The ids of all its people begin with demo-.
"""

_ISSUING: Final = """\
Print a token, signed with JWT_SECRET or with the secret of the demo in DATA_DIR, and nothing else. It has
JWT_ISSUER and JWT_AUDIENCE where they are set.
"""

_EXAMPLES_OF_ISSUING: Final = """\
examples:
  encounters token --sub ada --role teacher --name "Ada Lovelace" --email ada@example.org --ttl 8h
  curl -H "Authorization: Bearer $(encounters token --sub ada --role teacher)" \\
    "http://127.0.0.1:8080/bookings?teacher_id=ada"
"""

_SECONDS_IN: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


class _Refused(Exception):
    """A command that cannot be carried out; its sentence says why."""


def main(argv: Sequence[str] | None = None, environment: Mapping[str, str] | None = None) -> int:
    """Run the command line `argv` (of this process by default) and return the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        settings = from_environment({**(os.environ if environment is None else environment), **_flags(arguments)})
        match arguments.command:
            case "serve":
                return _serve(settings, demo=arguments.demo, anywhere=arguments.demo_anywhere)
            case "migrate":
                return asyncio.run(_migrate(settings))
            case "demo":
                return asyncio.run(_demo(settings))
            case _:
                return _token(settings, arguments)
    except SettingsError as error:
        return _fail(error, 2)
    except (_Refused, EmbeddedPostgresError) as error:
        return _fail(error, 1)
    except KeyboardInterrupt:
        return 130


def _fail(error: Exception, status: int) -> int:
    print(f"encounters: {logging.redacted(str(error))}", file=sys.stderr)
    return status


def _flags(arguments: argparse.Namespace) -> dict[str, str]:
    """The flags that stand for a setting, by its name."""
    flags = {name: getattr(arguments, name.lower(), None) for name in ("HOST", "PORT", "WORKERS")}
    return {name: value for name, value in flags.items() if value is not None}


def _serve(settings: Settings, *, demo: bool, anywhere: bool) -> int:
    if anywhere and not demo:
        raise SettingsError("--demo-anywhere says where --demo may listen; give both, or neither.")
    if demo and not anywhere and not _is_loopback(settings.host):
        raise SettingsError(
            f"With --demo anyone signs in as anyone, and HOST is {settings.host}, which others can reach; "
            "set HOST=127.0.0.1, or add --demo-anywhere if that is meant."
        )
    if not demo and not settings.jwt_secret and not settings.jwt_jwks_url:
        raise SettingsError("No token could be accepted: set JWT_SECRET or JWT_JWKS_URL, or look around with --demo.")
    logging.configure(settings.log_level, settings.log_format)
    from server.run import CannotServe, serve  # the whole server: `token` and `--help` are quicker without it

    try:
        return serve(settings, demo)
    except CannotServe as error:
        raise _Refused(str(error)) from error


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def _migrate(settings: Settings) -> int:
    logging.configure(settings.log_level, settings.log_format)
    try:
        async with _database(settings) as dsn:
            applied = await schema.migrate(dsn)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, schema.MigrationFailed) as error:
        raise _Refused(f"The database cannot be migrated: {str(error) or type(error).__name__}.") from error
    print(f"applied {', '.join(applied)}" if applied else "nothing to do: the schema is up to date")
    return 0


async def _demo(settings: Settings) -> int:
    logging.configure(settings.log_level, settings.log_format)
    from domain import school  # with all that a demo needs: the other commands are quicker without it
    from store import database
    from store.errors import Away

    now = datetime.now(UTC)
    try:
        async with _database(settings) as dsn:
            await schema.migrate(dsn)
            pool = await database.connect(dsn, size=1)
            try:
                filled = await school.fill(pool, now)
            finally:
                await pool.close()
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, schema.MigrationFailed, Away) as error:
        raise _Refused(f"The school cannot be put into the database: {str(error) or type(error).__name__}.") from error
    print("\n".join(_told_of_school(settings, filled, school.next_lesson(now), school.next_class(now))))
    return 0


def _told_of_school(
    settings: Settings, filled: Filled, lesson: SampleLesson | None, live_class: SampleClass | None
) -> list[str]:
    """What was made, and the way in."""
    first, last = filled.first_day, filled.last_day
    days = f"{first.day} {first:%B} to {last.day} {last:%B}"
    lines = []
    if filled.people or filled.lessons:
        lines.append(
            f"Added {filled.people} people, {filled.lessons} lessons from {days}, {filled.reviews} reviews,\n"
            f"{filled.slots} hours that teachers offer, {filled.courses} courses with {filled.classes} live classes,"
            f" and {filled.messages} messages."
        )
    if filled.completed:
        lines.append(f"Completed {filled.completed} lessons that are over.")
    if not lines:
        lines.append(f"Nothing to do: the school has its people, and its lessons from {days}.")
    if lesson is not None:
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        url = f"http://{host}:{settings.port}"
        lines += ["", "To look around, run `encounters serve --demo`, and open a lesson as its teacher or its student:"]
        for user_id in (lesson.teacher_id, lesson.student_id):
            lines.append(f"  {url}/?as={user_id}&session={lesson.room_name}")
        if live_class is not None:
            lines += [
                "or the next live class as its teacher:",
                f"  {url}/?as={live_class.host_id}&session={live_class.room_name}",
            ]
    lines += [
        "",
        "For the API, `encounters token --sub demo-teacher-01 --role teacher` prints a token. The others:",
        "  demo-teacher-02 to -20, demo-student-001 to -200, demo-parent-001 to -160",
    ]
    return lines


@asynccontextmanager
async def _database(settings: Settings) -> AsyncIterator[str]:
    if settings.database_url:
        yield settings.database_url
    else:
        async with embedded(settings.data_dir) as dsn:
            yield dsn


def _token(settings: Settings, arguments: argparse.Namespace) -> int:
    secret = settings.jwt_secret or _demo_secret(settings)
    claims = {"sub": arguments.sub, "role": arguments.role, "name": arguments.name, "email": arguments.email}
    try:
        # As the server will: a token that it refuses helps nobody.
        identity = from_claims(claims)
    except EncountersError as error:
        raise _Refused(error.message) from error
    print(
        issue(
            secret,
            user_id=identity.user_id,
            role=identity.role,
            name=arguments.name,
            email=identity.email,
            ttl_seconds=arguments.ttl,
            issuer=settings.jwt_issuer,
            audience=settings.jwt_audience,
        )
    )
    return 0


def _demo_secret(settings: Settings) -> str:
    if settings.jwt_jwks_url:
        raise SettingsError("Tokens are issued by whoever publishes the keys at JWT_JWKS_URL, not here.")
    path = settings.data_dir / DEMO_SECRET_FILE
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise SettingsError(
            f"JWT_SECRET is not set, and no demo has run in DATA_DIR ({settings.data_dir}): "
            "there is no secret to sign with."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise _Refused(f"The demo's secret {path} cannot be read: {error}.") from error
    if len(secret.encode()) < MIN_SECRET_BYTES:
        raise _Refused(f"The demo's secret {path} is too short; remove it, and the next demo makes a new one.")
    return secret


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("encounters", **_texts(_DESCRIPTION, _EXAMPLES))
    parser.add_argument("--version", action="version", version=f"encounters {_version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command", title="commands")

    serve = commands.add_parser("serve", help="run the server", **_texts(_SERVE, _SERVE_EXAMPLES + _settings_table()))
    serve.add_argument("--host", help="address to listen on (HOST)")
    serve.add_argument("--port", help="port to listen on (PORT)")
    serve.add_argument("--workers", help="processes that serve (WORKERS)")
    serve.add_argument("--demo", action="store_true", help="sample data, and a page to sign in as anyone")
    serve.add_argument("--demo-anywhere", action="store_true", help="allow --demo beyond this machine")

    commands.add_parser("migrate", help="bring the database's schema up to date", **_texts(_MIGRATE))

    commands.add_parser("demo", help="fill the database with a sample school", **_texts(_DEMO))

    token = commands.add_parser("token", help="print a token for one person", **_texts(_ISSUING, _EXAMPLES_OF_ISSUING))
    token.add_argument("--sub", required=True, metavar="ID", help="the person's id")
    token.add_argument("--role", required=True, type=_role, help="student, parent, teacher or admin")
    token.add_argument("--name", default="", help="first and last name")
    token.add_argument("--email", help="e-mail address")
    token.add_argument(
        "--ttl", type=_seconds, default=3600, metavar="TIME", help="how long it holds: 90s, 15m, 8h, 7d (1h)"
    )
    return parser


def _texts(description: str, epilog: str = "") -> dict[str, Any]:
    return {
        "description": description,
        "epilog": epilog,
        "formatter_class": argparse.RawDescriptionHelpFormatter,
        # An abbreviation that works today would break when another flag comes to begin alike.
        "allow_abbrev": False,
    }


def _settings_table() -> str:
    lines = []
    for setting in SETTINGS:
        default = f" [{setting.default}]" if setting.default else ""
        lines.append(f"  {setting.name}{default}")
        lines.extend(textwrap.wrap(setting.meaning, HELP_WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6))
    return "\n".join(lines)


def _role(word: str) -> Role:
    role = role_named(word)
    if role is None:
        raise argparse.ArgumentTypeError(f"{word!r} is not one of {', '.join(sorted({*ROLES, *ROLE_SYNONYMS}))}")
    return role


def _seconds(word: str) -> int:
    found = re.fullmatch(r"([0-9]{1,9})([smhd]?)", word)
    seconds = int(found[1]) * _SECONDS_IN[found[2]] if found else 0
    if not 1 <= seconds <= MAX_TTL_SECONDS:
        raise argparse.ArgumentTypeError(f"{word!r} is not a time such as 90s, 15m, 8h or 7d, of at most ten years")
    return seconds


def _version() -> str:
    try:
        return importlib.metadata.version("encounters")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"
