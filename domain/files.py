"""Files that people upload: which types may be sent for which purpose, how large they may be, what they are called.

Plain rules. What takes the bytes in is :mod:`domain.uploads`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from domain.errors import BadRequest, Conflict, Locked, NotFound, TooLarge, UnsupportedMediaType
from media import types
from media.types import Family, FileType
from store.files import File, Purpose

MIB: Final = 1024 * 1024
GIB: Final = 1024 * MIB
#: The most that a file may have, by what it is (for courses; recordings have a bound of their own).
MAX_IMAGE_BYTES: Final = 5 * MIB
MAX_VIDEO_BYTES: Final = 500 * MIB
MAX_AUDIO_BYTES: Final = 100 * MIB
MAX_DOCUMENT_BYTES: Final = 25 * MIB
#: The longest name that is kept.
MAX_NAME_CHARACTERS: Final = 200
#: What a file is called whose name says nothing.
NO_NAME: Final = "file"

_IMAGES: Final = (types.JPEG, types.PNG, types.GIF, types.WEBP)
_VIDEOS: Final = (types.MP4, types.AVI, types.MOV, types.WMV)
_SOUNDS: Final = (types.MP3, types.WAV, types.M4A, types.AAC, types.OGG)
#: Other endings that files of a type have.
_ENDINGS: Final[Mapping[str, frozenset[str]]] = {
    "jpg": frozenset({"jpeg", "jpe"}),
    "mp4": frozenset({"m4v", "mpg4"}),
    "mov": frozenset({"qt"}),
    "wmv": frozenset({"asf", "wma"}),
    "ogg": frozenset({"oga", "ogv", "opus"}),
    "m4a": frozenset({"m4b", "mp4"}),
}
_WORDS: Final[Mapping[Family, str]] = {
    "video": "A video",
    "audio": "An audio file",
    "image": "An image",
    "document": "A document",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """Types that may be sent, and the most bytes that a file of them may have."""

    types: tuple[FileType, ...]
    max_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What may be sent for a purpose."""

    limits: tuple[Limit, ...]

    @property
    def max_bytes(self) -> int:
        """The most that any file may have, whatever it is."""
        return max(limit.max_bytes for limit in self.limits)

    @property
    def types(self) -> tuple[FileType, ...]:
        return tuple(one for limit in self.limits for one in limit.types)

    def of(self, found: FileType) -> Limit | None:
        return next((limit for limit in self.limits if found in limit.types), None)


#: Every type that may be sent for any purpose, by its MIME type.
TYPES: Final[Mapping[str, FileType]] = {one.mime: one for one in (types.WEBM, *_VIDEOS, *_SOUNDS, *_IMAGES, types.PDF)}
#: Those that a browser shows or plays, and runs nothing of: no family is trusted as such (SVG is an image, too).
_SHOWN_IN_PLACE: Final = frozenset({types.WEBM.mime, *(one.mime for one in (*_VIDEOS, *_SOUNDS, *_IMAGES))})

_COURSE_LIMITS: Final = (
    Limit(types=_VIDEOS, max_bytes=MAX_VIDEO_BYTES),
    Limit(types=_SOUNDS, max_bytes=MAX_AUDIO_BYTES),
)


def limits_of(purpose: Purpose, *, max_recording_bytes: int, families: frozenset[Family] | None = None) -> Limits:
    """What may be sent for the purpose; of these `families` alone, where they are given."""
    of_purpose: Mapping[Purpose, tuple[Limit, ...]] = {
        "recording": (Limit(types=(types.WEBM, *_VIDEOS, *_SOUNDS), max_bytes=max_recording_bytes),),
        "content": _COURSE_LIMITS,
        "document": (Limit(types=(*_IMAGES, types.PDF), max_bytes=MAX_DOCUMENT_BYTES),),
        "thumbnail": (Limit(types=_IMAGES, max_bytes=MAX_IMAGE_BYTES),),
    }
    limits = of_purpose[purpose]
    if families is not None:
        narrowed = (
            Limit(types=tuple(one for one in limit.types if one.family in families), max_bytes=limit.max_bytes)
            for limit in limits
        )
        limits = tuple(limit for limit in narrowed if limit.types)
    return Limits(limits=limits)


@dataclass(frozen=True, kw_only=True, slots=True)
class InForm:
    """What the size of a form says of a file in it: of the form's `size` bytes the file has `least` or more."""

    size: int
    least: int


def judged(
    limits: Limits, head: bytes, *, size: int | None, form: InForm | None = None, mime_wanted: str | None = None
) -> tuple[FileType, int]:
    """The type of a file that begins so, and the most bytes that it may have.

    `size` is how large it says that it is, if it does. Raises UnsupportedMediaType, TooLarge.
    """
    found = types.type_of(head)
    limit = None if found is None else limits.of(found)
    if found is None or limit is None:
        came = "what came is none of them" if found is None else f"what came is {found.name}"
        raise UnsupportedMediaType(f"Send a file of type {_listed(limits)}; {came}.", code="unsupported_file_type")
    if mime_wanted is not None and found.mime != mime_wanted:
        raise UnsupportedMediaType(
            f"The file was announced as {mime_wanted}; what came is {found.mime}.", code="unsupported_file_type"
        )
    least = size if size is not None else 0 if form is None else form.least
    if least > limit.max_bytes:
        raise too_large(found, limit.max_bytes, size, form)
    return found, limit.max_bytes


#: Among a file's details: see :func:`is_film`.
FILM: Final = "film"
#: Among a film's details: it ended as nothing more came, and who made it may be gone.
SILENT: Final = "silent"


def is_film(file: File) -> bool:
    """A recording that is sent as it is made, so that its length is said at the end. What came of one is kept, however
    it ends: no more of it comes, it may not be larger, its recording has a file already. Its size is what it may have
    at most, until it is whole."""
    return FILM in file.details


def check_size(limits: Limits, size: int) -> None:
    """Raise TooLarge for what is too large whatever it is, BadRequest for an empty file."""
    if size == 0:
        raise empty()
    if size > limits.max_bytes:
        raise _too_large(f"{_any_of(limits)} may have at most {in_words(limits.max_bytes)} here", size, None)


def check_form(limits: Limits, form: InForm) -> None:
    """Raise TooLarge for a file in a form that is too large whatever it is."""
    if form.least > limits.max_bytes:
        raise _too_large(f"{_any_of(limits)} may have at most {in_words(limits.max_bytes)} here", None, form)


def too_large(found: FileType, max_bytes: int, size: int | None, form: InForm | None = None) -> TooLarge:
    """Names the type, the limit and what came: its `size`, or else what is known of the form around it."""
    return _too_large(f"{_WORDS[found.family]} ({found.name}) may have at most {in_words(max_bytes)}", size, form)


def _too_large(rule: str, size: int | None, form: InForm | None) -> TooLarge:
    if size is not None:
        came = f"has {in_words(size)}"
    else:
        came = "has more" if form is None else f"came in a form of {in_words(form.size)}"
    return TooLarge(f"{rule}; this one {came}.", code="file_too_large")


def _any_of(limits: Limits) -> str:
    families = {one.family for one in limits.types}
    return _WORDS[families.pop()] if len(families) == 1 else "A file"


def empty() -> BadRequest:
    return BadRequest("The file is empty.", code="empty_file")


def over_quota(quota: int, taken: int, size: int, *, at_most: bool) -> TooLarge:
    """`at_most`: what the file has is known only when it is here, and so much is set aside for it."""
    has = "may have up to" if at_most else "has"
    return TooLarge(
        f"All your files together may take {in_words(quota)}; they take {in_words(taken)}, "
        f"and this one {has} {in_words(size)}.",
        code="quota_exceeded",
    )


def unknown_file() -> NotFound:
    return NotFound("There is no such file.", code="file_not_found")


def unknown_upload(reason: str | None = None) -> NotFound:
    said = "There is no such upload." if reason is None else f"There is no such upload any more: {reason}"
    return NotFound(said, code="upload_not_found")


def finished() -> Conflict:
    return Conflict(
        "The upload is finished: ask for it to see what became of it, and send another file as a new one.",
        code="upload_finished",
    )


def in_use() -> Conflict:
    return Conflict("A recording or a course has this file: delete it there.", code="file_in_use")


def taken_over() -> Locked:
    return Locked(
        "Another request is sending to this upload; ask in a moment how far it has come, and go on from there.",
        code="upload_locked",
        retry_after=1,
    )


def type_named(limits: Limits, mime: str) -> FileType | None:
    """The type that may be sent and is called so, with or without parameters."""
    wanted = mime.partition(";")[0].strip().lower()
    wanted = "image/jpeg" if wanted == "image/jpg" else wanted
    return next((one for one in limits.types if one.mime == wanted), None)


def _listed(limits: Limits) -> str:
    names = [one.name for one in limits.types]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


_UNITS: Final = ((GIB, "GB"), (MIB, "MB"), (1024, "KB"))


def in_words(size: int) -> str:
    """``612.5 MB``: 1 MB is 1 048 576 bytes. Rounded up, so that what is over a limit never reads like it."""
    for unit, name in _UNITS:
        if size >= unit:
            tenths = -(-size * 10 // unit)
            return f"{tenths // 10} {name}" if tenths % 10 == 0 else f"{tenths / 10:.1f} {name}"
    return f"{size} bytes" if size != 1 else "1 byte"


# Names

#: Separators of paths, what shells and old systems choke on, and quotes, which end a header's value.
_UNFIT: Final = re.compile(r'[\\/:*?"<>|]')


def clean_name(name: str) -> str:
    """What a file is called that came under `name`: the last part of a path, without what no file's name should hold
    (control characters, marks that turn the direction of writing, separators). Never empty."""
    name = re.split(r"[\\/]", name)[-1]
    name = unicodedata.normalize("NFC", name)
    # Cc, Cf, Cs, Co, Cn: what is not seen, or turns around what is.
    name = "".join(" " if character in "\t\n\r" else character for character in name)
    name = "".join(character for character in name if unicodedata.category(character)[0] != "C")
    name = " ".join(_UNFIT.sub("_", name).split()).strip(". ")
    if len(name) > MAX_NAME_CHARACTERS:
        stem, dot, ending = name.rpartition(".")
        kept = f".{ending}" if dot and stem and len(ending) <= 10 else ""
        name = (stem if kept else name)[: MAX_NAME_CHARACTERS - len(kept)] + kept
    return name or NO_NAME


def named_as(name: str, found: FileType) -> str:
    """The name with an ending that its type has: what is a film does not open as a page."""
    ending = name.rpartition(".")[2].lower() if "." in name else ""
    if ending == found.extension or ending in _ENDINGS.get(found.extension, frozenset()):
        return name
    added = f".{found.extension}"
    return name[: MAX_NAME_CHARACTERS - len(added)] + added


def disposition(file: File, *, attachment: bool) -> str:
    """The file's Content-Disposition (RFC 6266): what is neither film, sound nor image is never shown in place, so that
    a page of somebody's is none of ours, not even where no other header says so."""
    kind = "inline" if file.mime in _SHOWN_IN_PLACE and not attachment else "attachment"
    plain = "".join(c if 32 <= ord(c) < 127 and c not in '"\\%' else "_" for c in file.name)
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(file.name, safe='')}"
