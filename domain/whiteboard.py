"""What a whiteboard is: Excalidraw's elements, the newest version of each. Plain rules on frozen values.

Of two versions of an element the higher one wins; of two equal ones that with the lower `versionNonce`, as Excalidraw
decides itself (`shouldDiscardRemoteElement` in its reconcile.ts). So all boards end up the same, in whatever order,
grouping and repetition elements reach them: each keeps a maximum.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from domain.errors import Conflict, EncountersError, Forbidden, TooLarge, invalid
from store.whiteboards import MAX_REVISION_BYTES, MAX_REVISION_ELEMENTS, PAGE_BYTES, Board, Element, Version

#: Bytes of one element as JSON: a stroke of some 1 500 points. It fits into a frame (LIMIT_FRAME_BYTES).
MAX_ELEMENT_BYTES: Final = 60 * 1024
#: Elements on a board, those counted that were deleted within a day: hours of drawing, and a fraction of a second to
#: clear.
MAX_BOARD_ELEMENTS: Final = 20_000
#: Bytes of all of them: what somebody who comes late has to fetch, in 32 pages at most.
MAX_BOARD_BYTES: Final = 8 * 1024 * 1024
#: Excalidraw's ids have 21.
MAX_ID_CHARACTERS: Final = 64
#: What JavaScript can count to, and one less for elements, so that a clear has a version above.
MAX_NONCE: Final = 2**53 - 1
MAX_VERSION: Final = 2**53 - 2
#: Problems that one refusal names.
MAX_NAMED_PROBLEMS: Final = 5

_encode: Final = msgspec.json.Encoder().encode


def parse(raw: Sequence[object]) -> list[Element]:
    """The elements that a client sent. Raises BadRequest, which names the elements at fault and what is wrong."""
    if not raw:
        raise invalid({"elements": "must have at least 1 item"})
    if len(raw) > MAX_REVISION_ELEMENTS:
        raise invalid({"elements": f"must have at most {MAX_REVISION_ELEMENTS} items, and has {len(raw)}"})
    elements: list[Element] = []
    problems: dict[str, str] = {}
    for index, one in enumerate(raw):
        found = _problems_of(one)
        if found:
            problems |= {f"elements[{index}]{path}": problem for path, problem in found.items()}
            if len(problems) >= MAX_NAMED_PROBLEMS:
                break
        elif not problems:
            assert isinstance(one, dict)
            elements.append(_element(one))
            size = elements[-1].size
            if size > MAX_ELEMENT_BYTES:
                problems[f"elements[{index}]"] = f"must be at most {MAX_ELEMENT_BYTES} bytes of JSON, and is {size}"
    if not problems:
        size = sum(element.size for element in elements)
        if size > MAX_REVISION_BYTES:
            problems["elements"] = f"must be at most {MAX_REVISION_BYTES} bytes of JSON together, and are {size}"
    if problems:
        raise invalid(dict(list(problems.items())[:MAX_NAMED_PROBLEMS]))
    return elements


def _problems_of(one: object) -> dict[str, str]:
    if not isinstance(one, dict):
        return {"": "must be an object"}
    problems: dict[str, str] = {}
    identity = one.get("id")
    if not isinstance(identity, str) or not 1 <= len(identity) <= MAX_ID_CHARACTERS:
        problems[".id"] = f"must be a string of 1 to {MAX_ID_CHARACTERS} characters"
    for name, most in (("version", MAX_VERSION), ("versionNonce", MAX_NONCE)):
        number = one.get(name)
        if type(number) is not int or not 0 <= number <= most:
            problems[f".{name}"] = f"must be a whole number from 0 to {most}"
    if type(one.get("isDeleted", False)) is not bool:
        problems[".isDeleted"] = "must be true or false"
    return problems


def _element(one: Mapping[str, Any]) -> Element:
    json = _encode(one)
    return Element(
        id=one["id"],
        version=one["version"],
        nonce=one["versionNonce"],
        deleted=one.get("isDeleted", False),
        size=len(json),
        json=json,
    )


def document(element: Element) -> msgspec.Raw:
    """An element as clients see it: as it was sent; what a clear took away, without all that it needs no more."""
    if element.json is not None:
        return msgspec.Raw(element.json)
    gone = {"id": element.id, "version": element.version, "versionNonce": element.nonce, "isDeleted": True}
    return msgspec.Raw(_encode(gone))


def wins(new: Version, held: Version | None) -> bool:
    """Whether an element takes the place of the one that is there. The same version again does not."""
    return held is None or (new.version, -new.nonce) > (held.version, -held.nonce)


def merge(held: Mapping[str, Version], elements: Iterable[Element]) -> dict[str, Element]:
    """Those of the elements, by id, that win over the ones on the board and over each other."""
    won: dict[str, Element] = {}
    for element in elements:
        if wins(element, won.get(element.id) or held.get(element.id)):
            won[element.id] = element
    return won


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawn:
    """What drawing came to: the `board` afterwards, what `won`, and what is `stale`: held in a newer version.

    `same` was there already, as it is.
    """

    board: Board
    won: Sequence[Element]
    stale: Sequence[Version]
    same: Sequence[Element]


def draw(board: Board, held: Mapping[str, Version], elements: Sequence[Element]) -> Drawn:
    """Draw on a board; `held` are those of the elements that it has. All of them, or none.

    Raises TooLarge (`whiteboard_full`). Whatever makes nothing larger is taken on a full board, too.
    """
    won = merge(held, elements)
    lost = {id: element for id, element in merge({}, elements).items() if id not in won}
    stale = [held[id] for id, element in lost.items() if wins(held[id], element)]
    same = [element for id, element in lost.items() if not wins(held[id], element)]
    if not won:
        return Drawn(board=board, won=(), stale=stale, same=same)
    count, size = board.elements, board.bytes
    for element in won.values():
        before = held.get(element.id)
        count += before is None
        size += element.size - (0 if before is None else before.size)
    if MAX_BOARD_ELEMENTS < count > board.elements:
        raise _full(f"holds {MAX_BOARD_ELEMENTS} elements, with those that were deleted within a day")
    if MAX_BOARD_BYTES < size > board.bytes:
        raise _full(f"holds {MAX_BOARD_BYTES} bytes")
    after = replace(board, revision=board.revision + 1, elements=count, bytes=size)
    return Drawn(board=after, won=list(won.values()), stale=stale, same=same)


def in_one_answer(elements: Sequence[Version]) -> Sequence[Version]:
    """As many of the elements as an answer brings at once: PAGE_BYTES."""
    room_left = PAGE_BYTES
    for place, element in enumerate(elements):
        room_left -= element.size
        if room_left < 0:
            return elements[:place]
    return elements


def _full(what: str) -> TooLarge:
    return TooLarge(f"The whiteboard is full: it {what}. The host can clear it.", code="whiteboard_full")


def check_revision(after: int | None) -> None:
    """Raises BadRequest for what cannot be a board's revision."""
    if after is not None and not 0 <= after < 2**63:
        raise invalid({"after": "must be a revision of the whiteboard"})


def refusal(board: Board, *, is_host: bool) -> EncountersError | None:
    """Why somebody may not draw just now."""
    if board.closed:
        return Conflict(
            "The booking was cancelled: its whiteboard can be seen, but not drawn on.", code="booking_cancelled"
        )
    if board.locked and not is_host:
        return Forbidden("The host has locked the whiteboard.", code="whiteboard_locked")
    return None
