"""ICE servers, and the credentials with which a relay serves one person for a while."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from meetings import ice
from tests.meetings.worlds import soon
from tests.standins import coturn

SECRET = "what coturn and the server share"


def test_credentials_are_those_of_the_draft() -> None:
    ends_at = datetime.fromtimestamp(1_795_000_000, UTC)
    # printf '1795000000:ada' | openssl dgst -sha1 -hmac 'what coturn and the server share' -binary | base64
    assert ice.turn_credentials(SECRET, "ada", ends_at) == ("1795000000:ada", "T+c5wbweemh7xKIY9UnqbMZTHqM=")


def test_a_relay_serves_who_has_them_until_they_end() -> None:
    username, password = ice.turn_credentials(SECRET, "ada", soon())
    assert coturn.accepts(SECRET, username, password)
    assert not coturn.accepts("another secret", username, password)
    assert not coturn.accepts(SECRET, username.replace("ada", "eve"), password)
    assert not coturn.accepts(SECRET, *ice.turn_credentials(SECRET, "ada", soon(-1)))


def test_each_server_is_told_as_browsers_take_it_and_its_secret_to_nobody() -> None:
    servers = ice.parse(
        f"""[
            {{"urls": "stun:stun.example"}},
            {{"urls": ["turn:turn.example:3478?transport=udp", "turns:[2001:db8::1]:5349"], "secret": "{SECRET}"}},
            {{"urls": "turn:old.example", "username": "u", "credential": "c"}}
        ]"""
    )
    ends_at = soon()
    username, password = ice.turn_credentials(SECRET, "ada", ends_at)

    told = ice.for_person(servers, "ada", ends_at)

    assert told == [
        {"urls": ["stun:stun.example"]},
        {
            "urls": ["turn:turn.example:3478?transport=udp", "turns:[2001:db8::1]:5349"],
            "username": username,
            "credential": password,
        },
        {"urls": ["turn:old.example"], "username": "u", "credential": "c"},
    ]
    assert SECRET not in str(told) + repr(servers)


def test_too_many_servers_are_refused() -> None:
    with pytest.raises(ValueError, match="each with urls"):
        ice.parse("[" + ",".join(['{"urls": "stun:stun.example"}'] * (ice.MAX_ICE_SERVERS + 1)) + "]")
