"""What clients send, as typed structs: the same decoding for REST bodies and Socket.IO payloads.

A struct names its fields in snake_case; clients may write them in camelCase, too (`courseId` = `course_id`).
Fields that the struct does not know are ignored, wrong types are not. Keys inside a field of type `dict` or
`Any` are the client's own and stay as they are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import MAXYEAR, MINYEAR, UTC, datetime
from functools import cache
from typing import Annotated, Any, Final, TypeVar

import msgspec

from domain.errors import BadRequest, invalid
from domain.identity import MAX_USER_ID_CHARACTERS
from domain.people import MAX_TIMEZONE_CHARACTERS

StructT = TypeVar("StructT", bound=msgspec.Struct)

#: A moment: ISO 8601 with an offset or Z. :func:`decode` hands it on in UTC.
Instant = Annotated[datetime, msgspec.Meta(tz=True)]

UserId = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_USER_ID_CHARACTERS)]
#: Whether there is such a time zone is `domain.people.timezone_problem`'s to say.
TimezoneName = Annotated[str, msgspec.Meta(max_length=MAX_TIMEZONE_CHARACTERS)]

#: No honest payload nests deeper; deeper ones cost the parsers behind us their stack.
MAX_DEPTH: Final = 32
#: The longest path that an error repeats: keys come from the client and may be long.
MAX_SHOWN_PATH_CHARACTERS: Final = 100

NOT_AN_INSTANT: Final = "must be an ISO 8601 date and time with an offset, such as 2026-01-31T09:00:00Z"


def decode(type_: type[StructT], raw: object) -> StructT:
    """`raw`, as JSON was parsed, as a `type_`.

    Raises BadRequest: `not_an_object`, or `validation_failed` whose `fields` name everything that is missing
    or wrong by its path, such as ``profile_data.name``.
    """
    if not isinstance(raw, dict):
        raise BadRequest("What was sent must be one JSON object.", code="not_an_object")
    shape = _shape_of(type_)
    named = _named_plainly(shape, raw)
    if named is None:
        if not _is_storable(raw):
            refuse_unstorable(raw)
        named = _named(shape, raw)
    try:
        value = msgspec.convert(named, type_)
    except msgspec.ValidationError as error:
        problems = _problems(shape, named)
        if problems:
            raise invalid(problems) from None
        raise BadRequest(f"What was sent is not valid: {error}.", code="validation_failed") from None
    if shape.has_instants:
        _put_in_utc(value)
    return value


def _named_plainly(shape: _Shape, raw: dict[Any, object]) -> dict[str, object] | None:
    """What :func:`refuse_unstorable` and :func:`_named` make of the usual payload: fields that are known, each once,
    with plain values that can be stored. None for any other, which they take through in full."""
    named: dict[str, object] = {}
    for key, value in raw.items():
        name = shape.spellings.get(key)
        if name is None or name in named:
            return None
        if isinstance(value, str):
            if "\x00" in value or (not value.isascii() and _LONE_SURROGATE.search(value)):
                return None
        elif value is not None and not isinstance(value, int):
            return None
        named[name] = value
    return named


def _is_storable(raw: dict[Any, object]) -> bool:
    """Whether :func:`refuse_unstorable` would find nothing: the same, level by level and without paths, because whoever
    sends tens of thousands of values must not hold up the others for long."""
    level: list[Any] = [raw]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for container in level:
            items = container
            if type(container) is dict:
                items = [*container, *container.values()]
                if not all(type(key) is str for key in container):
                    return False
            for item in items:
                kind = type(item)
                if kind is str:
                    if "\x00" in item or (not item.isascii() and _LONE_SURROGATE.search(item)):
                        return False
                elif kind is dict or kind is list:
                    inner.append(item)
                elif kind is float:
                    if not math.isfinite(item):
                        return False
                elif item is not None and kind is not int and kind is not bool:
                    return False
        if not inner:
            return True
        level = inner
    return False


def refuse_unstorable(value: object, path: str = "", depth: int = 0) -> None:
    """Raise BadRequest for what JSON or Postgres cannot hold, anywhere inside `value`.

    That is: NUL and lone surrogates in strings and keys, numbers that are not finite, nesting beyond
    MAX_DEPTH, and values that no JSON parser makes.
    """
    if isinstance(value, str):
        _refuse_unstorable_text(value, path)
    elif isinstance(value, dict | list):
        if depth >= MAX_DEPTH:
            raise BadRequest(f"What was sent nests deeper than {MAX_DEPTH} levels.", code="too_deep")
        if isinstance(value, list):
            for index, item in enumerate(value):
                refuse_unstorable(item, f"{path}[{index}]", depth + 1)
            return
        for key, item in value.items():
            inner = f"{path}.{key}" if path else str(key)
            _refuse_unstorable_text(key, inner)
            refuse_unstorable(item, inner, depth + 1)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise invalid({_shown(path): "must be a finite number"})
    elif value is not None and not isinstance(value, int):
        raise invalid({_shown(path): "must be JSON, without binary data"})


def _refuse_unstorable_text(text: object, path: str) -> None:
    if not isinstance(text, str):
        raise invalid({_shown(path): "must be JSON, whose keys are strings"})
    if "\x00" in text:
        raise invalid({_shown(path): "must not contain NUL characters"})
    if not text.isascii() and _LONE_SURROGATE.search(text):
        raise invalid({_shown(path): "must be valid Unicode, without lone surrogates"})


_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def _shown(path: str) -> str:
    """`path` as an error may repeat it: short, and itself without what is refused."""
    short = path if len(path) <= MAX_SHOWN_PATH_CHARACTERS else path[:MAX_SHOWN_PATH_CHARACTERS] + "…"
    return short.replace("\x00", "\\u0000").encode("utf-8", "backslashreplace").decode()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Field:
    name: str
    type: Any
    required: bool
    #: The accepted values of a Literal.
    choices: tuple[object, ...]
    #: The struct inside: the field itself, or each item of an array.
    inner: _Shape | None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Shape:
    """What :func:`decode` needs to know of a struct, worked out once."""

    fields: tuple[_Field, ...]
    #: Every accepted spelling of a field, and the field's name.
    spellings: Mapping[str, str]
    inner: Mapping[str, _Shape]
    has_instants: bool


@cache
def _shape_of(type_: type[msgspec.Struct]) -> _Shape:
    fields = []
    has_instants = False
    for field in msgspec.structs.fields(type_):
        kinds = _kinds(msgspec.inspect.type_info(_without_unset(field.type)))
        structs = [kind.cls for kind in kinds if isinstance(kind, msgspec.inspect.StructType)]
        inner = _shape_of(structs[0]) if structs else None
        has_instants |= any(isinstance(kind, msgspec.inspect.DateTimeType) for kind in kinds)
        has_instants |= inner is not None and inner.has_instants
        choices = tuple(
            value for kind in kinds if isinstance(kind, msgspec.inspect.LiteralType) for value in kind.values
        )
        fields.append(
            _Field(
                name=field.encode_name,
                type=_without_unset(field.type),
                required=field.required,
                choices=choices,
                inner=inner,
            )
        )
    spellings = {_camel(field.name): field.name for field in fields} | {f.name: f.name for f in fields}
    return _Shape(
        fields=tuple(fields),
        spellings=spellings,
        inner={field.name: field.inner for field in fields if field.inner},
        has_instants=has_instants,
    )


def _kinds(info: msgspec.inspect.Type) -> list[msgspec.inspect.Type]:
    """The kinds of value that may stand in a field, looking into unions, arrays and annotations."""
    if isinstance(info, msgspec.inspect.Metadata):
        return _kinds(info.type)
    if isinstance(info, msgspec.inspect.UnionType):
        return [kind for member in info.types for kind in _kinds(member)]
    if isinstance(info, msgspec.inspect.ListType):
        return [info, *_kinds(info.item_type)]
    return [info]


def _without_unset(type_: Any) -> Any:
    """msgspec takes UNSET only in a struct's own fields, but a field is explained on its own."""
    members = getattr(type_, "__args__", ())
    if msgspec.UnsetType not in members:
        return type_
    kept = [member for member in members if member is not msgspec.UnsetType]
    union = kept[0]
    for member in kept[1:]:
        union |= member
    return union


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _named(shape: _Shape, raw: Mapping[str, object]) -> dict[str, object]:
    """`raw` with the struct's own spelling of its fields. Where both spellings came, the struct's wins."""
    named: dict[str, object] = {}
    for key, value in raw.items():
        name = shape.spellings.get(key)
        if name is None or (name != key and name in named):
            continue
        inner = shape.inner.get(name)
        if inner is not None:
            if isinstance(value, dict):
                value = _named(inner, value)
            elif isinstance(value, list):
                value = [_named(inner, item) if isinstance(item, dict) else item for item in value]
        named[name] = value
    return named


def _problems(shape: _Shape, named: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    """Everything that is wrong, by path: msgspec itself stops at the first."""
    problems: dict[str, str] = {}
    for field in shape.fields:
        path = prefix + field.name
        if field.name not in named:
            if field.required:
                problems[path] = "is required"
            continue
        value = named[field.name]
        if field.inner is not None and isinstance(value, dict):
            found = _problems(field.inner, value, f"{path}.")
            if found:
                problems |= found
                continue
        try:
            msgspec.convert(value, field.type)
        except msgspec.ValidationError as error:
            said, _, inside = str(error).partition(" - at `$")
            problems[_shown(path + inside.removesuffix("`"))] = _in_plain_words(said, field.choices)
    return problems


_KINDS_IN_WORDS: Final[Mapping[str, str]] = {
    "str": "a string",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "object": "an object",
    "array": "an array",
    "uuid": "a UUID",
    "null": "null",
}
_WRONG_KIND: Final = re.compile(r"Expected `(?P<expected>[^`]+)`, got `(?P<came>[^`]+)`")
_WRONG_LENGTH: Final = re.compile(r"Expected `(?P<of>str|array|object)` of length (?P<sign>>=|<=) (?P<bound>\d+)")
_WRONG_SIZE: Final = re.compile(r"Expected `(?:int|float)` (?P<sign>>=|<=|>|<) (?P<bound>\S+)")
_MISSING: Final = re.compile(r"Object missing required field `(?P<name>[^`]+)`")
_SIGNS_IN_WORDS: Final[Mapping[str, str]] = {
    ">=": "at least",
    "<=": "at most",
    ">": "more than",
    "<": "less than",
}
_UNITS: Final[Mapping[str, str]] = {"str": "character", "array": "item", "object": "entry"}


def _in_plain_words(said: str, choices: tuple[object, ...]) -> str:
    """msgspec's sentence about one field, for a person who does not know Python."""
    if "datetime" in said:
        return NOT_AN_INSTANT
    if choices:
        return "must be one of " + ", ".join(str(choice) for choice in choices)
    if said == "Invalid UUID":
        return "must be a UUID"
    if found := _WRONG_KIND.fullmatch(said):
        expected = [_KINDS_IN_WORDS.get(kind, kind) for kind in found["expected"].split(" | ")]
        came = "a number" if found["came"] in ("int", "float") else _KINDS_IN_WORDS.get(found["came"])
        came = "a fraction" if (found["expected"], found["came"]) == ("int", "float") else came
        return f"must be {' or '.join(expected)}" + (f", not {came}" if came else "")
    if found := _WRONG_LENGTH.fullmatch(said):
        unit = _UNITS[found["of"]] + ("" if found["bound"] == "1" else "s")
        return f"must have {_SIGNS_IN_WORDS[found['sign']]} {found['bound']} {unit}"
    if found := _WRONG_SIZE.fullmatch(said):
        return f"must be {_SIGNS_IN_WORDS[found['sign']]} {found['bound']}"
    if said.startswith("Expected `str` matching regex"):
        return "does not have the form that is expected here"
    if found := _MISSING.fullmatch(said):
        return f"lacks {found['name']}, which is required"
    return said[:1].lower() + said[1:]


def in_utc(moment: datetime, path: str) -> datetime:
    """`moment` in UTC. Raises BadRequest for the calendar's first and last year.

    At its ends Python can neither move to another zone nor add a minute, and asyncpg writes "infinity".
    """
    if not MINYEAR < moment.year < MAXYEAR:
        raise invalid({path: "must be a date of our time"})
    return moment.astimezone(UTC)


def _put_in_utc(struct: msgspec.Struct, prefix: str = "") -> None:
    """Turn every datetime inside to UTC, in place. Raises BadRequest for those that leave the calendar."""
    for name in struct.__struct_fields__:
        value = getattr(struct, name)
        path = prefix + name
        if isinstance(value, datetime):
            msgspec.structs.force_setattr(struct, name, in_utc(value, path))
        elif isinstance(value, msgspec.Struct):
            _put_in_utc(value, f"{path}.")
        elif isinstance(value, list):
            for index, item in enumerate(value):
                if isinstance(item, msgspec.Struct):
                    _put_in_utc(item, f"{path}[{index}].")
