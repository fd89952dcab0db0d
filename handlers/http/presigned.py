"""`/presigned-url` and `/uploads/once/{token}`: an address that takes one file, once, from whoever has it."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from domain import files as rules
from domain import links
from domain.errors import Conflict, UnsupportedMediaType, invalid
from domain.links import Link, unknown_link
from domain.purposes import Admission
from domain.uploads import ONCE_EXPIRY
from handlers.addresses import public_origin
from handlers.http.bodies import json_response, read_body
from handlers.http.keys import DATABASE, TRUSTED_PROXIES, UPLOADS
from handlers.http.requests import identity_of
from handlers.http.streams import chunks_of
from store import files

#: How long a `file_url` is good for: it is put into a profile or a lesson's list of files, and read there.
FILE_URL_EXPIRY: Final = timedelta(days=365)
#: The longest file name that is read; more than is kept of it.
MAX_NAME_CHARACTERS: Final = 1000
MAX_TYPE_CHARACTERS: Final = 200


class NewFile(msgspec.Struct, frozen=True):
    file_name: Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARACTERS)]
    content_type: Annotated[str, Meta(min_length=1, max_length=MAX_TYPE_CHARACTERS)]


async def create(request: web.Request) -> web.Response:
    """An address to send one photo or document to, and the one under which it can be read then."""
    new = await read_body(request, NewFile)
    doors = request.app[UPLOADS]
    limits = doors.limits("document")
    wanted = rules.type_named(limits, new.content_type)
    if wanted is None:
        raise invalid({"content_type": f"must be one of {', '.join(one.mime for one in limits.types)}"})
    file = await doors.create(
        identity_of(request),
        "document",
        Admission(),
        name=new.file_name,
        length=None,
        mime_wanted=wanted.mime,
        expiry=ONCE_EXPIRY,
    )
    now, key = datetime.now(UTC), await doors.link_key()
    send = Link(use="send", file_id=file.id, expires_at=int((now + ONCE_EXPIRY).timestamp()))
    read = Link(use="read", file_id=file.id, expires_at=int((now + FILE_URL_EXPIRY).timestamp()))
    origin = public_origin(request, request.app.get(TRUSTED_PROXIES, ()))
    return json_response(
        {
            "upload_url": f"{origin}/uploads/once/{links.signed(send, key)}",
            "file_url": f"{origin}/files/{links.signed(read, key)}",
        }
    )


async def put(request: web.Request) -> web.Response:
    """Take the file. Public: the address has a token of its own."""
    doors = request.app[UPLOADS]
    link = links.opened(request.match_info["token"], await doors.link_key(), now=time.time())
    if link.use != "send":
        raise unknown_link()
    file = await files.find(request.app[DATABASE], link.file_id)
    if file is None or file.state == "failed":
        raise rules.unknown_upload(file.reason if file else None)
    if file.state != "uploading":
        raise Conflict("This address has taken its file already.", code="upload_finished")
    async with await doors.arrive(file) as arrival:
        wanted = arrival.upload.mime_wanted
        if request.content_type != wanted:
            raise UnsupportedMediaType(f"Send the file as {wanted}, as it was announced.")
        if request.content_length is not None:
            rules.check_size(doors.limits(file.purpose), request.content_length)
        await arrival.restart()
        await arrival.take(chunks_of(request))
        taken = await arrival.finish()
    return json_response({"id": taken.id, "name": taken.name, "size": taken.size, "mime_type": taken.mime})
