"""The pool of read connections: each operation on a snapshot of its own, in a thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TypeVar

import trio

from mailcrane.model.clock import Clock
from mailcrane.store.sqlite.connection import SQLiteConnection, connect_reader, translate
from mailcrane.store.transaction import Transaction

T = TypeVar("T")


class Readers:
    """Read connections, as many as may be in use at once."""

    def __init__(self, path: str, clock: Clock, count: int) -> None:
        self._path = path
        self._clock = clock
        self._limiter = trio.CapacityLimiter(count)
        self._idle: deque[_Reader] = deque()
        self._is_closed = False

    async def run(self, operation: Callable[[Transaction], T]) -> T:
        """Run an operation in a thread, with at most the pool's number at once."""
        return await trio.to_thread.run_sync(self._run, operation, limiter=self._limiter)

    def close(self) -> None:
        """Close the connections; those in use are closed by their threads."""
        self._is_closed = True
        while self._idle:
            self._idle.pop().close()

    def _run(self, operation: Callable[[Transaction], T]) -> T:
        # deque.pop and append are atomic; the limiter bounds how many connections there can be.
        try:
            reader = self._idle.pop()
        except IndexError:
            reader = _Reader(self._path)
        try:
            return reader.run(operation, self._clock)
        except Exception as error:
            raised = translate(error, self._path)
            if raised is error:
                raise
            raise raised from error
        finally:
            if self._is_closed:
                reader.close()
            else:
                self._idle.append(reader)


class _Reader:
    def __init__(self, path: str) -> None:
        self._connection = connect_reader(path)
        self._transaction = Transaction(SQLiteConnection(self._connection))

    def run(self, operation: Callable[[Transaction], T], clock: Clock) -> T:
        self._connection.execute("BEGIN")
        self._transaction._begin(clock.now())
        try:
            return operation(self._transaction)
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def close(self) -> None:
        self._connection.close()
