"""Where a request comes from, as far as it can be believed."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from handlers.addresses import client_address, public_origin

PROXIES = [ip_network("10.0.0.0/8"), ip_network("::1")]


@pytest.mark.parametrize(
    ("remote", "forwarded", "client"),
    [
        ("1.2.3.4", [], "1.2.3.4"),
        ("1.2.3.4", ["9.9.9.9"], "1.2.3.4"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["9.9.9.9"], "9.9.9.9"),
        ("::1", ["2001:db8::7"], "2001:db8::7"),
        ("10.0.0.1", ["8.8.8.8, 9.9.9.9"], "9.9.9.9"),
        ("10.0.0.1", ["8.8.8.8,9.9.9.9 , 10.0.0.2"], "9.9.9.9"),
        ("10.0.0.1", ["8.8.8.8", "9.9.9.9", "10.0.0.2"], "9.9.9.9"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", ["9.9.9.9, , "], "9.9.9.9"),
        ("10.0.0.1", ["9.9.9.9, not an address"], "not an address"),
        ("", ["9.9.9.9"], ""),
    ],
)
def test_a_forwarded_address_is_believed_as_far_as_trusted_proxies_vouch(
    remote: str, forwarded: list[str], client: str
) -> None:
    headers = CIMultiDict([("X-Forwarded-For", value) for value in forwarded])
    request = make_mocked_request("GET", "/", headers=headers).clone(remote=remote)
    assert client_address(request, PROXIES) == client


def test_without_proxies_the_header_is_nothing() -> None:
    request = make_mocked_request("GET", "/", headers={"X-Forwarded-For": "9.9.9.9"}).clone(remote="10.0.0.1")
    assert client_address(request, []) == "10.0.0.1"


@pytest.mark.parametrize(
    ("remote", "forwarded", "origin"),
    [
        ("1.2.3.4", None, "http://lessons.example:81"),
        ("1.2.3.4", "https", "http://lessons.example:81"),
        ("10.0.0.1", None, "http://lessons.example:81"),
        ("10.0.0.1", "https", "https://lessons.example:81"),
        ("10.0.0.1", "http, HTTPS ", "https://lessons.example:81"),
        ("10.0.0.1", "https, http", "http://lessons.example:81"),
        ("10.0.0.1", "javascript", "http://lessons.example:81"),
    ],
)
def test_only_a_trusted_proxy_says_by_which_scheme_the_client_came(
    remote: str, forwarded: str | None, origin: str
) -> None:
    headers = {"Host": "lessons.example:81"}
    if forwarded is not None:
        headers["X-Forwarded-Proto"] = forwarded
    request = make_mocked_request("GET", "/", headers=headers).clone(remote=remote)
    assert public_origin(request, PROXIES) == origin
