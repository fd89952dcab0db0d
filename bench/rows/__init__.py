"""All rows, in the order of the report."""

from __future__ import annotations

from bench.rows.chat import Chat, HotSession
from bench.rows.disconnect import Disconnect, DisconnectInProcess
from bench.rows.fanout import FanOut
from bench.rows.history import History
from bench.rows.joined import Joined
from bench.rows.notify import Notify
from bench.rows.row import Row
from bench.rows.workers import Workers


def rows(*, quick: bool) -> list[Row]:
    """What is measured. Quick: the same work, with fewer people where many take long to come."""
    return [
        FanOut(200),
        FanOut(1000, contenders=("encounters", "node", "floor")) if quick else FanOut(1000),
        Chat(50, 3),
        Chat(200, 4),
        HotSession(),
        History(),
        Joined(1000 if quick else 5000),
        Notify(1000),
        Disconnect(many=4000, batches=3, idle_seconds=0.3) if quick else Disconnect(),
        *([] if quick else [DisconnectInProcess()]),
        Workers(counts=(1, 4), contenders=("encounters", "stock"), scattered=False) if quick else Workers(),
    ]
