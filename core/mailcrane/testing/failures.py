"""What plugins do wrong, to see what comes of it: each takes the answer that it would have given.

    async def select_route(self, entry: Entry) -> RouteChoice | None:
        return await hangs(RouteChoice("direct"))

Those that hang need trio's mock clock. `blocks_the_loop` counts as a failure only with `BLOCKING_LIMIT` of
`mailcrane.plugin.call` below `BLOCKED_SECONDS`; `impatient` sees to that.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import trio

from mailcrane.plugin import call

BLOCKED_SECONDS = 0.06

Failure = Callable[[Any], Awaitable[Any]]


async def raises(good: Any) -> Any:
    """Raise."""
    raise ValueError("odd")


async def raises_system_exit(good: Any) -> Any:
    """Raise what ends a process."""
    raise SystemExit(1)


async def raises_in_a_nursery(good: Any) -> Any:
    """Raise in a task of its own, so that a group comes out."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(raises, good)
        await trio.sleep_forever()


async def hangs(good: Any) -> Any:
    """Never answer."""
    await trio.sleep_forever()


async def hangs_shielded(good: Any) -> Any:
    """Not answer for an hour, whoever cancels."""
    with trio.CancelScope(shield=True):
        await trio.sleep(3600)


async def swallows_cancellation(good: Any) -> Any:
    """Answer well, but only when cancelled."""
    with contextlib.suppress(trio.Cancelled):
        await trio.sleep_forever()
    return good


async def answers_nonsense(good: Any) -> Any:
    """Answer what no hook takes."""
    return object()


async def blocks_the_loop(good: Any) -> Any:
    """Answer well, but keep everybody else from running meanwhile."""
    time.sleep(BLOCKED_SECONDS)  # noqa: ASYNC251 - that is the point
    return good


@contextlib.contextmanager
def impatient() -> Iterator[None]:
    """Let calls that begin in the block count as timed out when they keep the loop for a few hundredths of a second."""
    limit = call.BLOCKING_LIMIT
    call.BLOCKING_LIMIT = BLOCKED_SECONDS * 0.8
    try:
        yield
    finally:
        call.BLOCKING_LIMIT = limit


FAST: tuple[Failure, ...] = (raises, raises_system_exit, raises_in_a_nursery, answers_nonsense)
"""Fail at once."""

SLOW: tuple[Failure, ...] = (hangs, hangs_shielded, swallows_cancellation)
"""Use up the time that a hook has."""

FAILURES: tuple[Failure, ...] = (*FAST, *SLOW, blocks_the_loop)
