"""Runs units in one transaction, each in a savepoint, and commits them together."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

import trio

from mailcrane.model.clock import Clock
from mailcrane.store.sqlite.connection import (
    SQLiteConnection,
    connect_writer,
    is_corrupt,
    translate,
    translate_commit,
)
from mailcrane.store.sqlite.faults import Faults
from mailcrane.store.sqlite.migrations import migrate
from mailcrane.store.transaction import Transaction

# Pages that are free are used again by what comes next; more than this many are given back to the file system.
_FREE_PAGES_KEPT = 1024
_VACUUM_STEP_PAGES = 512


class Job:
    """A unit on its way through the engine.

    Attributes:
        task: Who waits; None when it was cancelled or has been answered.
        value: What the unit returned, when `error` is None.
        error: Why there is no value.
        wakes: Topics to be woken.
        queued_at: By trio's clock.
    """

    __slots__ = ("error", "key", "queued_at", "task", "unit", "value", "wakes")

    def __init__(self, unit: Callable[[Transaction], Any], key: str, queued_at: float) -> None:
        self.unit = unit
        self.key = key
        self.queued_at = queued_at
        self.task: trio.lowlevel.Task | None = None
        self.value: Any = None
        self.error: Exception | None = None
        self.wakes: Sequence[str] = ()


class Batches:
    """The connection that writes, and how a batch of units goes over it. Used by one thread at a time."""

    def __init__(self, path: str, clock: Clock, faults: Faults) -> None:
        self._path = path
        self._clock = clock
        self._faults = faults
        self.connection = connect_writer(path)
        try:
            migrate(self.connection)
        except BaseException:
            self.connection.close()
            raise
        self._execute = self.connection.execute
        self.transaction = Transaction(SQLiteConnection(self.connection))

    def run(self, first: Job, more: Callable[[], Job | None]) -> list[Job]:
        """Run a unit and all that follow, commit, and return their jobs, each with its value or error.

        Args:
            first: The first unit.
            more: Gives the next unit, or None when the batch is to be committed.

        Raises:
            sqlite3.DatabaseError: the database is corrupt; nothing more can be done with it.
        """
        batch: list[Job] = []
        job: Job | None = first
        try:
            self._execute("BEGIN IMMEDIATE")
            while job is not None:
                batch.append(job)
                self._run_unit(job)
                job = more()
            keys = [job.key for job in batch]
            self._faults.before_commit(keys)
            self._execute("COMMIT")
        except Exception as error:
            if is_corrupt(error):
                raise
            if not batch:
                batch.append(first)
            self._roll_back()
            for job in batch:
                if job.error is None:
                    job.error = translate_commit(error, self._path)
                job.wakes = ()
        else:
            self._faults.after_commit(keys)
        return batch

    def vacuum(self) -> bool:
        """Give some free pages back to the file system; True when there is more to do.

        That it cannot be done now, because the disk is full or the database busy, is no failure.
        """
        try:
            return self._vacuum()
        except sqlite3.Error as error:
            if is_corrupt(error):
                raise
            return False

    def close(self) -> None:
        """Close the connection; the WAL is written back and removed when it is the last one."""
        self.connection.close()

    def _run_unit(self, job: Job) -> None:
        execute, transaction = self._execute, self.transaction
        execute("SAVEPOINT unit")
        transaction._begin(self._clock.now())
        try:
            if self._faults.rerun_units:
                job.unit(transaction)
                execute("ROLLBACK TO unit")
                transaction._begin(transaction.now)
            job.value = job.unit(transaction)
        except Exception as error:
            if not self.connection.in_transaction:
                # SQLite undid the whole transaction, as it may when the disk is full: the others' work is lost too.
                job.error = translate(error, self._path)
                raise
            if is_corrupt(error):
                raise
            execute("ROLLBACK TO unit")
            execute("RELEASE unit")
            job.error = translate(error, self._path)
        else:
            execute("RELEASE unit")
            job.wakes = transaction._take_wakes()

    def _vacuum(self) -> bool:
        (free,) = self._execute("PRAGMA freelist_count").fetchone()
        if free <= _FREE_PAGES_KEPT:
            return False
        # Only executescript runs this pragma to its end: execute would stop after one page.
        self.connection.executescript(f"PRAGMA incremental_vacuum({min(_VACUUM_STEP_PAGES, free - _FREE_PAGES_KEPT)})")
        return bool(free - _VACUUM_STEP_PAGES > _FREE_PAGES_KEPT)

    def _roll_back(self) -> None:
        if self.connection.in_transaction:
            try:
                self._execute("ROLLBACK")
            except sqlite3.Error as error:
                if self.connection.in_transaction:
                    raise _StuckTransaction("a failed batch cannot be rolled back") from error


class _StuckTransaction(BaseException):
    """The connection cannot leave a failed transaction: nothing more can be written over it."""
