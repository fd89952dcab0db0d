"""`POST /bookings/{id}/review`."""

from __future__ import annotations

from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta

from domain import bookings, reviews
from domain.reviews import MAX_COMMENT_CHARACTERS
from handlers.http.bodies import json_response, read_body
from handlers.http.keys import DATABASE
from handlers.http.requests import identity_of, path_uuid


class NewReview(msgspec.Struct, frozen=True):
    rating: Annotated[int, Meta(ge=1, le=5)]
    comment: Annotated[str, Meta(max_length=MAX_COMMENT_CHARACTERS)] | None = None


async def create(request: web.Request) -> web.Response:
    booking_id = path_uuid(request, "id", bookings.unknown_booking)
    new = await read_body(request, NewReview)
    review = await reviews.review(
        request.app[DATABASE],
        identity_of(request),
        booking_id,
        rating=new.rating,
        comment=(new.comment or "").strip(),
    )
    document = {
        "booking_id": review.booking_id,
        "user_id": review.author_id,
        "rating": review.rating,
        "comment": review.comment,
        "created_at": review.created_at,
    }
    return json_response(document, status=201)
