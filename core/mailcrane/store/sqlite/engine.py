"""The SQLite engine with a writer thread: group commit.

Units gather on the loop for one of its turns, and are handed over together. The thread runs what is there in one
transaction, each unit in a savepoint, commits once, and only then answers all of them, with one call into the loop.
While it waits for the disk, the next units gather. A turn is short where the loop has nothing to do, and takes as long
as all connections with something to say where it is busy: the more there is to do, the larger the batches.

When the loop has work that never waits, the thread gets to run once per switch interval of the interpreter, 5 ms
unless set: a server sets ``sys.setswitchinterval(0.0005)``.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TypeVar

import outcome
import trio

from mailcrane.model.clock import Clock
from mailcrane.observe.metrics import Counter
from mailcrane.store.errors import StoreClosed, StoreFailed
from mailcrane.store.sqlite.batch import Batches, Job
from mailcrane.store.sqlite.connection import is_engine_error
from mailcrane.store.sqlite.faults import NO_FAULTS, Faults
from mailcrane.store.sqlite.inline import InlineStore
from mailcrane.store.sqlite.readers import Readers
from mailcrane.store.store import Store
from mailcrane.store.transaction import Transaction

T = TypeVar("T")

_units = Counter("mailcrane_store_units_total", "Units of work that were committed.")
_commits = Counter("mailcrane_store_commits_total", "Commits, each with one flush of the disk.")

# A batch ends when nobody waits, or at these bounds, so that the first unit of a batch is answered in time.
_MOST_UNITS = 512
_MOST_SECONDS = 0.05
# When nothing was written for so long, free pages are given back, a bounded number at a time.
_QUIET_SECONDS = 0.02


async def open_sqlite(
    path: str, clock: Clock, *, inline: bool = False, readers: int = 4, faults: Faults = NO_FAULTS
) -> Store:
    """Open a database, which is made or brought to the present schema as needed. To be called inside trio.

    Args:
        path: Of the file; ``:memory:`` only with `inline`.
        clock: Gives units their instant.
        inline: Run units and reads on the loop, for tests with a mock clock and for short commands.
        readers: Read connections at most.
        faults: For tests.

    Raises:
        SchemaTooNew: a later release wrote the database.
        StoreError: the database cannot be opened.
    """
    if inline:
        return InlineStore(path, clock, faults)
    if path == ":memory:":
        raise ValueError("a database in memory has one connection: open it inline")
    batches = await trio.to_thread.run_sync(Batches, path, clock, faults)
    return SQLiteStore(batches, Readers(path, clock, readers))


class SQLiteStore(Store):
    """A store with a writer thread and a pool of read connections."""

    def __init__(self, batches: Batches, readers: Readers) -> None:
        super().__init__()
        self._batches = batches
        self._readers = readers
        self._token = trio.lowlevel.current_trio_token()
        # Handed over in this turn of the loop; on the loop only.
        self._gathering: list[Job] = []
        self._queue: queue.SimpleQueue[list[Job] | None] = queue.SimpleQueue()
        # Taken over by the thread and not run yet; in the thread only.
        self._waiting: deque[Job] = deque()
        self._is_last = False
        # Every job that is not answered, in order; on the loop only.
        self._open: dict[Job, None] = {}
        self._is_closing = False
        self._ended = trio.Event()
        self._thread = threading.Thread(target=self._write_batches, name="mailcrane store", daemon=True)
        self._thread.start()

    async def write(self, unit: Callable[[Transaction], T], *, key: str) -> T:
        """Run a unit in the writer thread; see `Store.write`."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self.failure is not None:
            raise StoreFailed(f"the store's engine is dead: {self.failure!r}") from self.failure
        if self._is_closing:
            raise StoreClosed("the store is closed")
        job = Job(unit, key, time.monotonic())
        job.task = trio.lowlevel.current_task()
        self._open[job] = None
        if not self._gathering:
            self._token.run_sync_soon(self._hand_over)
        self._gathering.append(job)

        def abort(_: object) -> trio.lowlevel.Abort:
            job.task = None
            return trio.lowlevel.Abort.SUCCEEDED

        value: T = await trio.lowlevel.wait_task_rescheduled(abort)
        return value

    async def read(self, operation: Callable[[Transaction], T]) -> T:
        """Run an operation on a read connection; see `Store.read`."""
        self.statistics.reads += 1
        return await self._readers.run(operation)

    def write_delay(self) -> float:
        """Return the age in seconds of the oldest unit that is not answered."""
        oldest = next(iter(self._open), None)
        return 0.0 if oldest is None else time.monotonic() - oldest.queued_at

    async def aclose(self) -> None:
        """Commit what is queued, end the thread and close the connections."""
        with trio.CancelScope(shield=True):
            if not self._is_closing:
                self._is_closing = True
                self._hand_over()
                self._queue.put(None)
            await self._ended.wait()
            await trio.to_thread.run_sync(self._thread.join)
            self._readers.close()

    # --- in the thread ------------------------------------------------------------------------------------------

    def _write_batches(self) -> None:
        failure: BaseException | None = None
        try:
            self._until_closed()
        except BaseException as error:
            failure = error
        try:
            self._batches.close()
        except Exception as error:
            failure = failure or error
        self._soon(lambda: self._end(failure))

    def _until_closed(self) -> None:
        may_vacuum = True
        while True:
            if not self._waiting and not self._is_last:
                try:
                    self._take_over(self._queue.get(timeout=_QUIET_SECONDS if may_vacuum else None))
                except queue.Empty:
                    may_vacuum = self._batches.vacuum()
                    continue
            if not self._waiting:
                return
            self._write_batch()
            may_vacuum = True

    def _take_over(self, jobs: list[Job] | None) -> None:
        if jobs is None:
            self._is_last = True
        else:
            self._waiting.extend(jobs)

    def _write_batch(self) -> None:
        """Run a batch and have it answered. What a failure of the whole batch keeps from running is in the next."""
        taken = 1
        end = time.monotonic() + _MOST_SECONDS

        def more() -> Job | None:
            nonlocal taken
            if taken >= _MOST_UNITS or time.monotonic() > end:
                return None
            if not self._waiting and not self._is_last:
                try:
                    self._take_over(self._queue.get_nowait())
                except queue.Empty:
                    return None
            if not self._waiting:
                return None
            taken += 1
            return self._waiting.popleft()

        batch = self._batches.run(self._waiting.popleft(), more)
        # The closure binds this batch: by the time it runs, the thread is at the next one.
        self._soon(lambda: self._answer(batch))

    def _soon(self, function: Callable[[], None]) -> None:
        try:
            self._token.run_sync_soon(function)
        except trio.RunFinishedError:
            # The loop ended without aclose; what was committed is stored and nobody is left to be told.
            self._queue.put(None)

    # --- on the loop --------------------------------------------------------------------------------------------

    def _hand_over(self) -> None:
        if self._gathering:
            self._queue.put(self._gathering)
            self._gathering = []

    def _answer(self, batch: list[Job]) -> None:
        statistics = self.statistics
        done = 0
        for job in batch:
            del self._open[job]
            task, job.task = job.task, None
            if job.error is None:
                done += 1
                for topic in job.wakes:
                    self.wakeups.wake(topic)
                if task is not None:
                    trio.lowlevel.reschedule(task, outcome.Value(job.value))
            elif task is not None:
                trio.lowlevel.reschedule(task, outcome.Error(job.error))
        statistics.units += done
        _units.inc(by=done)
        if done:
            _commits.inc()
            statistics.commits += 1
            statistics.largest_batch = max(statistics.largest_batch, done)
        elif batch and all(is_engine_error(job.error) for job in batch):
            statistics.failed_commits += 1

    def _end(self, failure: BaseException | None) -> None:
        self._is_closing = True
        if failure is not None:
            self.failure = failure
            self.failed.set()
        waiting, self._open = list(self._open), {}
        for job in waiting:
            task, job.task = job.task, None
            if task is not None:
                error = StoreFailed(f"the store's engine is dead: {failure!r}")
                error.__cause__ = failure
                trio.lowlevel.reschedule(task, outcome.Error(error))
        self._ended.set()
