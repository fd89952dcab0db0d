"""`GET` and `POST /profiles`."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from domain import people
from domain.errors import NotFound, invalid
from domain.identity import role_named, split_name
from handlers.http.bodies import json_response, read_body
from handlers.http.keys import DATABASE, LIVE, PEOPLE
from handlers.http.requests import identity_of, required_query_text
from handlers.payloads import TimezoneName, UserId
from store import users
from store.users import ProfileToSave, User

#: More than a name or an address may have: white space around them is cut off before they are measured.
Line = Annotated[str, Meta(max_length=1_000)]
Label = Annotated[str, Meta(min_length=1, max_length=100)]
Labels = Annotated[list[Label], Meta(max_length=50)]


class ProfileData(msgspec.Struct, frozen=True):
    """What is left out stays as it is; `email` and `parent_id` are taken away by null."""

    name: Line
    email: Line | UnsetType | None = UNSET
    bio: Annotated[str, Meta(max_length=5000)] | None = None
    topics: Labels | None = None
    subjects: Labels | None = None
    timezone: TimezoneName | None = None
    parent_id: UserId | UnsetType | None = UNSET


class Profile(msgspec.Struct, frozen=True):
    user_id: UserId
    role: Line
    profile_data: ProfileData


async def show(request: web.Request) -> web.Response:
    identity = identity_of(request)
    user_id = required_query_text(request, "user_id")
    user = await users.find(request.app[DATABASE], user_id)
    if user is None:
        raise NotFound("There is no profile of this user.", code="profile_not_found")
    shows_email = people.may_always_see_email(identity, user_id) or await users.share_a_booking(
        request.app[DATABASE], identity.user_id, user_id
    )
    return json_response({"profile": _document(user, shows_email=shows_email)})


async def save(request: web.Request) -> web.Response:
    profile = _to_save(await read_body(request, Profile))
    saved = await people.save_profile(request.app[DATABASE], identity_of(request), profile)
    request.app[PEOPLE].forget(profile.user_id)
    concerned = people.concerned(saved)
    if concerned:
        request.app[LIVE].audience.changed(concerned)
    is_new = saved.before is None or not saved.before.name_set
    answer = {"profile_id": profile.user_id, "message": "Profile created/updated successfully"}
    return json_response(answer, status=201 if is_new else 200)


def _to_save(profile: Profile) -> ProfileToSave:
    """The profile, trimmed and checked. Raises BadRequest naming every field that is wrong."""
    data = profile.profile_data
    role = role_named(profile.role)
    name = data.name.strip()
    email = data.email.strip() if isinstance(data.email, str) else None
    timezone = data.timezone
    problems = {
        "role": "must be one of student, teacher, parent" if role is None else None,
        "profile_data.name": people.name_problem(name),
        "profile_data.email": people.email_problem(email) if email is not None else None,
        "profile_data.timezone": people.timezone_problem(timezone) if timezone is not None else None,
    }
    wrong = {path: problem for path, problem in problems.items() if problem is not None}
    if wrong or role is None:
        raise invalid(wrong)
    first_name, last_name = split_name(name)
    return ProfileToSave(
        user_id=profile.user_id,
        role=role,
        first_name=first_name,
        last_name=last_name,
        bio=data.bio,
        topics=data.topics,
        subjects=data.subjects,
        timezone=timezone,
        email=email,
        sets_email=data.email is not UNSET,
        parent_id=data.parent_id if isinstance(data.parent_id, str) else None,
        # Somebody who is no student has no parent.
        sets_parent=data.parent_id is not UNSET or role != "student",
    )


def _document(user: User, *, shows_email: bool) -> dict[str, Any]:
    return {
        "user_id": user.id,
        "role": user.role,
        "name": user.name,
        "email": user.email if shows_email else None,
        "bio": user.bio,
        "topics": user.topics,
        "subjects": user.subjects,
        "timezone": user.timezone,
        "created_at": user.created_at,
        "updated_at": user.updated_at,
    }
