"""Who is asking: a verified token's claims as one frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from domain.errors import Unauthenticated

Role = Literal["student", "parent", "teacher", "admin"]

ROLES: Final[frozenset[str]] = frozenset(get_args(Role))
#: Other systems' words for the same role.
ROLE_SYNONYMS: Final[Mapping[str, Role]] = {
    "tutor": "teacher",
    "instructor": "teacher",
    "expert": "teacher",
}
_ROLE_OF_WORD: Final[Mapping[str, Role]] = {role: role for role in get_args(Role)} | dict(ROLE_SYNONYMS)
MAX_USER_ID_CHARACTERS: Final = 128
MAX_NAME_CHARACTERS: Final = 200
MAX_EMAIL_CHARACTERS: Final = 320


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """The bearer of a verified token. `expires_at` is in Unix seconds; None only for demo tokens without `exp`."""

    user_id: str
    role: Role
    first_name: str = ""
    last_name: str = ""
    email: str | None = None
    expires_at: float | None = None

    @property
    def is_admin(self) -> bool:
        return self.role == "admin"


def from_claims(claims: Mapping[str, Any]) -> Identity:
    """Read an identity from *verified* claims (contract-rest: `sub`, `role`, names, `email`, `exp`).

    Names come from `first_name`/`last_name`, `given_name`/`family_name` or `name`, in that order.
    Raises Unauthenticated naming the claim that cannot be used.
    """
    user_id = claims.get("sub")
    if not isinstance(user_id, str) or not 1 <= len(user_id) <= MAX_USER_ID_CHARACTERS or "\x00" in user_id:
        raise _unusable(f"its 'sub' is not a string of 1 to {MAX_USER_ID_CHARACTERS} characters")
    role = role_named(claims.get("role"))
    if role is None:
        raise _unusable("its 'role' is not one of student, parent, teacher, admin")
    first_name, last_name = _names(claims)
    email = _text(claims, "email", MAX_EMAIL_CHARACTERS) or None
    expires_at = claims.get("exp")
    return Identity(
        user_id=user_id,
        role=role,
        first_name=first_name,
        last_name=last_name,
        email=email,
        expires_at=float(expires_at) if expires_at is not None else None,
    )


def role_named(word: object) -> Role | None:
    """The role that `word` means (`tutor`, `instructor`, `expert` are teachers), or None."""
    if not isinstance(word, str):
        return None
    return _ROLE_OF_WORD.get(word.lower())


def split_name(name: str) -> tuple[str, str]:
    """First and last name of a full one: the last word is the last name, white space is folded."""
    words = name.split()
    if len(words) < 2:
        return " ".join(words), ""
    return " ".join(words[:-1]), words[-1]


def full_name(first_name: str, last_name: str) -> str:
    return f"{first_name} {last_name}".strip()


def _names(claims: Mapping[str, Any]) -> tuple[str, str]:
    for first_key, last_key in (("first_name", "last_name"), ("given_name", "family_name")):
        first = _text(claims, first_key, MAX_NAME_CHARACTERS)
        last = _text(claims, last_key, MAX_NAME_CHARACTERS)
        if first or last:
            return first, last
    return split_name(_text(claims, "name", MAX_NAME_CHARACTERS))


def _text(claims: Mapping[str, Any], key: str, most: int) -> str:
    value = claims.get(key)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > most or "\x00" in value:
        raise _unusable(f"its '{key}' is not a string of at most {most} characters")
    return value.strip()


def _unusable(why: str) -> Unauthenticated:
    return Unauthenticated(f"This token cannot be used: {why}.", code="invalid_token")
