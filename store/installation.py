"""Which installation this is: what shares that are mounted here are told apart by."""

from __future__ import annotations

from store.database import Executor
from store.errors import translated

#: The key of `server_keys` that names it. Not a secret.
_KEY = "files"


class Installation:
    """The :class:`store.objects.local.Owner` of a folder."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._name: str | None = None

    async def name(self) -> str:
        """Raises Away."""
        if self._name is None:
            with translated():
                key: bytes = await self._executor.fetchval("SELECT key FROM server_keys WHERE name = $1", _KEY)
            self._name = key.hex()
        return self._name

    async def has_files(self) -> bool:
        """Whether anything lies in the object store, or should. Raises Away."""
        with translated():
            found: bool = await self._executor.fetchval(
                """
                SELECT EXISTS (SELECT FROM files WHERE state IN ('processing', 'ready'))
                    OR EXISTS (SELECT FROM uploads WHERE state IS NOT NULL)
                """
            )
        return found
