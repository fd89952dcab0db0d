"""One worker's application: every resource made, joined and let go in one place."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import aiohttp
import structlog
from aiohttp import web

from domain.content_files import ContentFiles, ThumbnailFiles
from domain.keys import fetcher
from domain.live import Live
from domain.meetings import Meetings
from domain.notifier import Notifier
from domain.people import People
from domain.processing import Processing
from domain.provider_recordings import ProviderRecordings
from domain.recording_files import RecordingFiles
from domain.recording_keeper import RecordingKeeper
from domain.reminders import Reminders
from domain.sweeper import Sweeper
from domain.tokens import JwksVerifier, SecretVerifier, Verifier
from domain.uploads import Uploads, UploadSettings
from handlers.addresses import client_address
from handlers.encounters.door import Encounters
from handlers.http import edge, keys, pages, routes
from handlers.http.page_cache import PageCache
from media.pool import MediaPool
from meetings import peer, providers
from realtime.bus import Bus, LocalBus
from realtime.redis_bus import RedisBus
from realtime.transport import EncountersNamespace, SocketServer
from server.settings import Settings
from store import database
from store.errors import Away, translated
from store.installation import Installation
from store.objects.local import LocalStore
from store.objects.objects import ObjectStore
from store.objects.s3 import S3Store

SOCKET_PATH: Final = "/socket.io/"
#: In DATA_DIR: files, unless STORAGE_URL says where, and what of them is being worked on.
FILES_FOLDER: Final = "files"
WORK_FOLDER: Final = "work"
#: Seconds that a part may take to answer the readiness check.
READINESS_SECONDS: Final = 1.0
#: Seconds for which a start waits to hear that files can be kept.
STORAGE_SECONDS: Final = 5.0
#: Connections that are told to move per second while draining; few move at once, a full worker in waves.
MOVES_PER_SECOND: Final = 200
#: How much of DRAIN_SECONDS moving may take, and how much writing what waits. The rest is for `server.worker`.
MOVING_SHARE: Final = 0.5
CLOSING_SHARE: Final = 0.2
#: Seconds that each part has to close, even where the others have used the time up.
LEAST_CLOSING_SECONDS: Final = 0.5

logger = structlog.get_logger(__name__)


@dataclass(slots=True)
class State:
    """What changes in a worker's life."""

    draining: bool = False


SOCKETS: Final = web.AppKey("SOCKETS", SocketServer)
STATE: Final = web.AppKey("STATE", State)


def build(
    settings: Settings, dsn: str, *, demo_secret: str | None = None, worker: int | None = None
) -> web.Application:
    """The application of one worker on the database at `dsn`; with `demo_secret`, the demo's sign-in, too.

    `worker` is its number where several share a port.
    """
    app = web.Application()
    edge.guard(app)
    app[STATE] = State()
    app[keys.PAGE_CACHE] = PageCache()
    app[keys.TRUSTED_PROXIES] = settings.trusted_proxies
    app[keys.CANCEL_NOTICE] = timedelta(minutes=settings.booking_cancel_notice_minutes)
    app[keys.DOWNLOAD_LINK_SECONDS] = settings.download_link_seconds
    app[SOCKETS] = SocketServer(
        limits=settings.limits,
        cors_origins=settings.cors_origins,
        address_of=partial(client_address, trusted_proxies=settings.trusted_proxies),
        worker=worker,
        deflate=settings.websocket_deflate,
    )
    listed = routes.routes()
    if demo_secret is not None:
        app[keys.DEMO_SECRET] = keys.DemoSecret(
            secret=demo_secret, issuer=settings.jwt_issuer, audience=settings.jwt_audience
        )
        listed += routes.demo_routes()
    routes.apply(app, settings.cors_origins, listed)
    pages.add_pages(app, media_origin=partial(_media_origin, app))
    app[SOCKETS].attach(app, SOCKET_PATH)
    for route in app.router.routes():
        if route.resource is not None and route.resource.canonical == SOCKET_PATH:
            edge.open_to_everyone(app, route)  # a connection brings its token itself
    app.on_shutdown.append(_cut)
    app.cleanup_ctx.append(partial(_database, settings=settings, dsn=dsn))
    app.cleanup_ctx.append(partial(_verifier, settings=settings, demo_secret=demo_secret))
    app.cleanup_ctx.append(partial(_live, settings=settings))
    app.cleanup_ctx.append(partial(_meetings, settings=settings))
    if settings.meeting_provider == peer.NAME and not settings.ice_servers and demo_secret is None:
        logger.warning("meetings.no_ice_servers", reason="ICE_SERVERS is empty: only people in one network get video")
    app.cleanup_ctx.append(partial(_files, settings=settings))
    app.cleanup_ctx.append(partial(_recordings, days=settings.recording_retention_days))
    app.cleanup_ctx.append(partial(_notifier, days=settings.notification_retention_days))
    if settings.reminder_minutes:
        app.cleanup_ctx.append(partial(_reminders, lead=timedelta(minutes=settings.reminder_minutes)))
    return app


async def _database(app: web.Application, *, settings: Settings, dsn: str) -> AsyncIterator[None]:
    pool = await database.connect(dsn, size=settings.database_pool_size)
    app[keys.DATABASE] = pool
    app[keys.PEOPLE] = People(pool)
    yield
    try:
        async with asyncio.timeout(LEAST_CLOSING_SECONDS):  # nobody asks it anything any more
            await pool.close()
    except TimeoutError:
        pool.terminate()


async def _verifier(app: web.Application, *, settings: Settings, demo_secret: str | None) -> AsyncIterator[None]:
    issuer, audience = settings.jwt_issuer, settings.jwt_audience
    if settings.jwt_jwks_url is not None:
        async with aiohttp.ClientSession() as session:
            published = JwksVerifier(settings.jwt_jwks_url, issuer, audience, fetcher(session))
            app[keys.VERIFIER] = published
            yield
            await published.close()
        return
    secret = settings.jwt_secret or demo_secret
    assert secret is not None, "the command line refuses to serve without one"
    app[keys.VERIFIER] = SecretVerifier(secret, issuer, audience, require_exp=demo_secret is None)
    yield


async def _live(app: web.Application, *, settings: Settings) -> AsyncIterator[None]:
    pool, sockets = app[keys.DATABASE], app[SOCKETS]
    bus: Bus = LocalBus()
    if settings.redis_url is not None:
        bus = RedisBus(settings.redis_url, prefix=f"encounters:{await database.fingerprint(pool)}:")
    await bus.start()
    live = Live(pool, bus, uuid.uuid4())
    verifier: Verifier = app[keys.VERIFIER]
    door = Encounters(live, verifier, app[keys.PEOPLE], settings.limits)
    sockets.register_namespace(EncountersNamespace(sockets, door))
    app[keys.LIVE] = live
    app[keys.READINESS] = lambda: _readiness(app, bus)
    await live.start()
    yield
    closing_until = time.monotonic() + max(1.0, settings.drain_seconds * CLOSING_SHARE)
    for part, close in (
        ("door", door.close),
        ("live", live.close),
        ("bus", bus.close),
        ("sockets", sockets.shutdown),
    ):
        # Each has its time: whatever one of them waits for, the others are closed and the worker ends.
        try:
            async with asyncio.timeout(max(LEAST_CLOSING_SECONDS, closing_until - time.monotonic())):
                await close()
        except TimeoutError:
            logger.warning("server.close_cut", part=part)


async def _meetings(app: web.Application, *, settings: Settings) -> AsyncIterator[None]:
    async with providers.opened(settings) as opened:
        meetings = app[keys.MEETINGS] = Meetings(app[keys.LIVE], opened)
        meetings.start()
        recorded = app[keys.PROVIDER_RECORDINGS] = ProviderRecordings(app[keys.LIVE], opened)
        app[keys.DAILY_WEBHOOKS] = keys.DailyWebhooks(
            secret=settings.daily_webhook_secret, recording_news=recorded.heard
        )
        recorded.looks.start()
        yield
        await recorded.looks.close()
        await meetings.close()


async def _files(app: web.Application, *, settings: Settings) -> AsyncIterator[None]:
    objects = _objects(settings, Installation(app[keys.DATABASE]))
    await _try_storage(objects)
    uploads = Uploads(
        app[keys.LIVE],
        objects,
        UploadSettings(
            max_recording_bytes=settings.max_recording_bytes,
            quota_bytes=settings.upload_quota_bytes,
            expiry=timedelta(hours=settings.upload_expiry_hours),
        ),
    )
    uploads.hooks["recording"] = RecordingFiles(app[keys.LIVE])
    uploads.hooks["content"] = ContentFiles(app[keys.LIVE])
    uploads.hooks["thumbnail"] = ThumbnailFiles()
    app[keys.UPLOADS] = uploads
    processing = Processing(uploads, MediaPool(), settings.data_dir / WORK_FOLDER)
    sweeper = Sweeper(uploads)
    processing.start()
    sweeper.start()
    yield
    await sweeper.close()
    await processing.close()
    await objects.close()


async def _try_storage(objects: ObjectStore) -> None:
    """Say what is wrong with where files are kept, if it is: lessons begin without."""
    try:
        async with asyncio.timeout(STORAGE_SECONDS):
            await objects.check()
    except (Away, TimeoutError) as error:
        silence = f"nothing was heard of {objects.place} for {STORAGE_SECONDS:g} seconds"
        logger.warning("storage.away", reason=str(error) or silence)


async def _recordings(app: web.Application, *, days: int) -> AsyncIterator[None]:
    keeper = RecordingKeeper(app[keys.LIVE], timedelta(days=days) if days else None)
    keeper.start()
    yield
    await keeper.close()


async def _media_origin(app: web.Application) -> str | None:
    """Where links to files lead on to; None: they are served here, or nobody can say where just now."""
    try:
        async with asyncio.timeout(READINESS_SECONDS):
            return await app[keys.UPLOADS].objects.origin()
    except (Away, TimeoutError):
        return None


def _objects(settings: Settings, installation: Installation) -> ObjectStore:
    """Where files are kept."""
    if settings.storage_url is None:
        with suppress(OSError):  # the storage says what is wrong
            settings.data_dir.mkdir(parents=True, exist_ok=True)
        return LocalStore(settings.data_dir / FILES_FOLDER, installation)
    parts = urlsplit(settings.storage_url)
    if parts.scheme == "file":
        return LocalStore(Path(unquote(parts.path)), installation)
    return S3Store(
        parts.netloc, parts.path, endpoint_url=settings.s3_endpoint_url, folder=settings.data_dir / WORK_FOLDER
    )


async def _notifier(app: web.Application, *, days: int) -> AsyncIterator[None]:
    notifier = Notifier(app[keys.LIVE], timedelta(days=days) if days else None)
    notifier.start()
    yield
    await notifier.close()


async def _reminders(app: web.Application, *, lead: timedelta) -> AsyncIterator[None]:
    reminders = Reminders(app[keys.LIVE], lead)
    reminders.start()
    yield
    await reminders.close()


async def _cut(app: web.Application) -> None:
    """Close every connection that is left, before the answers under way are waited for."""
    app[SOCKETS].draining = True
    app[keys.UPLOADS].stop()
    await app[SOCKETS].move_all(0)


async def _readiness(app: web.Application, bus: Bus) -> Mapping[str, str]:
    """The state of each part, and `status`: ready, unavailable or draining."""
    parts = {"database": "ok", "bus": "ok" if bus.connected else "away", "storage": "ok"}
    try:
        with translated():
            async with asyncio.timeout(READINESS_SECONDS):
                await app[keys.DATABASE].fetchval("SELECT 1")
    except (Away, TimeoutError):
        parts["database"] = "away"
    try:
        async with asyncio.timeout(READINESS_SECONDS):
            await app[keys.UPLOADS].objects.check()
    except (Away, TimeoutError):
        parts["storage"] = "away"
    if app[STATE].draining:
        return {"status": "draining", **parts}
    ready = all(state == "ok" for state in parts.values())
    return {"status": "ready" if ready else "unavailable", **parts}


async def drain(app: web.Application, drain_seconds: float) -> None:
    """Leave without dropping a lesson: new connections are refused, those that are here are told to move.

    Each connection is told its own moment, spread over at most a quarter of `drain_seconds`, and closed then. What
    was sent before is committed and acked. Returns when everybody has gone, or after MOVING_SHARE of the time.
    """
    seconds = drain_seconds * MOVING_SHARE
    sockets = app[SOCKETS]
    app[STATE].draining = True
    sockets.draining = True
    connections = len(sockets.eio.sockets)
    spread = min(seconds / 2, connections / MOVES_PER_SECOND)
    logger.info("server.draining", connections=connections, spread_seconds=round(spread, 1))
    started = time.monotonic()
    try:
        async with asyncio.timeout(seconds):
            await sockets.move_all(spread, seconds)
    except TimeoutError:
        logger.warning("server.drain_cut", connections=len(sockets.eio.sockets))
    logger.info("server.drained", seconds=round(time.monotonic() - started, 1))
