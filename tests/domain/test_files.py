"""What may be sent, how large, and what it is called then."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import BadRequest, TooLarge, UnsupportedMediaType
from domain.files import (
    GIB,
    MAX_NAME_CHARACTERS,
    MIB,
    check_size,
    clean_name,
    disposition,
    in_words,
    judged,
    limits_of,
    named_as,
)
from media import types
from store.files import File, Purpose

HEADS = {
    "webm": b"\x1a\x45\xdf\xa3\x93\x42\x82\x88webm",
    "mp4": b"\x00\x00\x00\x18ftypisom",
    "ogg": b"OggS",
    "png": b"\x89PNG\r\n\x1a\n",
    "pdf": b"%PDF-1.7",
    "html": b"<!doctype html>",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'>",
}


@pytest.mark.parametrize(
    ("purpose", "taken"),
    [
        ("recording", {"webm", "mp4", "ogg"}),
        ("content", {"mp4", "ogg"}),
        ("document", {"png", "pdf"}),
        ("thumbnail", {"png"}),
    ],
)
def test_each_purpose_has_its_types(purpose: Purpose, taken: set[str]) -> None:
    limits = limits_of(purpose, max_recording_bytes=GIB)
    for name, head in HEADS.items():
        if name in taken:
            assert judged(limits, head, size=1)[0].extension == name
        else:
            with pytest.raises(UnsupportedMediaType):
                judged(limits, head, size=1)


@pytest.mark.parametrize(
    ("purpose", "name", "most"),
    [
        ("content", "mp4", 500 * MIB),
        ("content", "ogg", 100 * MIB),
        ("thumbnail", "png", 5 * MIB),
        ("document", "pdf", 25 * MIB),
        ("recording", "webm", 2 * GIB),
    ],
)
def test_each_type_has_its_limit(purpose: Purpose, name: str, most: int) -> None:
    limits = limits_of(purpose, max_recording_bytes=2 * GIB)
    assert judged(limits, HEADS[name], size=most)[1] == most
    with pytest.raises(TooLarge):
        judged(limits, HEADS[name], size=most + 1)


def test_a_refusal_says_the_type_the_limit_and_what_came() -> None:
    limits = limits_of("content", max_recording_bytes=GIB)
    with pytest.raises(TooLarge) as error:
        judged(limits, HEADS["ogg"], size=120 * MIB + MIB // 2)
    assert error.value.message == "An audio file (OGG) may have at most 100 MB; this one has 120.5 MB."
    with pytest.raises(UnsupportedMediaType) as wrong:
        judged(limits_of("thumbnail", max_recording_bytes=GIB), HEADS["pdf"], size=1)
    assert wrong.value.message == "Send a file of type JPEG, PNG, GIF or WebP; what came is PDF."


def test_families_narrow_what_may_be_sent() -> None:
    limits = limits_of("content", max_recording_bytes=GIB, families=frozenset({"audio"}))
    assert limits.max_bytes == 100 * MIB
    with pytest.raises(UnsupportedMediaType):
        judged(limits, HEADS["mp4"], size=1)
    with pytest.raises(TooLarge, match="An audio file may have at most 100 MB here; this one has 101 MB"):
        check_size(limits, 101 * MIB)
    with pytest.raises(BadRequest):
        check_size(limits, 0)


@pytest.mark.parametrize(
    ("size", "said"),
    [(0, "0 bytes"), (1, "1 byte"), (1023, "1023 bytes"), (1024, "1 KB"), (500 * MIB, "500 MB"), (GIB * 2, "2 GB")],
)
def test_sizes_are_said_in_words(size: int, said: str) -> None:
    assert in_words(size) == said


def test_what_is_over_a_limit_never_reads_like_it() -> None:
    assert in_words(500 * MIB + 1) == "500.1 MB"


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("lesson.mp4", "lesson.mp4"),
        ("../../etc/passwd", "passwd"),
        ("C:\\videos\\lesson.mp4", "lesson.mp4"),
        ("a\x00b\u202egpj.exe", "abgpj.exe"),
        ("  Übung   1 .pdf ", "Übung 1 .pdf"),
        ('a"b<c>.png', "a_b_c_.png"),
        ("...", "file"),
        ("", "file"),
        ("/", "file"),
        ("x" * 300 + ".webm", "x" * 195 + ".webm"),
    ],
)
def test_a_name_is_cleaned(name: str, clean: str) -> None:
    assert clean_name(name) == clean


@given(st.text())
def test_any_name_becomes_one_that_can_be_kept_and_sent(name: str) -> None:
    clean = clean_name(name)
    assert 1 <= len(clean) <= MAX_NAME_CHARACTERS
    assert not set(clean) & set('\\/:*?"<>|\r\n\0')
    assert clean_name(clean) == clean
    named = named_as(clean, types.WEBM)
    assert len(named) <= MAX_NAME_CHARACTERS
    assert named.endswith((".webm", ".WEBM")) or named.lower().endswith(".webm")
    disposition(file_named(named), attachment=True).encode("ascii")


def file_named(name: str, mime: str = "video/webm") -> File:
    now = datetime.now(UTC)
    empty = dict.fromkeys(File.__slots__)
    return File(**(empty | {"id": uuid4(), "name": name, "mime": mime, "created_at": now, "updated_at": now}))  # type: ignore[arg-type]


def test_a_name_gets_the_ending_of_its_type() -> None:
    assert named_as("page.html", types.MP4) == "page.html.mp4"
    assert named_as("film.M4V", types.MP4) == "film.M4V"
    assert named_as("photo.jpeg", types.JPEG) == "photo.jpeg"
    assert named_as("lesson", types.WEBM) == "lesson.webm"


@pytest.mark.parametrize(
    ("mime", "kind"),
    [
        ("video/webm", "inline"),
        ("video/mp4", "inline"),
        ("audio/ogg", "inline"),
        ("image/png", "inline"),
        ("application/pdf", "attachment"),
        ("image/svg+xml", "attachment"),
        ("text/html", "attachment"),
        ("video/html", "attachment"),
        ("", "attachment"),
    ],
)
def test_only_film_sound_and_images_are_shown_in_place(mime: str, kind: str) -> None:
    assert disposition(file_named("x", mime), attachment=False).startswith(f"{kind}; ")
    assert disposition(file_named("x", mime), attachment=True).startswith("attachment; ")
