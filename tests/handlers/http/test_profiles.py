"""`/profiles`, over a real database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.handlers.http.conftest import Api
from tests.support.lessons import book

SAVED = "Profile created/updated successfully"


def profile(user_id: str, role: str = "student", name: str = "Ada Lovelace", **data: Any) -> dict[str, Any]:
    return {
        "user_id": user_id,
        "role": role,
        "profile_data": {"name": name, "email": f"{user_id}@example.org", "bio": "Hello."} | data,
    }


async def test_a_person_makes_and_changes_their_profile(api: Api) -> None:
    token = api.token("ada", "teacher", name="Token Name", email="token@example.org")
    first = profile("ada", "teacher", topics=["numbers"], subjects=["maths"], timezone="Europe/London")
    assert await api.call("POST", "/profiles", first, token=token) == (201, {"profile_id": "ada", "message": SAVED})
    status, answer = await api.call("GET", "/profiles?user_id=ada", token=token)
    shown = answer["profile"]
    for moment in (shown.pop("created_at"), shown.pop("updated_at")):
        assert moment.endswith("Z")
        assert datetime.fromisoformat(moment) > datetime.now(UTC) - timedelta(minutes=1)
    assert (status, shown) == (
        200,
        {
            "user_id": "ada",
            "role": "teacher",
            "name": "Ada Lovelace",
            "email": "ada@example.org",
            "bio": "Hello.",
            "topics": ["numbers"],
            "subjects": ["maths"],
            "timezone": "Europe/London",
        },
    )

    second = {"userId": "ada", "role": "tutor", "profileData": {"name": " Augusta   Ada King ", "email": None}}
    assert await api.call("POST", "/profiles", second, token=token) == (200, {"profile_id": "ada", "message": SAVED})
    _, answer = await api.call("GET", "/profiles?user_id=ada", token=token)
    shown = answer["profile"]
    assert (shown["name"], shown["email"]) == ("Augusta Ada King", None)
    assert (shown["bio"], shown["topics"]) == ("Hello.", ["numbers"]), "what is left out stays"


async def test_before_there_is_a_profile_the_tokens_name_is_shown(api: Api) -> None:
    token = api.token("ada", "student", given_name="Ada", family_name="Lovelace", email="ada@example.org")
    _, answer = await api.call("GET", "/profiles?user_id=ada", token=token)
    assert (answer["profile"]["name"], answer["profile"]["email"]) == ("Ada Lovelace", "ada@example.org")
    renamed = api.token("ada", "student", name="Ada King")
    _, answer = await api.call("GET", "/profiles?user_id=ada", token=renamed)
    assert (answer["profile"]["name"], answer["profile"]["email"]) == ("Ada King", "ada@example.org")


#: Whose e-mail address is seen by whom, where "kid" of "mum" (the student's parent) and "gran" (the booking's) has a
#: lesson with "teach", "kid2" of "mum2" has one with "teach2", and "kid3" of "mum" has none.
SEES_EMAIL = {
    "kid": {"kid", "mum", "gran", "teach"},
    "mum": {"kid", "mum", "gran", "teach"},
    "gran": {"kid", "mum", "gran", "teach"},
    "teach": {"kid", "mum", "gran", "teach"},
    "kid2": {"kid2", "mum2", "teach2"},
    "mum2": {"kid2", "mum2", "teach2"},
    "teach2": {"kid2", "mum2", "teach2"},
    # A parent and a child without a lesson share none: the contract says bookings.
    "kid3": {"kid3"},
    "stranger": {"stranger"},
    "boss": {"kid", "mum", "gran", "teach", "kid2", "mum2", "teach2", "kid3", "stranger", "boss"},
}
EMAIL_ROLES = {
    "kid": "student", "kid2": "student", "kid3": "student", "mum": "parent", "mum2": "parent", "gran": "parent",
    "teach": "teacher", "teach2": "teacher", "stranger": "student", "boss": "admin",
}  # fmt: skip


async def test_an_e_mail_address_is_for_oneself_admins_and_those_who_share_a_booking(api: Api) -> None:
    await api.meet(*EMAIL_ROLES.items())
    await api.pool.execute("UPDATE users SET email = id || '@example.org', email_set = true")
    await api.pool.execute("UPDATE users SET parent_id = 'mum', parent_accepted = true WHERE id IN ('kid', 'kid3')")
    await api.pool.execute("UPDATE users SET parent_id = 'mum2', parent_accepted = true WHERE id = 'kid2'")
    await book(api.pool, student="kid", teacher="teach", parent="gran")
    await book(api.pool, student="kid2", teacher="teach2", parent=None, status="cancelled")
    for viewer, role in EMAIL_ROLES.items():
        seen = {}
        for person in EMAIL_ROLES:
            status, answer = await api.call("GET", f"/profiles?user_id={person}", token=api.token(viewer, role))
            assert status == 200
            seen[person] = answer["profile"]["email"]
        assert seen == {
            person: f"{person}@example.org" if person in SEES_EMAIL[viewer] else None for person in EMAIL_ROLES
        }, viewer


async def test_an_unknown_profile_is_404_and_none_named_is_400(api: Api) -> None:
    token = api.token("ada")
    status, answer = await api.call("GET", "/profiles?user_id=nobody", token=token)
    assert (status, answer["error"]) == (404, "profile_not_found")
    for query in ("", "?user_id=", "?user_id=%00"):
        status, answer = await api.call("GET", f"/profiles{query}", token=token)
        assert (status, list(answer["fields"])) == (400, ["user_id"])


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_profiles_need_a_token(api: Api, method: str) -> None:
    status, answer = await api.call(method, "/profiles?user_id=ada")
    assert (status, answer["error"]) == (401, "token_missing")


@pytest.mark.parametrize(
    ("sub", "token_role", "user_id", "role"),
    [
        ("kid", "student", "kid", "admin"),
        ("kid", "student", "kid", "teacher"),
        ("teach", "teacher", "teach", "student"),
        ("kid", "student", "other", "student"),
        ("teach", "teacher", "kid", "student"),
        ("mum", "parent", "kid", "student"),
        ("boss", "admin", "kid", "admin"),
        ("boss", "admin", "boss", "teacher"),
    ],
)
async def test_nobody_takes_a_role_or_a_profile_that_is_not_theirs(
    api: Api, sub: str, token_role: str, user_id: str, role: str
) -> None:
    await api.meet(("kid", "student"))
    status, answer = await api.call("POST", "/profiles", profile(user_id, role), token=api.token(sub, token_role))
    assert (status, answer["status_code"]) == (403, 403)
    assert await api.pool.fetchval("SELECT role FROM users WHERE id = 'kid'") == "student"
    assert not await api.pool.fetchval("SELECT bool_or(name_set OR email_set) FROM users")


async def test_an_admin_makes_profiles_for_people_not_yet_known(api: Api) -> None:
    boss = api.token("boss", "admin")
    status, _ = await api.call("POST", "/profiles", profile("new", "teacher"), token=boss)
    assert status == 201
    status, _ = await api.call("POST", "/profiles", profile("new", "teacher", name="New Name"), token=boss)
    assert status == 200
    _, answer = await api.call("GET", "/profiles?user_id=new", token=api.token("new", "teacher", name="Token"))
    assert answer["profile"]["name"] == "New Name"


async def test_whoever_was_known_by_name_alone_gets_their_tokens_address(api: Api) -> None:
    body = profile("new", "teacher", name="New Name")
    del body["profile_data"]["email"]
    await api.call("POST", "/profiles", body, token=api.token("boss", "admin"))
    token = api.token("new", "teacher", name="Token", email="token@example.org")
    _, answer = await api.call("GET", "/profiles?user_id=new", token=token)
    assert (answer["profile"]["name"], answer["profile"]["email"]) == ("New Name", "token@example.org")


async def test_the_role_in_the_token_is_the_one_that_stays(api: Api) -> None:
    await api.call("POST", "/profiles", profile("new", "teacher"), token=api.token("boss", "admin"))
    _, answer = await api.call("GET", "/profiles?user_id=new", token=api.token("new", "student"))
    assert answer["profile"]["role"] == "student"


async def test_a_student_names_a_parent_and_may_take_it_back(api: Api) -> None:
    await api.meet(("mum", "parent"), ("kid", "student"))
    kid = api.token("kid")
    for parent_id, stored in (("mum", "mum"), (None, None)):
        status, _ = await api.call("POST", "/profiles", profile("kid", parent_id=parent_id), token=kid)
        assert status in (200, 201)
        assert await api.pool.fetchval("SELECT parent_id FROM users WHERE id = 'kid'") == stored
    assert api.told.people[-1] == {"kid", "mum"}


async def test_who_is_no_student_anymore_has_no_parent(api: Api) -> None:
    await api.meet(("mum", "parent"), ("kid", "student"))
    boss = api.token("boss", "admin")
    await api.call("POST", "/profiles", profile("kid", parent_id="mum"), token=boss)
    await api.call("POST", "/profiles", profile("kid", "teacher"), token=boss)
    assert await api.pool.fetchval("SELECT parent_id FROM users WHERE id = 'kid'") is None


@pytest.mark.parametrize("parent_id", ["nobody", "kid", "teach"])
async def test_a_parent_must_be_a_known_parent(api: Api, parent_id: str) -> None:
    await api.meet(("kid", "student"), ("teach", "teacher"))
    status, answer = await api.call("POST", "/profiles", profile("kid", parent_id=parent_id), token=api.token("kid"))
    assert (status, list(answer["fields"])) == (400, ["profile_data.parent_id"])


async def test_who_is_no_student_names_no_parent(api: Api) -> None:
    await api.meet(("mum", "parent"))
    status, answer = await api.call(
        "POST", "/profiles", profile("teach", "teacher", parent_id="mum"), token=api.token("teach", "teacher")
    )
    assert (status, list(answer["fields"])) == (400, ["profile_data.parent_id"])


async def test_everyone_hears_of_a_new_name_and_of_nothing_else(api: Api) -> None:
    token = api.token("ada", "student", name="Ada Lovelace")
    await api.call("POST", "/profiles", profile("ada"), token=token)
    await api.call("POST", "/profiles", profile("ada", bio="Other."), token=token)
    assert api.told.people == []
    await api.call("POST", "/profiles", profile("ada", name="Ada King"), token=token)
    assert api.told.people == [{"ada"}]


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"role": "wizard"}, ["role"]),
        ({"role": 5}, ["role"]),
        ({"user_id": ""}, ["user_id"]),
        ({"user_id": "x" * 129}, ["user_id"]),
        ({"profile_data": None}, ["profile_data"]),
        ({"name": ""}, ["profile_data.name"]),
        ({"name": "   "}, ["profile_data.name"]),
        ({"name": "x" * 201}, ["profile_data.name"]),
        ({"name": None}, ["profile_data.name"]),
        ({"name": "a\0b"}, ["profile_data.name"]),
        ({"email": "nonsense"}, ["profile_data.email"]),
        ({"email": "a@" + "x" * 320}, ["profile_data.email"]),
        ({"bio": "x" * 5001}, ["profile_data.bio"]),
        ({"topics": ["x"] * 51}, ["profile_data.topics"]),
        ({"subjects": ["ok", "x" * 101]}, ["profile_data.subjects[1]"]),
        ({"topics": "maths"}, ["profile_data.topics"]),
        ({"timezone": "Mars/Base"}, ["profile_data.timezone"]),
        ({"timezone": ""}, ["profile_data.timezone"]),
        ({"timezone": "/".join("a" * 300)}, ["profile_data.timezone"]),
        ({"name": " " * 1001}, ["profile_data.name"]),
        ({"role": "x" * 1001}, ["role"]),
        ({"parent_id": 7}, ["profile_data.parent_id"]),
        ({"name": "", "email": "", "timezone": "x"},
         ["profile_data.name", "profile_data.email", "profile_data.timezone"]),
    ],
)  # fmt: skip
async def test_what_cannot_stand_in_a_profile_is_named(api: Api, changes: dict[str, Any], fields: list[str]) -> None:
    body = profile("ada")
    for name, value in changes.items():
        (body if name in body else body["profile_data"])[name] = value
    status, answer = await api.call("POST", "/profiles", body, token=api.token("ada"))
    assert (status, answer["error"], list(answer["fields"])) == (400, "validation_failed", fields)


async def test_the_longest_of_everything_fits(api: Api) -> None:
    body = profile("ü" * 128, name="x" * 200, bio="y" * 5000, topics=["z" * 100] * 50, email="a@" + "b" * 318)
    status, _ = await api.call("POST", "/profiles", body, token=api.token("ü" * 128))
    assert status == 201
