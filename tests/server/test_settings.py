"""Settings: what is read, what is refused, and that the README has them all."""

from __future__ import annotations

import dataclasses
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from meetings.ice import IceServer
from realtime.limits import Limits
from server.settings import SETTINGS, Settings, SettingsError, from_environment

README = Path(__file__).parents[2] / "README.md"
SECRET = "0123456789abcdef0123456789abcdef"


def refusal(**environment: str) -> str:
    with pytest.raises(SettingsError) as caught:
        from_environment(environment)
    said = str(caught.value)
    assert said.endswith(".")
    assert "\n" not in said
    return said


def test_nothing_set_means_the_defaults() -> None:
    assert from_environment({}) == Settings()
    settings = Settings()
    assert (settings.host, settings.port, settings.workers) == ("127.0.0.1", 8080, 1)
    assert settings.data_dir == Path(".data")
    assert settings.database_url is settings.redis_url is settings.jwt_secret is settings.jwt_jwks_url is None
    assert settings.cors_origins == ()
    assert settings.trusted_proxies == (ip_network("127.0.0.0/8"), ip_network("::1"))
    assert (settings.log_level, settings.log_format, settings.drain_seconds) == ("info", "auto", 20)
    assert settings.database_pool_size == 10
    assert settings.reminder_minutes == 15
    assert (
        settings.limits
        == Limits()
        == Limits(
            unsent_bytes=1_048_576,
            events_per_second=20,
            events_burst=60,
            frame_bytes=65_536,
            connections_per_user=10,
            handshakes_per_second=20,
        )
    )


def test_an_empty_value_is_as_good_as_none() -> None:
    assert from_environment({setting.name: "" for setting in SETTINGS}) == Settings()


def test_the_defaults_in_the_table_mean_the_defaults() -> None:
    assert from_environment({setting.name: setting.default for setting in SETTINGS}) == Settings()


def test_every_field_has_a_line_in_the_table() -> None:
    fields = {f.name.upper() for f in dataclasses.fields(Settings)} - {"LIMITS"}
    limits = {f"LIMIT_{f.name.upper()}" for f in dataclasses.fields(Limits)}
    assert {setting.name for setting in SETTINGS} == fields | limits
    assert all(setting.meaning.endswith(".") for setting in SETTINGS)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("HOST", " ::1 ", "::1"),
        ("HOST", "[::]", "::"),
        ("PORT", "0", 0),
        ("PORT", "65535", 65535),
        ("DATA_DIR", "/srv/a b", Path("/srv/a b")),
        (
            "DATABASE_URL",
            "postgres://u:p@h:5432/d?sslmode=require",
            "postgres://u:p@h:5432/d?sslmode=require",
        ),
        ("DATABASE_URL", "postgresql:///d?host=/run/postgresql", "postgresql:///d?host=/run/postgresql"),
        ("DATABASE_POOL_SIZE", "50", 50),
        ("REDIS_URL", "rediss://:p@h:6380/1", "rediss://:p@h:6380/1"),
        ("REDIS_URL", "unix:///run/redis.sock", "unix:///run/redis.sock"),
        ("REDIS_URL", "redis+cluster://h", "redis+cluster://h"),
        ("REDIS_URL", "rediss+cluster://u:p@a:1,[::1]:2,c/0?x=y", "rediss+cluster://u:p@a:1,[::1]:2,c/0?x=y"),
        ("JWT_SECRET", SECRET, SECRET),
        ("JWT_SECRET", "ä" * 16, "ä" * 16),
        ("JWT_JWKS_URL", "https://issuer.example/jwks", "https://issuer.example/jwks"),
        ("JWT_ISSUER", "https://issuer.example/", "https://issuer.example/"),
        ("JWT_AUDIENCE", "encounters", "encounters"),
        ("CORS_ORIGINS", "*", ("*",)),
        (
            "CORS_ORIGINS",
            "https://App.Example:443, http://localhost:3000,http://[::1]:8080,",
            ("https://app.example", "http://localhost:3000", "http://[::1]:8080"),
        ),
        ("TRUSTED_PROXIES", "10.0.0.7, fd00::/8", (ip_network("10.0.0.7"), ip_network("fd00::/8"))),
        ("TRUSTED_PROXIES", "none", ()),
        ("LOG_LEVEL", "WARNING", "warning"),
        ("LOG_FORMAT", "json", "json"),
        ("DRAIN_SECONDS", "0", 0),
        ("BOOKING_CANCEL_NOTICE_MINUTES", "1440", 1440),
        ("REMINDER_MINUTES", "0", 0),
        ("REMINDER_MINUTES", "10080", 10_080),
        ("NOTIFICATION_RETENTION_DAYS", "0", 0),
        ("NOTIFICATION_RETENTION_DAYS", "3650", 3_650),
        ("RECORDING_RETENTION_DAYS", "0", 0),
        ("RECORDING_RETENTION_DAYS", "3650", 3_650),
        ("WEBSOCKET_DEFLATE", "On", True),
        ("WEBSOCKET_DEFLATE", "off", False),
        ("MEETING_PROVIDER", "Peer", "peer"),
        ("ICE_SERVERS", '[{"urls": "stun:stun.example"}]', (IceServer(urls="stun:stun.example"),)),
        ("JITSI_DOMAIN", "Meet.Example:8443", "meet.example:8443"),
        ("JITSI_APP_SECRET", SECRET, SECRET),
        ("DAILY_API_KEY", " 0123abc ", "0123abc"),
        ("DAILY_WEBHOOK_SECRET", "MDEyMzQ1Njc4OWFiY2RlZg==", b"0123456789abcdef"),
        ("CHIME_REGION", "EU-central-1", "eu-central-1"),
        ("CHIME_REGION", "us-gov-west-1", "us-gov-west-1"),
        ("CHIME_RECORDINGS_BUCKET", "school-recordings", "school-recordings"),
    ],
)
def test_a_value_is_read(name: str, value: str, expected: Any) -> None:
    assert getattr(from_environment({name: value}), name.lower()) == expected


def test_limits_are_read_and_zero_means_none() -> None:
    limits = from_environment({"LIMIT_FRAME_BYTES": "0", "LIMIT_EVENTS_BURST": "7"}).limits
    assert limits == Limits(frame_bytes=0, events_burst=7)


@pytest.mark.parametrize(
    ("name", "value", "expectation"),
    [
        ("HOST", "http://here", "an address or a host name"),
        ("PORT", "65536", "from 0 to 65535"),
        ("PORT", "-1", "from 0 to 65535"),
        ("PORT", "8080.0", "whole number"),
        ("PORT", "８０８０", "whole number"),
        ("WORKERS", "0", "from 1 to 64"),
        ("WORKERS", "65", "from 1 to 64"),
        ("LIMIT_UNSENT_BYTES", "1MiB", "whole number from 0 up"),
        ("DATABASE_URL", "mysql://h/d", "postgresql:// or postgres://"),
        ("DATABASE_URL", "encounters", "postgresql:// or postgres://"),
        ("DATABASE_URL", "postgresql://h:port/d", "postgresql:// or postgres://"),
        ("REDIS_URL", "http://h", "redis:// or rediss:// or unix://"),
        ("REDIS_URL", "unix://", "unix:///path"),
        ("REDIS_URL", "cluster://h", "redis+cluster:// or rediss+cluster://"),
        ("REDIS_URL", "redis+cluster://", "redis+cluster://host:6379,host:6379"),
        ("REDIS_URL", "redis+cluster://a:1,,b:2", "redis+cluster://host:6379,host:6379"),
        ("REDIS_URL", "redis+cluster://a:1,b:port", "redis+cluster://host:6379,host:6379"),
        ("REDIS_URL", "redis+cluster://a:1/2", "no database but 0"),
        ("JWT_SECRET", "short", "at least 32 bytes"),
        ("JWT_SECRET", "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcD", "a shared secret"),
        ("JWT_JWKS_URL", "ftp://issuer.example", "https:// or http://"),
        ("JWT_JWKS_URL", "https:///jwks", "followed by a host"),
        ("CORS_ORIGINS", "app.example", "origins such as"),
        ("CORS_ORIGINS", "https://app.example/", "have no path"),
        ("CORS_ORIGINS", "https://app.example?", "have no path"),
        ("CORS_ORIGINS", "https://u@app.example", "origins such as"),
        ("CORS_ORIGINS", "https://*.example", "host name"),
        ("CORS_ORIGINS", "https://", "host name"),
        ("CORS_ORIGINS", "*, https://app.example", "either * or a list"),
        ("TRUSTED_PROXIES", "10.0.0.1/8", "10.0.0.0/8"),
        ("TRUSTED_PROXIES", "proxy", "addresses or networks"),
        ("LOG_LEVEL", "loud", "one of debug, info, warning, error"),
        ("LOG_FORMAT", "xml", "one of auto, console, json"),
        ("DRAIN_SECONDS", "soon", "whole number"),
        ("BOOKING_CANCEL_NOTICE_MINUTES", "43201", "from 0 to 43200"),
        ("REMINDER_MINUTES", "10081", "from 0 to 10080"),
        ("NOTIFICATION_RETENTION_DAYS", "3651", "from 0 to 3650"),
        ("RECORDING_RETENTION_DAYS", "3651", "from 0 to 3650"),
        ("WEBSOCKET_DEFLATE", "yes", "one of on, off"),
        ("MEETING_PROVIDER", "zoom", "one of peer, jitsi, daily, chime"),
        ("ICE_SERVERS", "stun:stun.example", "a JSON array of ICE servers"),
        ("ICE_SERVERS", '[{"urls": "http://stun.example"}]', "urls such as stun:"),
        ("ICE_SERVERS", '[{"urls": "stun:stun.example?transport=udp"}]', "urls such as stun:"),
        ("ICE_SERVERS", '[{"urls": []}]', "each with urls"),
        ("ICE_SERVERS", '[{"url": "stun:stun.example"}]', "each with urls"),
        ("ICE_SERVERS", '[{"urls": "turn:turn.example"}]', "have a secret, or username and credential"),
        ("ICE_SERVERS", '[{"urls": "turn:t.example", "username": "u"}]', "have a secret, or username and credential"),
        ("ICE_SERVERS", '[{"urls": "turn:t.example", "username": "u", "secret": "s"}]', "either secret or username"),
        ("ICE_SERVERS", "[" * 100_000, "a JSON array of ICE servers"),
        ("JITSI_DOMAIN", "https://meet.example", "without https://"),
        ("JITSI_DOMAIN", "meet.example/room", "without a path"),
        ("JITSI_DOMAIN", "user@meet.example", "a host such as"),
        ("JITSI_APP_SECRET", "short", "at least 32 bytes"),
        ("JITSI_PRIVATE_KEY", SECRET, "a private key in PEM"),
        ("DAILY_API_KEY", "two words", "without spaces"),
        ("DAILY_API_URL", "api.daily.co", "https:// or http://"),
        ("DAILY_WEBHOOK_SECRET", "not base64", "in base64"),
        ("DAILY_WEBHOOK_SECRET", "c2hvcnQ=", "at least 16 bytes"),
        ("CHIME_REGION", "Frankfurt", "the name of an AWS region"),
        ("CHIME_ENDPOINT_URL", "localhost", "https:// or http://"),
        ("CHIME_RECORDINGS_BUCKET", "s3://bucket", "the name of an S3 bucket"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_expected(name: str, value: str, expectation: str) -> None:
    said = refusal(**{name: value})
    assert said.startswith(f"{name} must be ")
    assert expectation in said


def test_a_long_wrong_value_is_cut() -> None:
    assert len(refusal(LOG_LEVEL="x" * 10_000)) < 250


@pytest.mark.parametrize(
    "name",
    [
        *("DATABASE_URL", "REDIS_URL", "JWT_SECRET", "JWT_JWKS_URL"),
        *("ICE_SERVERS", "JITSI_APP_SECRET", "JITSI_PRIVATE_KEY", "DAILY_WEBHOOK_SECRET"),
    ],
)
def test_a_wrong_secret_is_not_repeated(name: str) -> None:
    for value in ("xyzzy", "ftp://user:xyzzy@host"):
        assert "xyzzy" not in refusal(**{name: value})


def test_a_secret_is_not_in_the_repr() -> None:
    settings = from_environment(
        {
            "JWT_SECRET": SECRET,
            "DATABASE_URL": "postgresql://u:xyzzy@h/d",
            "REDIS_URL": "redis://:xyzzy@h",
            "DAILY_API_KEY": "xyzzy",
            "ICE_SERVERS": '[{"urls": "turn:t.example", "secret": "xyzzy"}]',
        }
    )
    assert "xyzzy" not in repr(settings.ice_servers)
    assert SECRET not in repr(settings)
    assert "xyzzy" not in repr(settings)


def test_two_ways_to_verify_tokens_are_one_too_many() -> None:
    assert "both set" in refusal(JWT_SECRET=SECRET, JWT_JWKS_URL="https://issuer.example/jwks")


def test_several_workers_need_redis() -> None:
    assert "REDIS_URL" in refusal(WORKERS="2")
    assert from_environment({"WORKERS": "2", "REDIS_URL": "redis://localhost"}).workers == 2


KEY = "-----BEGIN PRIVATE KEY-----\\nMIIB\\n-----END PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("chosen", "also", "said"),
    [
        ("daily", {}, "DAILY_API_KEY is not set"),
        ("chime", {"CHIME_RECORDINGS_BUCKET": "bucket"}, "CHIME_REGION is not set"),
        ("jitsi", {}, "JITSI_DOMAIN is not set"),
        ("jitsi", {"JITSI_DOMAIN": "m", "JITSI_APP_SECRET": SECRET}, "JITSI_APP_ID is not set"),
        ("jitsi", {"JITSI_DOMAIN": "m", "JITSI_APP_ID": "a"}, "set JITSI_APP_SECRET (HS256), or"),
        (
            "jitsi",
            {"JITSI_DOMAIN": "m", "JITSI_APP_ID": "a", "JITSI_APP_SECRET": SECRET, "JITSI_PRIVATE_KEY": KEY},
            "both set",
        ),
        ("jitsi", {"JITSI_DOMAIN": "m", "JITSI_APP_ID": "a", "JITSI_PRIVATE_KEY": KEY}, "belong together"),
        (
            "jitsi",
            {"JITSI_DOMAIN": "m", "JITSI_APP_ID": "a", "JITSI_PRIVATE_KEY": KEY, "JITSI_KEY_ID": "k"},
            "must be an RSA key of at least 2048 bits",
        ),
        (
            "jitsi",
            {"JITSI_DOMAIN": "8x8.vc", "JITSI_APP_ID": "vpaas-magic-cookie-1", "JITSI_APP_SECRET": SECRET},
            "JaaS verifies RS256 only",
        ),
    ],
)
def test_a_video_provider_says_what_it_needs(chosen: str, also: dict[str, str], said: str) -> None:
    refused = refusal(MEETING_PROVIDER=chosen, **also)
    assert refused.startswith(f"MEETING_PROVIDER is {chosen}, but ")
    assert said in refused
    assert from_environment(also).meeting_provider == "peer"  # who does not choose it need not finish it


def test_the_readme_lists_every_setting() -> None:
    rows = {}
    for line in README.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip().strip("`") for cell in line.strip().strip("|").split("|")]
        if line.startswith("|") and len(cells) >= 3:
            rows[cells[0]] = cells[1]
    missing = [setting.name for setting in SETTINGS if setting.name not in rows]
    assert not missing, "not in the README's table of settings"
    wrong = {s.name: rows[s.name] for s in SETTINGS if s.default and s.default != rows[s.name]}
    assert not wrong, "the README's table has another default"


@pytest.mark.parametrize(
    "url",
    [
        "s3://lessons",
        "s3://lessons/",
        "s3://les-sons.example/a/b-c/1_2/",
        "file:///var/lib/encounters",
        "file:///a%20b",
    ],
)
def test_files_lie_in_a_bucket_or_in_a_folder(url: str) -> None:
    assert from_environment({"STORAGE_URL": url}).storage_url == url


@pytest.mark.parametrize(
    "url",
    ["lessons", "/var/lib", "https://s3.example/lessons", "s3://", "s3://x", "s3://UPPER", "s3://a-bucket/UPPER",
     "s3://a-bucket//x", "s3://a-bucket/../x", "s3://a-bucket?x=1", "s3://key:secret@a-bucket", "file://host/x", "file://"],
)  # fmt: skip
def test_files_lie_nowhere_else(url: str) -> None:
    with pytest.raises(SettingsError, match="STORAGE_URL must be a URL such as s3://bucket/prefix") as refused:
        from_environment({"STORAGE_URL": url})
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "endpoint", ["https://s3.example", "http://127.0.0.1:9000", "http://[::1]:9000", "http://minio"]
)
def test_a_bucket_may_lie_at_another_server_than_amazons(endpoint: str) -> None:
    settings = from_environment({"STORAGE_URL": "s3://lessons", "S3_ENDPOINT_URL": endpoint})
    assert settings.s3_endpoint_url == endpoint


@pytest.mark.parametrize("endpoint", ["minio:9000", "s3://minio", "https://", "http://minio_1:9000", "http://-x"])
def test_a_server_of_buckets_is_one_that_can_be_asked(endpoint: str) -> None:
    with pytest.raises(SettingsError, match="S3_ENDPOINT_URL must be a URL"):
        from_environment({"STORAGE_URL": "s3://lessons", "S3_ENDPOINT_URL": endpoint})


@pytest.mark.parametrize("storage", [{}, {"STORAGE_URL": "file:///var/lib/encounters"}])
def test_a_server_of_buckets_needs_a_bucket(storage: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="STORAGE_URL names no bucket"):
        from_environment({**storage, "S3_ENDPOINT_URL": "https://s3.example"})
