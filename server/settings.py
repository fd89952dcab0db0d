"""Every setting of a running server, read once from the environment into one frozen value.

A setting is declared in one place, as a field of :class:`Settings` (or of :class:`realtime.limits.Limits`,
with its meaning in `_LIMITS` below): name, default, parser (of :mod:`server.parsers`) and meaning.
:data:`SETTINGS` is the table of all of them, for ``encounters serve --help`` and for the test that holds the
README to it. Nobody else reads ``os.environ``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from meetings import providers
from meetings.ice import IceServer
from realtime.limits import Limits
from server import parsers

T = TypeVar("T")

MAX_WORKERS: Final = 64
#: Thirty days.
MAX_CANCEL_NOTICE_MINUTES: Final = 30 * 24 * 60
#: A week: whoever is reminded earlier has a calendar for it.
MAX_REMINDER_MINUTES: Final = 7 * 24 * 60
#: Ten years: beyond that, keep them all.
MAX_RETENTION_DAYS: Final = 3650
#: Where a demo keeps what it signs tokens with, in DATA_DIR: a restart signs nobody out. Only its owner may read it.
DEMO_SECRET_FILE: Final = "demo-secret"  # noqa: S105 - its name
#: What 10 000 parts of a bucket's upload hold (`store.objects.s3`).
MAX_FILE_BYTES: Final = 80 * 1024**3
MAX_QUOTA_BYTES: Final = 1024**5
#: A month.
MAX_EXPIRY_HOURS: Final = 31 * 24
#: As long as Amazon's own links may work.
MAX_LINK_SECONDS: Final = 7 * 24 * 3600


class SettingsError(Exception):
    """A setting that cannot be used. Its sentence names the setting, what came, and what is expected."""


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
        except parsers.Refused as refused:
            came = refused.came or ("a value that is not shown" if self.confidential else parsers.shown(value))
            raise SettingsError(f"{self.name} must be {refused.expected}, not {came}.") from None


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

    host: str = _setting("127.0.0.1", parsers.host, "Address to listen on.")
    port: int = _setting("8080", parsers.whole(0, 65535), "Port to listen on; 0 takes a free one.")
    workers: int = _setting(
        "1",
        parsers.whole(1, MAX_WORKERS),
        "Processes that serve. More than 1 needs REDIS_URL, the bus between them.",
    )
    data_dir: Path = _setting(  # noqa: RUF009 - it declares a field
        ".data", parsers.folder, "Folder for the embedded Postgres, uploaded files and the demo's secret."
    )
    database_url: str | None = _optional(
        parsers.url("postgresql", "postgres", host_required=False),
        "Postgres 15 or newer, as postgresql://user:password@host/database. Unset: an embedded one in DATA_DIR.",
        confidential=True,
    )
    database_pool_size: int = _setting("10", parsers.whole(1, 1000), "Most connections each worker opens to Postgres.")
    redis_url: str | None = _optional(
        parsers.redis_url,
        "The bus between workers, as redis://host:6379/0, rediss:// or unix://, or a cluster's (Redis 7 or newer), as "
        "redis+cluster://host:6379,host:6379 or rediss+cluster://. Unset: within the one process.",
        confidential=True,
    )
    jwt_secret: str | None = _optional(
        parsers.secret,
        "Verifies tokens signed with HS256. At least 32 bytes. Not together with JWT_JWKS_URL.",
        confidential=True,
    )
    jwt_jwks_url: str | None = _optional(
        parsers.url("https", "http"),
        "Where the keys are published that verify tokens signed with RS256, ES256 or EdDSA.",
        confidential=True,
    )
    jwt_issuer: str | None = _optional(parsers.words, "The `iss` a token must have. Unset: any.")
    jwt_audience: str | None = _optional(parsers.words, "The `aud` a token must have. Unset: any.")
    cors_origins: tuple[str, ...] = _setting(
        "",
        parsers.origins,
        "Origins of other sites that may call from a browser, with commas between them; * for all. "
        "Unset: only pages from this server.",
    )
    trusted_proxies: tuple[parsers.Network, ...] = _setting(
        "127.0.0.0/8,::1",
        parsers.networks,
        "Addresses or networks whose X-Forwarded-For and X-Forwarded-Proto are believed; none for nobody's.",
    )
    log_level: str = _setting(
        "info", parsers.one_of("debug", "info", "warning", "error"), "debug, info, warning or error."
    )
    log_format: str = _setting(
        "auto",
        parsers.one_of("auto", "console", "json"),
        "console, json, or auto: console on a terminal, else json.",
    )
    drain_seconds: int = _setting(
        "20", parsers.whole(0, 3600), "Longest time between SIGTERM and the end, while connections move elsewhere."
    )
    booking_cancel_notice_minutes: int = _setting(
        "0",
        parsers.whole(0, MAX_CANCEL_NOTICE_MINUTES),
        "Minutes before a lesson until which the student's side may cancel or move it; 0: at any time.",
    )
    reminder_minutes: int = _setting(
        "15",
        parsers.whole(0, MAX_REMINDER_MINUTES),
        "Minutes before a confirmed lesson at which its people are reminded of it; 0 for no reminders.",
    )
    notification_retention_days: int = _setting(
        "180",
        parsers.whole(0, MAX_RETENTION_DAYS),
        "Days for which notifications stay in their people's lists; 0: forever.",
    )
    recording_retention_days: int = _setting(
        "0",
        parsers.whole(0, MAX_RETENTION_DAYS),
        "Days for which recordings are kept; then they are deleted, with their files. 0: forever.",
    )
    storage_url: str | None = _optional(
        parsers.storage_url,
        "Where files are kept: s3://bucket/prefix or file:///folder. S3's credentials and region come from AWS' own "
        "variables. Unset: the folder DATA_DIR/files.",
    )
    s3_endpoint_url: str | None = _optional(
        parsers.s3_endpoint, "Another server that speaks S3's language, as https://host. Unset: Amazon's."
    )
    max_recording_bytes: int = _setting(
        str(2 * 1024**3), parsers.whole(1, MAX_FILE_BYTES), "Bytes that a recording may have at most."
    )
    upload_quota_bytes: int = _setting(
        str(20 * 1024**3),
        parsers.whole(0, MAX_QUOTA_BYTES),
        "Bytes that all files of one person may have; 0: no limit.",
    )
    upload_expiry_hours: int = _setting(
        "24",
        parsers.whole(1, MAX_EXPIRY_HOURS),
        "Hours for which an upload that was broken off can go on.",
    )
    download_link_seconds: int = _setting(
        "3600",
        parsers.whole(60, MAX_LINK_SECONDS),
        "Seconds for which a link to a recording or a course's content works.",
    )
    websocket_deflate: bool = _setting(
        "off",
        parsers.on_or_off,
        "on: WebSockets that offer permessage-deflate get it. It spares bandwidth for memory and time.",
    )
    meeting_provider: str = _setting(
        providers.DEFAULT,
        parsers.one_of(*providers.PROVIDERS),
        f"Who carries sound and video: {', '.join(providers.PROVIDERS)}. docs/providers.md sets each up.",
    )
    ice_servers: tuple[IceServer, ...] = _setting(
        "[]",
        parsers.ice_servers,
        "For peer: STUN and TURN servers, as a JSON array of RTCIceServer; with `secret` instead of `username` and "
        "`credential`, each person gets TURN credentials that end.",
        confidential=True,
    )
    jitsi_domain: str | None = _optional(
        parsers.host_and_port, "For jitsi: the host of the Jitsi Meet, such as meet.example."
    )
    jitsi_app_id: str | None = _optional(
        parsers.word, "The app id that its tokens are issued by. Unset: links, no tokens."
    )
    jitsi_app_secret: str | None = _optional(
        parsers.long_enough,
        "The secret that signs its tokens with HS256. At least 32 bytes. Not together with JITSI_PRIVATE_KEY.",
        confidential=True,
    )
    jitsi_key_id: str | None = _optional(parsers.word, "The name (`kid`) of JITSI_PRIVATE_KEY.")
    jitsi_private_key: str | None = _optional(
        parsers.pem, "The RSA key that signs its tokens with RS256, in PEM; JaaS asks for it.", confidential=True
    )
    daily_api_key: str | None = _optional(
        parsers.word, "For daily: the API key of the Daily domain.", confidential=True
    )
    daily_api_url: str = _setting("https://api.daily.co/v1", parsers.url("https", "http"), "Where Daily's REST API is.")
    daily_webhook_secret: bytes | None = _optional(
        parsers.webhook_secret,
        "The `hmac` of the Daily webhook that calls `/webhooks/daily`, in base64. Unset: none is believed.",
        confidential=True,
    )
    chime_region: str | None = _optional(parsers.region, "For chime: the AWS region that makes the meetings.")
    chime_endpoint_url: str | None = _optional(
        parsers.url("https", "http"), "Where the Amazon Chime SDK and S3 are asked instead. Unset: AWS."
    )
    chime_recordings_bucket: str | None = _optional(
        parsers.bucket, "The S3 bucket that Chime records into. Unset: the host's browser records."
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
            parse=parsers.whole(0),
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
    if settings.s3_endpoint_url and not (settings.storage_url or "").startswith("s3:"):
        raise SettingsError("S3_ENDPOINT_URL is set, but STORAGE_URL names no bucket there, as s3://bucket/prefix.")
    return settings
