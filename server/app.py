"""One worker's application: every resource made, joined and let go in one place."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final

import aiohttp
import structlog
from aiohttp import web

from domain.keys import fetcher
from domain.live import Live
from domain.notifier import Notifier
from domain.people import People
from domain.reminders import Reminders
from domain.tokens import JwksVerifier, SecretVerifier, Verifier
from handlers.addresses import client_address
from handlers.encounters.door import Encounters
from handlers.http import edge, keys, pages, routes
from handlers.http.page_cache import PageCache
from realtime.bus import Bus, LocalBus
from realtime.redis_bus import RedisBus
from realtime.transport import EncountersNamespace, SocketServer
from server.settings import Settings
from store import database
from store.errors import Away, translated

SOCKET_PATH: Final = "/socket.io/"
#: Seconds that a part may take to answer the readiness check.
READINESS_SECONDS: Final = 1.0
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
    pages.add_pages(app)
    app[SOCKETS].attach(app, SOCKET_PATH)
    for route in app.router.routes():
        if route.resource is not None and route.resource.canonical == SOCKET_PATH:
            edge.open_to_everyone(app, route)  # a connection brings its token itself
    app.on_shutdown.append(_cut)
    app.cleanup_ctx.append(partial(_database, settings=settings, dsn=dsn))
    app.cleanup_ctx.append(partial(_verifier, settings=settings, demo_secret=demo_secret))
    app.cleanup_ctx.append(partial(_live, settings=settings))
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
    await app[SOCKETS].move_all(0)


async def _readiness(app: web.Application, bus: Bus) -> Mapping[str, str]:
    """The state of each part, and `status`: ready, unavailable or draining."""
    parts = {"database": "ok", "bus": "ok" if bus.connected else "away"}
    try:
        with translated():
            async with asyncio.timeout(READINESS_SECONDS):
                await app[keys.DATABASE].fetchval("SELECT 1")
    except (Away, TimeoutError):
        parts["database"] = "away"
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
