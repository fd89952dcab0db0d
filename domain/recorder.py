"""Who records sessions beside the host's browser: video providers that can (:mod:`domain.provider_recordings`)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from uuid import UUID

from domain.access import Member
from store.database import Connection

#: Called inside the transaction that writes a new recording down.
Written = Callable[[Connection], Awaitable[None]]


class Recorder:
    """Nobody does."""

    @asynccontextmanager
    async def begins(self, member: Member, recording_id: UUID) -> AsyncIterator[Written]:
        """Begin to record the member's session, which then is written down: what fails inside is undone.

        Raises what refuses the recording, before anybody is asked, and BadGateway.
        """
        yield _nothing_to_write

    def wake(self) -> None:
        """A recording was stopped or deleted here, and may have to be elsewhere."""


async def _nothing_to_write(connection: Connection) -> None:
    pass
