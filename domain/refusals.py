"""What a constraint of the database means to whoever asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from domain.errors import EncountersError
from store.errors import Refused

#: By the name of a constraint: the error that it becomes.
Meanings = Mapping[str, Callable[[], EncountersError]]


@contextmanager
def refusals_named(meanings: Meanings) -> Iterator[None]:
    """Raise what a refused constraint means; one that `meanings` does not know passes as it is."""
    try:
        yield
    except Refused as refused:
        error = meanings.get(refused.constraint)
        if error is None:
            raise
        raise error() from refused
