"""The SQLite engine without threads: each unit and each read runs on the loop, in its own transaction.

For tests with a mock clock, where a thread would take no time at all and then too much, and for commands that write
once. It makes the loop wait for the disk.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TypeVar

import trio

from mailcrane.model.clock import Clock
from mailcrane.store.errors import StoreClosed, StoreFailed
from mailcrane.store.sqlite.batch import Batches, Job
from mailcrane.store.sqlite.connection import is_engine_error, translate
from mailcrane.store.sqlite.faults import Faults
from mailcrane.store.store import Store
from mailcrane.store.transaction import Transaction

T = TypeVar("T")


class InlineStore(Store):
    """A store whose units are batches of one."""

    def __init__(self, path: str, clock: Clock, faults: Faults) -> None:
        super().__init__()
        self._path = path
        self._clock = clock
        self._batches = Batches(path, clock, faults)
        self._is_closed = False

    async def write(self, unit: Callable[[Transaction], T], *, key: str) -> T:
        """Run a unit on the loop; see `Store.write`. Cancellation is noticed before and after it."""
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check_open()
        job = Job(unit, key, 0.0)
        try:
            self._batches.run(job, lambda: None)
        except BaseException as error:
            self.failure = error
            self.failed.set()
            raise StoreFailed(f"the store's engine is dead: {error!r}") from error
        if job.error is not None:
            self.statistics.failed_commits += int(is_engine_error(job.error))
            raise job.error
        self.statistics.units += 1
        self.statistics.commits += 1
        self.statistics.largest_batch = 1
        for topic in job.wakes:
            self.wakeups.wake(topic)
        await trio.lowlevel.checkpoint()
        value: T = job.value
        return value

    async def read(self, operation: Callable[[Transaction], T]) -> T:
        """Run an operation on the loop; see `Store.read`."""
        await trio.lowlevel.checkpoint()
        self._check_open()
        self.statistics.reads += 1
        connection = self._batches.connection
        connection.execute("BEGIN")
        connection.execute("PRAGMA query_only = ON")
        self._batches.transaction._begin(self._clock.now())
        try:
            return operation(self._batches.transaction)
        except sqlite3.Error as error:
            raise translate(error, self._path) from error
        finally:
            connection.execute("PRAGMA query_only = OFF")
            connection.execute("ROLLBACK")

    def write_delay(self) -> float:
        """Return 0: no unit ever waits."""
        return 0.0

    async def aclose(self) -> None:
        """Close the database."""
        if not self._is_closed:
            self._is_closed = True
            self._batches.close()
        await trio.lowlevel.cancel_shielded_checkpoint()

    def _check_open(self) -> None:
        if self.failure is not None:
            raise StoreFailed(f"the store's engine is dead: {self.failure!r}") from self.failure
        if self._is_closed:
            raise StoreClosed("the store is closed")
