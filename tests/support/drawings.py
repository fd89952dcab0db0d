"""What people draw, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from random import Random
from typing import Any
from uuid import UUID

import msgspec

from domain.whiteboard import parse
from store.database import Pool
from store.whiteboards import Element

#: What stands for an element that is deleted: how its JSON looks is nobody's concern.
GONE = "gone"


def stroke(id: str, version: int = 1, nonce: int = 1, **more: Any) -> dict[str, Any]:
    """An element as Excalidraw sends it."""
    return {"id": id, "version": version, "versionNonce": nonce, "type": "freedraw", "points": [[0, 0.5]], **more}


def elements(*raw: dict[str, Any]) -> list[Element]:
    return parse(raw)


def random_stroke(random: Random, ids: int, versions: int = 20) -> dict[str, Any]:
    """One of few elements, in one of few versions, so that people get in each other's way."""
    nonce = random.randrange(2**31)
    deleted = random.random() < 0.2
    return stroke(f"e{random.randrange(ids)}", random.randrange(versions), nonce, isDeleted=deleted, x=random.random())


class Canvas:
    """A client's board, which merges as Excalidraw does, whatever is told it and in whatever order."""

    def __init__(self) -> None:
        self.elements: dict[str, dict[str, Any]] = {}

    def take(self, elements: Iterable[Mapping[str, Any]]) -> None:
        for new in elements:
            old = self.elements.get(new["id"])
            if old is None or (new["version"], -new["versionNonce"]) > (old["version"], -old["versionNonce"]):
                self.elements[new["id"]] = dict(new)

    def hear(self, event: str, data: Mapping[str, Any]) -> None:
        """As a client does; after a clear it would fetch the board anew."""
        if event == "whiteboard":
            self.take(data["elements"])

    @property
    def seen(self) -> dict[str, Any]:
        """What somebody sees: the elements, and which are gone."""
        return {id: GONE if one.get("isDeleted") else one for id, one in self.elements.items()}

    @property
    def living(self) -> dict[str, Any]:
        return {id: one for id, one in self.seen.items() if one != GONE}


async def stored(pool: Pool, session_id: UUID) -> dict[str, Any]:
    """What the database says, as :attr:`Canvas.seen`."""
    rows = await pool.fetch("SELECT * FROM whiteboard_elements WHERE session_id = $1", session_id)
    return {row["element_id"]: GONE if row["deleted"] else msgspec.json.decode(row["element"]) for row in rows}


async def assert_counted(pool: Pool, session_id: UUID) -> None:
    """The board's row says what its elements come to."""
    row = await pool.fetchrow(
        """
        SELECT b.elements = count(e.*) AND b.bytes = coalesce(sum(octet_length(e.element::text)), 0)
            AND b.revision >= coalesce(max(e.revision), 0) AS right, b.*
        FROM whiteboards b LEFT JOIN whiteboard_elements e USING (session_id)
        WHERE session_id = $1 GROUP BY b.session_id
        """,
        session_id,
    )
    assert row is None or row["right"], row
