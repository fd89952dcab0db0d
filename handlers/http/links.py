"""Signed links to files, for the answers to one request."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from aiohttp import web

from domain.links import Link, Use, signed
from handlers.addresses import public_origin
from handlers.http.keys import DOWNLOAD_LINK_SECONDS, TRUSTED_PROXIES, UPLOADS
from store.recordings import Recording


@dataclass(frozen=True, kw_only=True, slots=True)
class Links:
    """Makes links that all expire at the same time."""

    origin: str
    key: bytes
    expires_at: datetime

    def read(self, file_id: UUID) -> str:
        """To a file, to be shown where it can be."""
        return self._link("read", file_id)

    def save(self, file_id: UUID) -> str:
        """To a file, to be saved."""
        return self._link("read", file_id, attachment=True)

    def of_recording(self, recording: Recording, *, save: bool = False) -> str | None:
        """To a recording, to be shown or saved; None while there is nothing to see.

        Where its provider has it, the provider is asked only when the link is followed.
        """
        if recording.status != "completed":
            return None
        if recording.provider is not None:
            return self._link("recording", recording.id, attachment=save)
        if recording.file_id is None:
            return None
        return self._link("read", recording.file_id, attachment=save)

    def of_content(self, file_id: UUID, thumbnail: bool) -> str:
        """To a file, or to the picture that was taken from it."""
        return self._link("thumbnail" if thumbnail else "read", file_id)

    def _link(self, use: Use, file_id: UUID, *, attachment: bool = False) -> str:
        link = Link(use=use, file_id=file_id, expires_at=int(self.expires_at.timestamp()), attachment=attachment)
        return f"{self.origin}/files/{signed(link, self.key)}"


async def links_of(request: web.Request) -> Links:
    return Links(
        origin=public_origin(request, request.app[TRUSTED_PROXIES]),
        key=await request.app[UPLOADS].link_key(),
        expires_at=datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=request.app[DOWNLOAD_LINK_SECONDS]),
    )
