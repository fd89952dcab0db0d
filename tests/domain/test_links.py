"""Links: what was signed here, until it expires, and nothing else."""

from __future__ import annotations

import os
from uuid import uuid4

import pytest

from domain.errors import Forbidden, NotFound
from domain.links import TOKEN_CHARACTERS, Link, Use, opened, signed

KEY = os.urandom(32)


@pytest.mark.parametrize("use", ["read", "thumbnail", "send"])
@pytest.mark.parametrize("attachment", [True, False])
def test_a_link_says_what_was_signed(use: Use, attachment: bool) -> None:
    link = Link(use=use, file_id=uuid4(), expires_at=2_000_000_000, attachment=attachment)
    token = signed(link, KEY)
    assert len(token) == TOKEN_CHARACTERS
    assert opened(token, KEY, now=1_999_999_999) == link


def test_a_link_ends_when_it_says() -> None:
    token = signed(Link(use="read", file_id=uuid4(), expires_at=1000), KEY)
    opened(token, KEY, now=999.9)
    with pytest.raises(Forbidden):
        opened(token, KEY, now=1000)


def test_no_character_of_it_may_be_another() -> None:
    token = signed(Link(use="read", file_id=uuid4(), expires_at=1000), KEY)
    # The last character holds two bits that mean nothing.
    for place in range(len(token) - 1):
        other = "A" if token[place] != "A" else "B"
        with pytest.raises(NotFound):
            opened(token[:place] + other + token[place + 1 :], KEY, now=0)


@pytest.mark.parametrize("token", ["", "x", "A" * TOKEN_CHARACTERS, "A" * 10_000, "ü" * TOKEN_CHARACTERS, "=" * 79])
def test_what_was_not_signed_here_opens_nothing(token: str) -> None:
    with pytest.raises(NotFound):
        opened(token, KEY, now=0)
    with pytest.raises(NotFound):
        opened(signed(Link(use="read", file_id=uuid4(), expires_at=1000), os.urandom(32)), KEY, now=0)
