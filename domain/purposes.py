"""What files are for: recordings, course content. Those whose purpose a file serves say who may send one, and follow
what becomes of it.

Taking it in is the same for all of them: :mod:`domain.uploads`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

from domain.errors import BadRequest
from domain.identity import Identity
from media.types import Family
from store.database import Connection, Executor
from store.files import File


@dataclass(frozen=True, kw_only=True, slots=True)
class Admission:
    """Leave to send a file: where it belongs, and what those whose purpose it serves note down with it (`details`,
    JSON). `families` narrows what may be sent; `watchers` are told of its progress beside whoever sends it."""

    session_id: UUID | None = None
    course_id: UUID | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    families: frozenset[Family] | None = None
    watchers: Sequence[str] = ()


#: What is shown once a transaction is committed.
Shown = Callable[[], None]


class Hooks(Protocol):
    """What those whose purpose a file serves have to say. One object per purpose, in
    :attr:`domain.uploads.Uploads.hooks`."""

    async def admit(self, executor: Executor, identity: Identity, fields: Mapping[str, str]) -> Admission:
        """Leave to send a file, for a resumable upload: `fields` are what its metadata say (`session_id`, `course_id`,
        `recording_id`, `title`, …). Raises what is to be answered: NotFound, Forbidden, BadRequest, Conflict."""

    async def moved(self, connection: Connection, file: File) -> Shown | None:
        """In the transaction in which a file was announced (`uploading`), came in whole (`processing`) or became
        `ready` or `failed` (see :attr:`File.state`); never twice the same, but any may be left out before the last.
        What it answers is called after the commit. What it raises undoes the transaction.
        """


def _required(fields: Mapping[str, str], name: str) -> str:
    value = fields.get(name, "").strip()
    if not value:
        raise missing_field(name)
    return value


def id_in(fields: Mapping[str, str], name: str) -> UUID:
    """The id in a field. Raises BadRequest where it is missing or none."""
    try:
        return UUID(_required(fields, name))
    except ValueError:
        problem = "is not an id"
        raise BadRequest(f"{name}: {problem}.", code="validation_failed", fields={name: problem}) from None


def missing_field(name: str) -> BadRequest:
    """The refusal of fields without this one."""
    return BadRequest(f"{name} is required.", code="validation_failed", fields={name: "is required"})
