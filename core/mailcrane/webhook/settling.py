"""Commits the results of calls: those that come while one unit is being committed are the next unit together.

A unit of its own for each would cost two changes of threads for each, which is more than the unit itself.
"""

from __future__ import annotations

from collections.abc import Callable

import outcome
import trio

from mailcrane.store.errors import UnknownAccount
from mailcrane.store.persistence import write_persistently
from mailcrane.store.store import Store
from mailcrane.store.transaction import Transaction

Settle = Callable[[Transaction], bool]

_MOST = 50


class Settler:
    """Runs small units together, in the order in which they came.

    Args:
        store: Theirs.
        key: Of all units.
    """

    def __init__(self, store: Store, *, key: str) -> None:
        self._store = store
        self._key = key
        self._waiting: list[_Waiting] = []
        self._bell = trio.Event()

    async def run(self) -> None:
        """Commit what comes until cancelled.

        Raises:
            StoreFailed: the store is dead.
        """
        while True:
            await self._bell.wait()
            self._bell = trio.Event()
            while self._waiting:
                batch, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
                await self._commit(batch)

    async def settle(self, unit: Settle) -> bool:
        """Run a unit, with others that came meanwhile, and return its answer when it is committed.

        Raises:
            UnknownAccount: as the unit raised it.
        """
        one = _Waiting(unit)
        self._waiting.append(one)
        self._bell.set()
        await one.done.wait()
        return one.answer.unwrap()

    async def _commit(self, batch: list[_Waiting]) -> None:
        def unit(transaction: Transaction) -> list[bool]:
            return [one.unit(transaction) for one in batch]

        try:
            answers = await write_persistently(self._store, unit, key=self._key)
        except UnknownAccount as error:
            if len(batch) > 1:
                # One of them: the others are to be committed all the same.
                for one in batch:
                    await self._commit([one])
                return
            batch[0].finish(outcome.Error(error))
            return
        for one, answer in zip(batch, answers, strict=True):
            one.finish(outcome.Value(answer))


class _Waiting:
    """A unit whose answer is waited for."""

    def __init__(self, unit: Settle) -> None:
        self.unit = unit
        self.done = trio.Event()
        self.answer: outcome.Outcome[bool] = outcome.Error(RuntimeError("not settled"))

    def finish(self, answer: outcome.Outcome[bool]) -> None:
        self.answer = answer
        self.done.set()
