"""The session room on python-socketio and asyncpg as their documentation has it: the same queries as session.mjs."""

from __future__ import annotations

import os
import uuid
from datetime import UTC, datetime
from typing import Any

import asyncpg
import jwt
import msgspec
import socketio
import uvloop
from aiohttp import web

MEMBERSHIP = """
    SELECT b.id, b.parent_id, b.tutor_id, s.parent_id AS student_parent_id
    FROM bookings b LEFT JOIN users s ON s.id = b.student_id WHERE b.id = $1
"""
PERSON = "SELECT first_name, last_name FROM users WHERE id = $1"
INSERT = "INSERT INTO session_messages (session_id, user_id, text) VALUES ($1, $2, $3) RETURNING id, created_at"


class JSON:
    """msgspec for python-socketio."""

    @staticmethod
    def dumps(value: Any, **_: Any) -> str:
        return msgspec.json.encode(value).decode()

    @staticmethod
    def loads(text: str, **_: Any) -> Any:
        return msgspec.json.decode(text)


class Sessions(socketio.AsyncNamespace):  # type: ignore[misc]  # python-socketio has no types
    """S1's gateway and service. Without a pool nothing is looked up or stored."""

    def __init__(self, pool: asyncpg.Pool | None) -> None:
        super().__init__("/encounters")
        self._pool = pool

    async def on_connect(self, sid: str, environ: dict[str, Any], auth: dict[str, str]) -> None:
        claims = jwt.decode(auth["token"], os.environ["JWT_SECRET"], algorithms=["HS256"])
        await self.save_session(sid, {"user_id": claims["sub"]})

    async def on_joinSession(self, sid: str, data: dict[str, str]) -> dict[str, Any]:  # noqa: N802
        await self.enter_room(sid, f"session-{data['sessionId']}")
        return {"ok": True}

    async def on_sendMessage(self, sid: str, data: dict[str, str]) -> dict[str, Any]:  # noqa: N802
        user_id = (await self.get_session(sid))["user_id"]
        message = await self._store(data["sessionId"], user_id, data["text"])
        await self.emit("newMessage", message, room=f"session-{data['sessionId']}")
        return {"ok": True, "message": message}

    async def _store(self, session_id: str, user_id: str, text: str) -> dict[str, Any]:
        message = {"id": "", "session_id": session_id, "from": "Somebody", "user_id": user_id, "text": text}
        if self._pool is None:
            return message | {"id": str(uuid.uuid4()), "created_at": datetime.now(UTC)}
        booking = await self._pool.fetchrow(MEMBERSHIP, uuid.UUID(session_id))
        if booking is None:
            raise LookupError("Session not found")
        person = await self._pool.fetchrow(PERSON, user_id)
        row = await self._pool.fetchrow(INSERT, uuid.UUID(session_id), user_id, text)
        assert person is not None
        assert row is not None
        name = f"{person['first_name']} {person['last_name']}".strip()
        return message | {"id": str(row["id"]), "from": name, "created_at": row["created_at"]}


async def make_app() -> web.Application:
    redis_url, dsn = os.environ.get("REDIS_URL"), os.environ.get("DATABASE_URL")
    manager = socketio.AsyncRedisManager(redis_url) if redis_url else None
    server = socketio.AsyncServer(async_mode="aiohttp", json=JSON, client_manager=manager)
    app = web.Application()
    server.attach(app)
    server.register_namespace(Sessions(await asyncpg.create_pool(dsn, min_size=10, max_size=10) if dsn else None))
    return app


def main() -> None:
    def ready(_: str) -> None:
        print("ready", flush=True)

    web.run_app(
        make_app(),
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        loop=uvloop.new_event_loop(),
        access_log=None,
        print=ready,
        backlog=4096,
        reuse_port=True,
    )


if __name__ == "__main__":
    main()
