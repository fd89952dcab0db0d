"""The log: one line per event, the same for ours and the libraries', and never a secret."""

from __future__ import annotations

import io
import json
import logging as stdlib
from collections.abc import Callable, Iterator
from typing import Any

import asyncpg
import pytest
import structlog
from aiohttp.http_exceptions import BadStatusLine, LineTooLong

from server import logging


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Put the logging back that other tests had."""
    root = stdlib.getLogger()
    handlers, level = root.handlers[:], root.level
    config = structlog.get_config()
    yield
    root.handlers[:], root.level = handlers, level
    structlog.configure(**config)
    stdlib.captureWarnings(False)
    for name in logging._QUIET:
        stdlib.getLogger(name).setLevel(stdlib.NOTSET)


def logged(write: Callable[[Any], object], level: str = "info") -> dict[str, Any]:
    stream = io.StringIO()
    logging.configure(level, "json", stream)
    write(structlog.get_logger())
    (line,) = stream.getvalue().splitlines()
    event: dict[str, Any] = json.loads(line)
    return event


def test_an_event_is_one_json_line_with_its_fields() -> None:
    event = logged(lambda log: log.info("session_started", session_id="s1", people=3))
    assert event.pop("timestamp").endswith("Z")
    assert event == {"level": "info", "event": "session_started", "session_id": "s1", "people": 3}


def test_a_librarys_line_looks_the_same() -> None:
    event = logged(lambda _: stdlib.getLogger("aiohttp.server").warning("odd %s", "request"))
    assert event.pop("timestamp").endswith("Z")
    assert event == {"level": "warning", "event": "odd request", "logger": "aiohttp.server"}


def test_context_is_added() -> None:
    with structlog.contextvars.bound_contextvars(request_id="r1"):
        assert logged(lambda log: log.info("x"))["request_id"] == "r1"


def test_levels_below_are_silent() -> None:
    stream = io.StringIO()
    logging.configure("warning", "json", stream)
    structlog.get_logger().info("x")
    stdlib.getLogger("other").info("x")
    assert stream.getvalue() == ""


@pytest.mark.parametrize("name", ["engineio.server", "socketio.server", "aiohttp.access", "sqlalchemy.engine"])
def test_packets_and_statements_are_never_logged(name: str) -> None:
    stream = io.StringIO()
    logging.configure("debug", "json", stream)
    stdlib.getLogger(name).info("received packet MESSAGE data 2[hello]")
    assert stream.getvalue() == ""


def test_socketio_adds_no_handler_of_its_own() -> None:
    import socketio

    logging.configure("info", "json", io.StringIO())
    socketio.AsyncServer(async_mode="aiohttp")
    assert not stdlib.getLogger("socketio.server").handlers
    assert not stdlib.getLogger("engineio.server").handlers


def test_a_second_call_replaces_the_first() -> None:
    first, second = io.StringIO(), io.StringIO()
    logging.configure("info", "json", first)
    log = structlog.get_logger()
    logging.configure("info", "json", second)
    log.info("x")
    assert first.getvalue() == ""
    assert second.getvalue().count("\n") == 1


@pytest.mark.parametrize(
    "key",
    ["token", "authorization", "Authorization", "secret", "password", "text", "jwt_secret", "set-cookie"],
)
def test_a_value_is_hidden_by_its_key_at_any_depth(key: str) -> None:
    event = logged(lambda log: log.info("x", **{key: "xyzzy"}, nested=[{"headers": {key: ["xyzzy"]}}]))
    assert "xyzzy" not in json.dumps(event)
    assert event[key] == "…"


@pytest.mark.parametrize(
    "value",
    [
        "GET /files/1?token=xyzzy&part=2",
        "https://s3.example/k?X-Amz-Credential=xyzzy&X-Amz-Signature=xyzzy&part=2",
        "https://x/?access_token=xyzzy#part=2",
        "{'Authorization': 'Bearer xyzzy.xyzzy'}",
        "redis://:xyzzy@host/0 part=2",
        "postgresql://user:xyzzy@host/db",
        "presented eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4eXp6eSJ9.xyzzy here",
    ],
)
def test_a_secret_inside_a_string_is_hidden(value: str) -> None:
    for write in (
        lambda log: log.warning("x", value=value),
        lambda log: log.warning(value),
        lambda log: log.warning("x", nested={"a": [value]}),
        lambda log: log.warning("x", thing=ValueError(value)),
        lambda _: stdlib.getLogger("other").warning("%s", value),
    ):
        event = json.dumps(logged(write), ensure_ascii=False)
        assert "xyzzy" not in event
        assert "…" in event
        assert ("part=2" in event) == ("part=2" in value)


def test_what_postgres_says_of_a_refused_row_is_hidden() -> None:
    error = asyncpg.CheckViolationError.new(
        {
            "S": "ERROR",
            "C": "23514",
            "M": "new row violates check",
            "D": "Failing row contains (1, xyz\n\nzy).",
        }
    )

    def write(log: Any) -> None:
        try:
            raise error
        except asyncpg.PostgresError:
            log.exception("x")

    event = logged(write)
    assert "new row violates check" in event["exception"]
    assert "zy" not in event["exception"]


def test_an_honest_value_is_left_alone() -> None:
    fields = {"path": "/sessions/1/messages?after=3", "n": 1.5, "ok": True, "none": None, "list": ["a", 1]}
    event = logged(lambda log: log.info("x", **fields))
    assert {key: event[key] for key in fields} == fields


def test_deep_values_end() -> None:
    value: list[Any] = []
    value.append(value)
    assert "…" in json.dumps(logged(lambda log: log.info("x", value=value)), ensure_ascii=False)


def console(write: Callable[[Any], object], stream: io.StringIO | None = None) -> str:
    stream = stream or io.StringIO()
    logging.configure("info", "console", stream)
    write(structlog.get_logger())
    return stream.getvalue()


def test_the_console_keeps_each_event_on_its_line() -> None:
    said = console(lambda log: log.info("x\n12:00 [info] forged", path="/a\r\n\x1b[2Jb\u2028c", d={"k": "a\nb"}))
    assert said.count("\n") == 1
    assert "\x1b" not in said
    assert "\u2028" not in said


def test_a_traceback_keeps_its_lines_but_no_colours() -> None:
    def write(log: Any) -> None:
        try:
            raise ValueError("a\x1b[2Jb")
        except ValueError:
            log.exception("failed")

    said = console(write)
    assert "Traceback" in said
    assert said.count("\n") > 3
    assert "\x1b" not in said


def test_colours_are_for_terminals() -> None:
    assert "\x1b[" in console(lambda log: log.info("x"), Terminal())
    assert "\x1b[" not in console(lambda log: log.info("x"))


def test_auto_is_console_on_a_terminal_and_json_elsewhere() -> None:
    for stream in (Terminal(), io.StringIO()):
        logging.configure("info", "auto", stream)
        structlog.get_logger().info("x")
        assert stream.getvalue().startswith("{") != stream.isatty()


def test_what_is_no_http_is_the_clients_matter() -> None:
    stream = io.StringIO()
    logging.configure("info", "json", stream)
    log = stdlib.getLogger("aiohttp.server")
    for error in (BadStatusLine("GET"), LineTooLong(b"GET /" + b"x" * 9000, 8190), ValueError("ours")):
        log.error("Error handling request", exc_info=error)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 1
    assert "ours" in lines[0]
