# ruff: noqa: S104 - nothing is bound
"""The command line: what each command does, and the one sentence when it cannot."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

import asyncpg
import jwt
import pytest
import structlog

from domain.tokens import SecretVerifier
from server import cli, logging, run
from server.cli import main
from server.settings import DEMO_SECRET_FILE, SETTINGS, Settings

ROOT = Path(__file__).parents[2]
SECRET = "0123456789abcdef0123456789abcdef"


class Served:
    """What `server.run.serve` was called with."""

    def __init__(self) -> None:
        self.settings = Settings()
        self.demo: bool | None = None

    def serve(self, settings: Settings, demo: bool) -> int:
        self.settings, self.demo = settings, demo
        return 0


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Served:
    """Instead of the server, which has tests of its own."""
    served = Served()
    monkeypatch.setattr(run, "serve", served.serve)
    return served


@pytest.fixture(autouse=True)
def unconfigured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log stays as the tests have it."""
    monkeypatch.setattr(logging, "configure", lambda *_: structlog.get_config())


def refusal(capsys: pytest.CaptureFixture[str], status: int, *argv: str, **environment: str) -> str:
    assert main(argv, environment) == status
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("encounters: ")
    assert printed.err.endswith(".\n")
    assert printed.err.count("\n") == 1
    return printed.err


def test_serve_goes_by_flag_before_environment_before_default(served: Served) -> None:
    environment = {"JWT_SECRET": SECRET, "PORT": "1", "HOST": "0.0.0.0", "REDIS_URL": "redis://h"}
    assert main(["serve", "--port", "2", "--workers", "3"], environment) == 0
    assert (served.settings.host, served.settings.port, served.settings.workers) == ("0.0.0.0", 2, 3)
    assert served.settings.drain_seconds == 20
    assert served.demo is False


def test_serve_needs_a_way_to_verify_tokens(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert "JWT_SECRET or JWT_JWKS_URL" in refusal(capsys, 2, "serve")
    assert main(["serve"], {"JWT_JWKS_URL": "https://issuer.example"}) == 0
    assert main(["serve", "--demo"], {}) == 0
    assert served.demo is True


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org"])
def test_the_demo_stays_on_this_machine_unless_told_twice(
    served: Served, capsys: pytest.CaptureFixture[str], host: str
) -> None:
    assert "--demo-anywhere" in refusal(capsys, 2, "serve", "--demo", "--host", host)
    assert served.demo is None
    assert main(["serve", "--demo", "--demo-anywhere", "--host", host], {}) == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost"])
def test_the_demo_runs_on_every_name_of_this_machine(served: Served, host: str) -> None:
    assert main(["serve", "--demo", "--host", host], {}) == 0


def test_demo_anywhere_alone_is_a_mistake(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    refusal(capsys, 2, "serve", "--demo-anywhere", JWT_SECRET=SECRET)
    assert served.demo is None


def test_a_server_that_cannot_start_is_said_in_a_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def serve(_settings: Settings, _demo: bool) -> int:
        raise run.CannotServe("Something else listens there.")

    monkeypatch.setattr(run, "serve", serve)
    assert "Something else" in refusal(capsys, 1, "serve", "--demo")


def test_a_wrong_flag_is_said_as_a_wrong_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert "PORT must be" in refusal(capsys, 2, "serve", "--port", "http")


async def test_a_token_is_printed_and_accepted(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["token", "--sub", "u1", "--role", "tutor", "--name", "Ada Lovelace", "--email", "a@b", "--ttl", "2h"]
    assert main(argv, {"JWT_SECRET": SECRET, "JWT_ISSUER": "i", "JWT_AUDIENCE": "a"}) == 0
    printed = capsys.readouterr()
    token = printed.out.removesuffix("\n")
    assert re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+", token)
    assert printed.err == ""
    identity = await SecretVerifier(SECRET, "i", "a").verify(token)
    assert (identity.user_id, identity.role, identity.first_name, identity.email) == ("u1", "teacher", "Ada", "a@b")
    claims = jwt.decode(token, SECRET, ["HS256"], audience="a")
    assert claims["exp"] - claims["iat"] == 7200


def test_a_token_of_the_demo_is_signed_with_its_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / DEMO_SECRET_FILE).write_text(f"{SECRET}\n")
    assert main(["token", "--sub", "u1", "--role", "admin"], {"DATA_DIR": str(tmp_path)}) == 0
    assert jwt.decode(capsys.readouterr().out.strip(), SECRET, ["HS256"])["role"] == "admin"


def test_without_a_secret_there_is_no_token(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ("token", "--sub", "u1", "--role", "admin")
    assert "JWT_SECRET is not set" in refusal(capsys, 2, *argv, DATA_DIR=str(tmp_path))
    assert "issued by whoever" in refusal(capsys, 2, *argv, JWT_JWKS_URL="https://issuer.example")
    (tmp_path / DEMO_SECRET_FILE).write_text("short")
    assert "too short" in refusal(capsys, 1, *argv, DATA_DIR=str(tmp_path))


def test_a_token_that_the_server_would_refuse_is_not_made(capsys: pytest.CaptureFixture[str]) -> None:
    assert "'sub'" in refusal(capsys, 1, "token", "--sub", "u" * 129, "--role", "admin", JWT_SECRET=SECRET)


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["sing"],
        ["serve", "--ho", "h"],
        ["token", "--sub", "u1"],
        ["token", "--sub", "u1", "--role", "king"],
        ["token", "--sub", "u1", "--role", "admin", "--ttl", "0"],
        ["token", "--sub", "u1", "--role", "admin", "--ttl", "soon"],
        ["token", "--sub", "u1", "--role", "admin", "--ttl", "999999999d"],
    ],
)
def test_wrong_usage_is_status_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(argv, {"JWT_SECRET": SECRET})
    assert caught.value.code == 2
    assert "usage: encounters" in capsys.readouterr().err


async def test_migrate_brings_a_database_up_to_date(empty_database: str, capsys: pytest.CaptureFixture[str]) -> None:
    for said in ("applied 0001", "nothing to do"):
        status = await asyncio.to_thread(main, ["migrate"], {"DATABASE_URL": empty_database})
        assert status == 0
        assert capsys.readouterr().out.startswith(said)
    connection = await asyncpg.connect(empty_database)
    assert await connection.fetchval("SELECT count(*) FROM users") == 0
    await connection.close()


def test_migrate_uses_the_embedded_database_where_none_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tmp_path.chmod(0o711)
    assert main(["migrate"], {"DATA_DIR": str(tmp_path / "d")}) == 0
    assert capsys.readouterr().out.startswith("applied 0001")
    (tmp_path / "file").write_text("")
    assert "is a file" in refusal(capsys, 1, "migrate", DATA_DIR=str(tmp_path / "file"))


def test_migrate_without_its_database_says_so_without_its_password(
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = refusal(capsys, 1, "migrate", DATABASE_URL="postgresql://u:xyzzy@127.0.0.1:1/d")
    assert "cannot be migrated" in said
    assert "xyzzy" not in said


class Noon(datetime):
    """A clock that stands, until somebody moves it: no midnight comes between two runs."""

    days = 0

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Noon:
        return cls(2026, 11, 18, 12, tzinfo=tz) + timedelta(days=cls.days)


async def test_demo_fills_a_database_and_says_how_to_sign_in(
    empty_database: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {"DATABASE_URL": empty_database, "PORT": "8123"}
    monkeypatch.setattr(cli, "datetime", Noon)
    for days, said in ((0, "Added 380 people, "), (0, "Nothing to do: "), (40, "Added 0 people, ")):
        monkeypatch.setattr(Noon, "days", days)
        status = await asyncio.to_thread(main, ["demo"], environment)
        printed = capsys.readouterr().out
        assert (status, printed[: len(said)]) == (0, said)
        assert ("lessons that are over" in printed) == (days == 40)
        assert "encounters token --sub demo-teacher-01 --role teacher" in printed
        as_teacher, as_student, as_host = re.findall(r"http://127.0.0.1:8123/\?as=(\S+)&session=(\S+)", printed)
        assert (as_host[0][:13], as_host[1][:11]) == ("demo-teacher-", "demo-class-")
        connection = await asyncpg.connect(empty_database)
        lesson = await connection.fetchrow(
            "SELECT b.* FROM sessions s JOIN bookings b ON b.id = s.id WHERE room_name = $1", as_teacher[1]
        )
        await connection.close()
        assert lesson is not None
        assert (lesson["teacher_id"], lesson["student_id"]) == (as_teacher[0], as_student[0])
        assert as_student[1] == as_teacher[1]
        assert max(map(len, printed.splitlines())) <= 110


def test_demo_uses_the_embedded_database_where_none_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tmp_path.chmod(0o711)
    assert main(["demo"], {"DATA_DIR": str(tmp_path / "d")}) == 0
    assert capsys.readouterr().out.startswith("Added 380 people")


def test_demo_without_its_database_says_so_without_its_password(capsys: pytest.CaptureFixture[str]) -> None:
    said = refusal(capsys, 1, "demo", DATABASE_URL="postgresql://u:xyzzy@127.0.0.1:1/d")
    assert "cannot be put into the database" in said
    assert "xyzzy" not in said


@pytest.mark.parametrize("command", ["", "serve", "migrate", "demo", "token"])
def test_help_is_for_reading(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"] if command else ["--help"], {})
    assert caught.value.code == 0
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 110
    if command == "serve":
        assert all(setting.name in said for setting in SETTINGS)


def test_the_request_that_a_token_is_shown_with_is_one_that_is_answered(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["token", "--help"], {})
    said = capsys.readouterr().out
    issued = re.search(r"\$\(encounters token --sub (\S+) --role teacher\)", said)
    asked = re.search(r'"http://127\.0\.0\.1:8080/bookings\?teacher_id=(\S+)"', said)
    assert issued
    assert asked
    assert issued[1] == asked[1], "one's own bookings"


def test_python_m_server_is_the_command() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "server", "--version"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert re.fullmatch(r"encounters \S.*\n", ran.stdout)
