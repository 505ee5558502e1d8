"""The longest time that a delivery may take, and calls that are not waited for any longer.

A transport keeps its own time limits per command (RFC 5321 section 4.5.3.2). This deadline is for one that does not,
or that swallows its cancellation: the attempt ends, and whatever the transport answers later is dropped. An answer that
is there is believed, whenever it came: unlike the answer of a hook it tells of something that happened elsewhere.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

import trio

T = TypeVar("T")

_BASE_SECONDS = 3600.0
_OCTETS_PER_SECOND = 16 * 1024
# For what a call that is cancelled at its deadline has to say at once: who has the message already.
_LAST_WORD_SECONDS = 1.0


class DeadlinePassed(Exception):
    """A call gave no answer in its time; what it answers later is dropped."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no answer in {seconds:g} s")


class Interrupted(Exception):
    """A call was cancelled because the server stops; nothing is known of what came of it."""


def delivery_seconds(size_octets: int) -> float:
    """Return how long one delivery may take: an hour, and more for large content over a slow line.

    The hour holds the sum of what RFC 5321 section 4.5.3.2 gives the commands of one transaction, with ten minutes
    after the final dot.
    """
    return _BASE_SECONDS + size_octets / _OCTETS_PER_SECOND


class BoundedCalls:
    """Calls that run in a nursery of their own and are waited for up to a deadline.

    Args:
        nursery: Outlives every call.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._running: set[_Call[Any]] = set()
        self._is_interrupted = False

    async def call(self, seconds: float, function: Callable[[], Awaitable[T]]) -> T:
        """Call a function and wait for its answer.

        At the deadline, and when the caller is cancelled, the function is cancelled but not waited for; what it answers
        within a second of the deadline is still taken.

        Raises:
            DeadlinePassed: there was no answer in time.
            Interrupted: `interrupt` ended it.
        """
        if self._is_interrupted:
            raise Interrupted
        call = _Call(function)
        self._running.add(call)
        self._nursery.start_soon(call.run)
        try:
            with trio.move_on_after(seconds):
                await call.done.wait()
            if not call.done.is_set():
                call.scope.cancel()
                with trio.move_on_after(_LAST_WORD_SECONDS):
                    await call.done.wait()
        finally:
            self._running.discard(call)
            call.scope.cancel()
        if call.error is not None:
            raise call.error
        if call.answers:
            return call.answers[0]
        raise Interrupted if self._is_interrupted else DeadlinePassed(seconds)

    def interrupt(self) -> None:
        """Cancel all calls; those that come later are refused."""
        self._is_interrupted = True
        for call in self._running:
            call.scope.cancel()


class _Call(Generic[T]):
    def __init__(self, function: Callable[[], Awaitable[T]]) -> None:
        self._function = function
        self.scope = trio.CancelScope()
        self.done = trio.Event()
        self.answers: list[T] = []
        self.error: Exception | None = None

    async def run(self) -> None:
        try:
            with self.scope:
                self.answers.append(await self._function())
        except Exception as error:
            # What a late call raises is dropped too: nobody looks at this value any more.
            self.error = error
        except SystemExit as error:
            self.error = RuntimeError(f"SystemExit({error.code!r})")
        finally:
            self.done.set()
