"""Names of rooms, as they stand in links."""

from __future__ import annotations

import re
from uuid import UUID

import pytest

from store.room_names import new_room_name


def test_room_names_are_readable_unguessable_and_never_a_uuid() -> None:
    names = {new_room_name() for _ in range(2000)}
    assert len(names) == 2000
    for name in names:
        assert re.fullmatch(r"[a-z]+-[a-z]+-[b-df-hj-np-tv-z2-9]{10}", name)
        with pytest.raises(ValueError, match="badly formed"):
            UUID(name)
