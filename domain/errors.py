"""What can be refused, and how it is said.

::

    EncountersError
    ├── BadRequest            400  malformed or invalid; `fields` names what is wrong
    ├── Unauthenticated       401  no token, or one that is not accepted
    ├── Forbidden             403
    ├── NotFound              404
    ├── TooSlow               408  what was sent did not come in time; its connection is closed
    ├── Conflict              409  against the stored state
    ├── PreconditionFailed    412
    ├── TooLarge              413
    ├── UnsupportedMediaType  415
    ├── Locked                423  somebody else is at it
    ├── TooManyRequests       429  `retry_after` seconds
    ├── ChecksumMismatch      460  what came is not what was sent (tus 1.0.0)
    ├── BadGateway            502  a service that was asked for it did not do it; perhaps `retry_after` seconds
    └── Unavailable           503  a part that the request needs is away; `retry_after` seconds

Every error has a stable ``code`` for programs and a sentence for people. The doors turn it into an HTTP
response or a Socket.IO ack; both carry the same document (:meth:`EncountersError.document`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar


class EncountersError(Exception):
    """A request that is refused: stable `code`, a `message` for a person, and an HTTP `status_code`.

    `conflicts` says of a request for several things what stood in the way of which.
    """

    status_code: ClassVar[int] = 500
    default_code: ClassVar[str] = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        fields: Mapping[str, str] | None = None,
        retry_after: int | None = None,
        conflicts: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.fields = dict(fields) if fields else None
        self.retry_after = retry_after
        self.conflicts = list(conflicts)

    def document(self) -> dict[str, Any]:
        """The error as clients see it: ``{error, message, status_code, fields?, conflicts?, retry_after?}``."""
        document: dict[str, Any] = {
            "error": self.code,
            "message": self.message,
            "status_code": self.status_code,
        }
        if self.fields:
            document["fields"] = self.fields
        if self.conflicts:
            document["conflicts"] = self.conflicts
        if self.retry_after is not None:
            document["retry_after"] = self.retry_after
        return document


class BadRequest(EncountersError):
    status_code = 400
    default_code = "bad_request"


class Unauthenticated(EncountersError):
    status_code = 401
    default_code = "unauthenticated"


class Forbidden(EncountersError):
    status_code = 403
    default_code = "forbidden"


class NotFound(EncountersError):
    status_code = 404
    default_code = "not_found"


class TooSlow(EncountersError):
    status_code = 408
    default_code = "body_too_slow"


class Conflict(EncountersError):
    status_code = 409
    default_code = "conflict"


class PreconditionFailed(EncountersError):
    status_code = 412
    default_code = "precondition_failed"


class TooLarge(EncountersError):
    status_code = 413
    default_code = "too_large"


class UnsupportedMediaType(EncountersError):
    status_code = 415
    default_code = "unsupported_media_type"


class Locked(EncountersError):
    status_code = 423
    default_code = "locked"


class TooManyRequests(EncountersError):
    status_code = 429
    default_code = "too_many_requests"


class ChecksumMismatch(EncountersError):
    status_code = 460
    default_code = "checksum_mismatch"


class BadGateway(EncountersError):
    status_code = 502
    default_code = "provider_failed"


class Unavailable(EncountersError):
    status_code = 503
    default_code = "unavailable"


def invalid(fields: Mapping[str, str]) -> BadRequest:
    """A :class:`BadRequest` whose sentence is made from the fields that are wrong."""
    said = "; ".join(f"{path}: {problem}" for path, problem in fields.items())
    return BadRequest(f"Some fields are not valid: {said}.", code="validation_failed", fields=fields)
