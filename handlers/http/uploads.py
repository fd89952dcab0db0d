"""`/uploads`: resumable uploads, tus 1.0.0 (https://tus.io/protocols/resumable-upload) with its extensions creation,
creation-with-upload, creation-defer-length, expiration, checksum and termination."""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from email.utils import format_datetime
from typing import Final, get_args
from uuid import UUID

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from domain.arrivals import Arrival, too_long
from domain.errors import (
    Conflict,
    EncountersError,
    PreconditionFailed,
    TooSlow,
    UnsupportedMediaType,
    invalid,
)
from domain.files import is_film, unknown_upload
from domain.purposes import missing_field
from domain.streams import Checksum, Stream
from handlers.http.bodies import json_response
from handlers.http.errors import response_of
from handlers.http.keys import UPLOADS
from handlers.http.links import links_of
from handlers.http.requests import identity_of, path_uuid
from handlers.http.streams import chunks_of
from handlers.payloads import refuse_unstorable
from store.files import File, Purpose

VERSION: Final = "1.0.0"
EXTENSIONS: Final = "creation,creation-with-upload,creation-defer-length,expiration,checksum,termination"
BODY_TYPE: Final = "application/offset+octet-stream"

RESUMABLE: Final = "Tus-Resumable"
TUS_VERSION: Final = "Tus-Version"
TUS_EXTENSION: Final = "Tus-Extension"
TUS_MAX_SIZE: Final = "Tus-Max-Size"
TUS_CHECKSUMS: Final = "Tus-Checksum-Algorithm"
LENGTH: Final = "Upload-Length"
DEFER_LENGTH: Final = "Upload-Defer-Length"
OFFSET: Final = "Upload-Offset"
METADATA: Final = "Upload-Metadata"
EXPIRES: Final = "Upload-Expires"
CHECKSUM: Final = "Upload-Checksum"
CONCAT: Final = "Upload-Concat"
OVERRIDE: Final = "X-HTTP-Method-Override"
#: What pages of other sites send, also of what is not offered here, so that they are told; and what they may read.
REQUEST_HEADERS: Final = (RESUMABLE, LENGTH, DEFER_LENGTH, OFFSET, METADATA, CHECKSUM, OVERRIDE, CONCAT)
RESPONSE_HEADERS: Final = (
    *(RESUMABLE, TUS_VERSION, TUS_EXTENSION, TUS_MAX_SIZE, TUS_CHECKSUMS),
    *(LENGTH, DEFER_LENGTH, OFFSET, METADATA, EXPIRES),
)

#: By their names in `Upload-Checksum`. SHA-1 is the one that the protocol asks for.
_CHECKSUMS: Final[Mapping[str, Callable[[], Checksum]]] = {
    "sha1": functools.partial(hashlib.sha1, usedforsecurity=False),
    "sha256": hashlib.sha256,
    "sha512": hashlib.sha512,
    "md5": functools.partial(hashlib.md5, usedforsecurity=False),
}
#: Fields of metadata, and characters of all of them together: they come in one header.
MAX_FIELDS: Final = 32
MAX_METADATA_CHARACTERS: Final = 8_000
_PURPOSES: Final[tuple[Purpose, ...]] = get_args(Purpose)
_WHOLE_NUMBER: Final = re.compile(r"[0-9]{1,15}")
_FIELD: Final = re.compile(r"[\x21-\x2b\x2d-\x7e]{1,100}")


async def say_version(request: web.Request, response: web.StreamResponse) -> None:
    """Has every answer here name the protocol's version, also those that no handler gives."""
    path = request.path
    if path == "/uploads" or (path.startswith("/uploads/") and not path.startswith("/uploads/once/")):
        response.headers[RESUMABLE] = VERSION
        if response.status == PreconditionFailed.status_code:
            response.headers[TUS_VERSION] = VERSION


def slow_ones_cut(handler: Handler) -> Handler:
    """Around handlers that take bytes in."""

    @functools.wraps(handler)
    async def cut(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except TooSlow as error:
            # Clients go on after a connection that broke, and give up where they are told why it was closed.
            request.protocol.force_close()
            return response_of(error)  # for the log

    return cut


async def describe(request: web.Request) -> web.Response:
    """What is spoken here. Public: asked before anything else."""
    return web.Response(
        status=204,
        headers={
            TUS_VERSION: VERSION,
            TUS_EXTENSION: EXTENSIONS,
            TUS_MAX_SIZE: str(request.app[UPLOADS].settings.max_recording_bytes),
            TUS_CHECKSUMS: ",".join(_CHECKSUMS),
        },
    )


@slow_ones_cut
async def create(request: web.Request) -> web.Response:
    """Announce a file, with its first bytes or without."""
    _check_version(request)
    doors, identity = request.app[UPLOADS], identity_of(request)
    if CONCAT in request.headers:
        raise invalid({CONCAT: "is not offered: send the file as one upload, its parts one after the other"})
    length = _announced(request)
    fields = parse_metadata(request.headers.get(METADATA, ""))
    with_bytes = request.content_type == BODY_TYPE and request.body_exists
    checksum, expected = _checksum(request) if with_bytes else (None, b"")
    purpose = _purpose(fields)
    admission = await doors.admit(identity, purpose, fields)
    file = await doors.create(
        identity,
        purpose,
        admission,
        name=fields.get("filename", fields.get("name", "")),
        length=length,
        metadata=request.headers.get(METADATA, ""),
    )
    headers = {hdrs.LOCATION: f"/uploads/{file.id}", OFFSET: "0"}
    if with_bytes:
        # Whoever does not hear where it lies cannot go on with it.
        async with doors.given_up_on_error(file), await doors.arrive(file) as arrival:
            await _take(request, arrival, checksum, expected)
            headers[OFFSET] = str(arrival.offset)
    _, upload = await doors.find(identity, file.id)
    if upload is not None:
        headers[EXPIRES] = _date(upload.expires_at)
    return web.Response(status=201, headers=headers)


async def show(request: web.Request) -> web.Response:
    """How far an upload has come, and what became of its file. Asked by HEAD, it stays there: who goes on from there is
    not overtaken by who wrote before."""
    doors, identity, file_id = request.app[UPLOADS], identity_of(request), _upload_id(request)
    resuming = hdrs.METH_HEAD in (request.method, _overriding(request))
    file, upload = await (doors.rested(identity, file_id) if resuming else doors.find(identity, file_id))
    if resuming:
        _check_version(request)
        if upload is not None and upload.offset == upload.length:
            # All is there, and whoever sent the last of it was not told.
            async with await doors.arrive(file) as arrival:
                file, upload = await _finish(request, arrival), None
    length = file.sent_size if upload is None else upload.length
    offset = file.sent_size if upload is None else upload.offset
    headers = {hdrs.CACHE_CONTROL: "no-store", OFFSET: str(offset)}
    if length is not None:
        headers[LENGTH] = str(length)
    elif upload is not None and upload.resumable:
        headers[DEFER_LENGTH] = "1"
    if upload is not None:
        headers[EXPIRES] = _date(upload.expires_at)
        if upload.metadata:
            headers[METADATA] = upload.metadata
    document = {
        "id": file.id,
        "kind": file.purpose,
        "name": file.name,
        "mime_type": file.mime or None,
        "state": file.state,
        "offset": offset,
        "length": length,
        "session_id": file.session_id,
        "course_id": file.course_id,
        "url": await _link_to(request, file),
    }
    return json_response(document, headers=headers)


@slow_ones_cut
async def append(request: web.Request) -> web.Response:
    """Go on with an upload."""
    doors, file_id = request.app[UPLOADS], _upload_id(request)
    file, upload = await doors.find(identity_of(request), file_id)
    _check_version(request)
    if request.content_type != BODY_TYPE:
        raise UnsupportedMediaType(f"Send the bytes as {BODY_TYPE}.")
    offset = _number(request, OFFSET)
    checksum, expected = _checksum(request)
    if upload is None:
        if offset != file.sent_size:
            raise _elsewhere(file.sent_size, offset)
        if await Stream().next(chunks_of(request)):
            raise too_long(file.sent_size)
        return web.Response(status=204, headers={OFFSET: str(file.sent_size)})
    if not upload.resumable:
        raise unknown_upload()
    async with await doors.arrive(file) as arrival:
        if offset != arrival.offset:
            raise _elsewhere(arrival.offset, offset)
        length = _length(request, arrival)
        if length is not None and offset + (request.content_length or 0) > length:
            raise too_long(length)
        await _take(request, arrival, checksum, expected, length)
        headers = {OFFSET: str(arrival.offset)}
        if not arrival.is_over:
            headers[EXPIRES] = _date(arrival.expires_at)
    return web.Response(status=204, headers=headers)


async def delete(request: web.Request) -> web.Response:
    """Give an upload up, or delete a file that came in whole, whichever way it came: then it is no upload any more."""
    doors, identity, file_id = request.app[UPLOADS], identity_of(request), _upload_id(request)
    _, upload = await doors.find(identity, file_id)
    if upload is not None:
        _check_version(request)
    await doors.delete(identity, file_id)
    return web.Response(status=204)


async def overridden(request: web.Request) -> web.StreamResponse:
    """What a client asks for in a POST that can send nothing else."""
    handler = _BY_POST.get(_overriding(request))
    if handler is None:
        await request.app[UPLOADS].find(identity_of(request), _upload_id(request))  # others' are not there at all
        raise web.HTTPMethodNotAllowed(request.method, (*_BY_POST, hdrs.METH_GET))
    return await handler(request)


_BY_POST: Final[Mapping[str, Handler]] = {hdrs.METH_HEAD: show, hdrs.METH_PATCH: append, hdrs.METH_DELETE: delete}


def _overriding(request: web.Request) -> str:
    """The method that a POST stands for."""
    return request.headers.get(OVERRIDE, "").upper() if request.method == hdrs.METH_POST else ""


async def _link_to(request: web.Request, file: File) -> str | None:
    """A new link to a document. What belongs to a recording or a course is read there, by who may read it now."""
    if file.purpose != "document" or file.state != "ready":
        return None
    return (await links_of(request)).read(file.id)


async def _take(
    request: web.Request, arrival: Arrival, checksum: Checksum | None, expected: bytes, length: int | None = None
) -> None:
    """`length`: of the file, as this request says it; what was put off counts once the request has come whole."""
    await arrival.take(chunks_of(request), checksum=checksum, expected=expected)
    if length is not None and arrival.upload.length is None:
        await arrival.keep()
        await arrival.set_length(length)
    if arrival.is_whole:
        await _finish(request, arrival)
    else:
        await arrival.keep()


def _length(request: web.Request, arrival: Arrival) -> int | None:
    """The length of an upload that goes on: a length that was put off is said once."""
    before = arrival.upload.length
    if LENGTH not in request.headers:
        return before
    length = _number(request, LENGTH)
    if before is None:
        arrival.check_length(length)
    elif before != length:
        raise invalid({LENGTH: f"is {before}, as was said before"})
    return length


def _announced(request: web.Request) -> int | None:
    """The length of a new upload; None where it is put off, for what is sent as it is made."""
    put_off = request.headers.get(DEFER_LENGTH)
    if put_off is None:
        return _number(request, LENGTH)
    if put_off != "1" or LENGTH in request.headers:
        raise invalid({DEFER_LENGTH: f"must be 1, and stands instead of {LENGTH}"})
    return None


async def _finish(request: web.Request, arrival: Arrival) -> File:
    """Take the file for good. Whoever sent it may have lost the leave to since it was announced."""
    fields = parse_metadata(arrival.upload.metadata)
    try:
        await request.app[UPLOADS].admit(identity_of(request), arrival.file.purpose, fields)
    except EncountersError as refused:
        # A film whose recording has another file by now becomes a recording of its own.
        if not (isinstance(refused, Conflict) and is_film(arrival.file)):
            await arrival.give_up(refused.message)
            raise
    return await arrival.finish()


def parse_metadata(header: str) -> dict[str, str]:
    """What an `Upload-Metadata` header says: names, each with Base64 of UTF-8. Raises BadRequest."""
    if len(header) > MAX_METADATA_CHARACTERS:
        raise invalid({METADATA: f"must have at most {MAX_METADATA_CHARACTERS} characters"})
    fields: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in header.split(","))):
        name, _, encoded = part.partition(" ")
        if not _FIELD.fullmatch(name) or name in fields or len(fields) == MAX_FIELDS:
            raise invalid({METADATA: f"must be at most {MAX_FIELDS} names, each once, with Base64 after a blank"})
        try:
            value = base64.b64decode(encoded.strip(), validate=True).decode()
        except (binascii.Error, ValueError):  # a UnicodeDecodeError is one
            raise invalid({METADATA: f"must have Base64 of UTF-8 as the value of {name}"}) from None
        refuse_unstorable(value, METADATA)
        fields[name] = value
    return fields


def _purpose(fields: Mapping[str, str]) -> Purpose:
    kind = fields.get("kind")
    if kind is None:
        raise missing_field("kind")
    for purpose in _PURPOSES:
        if purpose == kind:
            return purpose
    raise invalid({"kind": f"must be one of {', '.join(_PURPOSES)}"})


def _upload_id(request: web.Request) -> UUID:
    return path_uuid(request, "id", unknown_upload)


def _check_version(request: web.Request) -> None:
    if request.headers.get(RESUMABLE) != VERSION:
        raise PreconditionFailed(f"{RESUMABLE} must be {VERSION}.", code="tus_version")


def _number(request: web.Request, header: str) -> int:
    value = request.headers.get(header, "")
    if not _WHOLE_NUMBER.fullmatch(value):
        raise invalid({header: "must be a whole number from 0 up"})
    return int(value)


def _checksum(request: web.Request) -> tuple[Checksum | None, bytes]:
    """What the bytes are to be held to: a running hash, and its digest."""
    header = request.headers.get(CHECKSUM)
    if header is None:
        return None, b""
    name, _, encoded = header.partition(" ")
    made = _CHECKSUMS.get(name.lower())
    try:
        expected = base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        expected = b""
    checksum = None if made is None else made()
    if checksum is None or len(expected) != len(checksum.digest()):
        raise invalid({CHECKSUM: f"must be one of {', '.join(_CHECKSUMS)}, a blank and the digest in Base64"})
    return checksum, expected


def _elsewhere(now: int, said: int) -> Conflict:
    return Conflict(f"The upload goes on at {now}, not at {said}.", code="offset_mismatch")


def _date(moment: datetime) -> str:
    return format_datetime(moment, usegmt=True)
