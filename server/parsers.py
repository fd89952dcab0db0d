"""What the values of settings may be, and what is made of them: one parser for each kind of value.

A parser takes a setting's text and answers its value, or raises :class:`Refused`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

from meetings import ice, webhooks
from meetings.ice import IceServer
from realtime.redis_url import CLUSTER_SCHEMES, is_cluster, seed_urls

Network = IPv4Network | IPv6Network

#: RFC 7518 §3.2: an HS256 key is at least as long as the hash it feeds.
MIN_SECRET_BYTES: Final = 32
#: The longest piece of a refused value that an error repeats.
MAX_SHOWN_CHARACTERS: Final = 80
MAX_WHOLE_NUMBER: Final = 2**31 - 1

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_WHOLE_NUMBER: Final = re.compile(r"[0-9]{1,18}")
#: Amazon S3, *General purpose bucket naming rules*; and what a key of ours may begin with.
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX: Final = re.compile(r"/?|(/[a-z0-9][a-z0-9._-]*)+/?")
#: What a certificate, and botocore, take for a name: `_`, as some container names have it, is none of it.
_DNS_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*\.?")
_HOST_NAME: Final = re.compile(r"[a-z0-9_]([a-z0-9._-]*[a-z0-9_])?|\[[0-9a-f:.]+\]")


class Refused(Exception):
    """What a parser expected, and what it says came; None to repeat the value itself."""

    def __init__(self, expected: str, came: str | None = None) -> None:
        super().__init__(expected)
        self.expected = expected
        self.came = came


def shown(value: str) -> str:
    if len(value) > MAX_SHOWN_CHARACTERS:
        value = value[:MAX_SHOWN_CHARACTERS] + "…"
    return repr(value)


def whole(least: int, most: int = MAX_WHOLE_NUMBER) -> Callable[[str], int]:
    def parse(value: str) -> int:
        value = value.strip()
        if not _WHOLE_NUMBER.fullmatch(value) or not least <= int(value) <= most:
            upper = f"{least} to {most}" if most < MAX_WHOLE_NUMBER else f"{least} up"
            raise Refused(f"a whole number from {upper}")
        return int(value)

    return parse


def one_of(*words: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        word = value.strip().lower()
        if word not in words:
            raise Refused(f"one of {', '.join(words)}")
        return word

    return parse


def on_or_off(value: str) -> bool:
    return one_of("on", "off")(value) == "on"


def host(value: str) -> str:
    value = value.strip()
    if not value or re.search(r"[\s/@]", value):
        raise Refused("an address or a host name, such as 127.0.0.1, :: or 0.0.0.0")
    return value.removeprefix("[").removesuffix("]")


def folder(value: str) -> Path:
    if "\x00" in value:
        raise Refused("the path of a folder")
    return Path(value).expanduser()


def words(value: str) -> str:
    value = value.strip()
    if not value or not value.isprintable():
        raise Refused("printable text")
    return value


def url(*schemes: str, host_required: bool = True) -> Callable[[str], str]:
    expected = "a URL that starts with " + " or ".join(f"{scheme}://" for scheme in schemes)

    def parse(value: str) -> str:
        value = value.strip()
        parts = _split(value)
        if parts is None or parts.scheme not in schemes:
            raise Refused(expected)
        if host_required and not parts.hostname:
            raise Refused(f"{expected}, followed by a host")
        return value

    return parse


def word(value: str) -> str:
    value = value.strip()
    if not re.fullmatch(r"[\x21-\x7e]+", value):
        raise Refused("a word of printable ASCII characters, without spaces")
    return value


def host_and_port(value: str) -> str:
    value = value.strip().lower()
    parts = _split(f"https://{value}")
    if parts is None or parts.netloc != value or "@" in value or not _HOST_NAME.fullmatch(parts.hostname or ""):
        raise Refused("a host such as meet.example or meet.example:8443, without https:// and without a path")
    return value


def region(value: str) -> str:
    value = value.strip().lower()
    if not re.fullmatch(r"[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}", value):
        raise Refused("the name of an AWS region, such as eu-central-1")
    return value


def bucket(value: str) -> str:
    value = value.strip()
    if not _BUCKET.fullmatch(value):
        raise Refused("the name of an S3 bucket, such as school-recordings")
    return value


def pem(value: str) -> str:
    if not value.lstrip().startswith("-----BEGIN") or "PRIVATE KEY-----" not in value:
        raise Refused("a private key in PEM, whose lines may be divided by \\n")
    return value.strip()


def webhook_secret(value: str) -> bytes:
    try:
        return webhooks.parse_secret(value.strip())
    except ValueError as refused:
        raise Refused(str(refused)) from None


def ice_servers(value: str) -> tuple[IceServer, ...]:
    try:
        return ice.parse(value)
    except ValueError as refused:
        raise Refused(f"a JSON array of ICE servers, {refused}") from None


def redis_url(value: str) -> str:
    value = value.strip()
    if is_cluster(value):
        nodes = [_split(node) for node in seed_urls(value)]
        if not all(node is not None and node.hostname and node.path in ("", "/", "/0") for node in nodes):
            raise Refused("a URL such as redis+cluster://host:6379,host:6379 (a cluster has no database but 0)")
        return value
    value = url("redis", "rediss", "unix", *CLUSTER_SCHEMES, host_required=False)(value)
    parts = urlsplit(value)
    if parts.scheme == "unix" and not parts.path:
        raise Refused("a URL such as redis://host:6379/0 or unix:///path/to/socket", "a unix:// URL without a path")
    return value


def secret(value: str) -> str:
    if value.lstrip().startswith("-----BEGIN"):
        raise Refused("a shared secret; keys of other kinds are published at JWT_JWKS_URL", "a PEM key")
    return long_enough(value)


def long_enough(value: str) -> str:
    length = len(value.encode())
    if length < MIN_SECRET_BYTES:
        raise Refused(
            f"at least {MIN_SECRET_BYTES} bytes long (RFC 7518 §3.2; `openssl rand -hex 32` makes one)",
            f"{length} byte{'s' if length != 1 else ''}",
        )
    return value


def origins(value: str) -> tuple[str, ...]:
    """Origins as a browser sends them: lower case, without the scheme's own port. `*` stands alone."""
    origins = tuple(_origin(part) for part in _parts(value))
    if "*" in origins and len(origins) > 1:
        raise Refused("either * or a list of origins")
    return origins


def _origin(value: str) -> str:
    if value == "*":
        return value
    parts = _split(value.lower())
    if parts is None or parts.scheme not in _DEFAULT_PORTS or "@" in parts.netloc:
        raise Refused("origins such as https://app.example or http://localhost:3000, with commas between them, or *")
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    if parts.path or parts.query or parts.fragment or value.endswith(("?", "#")):
        raise Refused("origins, which have no path: scheme://host or scheme://host:port", shown(value))
    if not _HOST_NAME.fullmatch(host):
        raise Refused("origins with a host name in ASCII or an address", shown(value))
    port = "" if parts.port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def storage_url(value: str) -> str:
    expected = "a URL such as s3://bucket/prefix or file:///var/lib/encounters"
    parts = _split(value.strip())
    if parts is None or parts.scheme not in ("s3", "file") or parts.query or parts.fragment:
        raise Refused(expected)
    if "@" in parts.netloc:
        raise Refused(f"{expected}; credentials come from AWS' own variables", "a URL with credentials")
    if parts.scheme == "s3" and not _BUCKET.fullmatch(parts.netloc):
        raise Refused(f"{expected}, with the name of a bucket")
    if parts.scheme == "s3" and not _PREFIX.fullmatch(parts.path):
        raise Refused(f"{expected}, with a prefix of lower-case letters, digits, dots, dashes and slashes")
    if parts.scheme == "file" and (parts.netloc or len(parts.path) < 2):
        raise Refused(f"{expected}, with the absolute path of a folder")
    return value.strip()


def s3_endpoint(value: str) -> str:
    value = url("https", "http")(value)
    name = urlsplit(value).hostname or ""
    if ":" not in name and not _DNS_NAME.fullmatch(name):
        raise Refused("a URL whose host is an address or a name of letters, digits and dashes", shown(name))
    return value


def networks(value: str) -> tuple[Network, ...]:
    if value.strip().lower() == "none":
        return ()
    try:
        return tuple(ip_network(part) for part in _parts(value))
    except ValueError:
        raise Refused(
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
