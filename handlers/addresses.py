"""Where a request comes from, when proxies stand between."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address

from aiohttp import hdrs, web

Network = IPv4Network | IPv6Network


def client_address(request: web.Request, trusted_proxies: Sequence[Network]) -> str:
    """The address of the client: the last one in `X-Forwarded-For` that no trusted proxy added.

    The header is believed only as far as trusted proxies vouch for it; anyone can send one.
    """
    address = request.remote or ""
    forwarded = ",".join(request.headers.getall(hdrs.X_FORWARDED_FOR, []))
    hops = [hop.strip() for hop in forwarded.split(",") if hop.strip()]
    while hops and _is_in(address, trusted_proxies):
        address = hops.pop()
    return address


def _is_in(address: str, networks: Sequence[Network]) -> bool:
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in networks)


def public_origin(request: web.Request, trusted_proxies: Sequence[Network]) -> str:
    """Where the client sees this server, as `https://host:port`: for links that are used outside of the page.

    The host is the request's own. A trusted proxy says in `X-Forwarded-Proto` what the client came by.
    """
    scheme = request.scheme
    if _is_in(request.remote or "", trusted_proxies):
        forwarded = request.headers.get(hdrs.X_FORWARDED_PROTO, "").rpartition(",")[2].strip().lower()
        if forwarded in ("http", "https"):
            scheme = forwarded
    return f"{scheme}://{request.host}"
