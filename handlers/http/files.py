"""`/files/{token}`: a file, for whoever has its link."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from contextlib import aclosing
from email.utils import format_datetime
from secrets import token_hex
from typing import Final

from aiohttp import hdrs, web

from domain import files as rules
from domain import links
from domain.errors import PreconditionFailed
from domain.links import unknown_link
from handlers.http.bodies import json_response
from handlers.http.keys import DATABASE, PROVIDER_RECORDINGS, UPLOADS
from handlers.http.ranges import NotSatisfiable, Range, not_modified, precondition_failed, ranges_of
from store import files, recordings
from store.objects.objects import CACHE_CONTROL, ObjectMissing, ObjectsAway, ObjectStore, Stat

#: Seconds for which the bucket's own link is good: at least, because a player comes back to it for the next piece; at
#: most, because Amazon takes none of more than a week (*Signature Version 4*, `X-Amz-Expires`).
LEAST_BUCKET_SECONDS: Final = 60
MOST_BUCKET_SECONDS: Final = 6 * 3600
_THUMBNAIL_TYPE: Final = "image/jpeg"
_PLAIN_RANGE: Final = re.compile(r"bytes=[0-9]{1,15}-[0-9]{0,15}")
_CONDITIONS: Final = (
    hdrs.IF_MATCH,
    hdrs.IF_NONE_MATCH,
    hdrs.IF_MODIFIED_SINCE,
    hdrs.IF_UNMODIFIED_SINCE,
    hdrs.IF_RANGE,
)


async def show(request: web.Request) -> web.StreamResponse:
    """The file, or the ranges of it that are asked for. Public: the link has a token of its own."""
    doors = request.app[UPLOADS]
    link = links.opened(request.match_info["token"], await doors.link_key(), now=time.time())
    if link.use == "send":
        raise unknown_link()
    if link.use == "recording":
        return await _at_provider(request, link)
    file = await files.find(request.app[DATABASE], link.file_id)
    if file is None or file.state != "ready":
        raise rules.unknown_file()
    key, mime = (file.key, file.mime) if link.use == "read" else (file.thumbnail_key, _THUMBNAIL_TYPE)
    if key is None:
        raise rules.unknown_file()
    disposition = rules.disposition(file, attachment=link.attachment) if link.use == "read" else "inline"
    if _a_bucket_answers(request):
        seconds = min(MOST_BUCKET_SECONDS, max(LEAST_BUCKET_SECONDS, link.expires_at - int(time.time())))
        elsewhere = await doors.objects.link(key, seconds=seconds, content_type=mime, disposition=disposition)
        if elsewhere is not None:
            return _there(elsewhere)
    found = await doors.objects.stat(key)
    if found is None:
        raise rules.unknown_file()
    headers: dict[str, str] = {
        hdrs.CONTENT_TYPE: mime,
        hdrs.CONTENT_DISPOSITION: disposition,
        hdrs.ETAG: f'"{found.etag}"',
        hdrs.LAST_MODIFIED: format_datetime(found.modified_at, usegmt=True),
        hdrs.ACCEPT_RANGES: "bytes",
        hdrs.CACHE_CONTROL: CACHE_CONTROL,
        "X-Content-Type-Options": "nosniff",
        # Whatever is shown in place is shown by itself: it runs nothing, and nothing of ours.
        "Content-Security-Policy": "default-src 'none'; media-src 'self'; img-src 'self'; sandbox",
        "Referrer-Policy": "no-referrer",
    }
    return await _send(request, doors.objects, key, found, headers)


async def _at_provider(request: web.Request, link: links.Link) -> web.Response:
    recording = await recordings.find(request.app[DATABASE], link.file_id)
    if recording is None or recording.status != "completed":
        raise rules.unknown_file()
    until = max(link.expires_at, time.time() + LEAST_BUCKET_SECONDS)
    return _there((await request.app[PROVIDER_RECORDINGS].link(recording.id, until=until)).url)


def _there(url: str) -> web.Response:
    return web.Response(status=307, headers={hdrs.LOCATION: url, hdrs.CACHE_CONTROL: "no-store"})


def _a_bucket_answers(request: web.Request) -> bool:
    """Whether every bucket understands what is asked: the file, or one range of it from a place on. That is what
    players ask for. About conditions and other ranges buckets differ; who sends those is answered here."""
    asked = request.headers.get(hdrs.RANGE)
    return request.method == hdrs.METH_GET and (
        (asked is None or _PLAIN_RANGE.fullmatch(asked) is not None)
        and not any(condition in request.headers for condition in _CONDITIONS)
    )


async def _send(
    request: web.Request, objects: ObjectStore, key: str, found: Stat, headers: dict[str, str]
) -> web.StreamResponse:
    if precondition_failed(request.headers, etag=found.etag, modified_at=found.modified_at):
        raise PreconditionFailed("The file is another one by now.")
    if not_modified(request.headers, etag=found.etag, modified_at=found.modified_at):
        kept = (hdrs.ETAG, hdrs.LAST_MODIFIED, hdrs.CACHE_CONTROL)
        return web.Response(status=304, headers={name: headers[name] for name in kept})
    ranges: Sequence[Range] = ()
    if request.method == hdrs.METH_GET:  # a range means nothing to any other method (RFC 9110, 14.2)
        try:
            ranges = ranges_of(request.headers, size=found.size, etag=found.etag, modified_at=found.modified_at)
        except NotSatisfiable:
            return _not_satisfiable(found.size)
    if not ranges:
        return await _stream(request, objects, key, 200, headers, [(b"", Range(0, found.size))], b"")
    if len(ranges) == 1:
        headers[hdrs.CONTENT_RANGE] = _content_range(ranges[0], found.size)
        return await _stream(request, objects, key, 206, headers, [(b"", ranges[0])], b"")
    boundary, mime = token_hex(16), headers[hdrs.CONTENT_TYPE]
    headers[hdrs.CONTENT_TYPE] = f"multipart/byteranges; boundary={boundary}"
    parts = []
    for number, one in enumerate(ranges):
        start = "\r\n" if number else ""
        said = f"Content-Type: {mime}\r\nContent-Range: {_content_range(one, found.size)}"
        parts.append((f"{start}--{boundary}\r\n{said}\r\n\r\n".encode(), one))
    return await _stream(request, objects, key, 206, headers, parts, f"\r\n--{boundary}--\r\n".encode())


async def _stream(
    request: web.Request,
    objects: ObjectStore,
    key: str,
    status: int,
    headers: dict[str, str],
    parts: Sequence[tuple[bytes, Range]],
    end: bytes,
) -> web.StreamResponse:
    """Each part behind what introduces it, as it is read. Raises ObjectsAway where it breaks off."""
    length = sum(len(before) + one.end - one.start for before, one in parts) + len(end)
    response = web.StreamResponse(status=status, headers={**headers, hdrs.CONTENT_LENGTH: str(length)})
    await response.prepare(request)
    if request.method == hdrs.METH_HEAD:
        return response
    try:
        for before, one in parts:
            if before:
                await response.write(before)
            left = one.end - one.start
            async with aclosing(objects.read(key, one.start, one.end)) as chunks:
                async for chunk in chunks:
                    left -= len(chunk)
                    await response.write(chunk)
            if left:
                raise ObjectsAway(f"{key} is shorter by {left} bytes than it was")
    except ObjectMissing as error:
        raise ObjectsAway(f"{key} was removed as it was sent") from error
    if end:
        await response.write(end)
    await response.write_eof()
    return response


def _content_range(one: Range, size: int) -> str:
    return f"bytes {one.start}-{one.end - 1}/{size}"


def _not_satisfiable(size: int) -> web.Response:
    document = {
        "error": "range_not_satisfiable",
        "message": f"The file has {size} bytes, and no range that was asked for lies in it.",
        "status_code": 416,
    }
    return json_response(document, status=416, headers={hdrs.CONTENT_RANGE: f"bytes */{size}"})
