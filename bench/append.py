"""``python -m bench.append``: what a message costs between its parsed event and its frames, without sockets.

The real domain and store of one worker in this process, a real Postgres, and seats that only count bytes. Each seat
sends its next message as soon as one is answered. One line of JSON per shape, for comparisons within one run.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
import tempfile
import time
import uuid
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import uvloop

from bench import machine
from bench.crowd import Crowd
from bench.database import Database
from domain import chat
from domain.access import Member
from domain.live import Live
from handlers.encounters.messages import SendMessage
from handlers.payloads import decode
from realtime.bus import LocalBus
from realtime.frames import Bundle, Frame, ack_frame
from store import database

#: Sessions of four, and messages of each seat that are on their way at a time.
SHAPES: Final = ((200, 1), (50, 1), (1, 32), (1, 2))
MEMBERS: Final = 4
WARMUP_SECONDS: Final = 1.5
SECONDS: Final = 4.0
TEXT: Final = "x" * 40


class Seat:
    """Stands where a connection does."""

    def __init__(self, member: Member) -> None:
        self.user_id = member.user_id
        self.bytes = 0

    def send(self, frame: Frame | Bundle) -> None:
        self.bytes += len(frame.wire)

    send_now = send


class Load:
    """Everybody sends, the next message after the answer to the last."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._numbers = itertools.count()
        self.answered = 0
        self.stopped = False
        self.waits: list[float] = []

    def say(self, member: Member, seat: Seat) -> None:
        payload = {"sessionId": str(member.session_id), "text": TEXT, "clientId": str(next(self._numbers))}
        said = decode(SendMessage, payload)
        sending = chat.begin_send(self._live, member, text=said.text, client_id=said.client_id)
        sending.add_done_callback(partial(self._answer, member, seat, time.perf_counter()))

    def _answer(self, member: Member, seat: Seat, since: float, sending: asyncio.Future[Any]) -> None:
        seat.send(ack_frame(1, {"ok": True, "message": chat.sent(sending).json}))
        self.answered += 1
        self.waits.append(time.perf_counter() - since)
        if not self.stopped:
            asyncio.get_running_loop().call_soon(self.say, member, seat)


async def measure(postgres: Database, dsn: str, crowd: Crowd, window: int) -> dict[str, float]:
    pool = await database.connect(dsn, size=10)
    live = Live(pool, LocalBus(), uuid.uuid4())
    await live.start()
    load = Load(live)
    session_ids = [row["id"] for row in await pool.fetch("SELECT id FROM sessions ORDER BY id")]
    for place, user_id in enumerate(crowd.user_ids):
        session_id = session_ids[place // MEMBERS]
        member = Member(
            session_id=session_id, room_name="room", user_id=user_id, name="Some Body", role="admin", is_host=True
        )
        room, seat = await live.hub.open(str(session_id)), Seat(member)
        live.hub.enter(room, seat)
        for _ in range(window):
            load.say(member, seat)
    await asyncio.sleep(WARMUP_SECONDS)
    load.waits.clear()
    before, answered, cpu, started = time.process_time(), load.answered, postgres.cpu, time.perf_counter()
    await asyncio.sleep(SECONDS)
    server, messages, cpu = time.process_time() - before, load.answered - answered, postgres.cpu - cpu
    seconds, waits = time.perf_counter() - started, sorted(load.waits)
    load.stopped = True
    await live.close()
    await pool.close()
    return {
        "rate": round(messages / seconds),
        "server_us": round(server / messages * 1e6, 1),
        "postgres_us": round(cpu / messages * 1e6, 1),
        "p50_ms": round(waits[len(waits) // 2] * 1e3, 1),
        "p99_ms": round(waits[len(waits) * 99 // 100] * 1e3, 1),
    }


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="encounters-bench-"))
    postgres = Database(folder)
    machine.pin(machine.LOAD_CORE)
    try:
        postgres.start()
        machine.pin(machine.SERVER_CORE)
        for sessions, window in SHAPES:
            crowd = Crowd(sessions, MEMBERS)
            with postgres.fresh("ours", crowd) as dsn, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                figures = runner.run(measure(postgres, dsn, crowd, window))
            print(f"{sessions} x {MEMBERS}, {window} each:", msgspec.json.encode(figures).decode(), flush=True)
    finally:
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
