"""What a file is, by its first bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.types import HEAD_BYTES, type_of
from tests.support.media import RECIPES, make


@pytest.mark.parametrize("extension", RECIPES)
def test_a_real_file_is_known_by_its_bytes_whatever_it_is_called(tmp_path: Path, extension: str) -> None:
    path = make(tmp_path / f"file.{extension}", seconds=0.5).rename(tmp_path / "holiday.exe")

    found = type_of(path.read_bytes()[:HEAD_BYTES])

    assert found is not None
    assert found.extension == extension


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"<html><script>alert(1)</script>",
        b'<svg xmlns="http://www.w3.org/2000/svg">',
        b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"PK\x03\x04 a zip",
        b"MZ a program",
        b"\x7fELF",
        b"RIFF\0\0\0\0CDDA",
        b"\x1a\x45\xdf\xa3\x42\x82\x88matroska",
        b"\xff\xff\xff\xff",
    ],
)
def test_what_is_none_of_the_known_types_is_none(head: bytes) -> None:
    assert type_of(head) is None


@given(st.binary(max_size=64))
def test_any_bytes_have_an_answer(head: bytes) -> None:
    type_of(head)
