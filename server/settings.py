"""Every setting of a running server, read once from the environment into one frozen value.

A setting is declared in one place, as a field of :class:`Settings` (or of :class:`realtime.limits.Limits`,
with its meaning in `_LIMITS` below): name, default, parser and meaning. :data:`SETTINGS` is the table of all
of them, for ``encounters serve --help`` and for the test that holds the README to it. Nobody else reads
``os.environ``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Final, TypeVar, cast
from urllib.parse import SplitResult, urlsplit

from meetings import ice, providers, webhooks
from meetings.ice import IceServer
from realtime.limits import Limits
from realtime.redis_url import CLUSTER_SCHEMES, is_cluster, seed_urls

T = TypeVar("T")
Network = IPv4Network | IPv6Network

#: RFC 7518 §3.2: an HS256 key is at least as long as the hash it feeds.
MIN_SECRET_BYTES: Final = 32
MAX_WORKERS: Final = 64
#: Thirty days.
MAX_CANCEL_NOTICE_MINUTES: Final = 30 * 24 * 60
#: A week: whoever is reminded earlier has a calendar for it.
MAX_REMINDER_MINUTES: Final = 7 * 24 * 60
#: Ten years: beyond that, keep them all.
MAX_RETENTION_DAYS: Final = 3650
#: Where a demo keeps what it signs tokens with, in DATA_DIR: a restart signs nobody out. Only its owner may read it.
DEMO_SECRET_FILE: Final = "demo-secret"  # noqa: S105 - its name
#: The longest piece of a refused value that an error repeats.
MAX_SHOWN_CHARACTERS: Final = 80
#: What 10 000 parts of a bucket's upload hold (`store.objects.s3`).
MAX_FILE_BYTES: Final = 80 * 1024**3
MAX_QUOTA_BYTES: Final = 1024**5
#: A month.
MAX_EXPIRY_HOURS: Final = 31 * 24
#: As long as Amazon's own links may work.
MAX_LINK_SECONDS: Final = 7 * 24 * 3600
MAX_WHOLE_NUMBER: Final = 2**31 - 1

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_WHOLE_NUMBER: Final = re.compile(r"[0-9]{1,18}")
#: Amazon S3, *General purpose bucket naming rules*; and what a key of ours may begin with.
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX: Final = re.compile(r"/?|(/[a-z0-9][a-z0-9._-]*)+/?")
_HOST_NAME: Final = re.compile(r"[a-z0-9_]([a-z0-9._-]*[a-z0-9_])?|\[[0-9a-f:.]+\]")


class SettingsError(Exception):
    """A setting that cannot be used. Its sentence names the setting, what came, and what is expected."""


class _Refused(Exception):
    """What a parser expected, and what it says came; None to repeat the value itself."""

    def __init__(self, expected: str, came: str | None = None) -> None:
        super().__init__(expected)
        self.expected = expected
        self.came = came


@dataclass(frozen=True, slots=True)
class Setting:
    """One line of the table: `name` and `default` ("" for none), as the environment has it, and `meaning`."""

    name: str
    default: str
    meaning: str
    parse: Callable[[str], Any]
    #: Its value where it is neither set nor has a default.
    unset: Any = None
    #: A secret, or a URL that may hold a password: never shown, in errors or in `repr`.
    confidential: bool = False

    def read(self, environment: Mapping[str, str]) -> Any:
        """The setting's value; the default when it is unset or empty. Raises SettingsError."""
        value = environment.get(self.name) or self.default
        if not value:
            return self.unset
        try:
            return self.parse(value)
        except _Refused as refused:
            came = refused.came or ("a value that is not shown" if self.confidential else _shown(value))
            raise SettingsError(f"{self.name} must be {refused.expected}, not {came}.") from None


def _shown(value: str) -> str:
    if len(value) > MAX_SHOWN_CHARACTERS:
        value = value[:MAX_SHOWN_CHARACTERS] + "…"
    return repr(value)


def _whole(least: int, most: int = MAX_WHOLE_NUMBER) -> Callable[[str], int]:
    def parse(value: str) -> int:
        value = value.strip()
        if not _WHOLE_NUMBER.fullmatch(value) or not least <= int(value) <= most:
            upper = f"{least} to {most}" if most < MAX_WHOLE_NUMBER else f"{least} up"
            raise _Refused(f"a whole number from {upper}")
        return int(value)

    return parse


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        word = value.strip().lower()
        if word not in words:
            raise _Refused(f"one of {', '.join(words)}")
        return word

    return parse


def _on_or_off(value: str) -> bool:
    return _one_of("on", "off")(value) == "on"


def _host(value: str) -> str:
    value = value.strip()
    if not value or re.search(r"[\s/@]", value):
        raise _Refused("an address or a host name, such as 127.0.0.1, :: or 0.0.0.0")
    return value.removeprefix("[").removesuffix("]")


def _folder(value: str) -> Path:
    if "\x00" in value:
        raise _Refused("the path of a folder")
    return Path(value).expanduser()


def _words(value: str) -> str:
    value = value.strip()
    if not value or not value.isprintable():
        raise _Refused("printable text")
    return value


def _url(*schemes: str, host_required: bool = True) -> Callable[[str], str]:
    expected = "a URL that starts with " + " or ".join(f"{scheme}://" for scheme in schemes)

    def parse(value: str) -> str:
        value = value.strip()
        parts = _split(value)
        if parts is None or parts.scheme not in schemes:
            raise _Refused(expected)
        if host_required and not parts.hostname:
            raise _Refused(f"{expected}, followed by a host")
        return value

    return parse


def _word(value: str) -> str:
    value = value.strip()
    if not re.fullmatch(r"[\x21-\x7e]+", value):
        raise _Refused("a word of printable ASCII characters, without spaces")
    return value


def _host_and_port(value: str) -> str:
    value = value.strip().lower()
    parts = _split(f"https://{value}")
    if parts is None or parts.netloc != value or "@" in value or not _HOST_NAME.fullmatch(parts.hostname or ""):
        raise _Refused("a host such as meet.example or meet.example:8443, without https:// and without a path")
    return value


def _region(value: str) -> str:
    value = value.strip().lower()
    if not re.fullmatch(r"[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}", value):
        raise _Refused("the name of an AWS region, such as eu-central-1")
    return value


def _bucket(value: str) -> str:
    value = value.strip()
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", value):
        raise _Refused("the name of an S3 bucket, such as school-recordings")
    return value


def _pem(value: str) -> str:
    if not value.lstrip().startswith("-----BEGIN") or "PRIVATE KEY-----" not in value:
        raise _Refused("a private key in PEM, whose lines may be divided by \\n")
    return value.strip()


def _webhook_secret(value: str) -> bytes:
    try:
        return webhooks.parse_secret(value.strip())
    except ValueError as refused:
        raise _Refused(str(refused)) from None


def _ice_servers(value: str) -> tuple[IceServer, ...]:
    try:
        return ice.parse(value)
    except ValueError as refused:
        raise _Refused(f"a JSON array of ICE servers, {refused}") from None


def _redis_url(value: str) -> str:
    value = value.strip()
    if is_cluster(value):
        nodes = [_split(node) for node in seed_urls(value)]
        if not all(node is not None and node.hostname and node.path in ("", "/", "/0") for node in nodes):
            raise _Refused("a URL such as redis+cluster://host:6379,host:6379 (a cluster has no database but 0)")
        return value
    value = _url("redis", "rediss", "unix", *CLUSTER_SCHEMES, host_required=False)(value)
    parts = urlsplit(value)
    if parts.scheme == "unix" and not parts.path:
        raise _Refused("a URL such as redis://host:6379/0 or unix:///path/to/socket", "a unix:// URL without a path")
    return value


def _secret(value: str) -> str:
    if value.lstrip().startswith("-----BEGIN"):
        raise _Refused("a shared secret; keys of other kinds are published at JWT_JWKS_URL", "a PEM key")
    return _long_enough(value)


def _long_enough(value: str) -> str:
    length = len(value.encode())
    if length < MIN_SECRET_BYTES:
        raise _Refused(
            f"at least {MIN_SECRET_BYTES} bytes long (RFC 7518 §3.2; `openssl rand -hex 32` makes one)",
            f"{length} byte{'s' if length != 1 else ''}",
        )
    return value


def _origins(value: str) -> tuple[str, ...]:
    """Origins as a browser sends them: lower case, without the scheme's own port. `*` stands alone."""
    origins = tuple(_origin(part) for part in _parts(value))
    if "*" in origins and len(origins) > 1:
        raise _Refused("either * or a list of origins")
    return origins


def _origin(value: str) -> str:
    if value == "*":
        return value
    parts = _split(value.lower())
    if parts is None or parts.scheme not in _DEFAULT_PORTS or "@" in parts.netloc:
        raise _Refused("origins such as https://app.example or http://localhost:3000, with commas between them, or *")
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    if parts.path or parts.query or parts.fragment or value.endswith(("?", "#")):
        raise _Refused("origins, which have no path: scheme://host or scheme://host:port", _shown(value))
    if not _HOST_NAME.fullmatch(host):
        raise _Refused("origins with a host name in ASCII or an address", _shown(value))
    port = "" if parts.port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def _storage_url(value: str) -> str:
    expected = "a URL such as s3://bucket/prefix or file:///var/lib/encounters"
    parts = _split(value.strip())
    if parts is None or parts.scheme not in ("s3", "file") or parts.query or parts.fragment:
        raise _Refused(expected)
    if parts.scheme == "s3" and not _BUCKET.fullmatch(parts.netloc):
        raise _Refused(f"{expected}, with the name of a bucket")
    if parts.scheme == "s3" and not _PREFIX.fullmatch(parts.path):
        raise _Refused(f"{expected}, with a prefix of lower-case letters, digits, dots, dashes and slashes")
    if parts.scheme == "file" and (parts.netloc or len(parts.path) < 2):
        raise _Refused(f"{expected}, with the absolute path of a folder")
    return value.strip()


def _networks(value: str) -> tuple[Network, ...]:
    if value.strip().lower() == "none":
        return ()
    try:
        return tuple(ip_network(part) for part in _parts(value))
    except ValueError:
        raise _Refused(
            "addresses or networks such as 10.0.0.7 or 10.0.0.0/8, with commas between them, or none"
        ) from None


def _parts(value: str) -> list[str]:
    return [part.strip() for part in value.split(",") if part.strip()]


def _split(value: str) -> SplitResult | None:
    """The URL's parts, or None where it is none: `urlsplit` and its `port` raise on some of them."""
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        return None
    return None if any(character.isspace() for character in value) else parts


def _setting(default: str, parse: Callable[[str], T], meaning: str, *, confidential: bool = False) -> T:
    """A field of :class:`Settings`, named in the environment by its name in capitals."""
    return field(
        default=parse(default),
        repr=not confidential,
        metadata={
            "default": default,
            "meaning": meaning,
            "parse": parse,
            "unset": parse(default),
            "confidential": confidential,
        },
    )


def _optional(parse: Callable[[str], T], meaning: str, *, confidential: bool = False) -> T | None:
    """As :func:`_setting`, for one that is None unless set."""
    return cast(
        "T | None",
        field(
            default=None,
            repr=not confidential,
            metadata={"default": "", "meaning": meaning, "parse": parse, "confidential": confidential},
        ),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What the server was told. `Settings()` is the default of everything."""

    host: str = _setting("127.0.0.1", _host, "Address to listen on.")
    port: int = _setting("8080", _whole(0, 65535), "Port to listen on; 0 takes a free one.")
    workers: int = _setting(
        "1",
        _whole(1, MAX_WORKERS),
        "Processes that serve. More than 1 needs REDIS_URL, the bus between them.",
    )
    data_dir: Path = _setting(  # noqa: RUF009 - it declares a field
        ".data", _folder, "Folder for the embedded Postgres, uploaded files and the demo's secret."
    )
    database_url: str | None = _optional(
        _url("postgresql", "postgres", host_required=False),
        "Postgres 15 or newer, as postgresql://user:password@host/database. Unset: an embedded one in DATA_DIR.",
        confidential=True,
    )
    database_pool_size: int = _setting("10", _whole(1, 1000), "Most connections each worker opens to Postgres.")
    redis_url: str | None = _optional(
        _redis_url,
        "The bus between workers, as redis://host:6379/0, rediss:// or unix://, or a cluster's (Redis 7 or newer), as "
        "redis+cluster://host:6379,host:6379 or rediss+cluster://. Unset: within the one process.",
        confidential=True,
    )
    jwt_secret: str | None = _optional(
        _secret,
        "Verifies tokens signed with HS256. At least 32 bytes. Not together with JWT_JWKS_URL.",
        confidential=True,
    )
    jwt_jwks_url: str | None = _optional(
        _url("https", "http"),
        "Where the keys are published that verify tokens signed with RS256, ES256 or EdDSA.",
        confidential=True,
    )
    jwt_issuer: str | None = _optional(_words, "The `iss` a token must have. Unset: any.")
    jwt_audience: str | None = _optional(_words, "The `aud` a token must have. Unset: any.")
    cors_origins: tuple[str, ...] = _setting(
        "",
        _origins,
        "Origins of other sites that may call from a browser, with commas between them; * for all. "
        "Unset: only pages from this server.",
    )
    trusted_proxies: tuple[Network, ...] = _setting(
        "127.0.0.0/8,::1",
        _networks,
        "Addresses or networks whose X-Forwarded-For and X-Forwarded-Proto are believed; none for nobody's.",
    )
    log_level: str = _setting("info", _one_of("debug", "info", "warning", "error"), "debug, info, warning or error.")
    log_format: str = _setting(
        "auto",
        _one_of("auto", "console", "json"),
        "console, json, or auto: console on a terminal, else json.",
    )
    drain_seconds: int = _setting(
        "20", _whole(0, 3600), "Longest time between SIGTERM and the end, while connections move elsewhere."
    )
    booking_cancel_notice_minutes: int = _setting(
        "0",
        _whole(0, MAX_CANCEL_NOTICE_MINUTES),
        "Minutes before a lesson until which the student's side may cancel or move it; 0: at any time.",
    )
    reminder_minutes: int = _setting(
        "15",
        _whole(0, MAX_REMINDER_MINUTES),
        "Minutes before a confirmed lesson at which its people are reminded of it; 0 for no reminders.",
    )
    notification_retention_days: int = _setting(
        "180",
        _whole(0, MAX_RETENTION_DAYS),
        "Days for which notifications stay in their people's lists; 0: forever.",
    )
    recording_retention_days: int = _setting(
        "0",
        _whole(0, MAX_RETENTION_DAYS),
        "Days for which recordings are kept; then they are deleted, with their files. 0: forever.",
    )
    storage_url: str | None = _optional(
        _storage_url,
        "Where files are kept: s3://bucket/prefix or file:///folder. S3's credentials and region come from AWS' own "
        "variables. Unset: the folder DATA_DIR/files.",
    )
    s3_endpoint_url: str | None = _optional(
        _url("https", "http"), "Another server that speaks S3's language, as https://host. Unset: Amazon's."
    )
    max_recording_bytes: int = _setting(
        str(2 * 1024**3), _whole(1, MAX_FILE_BYTES), "Bytes that a recording may have at most."
    )
    upload_quota_bytes: int = _setting(
        str(20 * 1024**3), _whole(0, MAX_QUOTA_BYTES), "Bytes that all files of one person may have; 0: no limit."
    )
    upload_expiry_hours: int = _setting(
        "24",
        _whole(1, MAX_EXPIRY_HOURS),
        "Hours for which an upload that was broken off can go on.",
    )
    download_link_seconds: int = _setting(
        "3600", _whole(60, MAX_LINK_SECONDS), "Seconds for which a link to a recording or a course's content works."
    )
    websocket_deflate: bool = _setting(
        "off",
        _on_or_off,
        "on: WebSockets that offer permessage-deflate get it. It spares bandwidth for memory and time.",
    )
    meeting_provider: str = _setting(
        providers.DEFAULT,
        _one_of(*providers.PROVIDERS),
        f"Who carries sound and video: {', '.join(providers.PROVIDERS)}. docs/providers.md sets each up.",
    )
    ice_servers: tuple[IceServer, ...] = _setting(
        "[]",
        _ice_servers,
        "For peer: STUN and TURN servers, as a JSON array of RTCIceServer; with `secret` instead of `username` and "
        "`credential`, each person gets TURN credentials that end.",
        confidential=True,
    )
    jitsi_domain: str | None = _optional(_host_and_port, "For jitsi: the host of the Jitsi Meet, such as meet.example.")
    jitsi_app_id: str | None = _optional(_word, "The app id that its tokens are issued by. Unset: links, no tokens.")
    jitsi_app_secret: str | None = _optional(
        _long_enough,
        "The secret that signs its tokens with HS256. At least 32 bytes. Not together with JITSI_PRIVATE_KEY.",
        confidential=True,
    )
    jitsi_key_id: str | None = _optional(_word, "The name (`kid`) of JITSI_PRIVATE_KEY.")
    jitsi_private_key: str | None = _optional(
        _pem, "The RSA key that signs its tokens with RS256, in PEM; JaaS asks for it.", confidential=True
    )
    daily_api_key: str | None = _optional(_word, "For daily: the API key of the Daily domain.", confidential=True)
    daily_api_url: str = _setting("https://api.daily.co/v1", _url("https", "http"), "Where Daily's REST API is.")
    daily_webhook_secret: bytes | None = _optional(
        _webhook_secret,
        "The `hmac` of the Daily webhook that calls `/webhooks/daily`, in base64. Unset: none is believed.",
        confidential=True,
    )
    chime_region: str | None = _optional(_region, "For chime: the AWS region that makes the meetings.")
    chime_endpoint_url: str | None = _optional(
        _url("https", "http"), "Where the Amazon Chime SDK and S3 are asked instead. Unset: AWS."
    )
    chime_recordings_bucket: str | None = _optional(
        _bucket, "The S3 bucket that Chime records into. Unset: the host's browser records."
    )
    limits: Limits = field(default_factory=Limits)


#: The meaning of each of :class:`Limits`' fields, whose settings are called LIMIT_ and the field's name.
_LIMITS: Final[Mapping[str, str]] = {
    "unsent_bytes": "Bytes queued for a connection that does not read, before it is cut.",
    "events_per_second": "Events a connection may send per second, sustained.",
    "events_burst": "Events a connection may send at once.",
    "frame_bytes": "Bytes in one frame from a client; a larger one closes the connection.",
    "connections_per_user": "Connections one person may hold open.",
    "handshakes_per_second": "Handshakes one address may begin per second.",
}


def _table() -> tuple[Mapping[str, Setting], Mapping[str, Setting]]:
    own = {f.name: Setting(name=f.name.upper(), **f.metadata) for f in fields(Settings) if f.metadata}
    limits = {
        f.name: Setting(
            name=f"LIMIT_{f.name.upper()}",
            default=str(f.default),
            meaning=f"{_LIMITS[f.name]} 0: no limit.",
            parse=_whole(0),
        )
        for f in fields(Limits)
    }
    return own, limits


_OWN, _OF_LIMITS = _table()

#: The table of all settings, in the order to show them.
SETTINGS: Final[tuple[Setting, ...]] = (*_OWN.values(), *_OF_LIMITS.values())


def from_environment(environment: Mapping[str, str]) -> Settings:
    """The settings that `environment` holds; an empty value counts as unset, other names are ignored.

    Raises SettingsError for the first value that cannot be used, alone or together with another.
    """
    settings = Settings(
        **{name: setting.read(environment) for name, setting in _OWN.items()},
        limits=Limits(**{name: setting.read(environment) for name, setting in _OF_LIMITS.items()}),
    )
    if settings.jwt_secret and settings.jwt_jwks_url:
        raise SettingsError("JWT_SECRET and JWT_JWKS_URL are both set; set the one that signs the tokens.")
    if settings.workers > 1 and not settings.redis_url:
        raise SettingsError(
            f"WORKERS is {settings.workers}, but REDIS_URL is not set; "
            "several workers need a Redis between them, so set REDIS_URL or WORKERS=1."
        )
    problem = providers.problem(settings)
    if problem is not None:
        raise SettingsError(problem)
    return settings
