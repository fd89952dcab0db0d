"""The rules of a whiteboard: all boards end up the same, and nothing on them is too much."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain import whiteboard
from domain.errors import BadRequest, Conflict, Forbidden, TooLarge
from domain.whiteboard import (
    MAX_BOARD_BYTES,
    MAX_BOARD_ELEMENTS,
    MAX_ELEMENT_BYTES,
    MAX_NONCE,
    MAX_VERSION,
    check_revision,
    document,
    draw,
    in_one_answer,
    merge,
    parse,
    refusal,
    wins,
)
from store.whiteboards import MAX_REVISION_BYTES, MAX_REVISION_ELEMENTS, PAGE_BYTES, Board, Element, Version
from tests.support.drawings import elements, stroke

EMPTY = Board(session_id=UUID(int=1), revision=0, elements=0, bytes=0)


def one(id: str = "a", version: int = 1, nonce: int = 1, **more: Any) -> Element:
    return elements(stroke(id, version, nonce, **more))[0]


#: Few ids, versions and nonces, so that they collide; what an element looks like follows from them.
drawn_elements = st.builds(
    lambda id, version, nonce: one(id, version, nonce, isDeleted=(version + nonce) % 3 == 0, look=f"{version}/{nonce}"),
    st.sampled_from("abc"),
    st.integers(0, 3),
    st.integers(0, 3),
)


def board_after(*updates: Iterable[Element]) -> dict[str, Element]:
    board: dict[str, Element] = {}
    for update in updates:
        board |= merge(board, update)
    return board


def test_the_higher_version_wins_and_of_equal_ones_the_lower_nonce_as_in_excalidraw() -> None:
    assert wins(one(version=2, nonce=9), one(version=1, nonce=1))
    assert not wins(one(version=1, nonce=1), one(version=2, nonce=9))
    assert wins(one(version=2, nonce=3), one(version=2, nonce=4))
    assert not wins(one(version=2, nonce=4), one(version=2, nonce=3))
    assert not wins(one(version=2, nonce=4), one(version=2, nonce=4, other="look"))
    assert wins(one(version=0), None)


@given(st.lists(drawn_elements), st.randoms())
def test_in_whatever_order_elements_arrive_the_board_is_the_same(drawn: list[Element], random: Any) -> None:
    shuffled = list(drawn)
    random.shuffle(shuffled)
    assert board_after(shuffled) == board_after(drawn)


@given(st.lists(st.lists(drawn_elements)))
def test_however_elements_are_grouped_the_board_is_the_same(updates: list[list[Element]]) -> None:
    together = [element for update in updates for element in update]
    assert board_after(*updates) == board_after(together) == board_after(*([element] for element in together))


@given(st.lists(drawn_elements), st.lists(drawn_elements))
def test_what_arrives_again_changes_nothing(first: list[Element], second: list[Element]) -> None:
    board = board_after(first, second)
    assert merge(board, first) == merge(board, second) == merge(board, board.values()) == {}
    assert board_after(first, second, first) == board


@given(st.lists(drawn_elements), st.lists(drawn_elements), st.lists(drawn_elements))
def test_boards_that_tell_each_other_what_they_have_agree(
    ones: list[Element], others: list[Element], late: list[Element]
) -> None:
    one_board, other_board = board_after(ones, late), board_after(others)
    agreed = board_after(list(one_board.values()), list(other_board.values()))
    assert agreed == board_after(list(other_board.values()), list(one_board.values()))
    assert agreed == board_after(ones, others, late)


@given(st.lists(drawn_elements), st.lists(drawn_elements))
def test_whoever_draws_is_told_of_exactly_what_was_newer(there: list[Element], sent: list[Element]) -> None:
    held: dict[str, Element] = board_after(there)
    drawn = draw(EMPTY, held, sent)
    mine = board_after(sent)
    assert {element.id for element in drawn.stale} == {id for id in mine if id in held and wins(held[id], mine[id])}
    # With what won, and what was newer, everybody has what the board has.
    everybodys = held | {element.id: element for element in drawn.won}
    assert board_after(list(held.values()), drawn.won) == everybodys == board_after(list(held.values()), sent)
    assert board_after(sent, [held[stale.id] for stale in drawn.stale]) == {id: everybodys[id] for id in mine}


@given(st.lists(st.lists(drawn_elements), max_size=10))
def test_a_board_counts_what_is_on_it(updates: list[list[Element]]) -> None:
    board, held = EMPTY, dict[str, Element]()
    for update in updates:
        drawn = draw(board, held, update)
        assert drawn.board.revision == board.revision + bool(drawn.won)
        board, held = drawn.board, held | {element.id: element for element in drawn.won}
    assert (board.elements, board.bytes) == (len(held), sum(element.size for element in held.values()))


def test_what_a_client_adds_to_an_element_is_kept_as_it_is() -> None:
    raw = stroke("a", 3, 4, isDeleted=True, strokeWidth=1e300, seed=-0.0, customData={"Ünï": ["x", None, 10**20]})
    [element] = parse([raw])
    assert (element.id, element.version, element.nonce, element.deleted) == ("a", 3, 4, True)
    assert element.json is not None
    assert msgspec.json.decode(element.json) == raw
    assert element.size == len(element.json)
    assert document(element) == msgspec.Raw(element.json)


def test_an_element_that_a_clear_took_away_is_shown_as_deleted() -> None:
    cleared = Element(id="a", version=4, nonce=0, deleted=True, size=0, json=None)
    assert msgspec.json.decode(document(cleared)) == {"id": "a", "version": 4, "versionNonce": 0, "isDeleted": True}


WRONG: dict[str, tuple[Any, str]] = {
    "a string": ("x", "elements[1]"),
    "a list": ([], "elements[1]"),
    "null": (None, "elements[1]"),
    "no id": ({"version": 1, "versionNonce": 1}, "elements[1].id"),
    "an empty id": (stroke(""), "elements[1].id"),
    "a long id": (stroke("x" * 65), "elements[1].id"),
    "a number for an id": (stroke("x") | {"id": 7}, "elements[1].id"),
    "no version": ({"id": "x", "versionNonce": 1}, "elements[1].version"),
    "a version below 0": (stroke("x", -1), "elements[1].version"),
    "a version beyond JavaScript": (stroke("x", MAX_VERSION + 1), "elements[1].version"),
    "a fraction for a version": (stroke("x") | {"version": 1.5}, "elements[1].version"),
    "true for a version": (stroke("x") | {"version": True}, "elements[1].version"),
    "a string for a version": (stroke("x") | {"version": "1"}, "elements[1].version"),
    "no nonce": ({"id": "x", "version": 1}, "elements[1].versionNonce"),
    "a nonce below 0": (stroke("x", 1, -1), "elements[1].versionNonce"),
    "a nonce beyond JavaScript": (stroke("x", 1, MAX_NONCE + 1), "elements[1].versionNonce"),
    "a huge nonce": (stroke("x", 1, 10**400), "elements[1].versionNonce"),
    "1 for deleted": (stroke("x", isDeleted=1), "elements[1].isDeleted"),
    "null for deleted": (stroke("x", isDeleted=None), "elements[1].isDeleted"),
    "too large a one": (stroke("x", text="x" * MAX_ELEMENT_BYTES), "elements[1]"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_element_is_refused_by_its_place(kind: str) -> None:
    wrong, path = WRONG[kind]
    with pytest.raises(BadRequest) as refused:
        parse([stroke("fine"), wrong, stroke("fine too")])
    assert refused.value.code == "validation_failed"
    assert refused.value.fields is not None
    assert list(refused.value.fields) == [path]


def test_a_refusal_names_a_few_problems_however_many_there_are() -> None:
    with pytest.raises(BadRequest) as refused:
        parse([{} for _ in range(MAX_REVISION_ELEMENTS)])
    assert refused.value.fields is not None
    assert len(refused.value.fields) == whiteboard.MAX_NAMED_PROBLEMS
    assert len(str(refused.value.document())) < 1_000


@pytest.mark.parametrize("count", [0, MAX_REVISION_ELEMENTS + 1, 10_000])
def test_an_update_has_one_element_at_least_and_not_too_many(count: int) -> None:
    with pytest.raises(BadRequest, match="elements: must have at"):
        parse([stroke(f"{n}") for n in range(count)])
    assert len(parse([stroke(f"{n}") for n in range(MAX_REVISION_ELEMENTS)])) == MAX_REVISION_ELEMENTS


def test_the_elements_of_an_update_are_bounded_together() -> None:
    half = "x" * (MAX_REVISION_BYTES // 2)
    parse([stroke("a", text=half)])
    with pytest.raises(BadRequest, match=f"elements: must be at most {MAX_REVISION_BYTES} bytes of JSON together"):
        parse([stroke("a", text=half), stroke("b", text=half)])


def test_the_largest_versions_are_taken_and_leave_room_for_a_clear() -> None:
    [element] = parse([stroke("a", MAX_VERSION, MAX_NONCE)])
    assert element.version + 1 <= 2**53 - 1


def test_a_full_board_takes_no_new_element_but_changes_and_deletions() -> None:
    full = replace(EMPTY, elements=MAX_BOARD_ELEMENTS, bytes=1_000)
    held = {"a": one("a")}
    with pytest.raises(TooLarge) as refused:
        draw(full, held, [one("a", 2), one("b")])
    assert refused.value.code == "whiteboard_full"
    assert draw(full, held, [one("a", 2, isDeleted=True)]).won
    assert draw(replace(full, elements=MAX_BOARD_ELEMENTS - 1), held, [one("b")]).board.elements == MAX_BOARD_ELEMENTS


def test_a_board_that_is_full_by_its_bytes_takes_what_makes_it_no_larger() -> None:
    full = replace(EMPTY, elements=1, bytes=MAX_BOARD_BYTES)
    held = {"a": one("a", 1, text="long")}
    with pytest.raises(TooLarge, match="whiteboard is full"):
        draw(full, held, [one("a", 2, text="longer")])
    assert draw(full, held, [one("a", 2, text="")]).board.bytes < MAX_BOARD_BYTES
    assert draw(full, held, [one("a", 2, text="LONG")]).board.bytes == MAX_BOARD_BYTES


def test_an_answer_brings_no_more_than_a_page() -> None:
    large = [Version(id=f"{n}", version=1, nonce=1, deleted=False, size=PAGE_BYTES // 2) for n in range(3)]
    assert in_one_answer(large) == large[:2]
    assert in_one_answer(large[:2]) == large[:2]
    assert in_one_answer([]) == []


def test_a_locked_board_is_the_hosts_and_a_cancelled_bookings_nobodys() -> None:
    assert refusal(EMPTY, is_host=False) is None
    locked = replace(EMPTY, locked=True)
    assert isinstance(refusal(locked, is_host=False), Forbidden)
    assert refusal(locked, is_host=True) is None
    assert isinstance(refusal(replace(EMPTY, closed=True), is_host=True), Conflict)


def test_a_revision_is_a_count() -> None:
    check_revision(None)
    check_revision(0)
    for wrong in (-1, 2**63):
        with pytest.raises(BadRequest):
            check_revision(wrong)
