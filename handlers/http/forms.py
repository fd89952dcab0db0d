"""Forms with files (multipart/form-data), taken in part by part: no file is ever held whole, wherever in the form the
fields stand that say what it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from aiohttp import BodyPartReader, MultipartReader, hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from domain import files as rules
from domain.arrivals import Arrival
from domain.errors import BadRequest, TooLarge, TooSlow, UnsupportedMediaType, invalid
from domain.files import InForm, Limits
from domain.purposes import Admission, missing_field
from domain.uploads import ONE_GO_EXPIRY, TERMINATED, Uploads
from handlers.http.keys import UPLOADS
from handlers.http.requests import identity_of
from handlers.http.streams import ask_for_body, incomplete
from handlers.payloads import refuse_unstorable
from store.errors import Away
from store.files import File, Purpose

#: Parts of a form; ours have a dozen.
MAX_PARTS: Final = 32
#: Bytes of a field that is no file, and of all of them.
MAX_FIELD_BYTES: Final = 64 * 1024
MAX_FIELDS_BYTES: Final = 256 * 1024
#: Bytes of a part's header, and headers of a part.
MAX_HEADER_BYTES: Final = 4096
MAX_HEADERS: Final = 16
#: Bytes of all that stands in a form beside files.
MAX_BESIDE_BYTES: Final = MAX_FIELDS_BYTES + MAX_PARTS * MAX_HEADERS * MAX_HEADER_BYTES
#: Seconds for a part's header, or a field, to come.
PART_SECONDS: Final = 30.0
#: Bytes that are read at a time.
CHUNK_BYTES: Final = 64 * 1024

#: What aiohttp's reader raises of a form that is none.
_UNREADABLE: Final = (ValueError, AssertionError, RuntimeError, LookupError, HttpProcessingError)


@dataclass(slots=True)
class Form:
    """What came: the `fields`, and each file as an arrival that waits to be finished."""

    fields: dict[str, str] = field(default_factory=dict)
    files: dict[str, Arrival] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """A field. Raises BadRequest where it did not come, or is empty."""
        value = self.fields.get(name, "").strip()
        if not value:
            raise missing_field(name)
        return value

    def file(self, name: str) -> Arrival:
        """A file. Raises BadRequest where it did not come."""
        if name not in self.files:
            raise missing_field(name)
        return self.files[name]

    async def finish(self, name: str, admission: Admission | None = None) -> File:
        """Take a file for good; it is `ready`, or `processing`. With an admission, unless it came in with one.

        Raises BadRequest, UnsupportedMediaType, TooLarge where it is none that may be sent.
        """
        return await self.file(name).finish(admission)


@asynccontextmanager
async def receive_form(
    request: web.Request,
    files: Mapping[str, Purpose],
    fields: Collection[str] = (),
    *,
    admissions: Mapping[str, Admission] | None = None,
    admit: Callable[[str, Mapping[str, str]], Awaitable[Admission | None]] | None = None,
) -> AsyncIterator[Form]:
    """The request's form. `files` are the parts that may hold one, each with its purpose; `fields` the other parts that
    are wanted, further ones are passed over. Files that were not finished (:meth:`Form.finish`) when the context is
    left, by an error or without one, are given up.

    Who may send is to be asked before, as far as the request's path tells: then the file's `admissions` are known, its
    type is narrowed, and whoever follows it is told of it from the start. Where only the form itself tells, they go
    to :meth:`Form.finish`; `admit(name, fields)` is asked before a file is read what the fields in front of it tell.

    Raises UnsupportedMediaType, TooLarge, TooManyRequests, BadRequest (`malformed_form`, `body_incomplete`,
    `empty_file`, `validation_failed`), TooSlow.
    """
    if request.content_type != "multipart/form-data":
        raise UnsupportedMediaType("Send the file in a form, as multipart/form-data.")
    doors, admissions = request.app[UPLOADS], admissions or {}
    of_files = {name: _limits(doors, purpose, admissions.get(name)) for name, purpose in files.items()}
    sizes = {name: _size_in_form(request, name, of_files) for name in files}
    for name, size in sizes.items():
        if size is not None:
            rules.check_form(of_files[name], size)
    await ask_for_body(request)
    form = Form()
    async with AsyncExitStack() as stack:
        try:
            await _read_parts(request, form, stack, files, sizes, fields, admissions, admit)
            yield form
        finally:
            for arrival in form.files.values():
                if not arrival.is_over:
                    with suppress(Away):  # it expires, then
                        await arrival.give_up(TERMINATED)


async def _read_parts(
    request: web.Request,
    form: Form,
    stack: AsyncExitStack,
    files: Mapping[str, Purpose],
    sizes: Mapping[str, InForm | None],
    fields: Collection[str],
    admissions: Mapping[str, Admission],
    admit: Callable[[str, Mapping[str, str]], Awaitable[Admission | None]] | None,
) -> None:
    try:
        reader = MultipartReader(
            request.headers, request.content, max_field_size=MAX_HEADER_BYTES, max_headers=MAX_HEADERS
        )
    except _UNREADABLE as error:
        raise malformed(str(error)) from None
    parts = total = 0
    while (part := await _next(reader)) is not None:
        parts += 1
        if parts > MAX_PARTS:
            raise TooLarge(f"A form has at most {MAX_PARTS} parts.")
        name = part.name or ""
        if name in files:
            if name in form.files:
                raise invalid({name: "came twice"})
            admission = admissions.get(name)
            if admission is None and admit is not None:
                admission = await admit(name, form.fields)
            await _take_file(request, form, stack, part, name, files[name], sizes[name], admission)
            continue
        value = await _read_field(part)
        total += len(value)
        if total > MAX_FIELDS_BYTES:
            raise TooLarge(f"The fields of a form have at most {MAX_FIELDS_BYTES} bytes.")
        if name not in fields:
            continue
        try:
            form.fields[name] = value.decode()
        except UnicodeDecodeError:
            raise invalid({name: "must be UTF-8"}) from None
        refuse_unstorable(form.fields[name], name)


async def _take_file(
    request: web.Request,
    form: Form,
    stack: AsyncExitStack,
    part: BodyPartReader,
    name: str,
    purpose: Purpose,
    size: InForm | None,
    admission: Admission | None,
) -> None:
    doors = request.app[UPLOADS]
    if size is not None:
        rules.check_form(_limits(doors, purpose, admission), size)
    filename = part.filename or ""
    refuse_unstorable(filename, name)
    chunks = _chunks(part)
    async with _in_time():
        first = await anext(chunks, b"")
    if not first and not filename:
        return  # what a browser sends where nobody chose a file
    file = await doors.create(
        identity_of(request),
        purpose,
        admission,
        name=filename,
        length=None,
        at_most=None if size is None else size.size,
        expiry=ONE_GO_EXPIRY,
    )
    async with doors.given_up_on_error(file):
        arrival = await doors.arrive(file)
        arrival.form = size
        form.files[name] = await stack.enter_async_context(arrival)
    await arrival.take(_with_first(first, chunks))


def _limits(doors: Uploads, purpose: Purpose, admission: Admission | None) -> Limits:
    return doors.limits(purpose, None if admission is None else admission.families)


def _size_in_form(request: web.Request, name: str, of_files: Mapping[str, Limits]) -> InForm | None:
    """What the length of the body says of the file in that part; None where nothing is said."""
    size = request.content_length
    if size is None or hdrs.CONTENT_ENCODING in request.headers:
        return None
    others = sum(limits.max_bytes for other, limits in of_files.items() if other != name)
    return InForm(size=size, least=max(0, size - others - MAX_BESIDE_BYTES))


async def _with_first(first: bytes, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if first:
        yield first
    async for chunk in chunks:
        yield chunk


async def _chunks(part: BodyPartReader) -> AsyncIterator[bytes]:
    try:
        while chunk := await part.read_chunk(CHUNK_BYTES):
            yield bytes(chunk)
    except (web.RequestPayloadError, ConnectionError) as error:
        raise incomplete() from error
    except _UNREADABLE as error:
        raise malformed(str(error)) from None


async def _read_field(part: BodyPartReader) -> bytes:
    value = bytearray()
    async with _in_time():
        async for chunk in _chunks(part):
            value += chunk
            if len(value) > MAX_FIELD_BYTES:
                raise TooLarge(f"A field of a form has at most {MAX_FIELD_BYTES} bytes.")
    return bytes(value)


async def _next(reader: MultipartReader) -> BodyPartReader | None:
    """The next part; None at the end."""
    try:
        async with _in_time():
            part = await reader.next()
    except (web.RequestPayloadError, ConnectionError) as error:
        raise incomplete() from error
    except _UNREADABLE as error:
        raise malformed(str(error)) from None
    if part is not None and not isinstance(part, BodyPartReader):
        raise malformed("a part is a form of its own")
    return part


@asynccontextmanager
async def _in_time() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(PART_SECONDS):
            yield
    except TimeoutError:
        raise TooSlow(f"A part of the form did not arrive within {PART_SECONDS:g} seconds.") from None


def malformed(why: str) -> BadRequest:
    return BadRequest(f"The form cannot be read: {why[:200].rstrip('.')}.", code="malformed_form")
