"""What a file is, by its first bytes: never by its name, nor by what whoever sends it calls it.

Sources: the file formats' own documents, and the WHATWG's *MIME Sniffing* standard for what it covers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Family = Literal["video", "audio", "image", "document"]

#: As many bytes as :func:`type_of` wants to see.
HEAD_BYTES: Final = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class FileType:
    """A type of file. `name` is what people call it, `mime` what HTTP does; `demuxer` is FFmpeg's name of its format,
    None where there is nothing to demux."""

    name: str
    mime: str
    family: Family
    extension: str
    demuxer: str | None = None


WEBM: Final = FileType(name="WebM", mime="video/webm", family="video", extension="webm", demuxer="matroska")
MP4: Final = FileType(name="MP4", mime="video/mp4", family="video", extension="mp4", demuxer="mov")
MOV: Final = FileType(name="MOV", mime="video/quicktime", family="video", extension="mov", demuxer="mov")
AVI: Final = FileType(name="AVI", mime="video/x-msvideo", family="video", extension="avi", demuxer="avi")
WMV: Final = FileType(name="WMV", mime="video/x-ms-wmv", family="video", extension="wmv", demuxer="asf")
MP3: Final = FileType(name="MP3", mime="audio/mpeg", family="audio", extension="mp3", demuxer="mp3")
WAV: Final = FileType(name="WAV", mime="audio/wav", family="audio", extension="wav", demuxer="wav")
M4A: Final = FileType(name="M4A", mime="audio/mp4", family="audio", extension="m4a", demuxer="mov")
AAC: Final = FileType(name="AAC", mime="audio/aac", family="audio", extension="aac", demuxer="aac")
OGG: Final = FileType(name="OGG", mime="audio/ogg", family="audio", extension="ogg", demuxer="ogg")
JPEG: Final = FileType(name="JPEG", mime="image/jpeg", family="image", extension="jpg")
PNG: Final = FileType(name="PNG", mime="image/png", family="image", extension="png")
GIF: Final = FileType(name="GIF", mime="image/gif", family="image", extension="gif")
WEBP: Final = FileType(name="WebP", mime="image/webp", family="image", extension="webp")
PDF: Final = FileType(name="PDF", mime="application/pdf", family="document", extension="pdf")

#: ISO/IEC 14496-12 calls them brands. Any other brand of such a file is a film's.
_BRANDS: Final[Mapping[bytes, FileType]] = {b"qt  ": MOV, b"M4A ": M4A, b"M4B ": M4A, b"M4P ": M4A}
#: Atoms that a QuickTime file from before brands begins with.
_QUICKTIME_ATOMS: Final = frozenset({b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"})
_ASF: Final = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_EBML: Final = b"\x1a\x45\xdf\xa3"
_WEBM_DOCTYPE: Final = re.compile(rb"\x42\x82[\x80-\xff]webm")
#: Eleven set bits, a version that exists, layer III, a bit rate and a sample rate that exist (ISO/IEC 11172-3, 2.4.1).
_MP3_FRAME: Final = re.compile(rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb][\x10-\xef]", re.DOTALL)
#: ADTS: twelve set bits, layer 0 (ISO/IEC 13818-7, 6.2).
_ADTS_FRAME: Final = re.compile(rb"\xff[\xf0\xf1\xf8\xf9]")
_STARTS: Final[tuple[tuple[bytes, FileType], ...]] = (
    (b"\xff\xd8\xff", JPEG),
    (b"\x89PNG\r\n\x1a\n", PNG),
    (b"GIF87a", GIF),
    (b"GIF89a", GIF),
    (b"%PDF-", PDF),
    (b"OggS", OGG),
    (b"ID3", MP3),
    (_ASF, WMV),
)
_RIFF: Final[Mapping[bytes, FileType]] = {b"AVI ": AVI, b"WAVE": WAV, b"WEBP": WEBP}


def type_of(head: bytes) -> FileType | None:
    """The type of the file that begins with `head` (HEAD_BYTES of it, or all there is). None: none of those known."""
    for start, found in _STARTS:
        if head.startswith(start):
            return found
    if head.startswith(b"RIFF"):
        return _RIFF.get(head[8:12])
    if head.startswith(_EBML):
        # Matroska is WebM's big sister, and may hold what no browser plays.
        return WEBM if _WEBM_DOCTYPE.search(head[:HEAD_BYTES]) else None
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], MP4)
    if head[4:8] in _QUICKTIME_ATOMS:
        return MOV
    if _MP3_FRAME.match(head):
        return MP3
    if _ADTS_FRAME.match(head):
        return AAC
    return None
