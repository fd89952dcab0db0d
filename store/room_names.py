"""Names of rooms: what a session is called in a link."""

from __future__ import annotations

import secrets
from typing import Final

_ROOM_ADJECTIVES: Final = (
    "amber", "bold", "brave", "bright", "calm", "clear", "clever", "cosy", "crisp", "eager", "early", "fair",
    "fresh", "gentle", "glad", "golden", "grand", "green", "happy", "kind", "lively", "lucky", "mellow", "merry",
    "noble", "patient", "proud", "quick", "quiet", "ready", "silver", "smart", "steady", "sunny", "swift", "warm",
)  # fmt: skip
_ROOM_NOUNS: Final = (
    "acorn", "atlas", "badger", "beacon", "birch", "brook", "cedar", "cloud", "comet", "compass", "coral", "falcon",
    "fern", "finch", "forest", "garden", "harbor", "heron", "island", "lantern", "lark", "maple", "meadow", "otter",
    "owl", "pebble", "planet", "prairie", "quill", "river", "robin", "sparrow", "spruce", "summit", "tulip", "willow",
)  # fmt: skip
#: No vowels, so that no word appears by chance, and no characters that are read as others.
_ROOM_ALPHABET: Final = "bcdfghjkmnpqrstvwxz23456789"
#: 27 ^ 10 is more than 2 ^ 47: nobody guesses into a room, and membership is asked for anyway.
_ROOM_RANDOM_CHARACTERS: Final = 10


def new_room_name() -> str:
    """A readable, URL-safe name that cannot be guessed, such as `amber-otter-x7kq2mdw9r`."""
    suffix = "".join(secrets.choice(_ROOM_ALPHABET) for _ in range(_ROOM_RANDOM_CHARACTERS))
    return f"{secrets.choice(_ROOM_ADJECTIVES)}-{secrets.choice(_ROOM_NOUNS)}-{suffix}"
