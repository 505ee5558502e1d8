"""The store as everybody sees it: units of work in, results out after the durable commit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

import trio
from msgspec import Struct

from mailcrane.store.errors import StoreFailed
from mailcrane.store.transaction import Transaction
from mailcrane.store.wakeups import Wakeups

T = TypeVar("T")


class Statistics(Struct):
    """What an engine did since it was opened.

    Attributes:
        units: That were committed.
        commits: That were made durable; units by commits tells how well they are batched.
        failed_commits: That stored nothing.
        largest_batch: The most units of one commit.
        reads: Whole operations.
    """

    units: int = 0
    commits: int = 0
    failed_commits: int = 0
    largest_batch: int = 0
    reads: int = 0


class Store(ABC):
    """A database behind units of work.

    Attributes:
        wakeups: What was committed is told here, by topic: ``queue``, ``events``, ``outgoing events``, ``webhooks``,
            ``configuration``, ``credentials``, ``account:<name>`` and ``messages`` (one came into some folder).
        statistics: Counts since the store was opened.
        failed: Set when the engine is dead; then `failure` is why.
    """

    def __init__(self) -> None:
        self.wakeups = Wakeups()
        self.statistics = Statistics()
        self.failed = trio.Event()
        self.failure: BaseException | None = None

    @abstractmethod
    async def write(self, unit: Callable[[Transaction], T], *, key: str) -> T:
        """Run a unit of work and return its result once it is committed and survives a power cut.

        A caller that is cancelled while it waits does not take the unit back: it will still be committed (or fail),
        only its result is dropped. Who must know shields the call. A caller that is cancelled already queues nothing.

        Args:
            unit: An ordinary function without side effects; it may run more than once, and the result of its last run
                counts. What it raises reaches the caller and undoes this unit only.
            key: What the unit's effects must be in order with, such as ``account:7``, ``queue`` or ``config``. Units
                under one key become visible in the order in which they were handed in.

        Raises:
            DiskFull: there was no space; nothing of the unit is stored.
            CommitFailed: the commit failed; nothing of the unit is stored.
            StoreFailed: the engine is dead.
            StoreClosed: the store was closed before.
        """

    @abstractmethod
    async def read(self, operation: Callable[[Transaction], T]) -> T:
        """Run a function on a snapshot of the committed state, in a thread, and return its result.

        A whole operation is one call; nothing is to be held open over a wait. What it raises reaches the caller.
        """

    @abstractmethod
    def write_delay(self) -> float:
        """Return the age in seconds of the oldest unit that is not answered; listeners do not accept above 0.2."""

    @abstractmethod
    async def aclose(self) -> None:
        """Commit what is queued and close the database. Cancellation does not leave it half open."""

    async def watch(self) -> None:
        """Wait for the engine's death, to be run as a task of the server.

        Raises:
            StoreFailed: always, in the end.
        """
        await self.failed.wait()
        raise StoreFailed(f"the store's engine is dead: {self.failure!r}") from self.failure

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()
