"""Links to files: whoever has one may read this one file until it expires, and nothing else.

A link's token holds what it opens and until when, and an HMAC over that with this installation's key (the one that
links are signed with, in the database: every worker has it, and it has nothing to do with the tokens of people).
"""

from __future__ import annotations

import base64
import binascii
import hmac
import struct
from dataclasses import dataclass
from typing import Final, Literal
from uuid import UUID

from domain.errors import Forbidden, NotFound

#: What a link is good for: to read a file, its thumbnail, or to send it, once; to read a recording that its video
#: provider keeps, whose id stands for a file's.
Use = Literal["read", "thumbnail", "send", "recording"]

_USES: Final[tuple[Use, ...]] = ("read", "thumbnail", "send", "recording")
#: A version, the use, whether to save rather than show, the file's id, and seconds since 1970.
_FORM: Final = struct.Struct(">BB?16sQ")
_VERSION: Final = 1
_SIGNATURE_BYTES: Final = 32
#: Tokens are exactly so long; longer text is not looked at.
TOKEN_CHARACTERS: Final = -(-(_FORM.size + _SIGNATURE_BYTES) * 4 // 3)


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """What a token says. `expires_at` is in Unix seconds; `attachment`: to save, not to show."""

    use: Use
    file_id: UUID
    expires_at: int
    attachment: bool = False


def signed(link: Link, key: bytes) -> str:
    """The token of a link."""
    said = _FORM.pack(_VERSION, _USES.index(link.use), link.attachment, link.file_id.bytes, link.expires_at)
    return base64.urlsafe_b64encode(said + _signature(said, key)).rstrip(b"=").decode()


def opened(token: str, key: bytes, *, now: float) -> Link:
    """What a token says. Raises NotFound for one that was not made here, Forbidden for one that has expired."""
    try:
        raw = base64.b64decode(f"{token}{'=' * (-len(token) % 4)}", altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise unknown_link() from None
    if len(token) != TOKEN_CHARACTERS or len(raw) != _FORM.size + _SIGNATURE_BYTES:
        raise unknown_link()
    said, signature = raw[: _FORM.size], raw[_FORM.size :]
    if not hmac.compare_digest(signature, _signature(said, key)):
        raise unknown_link()
    _, use, attachment, file_id, expires_at = _FORM.unpack(said)
    if expires_at <= now:
        raise Forbidden("This link has expired; ask for a new one where you found it.", code="link_expired")
    return Link(use=_USES[use], file_id=UUID(bytes=file_id), expires_at=expires_at, attachment=attachment)


def unknown_link() -> NotFound:
    return NotFound("There is nothing behind this link.", code="link_not_found")


def _signature(said: bytes, key: bytes) -> bytes:
    return hmac.digest(key, b"file link:" + said, "sha256")
