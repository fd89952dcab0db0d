"""What a TURN server does with time-limited credentials: coturn's `use-auth-secret`."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time


def accepts(secret: str, username: str, credential: str) -> bool:
    """Whether a relay that shares `secret` serves who comes with these."""
    expires_at, colon, _ = username.partition(":")
    if not colon or not expires_at.isdigit() or int(expires_at) <= time.time():
        return False
    expected = base64.b64encode(hmac.new(secret.encode(), username.encode(), hashlib.sha1).digest())
    return hmac.compare_digest(expected, credential.encode())
