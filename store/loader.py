"""Statements shared by those who ask at the same time.

Whatever is asked of a pool while one statement of a kind is under way is the next one's batch, as in
`realtime.log`. An answer is never older than its question: nobody joins a statement that has begun.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Final, Generic, TypeVar

from store.database import Executor, Pool
from store.errors import Away

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

#: What one statement answers for each of several keys, in their order; the keys are different ones.
Load = Callable[[Executor, Sequence[Key]], Awaitable[Sequence[Value]]]

#: Keys in one statement: beyond this a larger batch saves little, and delays the first of it.
MAX_BATCH_KEYS: Final = 500
#: Keys that may wait. Beyond it the database is too slow for the load.
MAX_WAITING_KEYS: Final = 10_000


async def shared(executor: Executor, load: Load[Key, Value], key: Key) -> Value:
    """`load`'s answer for `key`: on a pool, in one statement with others who ask; on a connection, alone.

    Raises what `load` raises. A key that makes it fail does so for itself alone; :class:`Away` is for everybody,
    and for those who come when MAX_WAITING_KEYS wait already.
    """
    if not isinstance(executor, Pool):
        [value] = await load(executor, [key])
        return value
    loader: Loader[Key, Value] | None = executor.loaders.get(load)
    if loader is None:
        loader = executor.loaders[load] = Loader(executor, load)
    return await loader.get(key)


class Loader(Generic[Key, Value]):
    """Gathers keys for `load`; one statement is under way at a time."""

    def __init__(self, pool: Pool, load: Load[Key, Value]) -> None:
        self._pool = pool
        self._load = load
        self._waiting: dict[Key, list[asyncio.Future[Value]]] = {}
        self._reader: asyncio.Task[None] | None = None

    async def get(self, key: Key) -> Value:
        if len(self._waiting) >= MAX_WAITING_KEYS and key not in self._waiting:
            raise Away("too many wait for an answer")
        future: asyncio.Future[Value] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append(future)
        if self._reader is None:
            self._reader = asyncio.create_task(self._read_batches(), name="loader")
        return await future

    async def _read_batches(self) -> None:
        # Those who ask in the same turn of the loop share the first statement.
        await asyncio.sleep(0)
        try:
            while self._waiting:
                keys = list(self._waiting)[:MAX_BATCH_KEYS]
                await self._settle([(key, self._waiting.pop(key)) for key in keys])
        finally:
            self._reader = None

    async def _settle(self, batch: list[tuple[Key, list[asyncio.Future[Value]]]]) -> None:
        try:
            values = await self._load(self._pool, [key for key, _ in batch])
            answers = list(zip(batch, values, strict=True))
        except Exception as error:  # noqa: BLE001  # it goes to those who ask
            if len(batch) > 1 and not isinstance(error, Away):
                middle = len(batch) // 2
                await self._settle(batch[:middle])
                await self._settle(batch[middle:])
                return
            for _, futures in batch:
                for future in futures:
                    if not future.done():
                        future.set_exception(error)
            return
        for (_, futures), value in answers:
            for future in futures:
                if not future.done():
                    future.set_result(value)
