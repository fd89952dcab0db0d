"""Films made to break whoever looks through them: small, and in a format that is right as far as it goes."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB


def endless_table(path: Path, *, samples: int, sample_bytes: int = MIB) -> Path:
    """A QuickTime film of one mebibyte whose index, at its end, has the same picture so many times."""
    picture = bytes(sample_bytes)
    start = len(_box(b"ftyp", b"qt  \0\0\0\0qt  "))
    film = _box(b"ftyp", b"qt  \0\0\0\0qt  ") + _box(b"mdat", picture)
    tables = (
        _table(b"stts", 1, struct.pack(">II", samples, 1000))
        + _table(b"stsc", 1, struct.pack(">III", 1, 1, 1))
        + _box(b"stsz", struct.pack(">III", 0, sample_bytes, samples))
        + _table(b"stco", samples, struct.pack(">I", start + 8) * samples)
    )
    path.write_bytes(film + _moov(320, 180, samples, tables))
    return path


def vast_pictures(path: Path, *, side: int) -> Path:
    """A QuickTime film that says that its one picture has sides so long."""
    tables = (
        _table(b"stts", 1, struct.pack(">II", 1, 1000))
        + _table(b"stsc", 1, struct.pack(">III", 1, 1, 1))
        + _box(b"stsz", struct.pack(">III", 0, KIB, 1))
    )
    ftyp = _box(b"ftyp", b"qt  \0\0\0\0qt  ")
    # The index comes first; its length does not depend on what it says.
    place = len(ftyp + _moov(side, side, 1, tables + _table(b"stco", 1, bytes(4)))) + 8
    moov = _moov(side, side, 1, tables + _table(b"stco", 1, struct.pack(">I", place)))
    path.write_bytes(ftyp + moov + _box(b"mdat", bytes(KIB)))
    return path


def endless_segment(path: Path, film: Path, *, more: int = 8 * MIB) -> Path:
    """A WebM whose segment and last cluster have no end, as a live one's have, and then nothing that is anything."""
    path.write_bytes(film.read_bytes() + bytes.fromhex("1f43b67501ffffffffffffff") + bytes(more))
    return path


def grown(path: Path, film: Path) -> Path:
    """A WebM whose pictures say of themselves that they are of 16 383 × 16 383 (RFC 6386, 9.1)."""
    content, key_frame = film.read_bytes(), b"\x9d\x01\x2a"
    place = content.index(key_frame) + len(key_frame)
    size = content[place : place + 4]
    path.write_bytes(content.replace(key_frame + size, key_frame + b"\xff\x3f\xff\x3f"))
    return path


def ageless(path: Path, film: Path, *, seconds: float) -> Path:
    """A WebM that says that it lasts so long."""
    content = film.read_bytes()
    place = content.index(b"\x44\x89\x88") + 3
    path.write_bytes(content[:place] + struct.pack(">d", seconds * 1000) + content[place + 8 :])
    return path


def vast_cover(path: Path, sound: Path, *, side: int = 30_000, rows: int = 100) -> Path:
    """An MP3 with a cover: a PNG of some MiB that is some gigabytes when it is decoded. `rows` of it are packed once,
    into blocks that stand by themselves (RFC 1951, 3.2.3; a zlib stream around them, RFC 1950)."""
    empty = bytes(rows * (1 + side * 3))
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    block = packer.compress(empty) + packer.flush(zlib.Z_FULL_FLUSH)
    times, rest = divmod(side, rows)
    assert rest == 0, "whole blocks make the picture"
    checksum = times * len(empty) % 65_521 << 16 | 1
    packed = b"\x78\xda" + block * times + b"\x03\x00" + struct.pack(">I", checksum)
    png = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    png += _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")
    picture = b"\0image/png\0\x03\0" + png
    frame = b"APIC" + struct.pack(">IH", len(picture), 0) + picture
    size = len(frame)
    head = b"ID3\x03\0\0" + bytes((size >> shift) & 0x7F for shift in (21, 14, 7, 0))
    path.write_bytes(head + frame + sound.read_bytes())
    return path


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


def _table(kind: bytes, count: int, entries: bytes) -> bytes:
    return _box(kind, struct.pack(">II", 0, count) + entries)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


_MATRIX: Final = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)


def _moov(width: int, height: int, duration: int, tables: bytes) -> bytes:
    """The index of a film of Motion JPEG (ISO/IEC 14496-12, 8): one track with these sample tables."""
    mvhd = _box(
        b"mvhd",
        struct.pack(">6IH10x", 0, 0, 0, 1000, duration * 1000, 0x10000, 0x100) + _MATRIX + struct.pack(">24xI", 2),
    )
    tkhd = _box(
        b"tkhd",
        struct.pack(">6I16x", 7, 0, 0, 1, 0, duration * 1000) + _MATRIX + struct.pack(">II", width << 16, height << 16),
    )
    mdhd = _box(b"mdhd", struct.pack(">5IHH", 0, 0, 0, 1000, duration * 1000, 0, 0))
    hdlr = _box(b"hdlr", struct.pack(">I4s4s12xB", 0, b"mhlr", b"vide", 0))
    dinf = _box(b"dinf", _table(b"dref", 1, _box(b"url ", b"\0\0\0\1")))
    entry = _box(
        b"jpeg",
        struct.pack(">6xH16xHHIIIH32sHh", 1, width, height, 0x480000, 0x480000, 0, 1, b"\x04jpeg", 24, -1),
    )
    stbl = _box(b"stbl", _table(b"stsd", 1, entry) + tables)
    minf = _box(b"minf", _box(b"vmhd", struct.pack(">I8x", 1)) + dinf + stbl)
    return _box(b"moov", mvhd + _box(b"trak", tkhd + _box(b"mdia", mdhd + hdlr + minf)))
