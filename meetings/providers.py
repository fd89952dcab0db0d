"""The video providers that there are, and those that a server's settings suffice for.

Another one is a file like :mod:`meetings.daily`, a line of :data:`PROVIDERS` and of :class:`Options`, and its settings.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol

from meetings import chime, daily, jitsi, peer
from meetings.provider import Provider, ProviderFailed

DEFAULT: Final = peer.NAME


class Options(peer.Options, jitsi.Options, daily.Options, chime.Options, Protocol):
    """The settings that choose and make providers."""

    @property
    def meeting_provider(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Kind:
    """A provider that there is: what its settings lack, and how it is opened."""

    problem: Callable[[Any], str | None]
    opened: Callable[[Any], AbstractAsyncContextManager[Provider]]


PROVIDERS: Final[Mapping[str, Kind]] = {
    peer.NAME: Kind(peer.problem, peer.opened),
    jitsi.NAME: Kind(jitsi.problem, jitsi.opened),
    daily.NAME: Kind(daily.problem, daily.opened),
    chime.NAME: Kind(chime.problem, chime.opened),
}


def problem(options: Options) -> str | None:
    """Why the chosen provider cannot be used, as a sentence; None where it can."""
    found = PROVIDERS[options.meeting_provider].problem(options)
    return None if found is None else f"MEETING_PROVIDER is {options.meeting_provider}, but {found}"


class Providers:
    """The providers that a server can use. New meetings are of `chosen`; a meeting stays with its own."""

    def __init__(self, chosen: Provider, all_of_them: Mapping[str, Provider]) -> None:
        self.chosen = chosen
        self._by_name = dict(all_of_them)

    @property
    def names(self) -> Sequence[str]:
        """All that can be used."""
        return list(self._by_name)

    def by_name(self, name: str) -> Provider:
        """Raises ProviderFailed (`provider_not_set_up`) for one whose settings are gone."""
        provider = self._by_name.get(name)
        if provider is None:
            raise ProviderFailed(
                f"This meeting is with the video provider {name}, which is not set up any more.",
                code="provider_not_set_up",
            )
        return provider


@asynccontextmanager
async def opened(options: Options) -> AsyncIterator[Providers]:
    """All providers that the settings suffice for, the chosen one among them: `problem(options)` is None."""
    async with AsyncExitStack() as stack:
        usable = {
            name: await stack.enter_async_context(kind.opened(options))
            for name, kind in PROVIDERS.items()
            if kind.problem(options) is None
        }
        yield Providers(usable[options.meeting_provider], usable)
