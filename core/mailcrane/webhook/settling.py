"""Commits the results of calls: those that come within a few milliseconds are one unit.

A unit of its own for each would cost two changes of threads for each, which is more than the unit itself.
"""

from __future__ import annotations

from collections.abc import Callable

import outcome
import trio

from mailcrane.model.event import NewEvent
from mailcrane.store.errors import UnknownAccount
from mailcrane.store.persistence import write_persistently
from mailcrane.store.store import Store
from mailcrane.store.transaction import Transaction

Settle = Callable[[Transaction, list[NewEvent]], bool]
"""A unit; it puts the events that it records into the list, so that those of all are recorded together."""

_MOST = 50
# The slots of the calls are free already, and a crash makes a call again that was under way: there is a little time.
_GATHER_SECONDS = 0.005


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
            await trio.sleep(_GATHER_SECONDS)
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
            ended: list[NewEvent] = []
            answers = [one.unit(transaction, ended) for one in batch]
            transaction.events.record(ended)
            return answers

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
