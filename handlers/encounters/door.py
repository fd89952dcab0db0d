"""The real-time door: the `/encounters` namespace of Socket.IO (contract-realtime).

Each event: is its payload sound, who sends it, may they; then one act of the domain, and the ack.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final
from uuid import UUID

import msgspec
import structlog

from domain import access
from domain.errors import BadRequest, EncountersError, Forbidden, NotFound, TooManyRequests, Unauthenticated
from domain.identity import Identity
from domain.live import Live
from domain.people import People
from domain.tokens import Verifier
from handlers.encounters.answers import answered, away, done, refusal
from handlers.encounters.attendees import Attendee, attendee_of
from handlers.encounters.events import EVENTS
from handlers.encounters.membership import let_go_of_all, removed
from handlers.payloads import decode
from realtime.connection import Answer, Connection, Refusal, Reply
from realtime.deadlines import Deadlines
from realtime.events import Event
from realtime.frames import event_frame
from realtime.limits import Limits
from store.errors import Away

#: Seconds before its token expires at which a connection is told.
EXPIRY_NOTICE_SECONDS: Final = 60.0
#: Connections whose memberships are looked up together: as many as one statement answers for.
LOOKS_AT_A_TIME: Final = 500
#: Seconds until a look that the database could not answer is tried again.
LOOK_PAUSE_SECONDS: Final = 0.25

logger = structlog.get_logger(__name__)


class RefreshAuth(msgspec.Struct, kw_only=True):
    token: str


class Encounters:
    """Handles the connections of this worker. One instance per worker; see :class:`realtime.connection.Handler`."""

    #: Messages that a person sends one right after the other may share a batch: the log keeps their order.
    pipelined = frozenset({"sendMessage"})
    #: Browsers that connect to each other send dozens at once: chat goes on meanwhile.
    apart = frozenset({"signal"})

    def __init__(self, live: Live, verifier: Verifier, people: People, limits: Limits) -> None:
        self._live = live
        self._verifier = verifier
        self._people = people
        self._limits = limits
        self._deadlines = Deadlines()
        # Bound once, for all connections.
        self._warn: Final = self._expiring
        self._cut: Final = self._expired
        self._tasks: set[asyncio.Task[None]] = set()
        live.removed = removed
        live.audience.person_news = lambda user_id: self._spawn(self._look_again(user_id))
        live.bus.on_gap(self._look_at_everybody)
        live.no_news = self._look_at_everybody
        self._events: dict[str, tuple[type[msgspec.Struct], Callable[[Connection, Any], Answer]]] = {
            **{name: (type_, partial(act, live)) for name, (type_, act) in EVENTS.items()},
            "refreshAuth": (RefreshAuth, self._refresh_auth),
        }

    # Connections

    async def connected(self, connection: Connection, token: str | None, environ: dict[str, Any]) -> None:
        """Authenticate a connection, and count it to its person. Raises Refusal."""
        try:
            identity = await self._identify(token)
            most = self._limits.connections_per_user
            if 0 < most <= len(self._live.audience.connections_of(identity.user_id)):
                raise TooManyRequests(
                    f"You have {most} connections open already.", code="too_many_connections", retry_after=5
                )
        except EncountersError as error:
            raise Refusal(error.document()) from error
        connection.user_id = identity.user_id
        connection.state = Attendee(identity)
        self._live.audience.attend(connection)
        self._watch_expiry(connection, identity)

    async def _identify(self, token: str | None) -> Identity:
        if not token:
            raise Unauthenticated("Connect with auth: {token: '<JWT>'}.", code="token_missing")
        identity = await self._verifier.verify(token)
        try:
            await self._people.remember(identity)
        except Away:
            raise away() from None
        return identity

    async def disconnected(self, connection: Connection, reason: str) -> None:
        self._deadlines.drop(connection)
        let_go_of_all(self._live, connection)
        self._live.audience.dismiss(connection)

    async def close(self) -> None:
        self._deadlines.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # Events

    def received(self, connection: Connection, name: str, payload: list[Any]) -> Answer:
        """Act on one event. Whatever goes wrong is said in the ack, and the connection stays."""
        try:
            known = self._events.get(name)
            if known is None:
                raise NotFound(f"There is no event called {name[:64]!r}.", code="unknown_event")
            type_, act = known
            if len(payload) != 1:
                raise BadRequest("An event carries one JSON object.", code="validation_failed")
            answer = act(connection, decode(type_, payload[0]))
        except Exception as error:  # noqa: BLE001  # it is said in the ack
            return refusal(error, name)
        return answered(answer, name) if isinstance(answer, Coroutine) else answer

    def refused(self, status_code: int, code: str, message: str) -> dict[str, Any]:
        """The ack of an event that was not acted on."""
        return {"ok": False, "error": {"error": code, "message": message, "status_code": status_code}}

    async def _refresh_auth(self, connection: Connection, request: RefreshAuth) -> Reply:
        identity = await self._identify(request.token)
        attendee = attendee_of(connection)
        if identity.user_id != attendee.identity.user_id:
            raise Forbidden("The new token is somebody else's.", code="other_person")
        role_changed = any(member.role != identity.role for member in attendee.joined.values())
        attendee.identity = identity
        if role_changed:
            await self._check_memberships(connection)
        self._watch_expiry(connection, identity)
        expires_at = identity.expires_at
        return done(expires_at=None if expires_at is None else _instant(expires_at))

    # Memberships that change

    def _look_at_everybody(self) -> None:
        """News of people may have been lost with the bus."""
        self._spawn(self._look_again(*self._live.audience.everybody()))

    async def _look_again(self, *user_ids: str) -> None:
        """Something about these people has changed: their names, or what they belong to."""
        connections = [connection for user_id in user_ids for connection in self._live.audience.connections_of(user_id)]
        for connection in connections:
            attendee_of(connection).news += 1
        for start in range(0, len(connections), LOOKS_AT_A_TIME):
            some = connections[start : start + LOOKS_AT_A_TIME]
            await asyncio.gather(*(self._look_at(connection) for connection in some), return_exceptions=True)

    async def _look_at(self, connection: Connection) -> None:
        looked = False
        while not looked and not connection.closed:
            try:
                await self._check_memberships(connection)
                looked = True
            except Away as error:
                logger.info("encounters.look_waits", reason=str(error))
                await asyncio.sleep(LOOK_PAUSE_SECONDS)

    async def _check_memberships(self, connection: Connection) -> None:
        attendee = attendee_of(connection)
        presence = self._live.presence
        for session_id in [*attendee.joined, *presence.waiting.of(connection)]:
            try:
                ref = access.session_ref(session_id)
                _, member = await access.enter(self._live.pool, ref, attendee.identity)
            except (Forbidden, NotFound):
                self._live.remove(session_id, connection.user_id, "removed")
                self._live.participant_removed(UUID(session_id), connection.user_id)
            else:
                if session_id in attendee.joined:  # who left meanwhile, or was made to, stays out
                    attendee.joined[session_id] = member
                    presence.waiting_lists.lead(session_id, connection, is_host=member.is_host)

    # Tokens that end

    def _watch_expiry(self, connection: Connection, identity: Identity) -> None:
        if identity.expires_at is None:
            self._deadlines.drop(connection)
            return
        notice_at = identity.expires_at - EXPIRY_NOTICE_SECONDS
        self._deadlines.set(connection, max(notice_at, time.time()), self._warn)

    def _expiring(self, connection: Connection) -> None:
        expires_at = attendee_of(connection).identity.expires_at
        assert expires_at is not None, "only what expires is watched"
        connection.send(event_frame(Event(name="authExpiring", data={"expires_at": _instant(expires_at)})))
        self._deadlines.set(connection, expires_at, self._cut)

    def _expired(self, connection: Connection) -> None:
        logger.info("connection.expired", user_id=connection.user_id)
        self._spawn(connection.disconnect())

    def _spawn(self, work: Any) -> None:
        async def run() -> None:
            try:
                await work
            except Away as error:
                logger.info("encounters.waits", reason=str(error))
            except Exception:
                logger.exception("encounters.task_failed")

        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _instant(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
