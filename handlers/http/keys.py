"""What the composed app and its requests carry: every key, typed, in one place."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from structlog.typing import FilteringBoundLogger

from domain.identity import Identity
from domain.people import People
from domain.tokens import Verifier
from handlers.addresses import Network
from handlers.http.page_cache import PageCache
from meetings.webhooks import RecordingNews

if TYPE_CHECKING:
    from domain.live import Live
    from domain.meetings import Meetings
    from domain.provider_recordings import ProviderRecordings
    from domain.uploads import Uploads
    from store.database import Pool
else:
    # AppKey only remembers the name of its type.
    Live = Any
    Meetings = Any
    ProviderRecordings = Any
    Uploads = Any
    Pool = Any


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoSecret:
    """What demo tokens are signed with, and what they must say."""

    secret: str
    issuer: str | None
    audience: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class DailyWebhooks:
    """What Daily signs its webhooks with (None: none is believed), and who hears of recordings."""

    secret: bytes | None = field(repr=False)
    recording_news: Callable[[RecordingNews], Awaitable[None]]


#: ``{status, database, bus, …}``; `status` is "ready", "unavailable" or "draining".
Readiness = Callable[[], Awaitable[Mapping[str, str]]]

DATABASE: Final[web.AppKey[Pool]] = web.AppKey("DATABASE")
VERIFIER: Final[web.AppKey[Verifier]] = web.AppKey("VERIFIER")
PEOPLE: Final[web.AppKey[People]] = web.AppKey("PEOPLE")
LIVE: Final[web.AppKey[Live]] = web.AppKey("LIVE")
MEETINGS: Final[web.AppKey[Meetings]] = web.AppKey("MEETINGS")
#: Recordings that video providers make and keep.
PROVIDER_RECORDINGS: Final[web.AppKey[ProviderRecordings]] = web.AppKey("PROVIDER_RECORDINGS")
DAILY_WEBHOOKS: Final[web.AppKey[DailyWebhooks]] = web.AppKey("DAILY_WEBHOOKS")
PAGE_CACHE: Final[web.AppKey[PageCache]] = web.AppKey("PAGE_CACHE")
READINESS: Final[web.AppKey[Readiness]] = web.AppKey("READINESS")
#: How files come in, and where they lie.
UPLOADS: Final[web.AppKey[Uploads]] = web.AppKey("UPLOADS")
#: How long a link to a recording or a course's content is good for.
DOWNLOAD_LINK_SECONDS: Final[web.AppKey[int]] = web.AppKey("DOWNLOAD_LINK_SECONDS")
#: How long before a lesson the student's side may last cancel or move it.
CANCEL_NOTICE: Final[web.AppKey[timedelta]] = web.AppKey("CANCEL_NOTICE")
#: Proxies that are believed when they say where the client sees this server.
TRUSTED_PROXIES: Final[web.AppKey[Sequence[Network]]] = web.AppKey("TRUSTED_PROXIES")
ACCESS_LOG: Final[web.AppKey[FilteringBoundLogger]] = web.AppKey("ACCESS_LOG")
#: What the demo signs tokens with; only where `--demo` was asked for.
DEMO_SECRET: Final[web.AppKey[DemoSecret]] = web.AppKey("DEMO_SECRET")
#: The routes that need no token; every other one does. See `edge.open_to_everyone`.
PUBLIC_ROUTES: Final[web.AppKey[set[web.AbstractRoute]]] = web.AppKey("PUBLIC_ROUTES")

REQUEST_ID: Final[web.RequestKey[str]] = web.RequestKey("REQUEST_ID")
#: The response of which something may have been sent already.
BEGUN: Final[web.RequestKey[web.StreamResponse]] = web.RequestKey("BEGUN")
#: The bearer of the request's verified token.
IDENTITY: Final[web.RequestKey[Identity]] = web.RequestKey("IDENTITY")
