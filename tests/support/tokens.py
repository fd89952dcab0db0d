"""Tokens as a site's own sign-in would issue them: HS256, signed with the secret that the server is told."""

from __future__ import annotations

import time
from typing import Any

import jwt

SECRET = "a secret that only the tests and the servers they start know"
LIFETIME_SECONDS = 3600


def mint(sub: str, role: str = "student", *, secret: str = SECRET, **claims: Any) -> str:
    """A token for `sub`. It expires in one hour, unless `exp` says when; a claim that is None is left out."""
    payload = {"sub": sub, "role": role, "exp": int(time.time()) + LIFETIME_SECONDS, **claims}
    return jwt.encode({k: v for k, v in payload.items() if v is not None}, secret, algorithm="HS256")
