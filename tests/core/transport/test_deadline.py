"""A call is waited for up to its deadline and no longer."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from mailcrane.transport.deadline import BoundedCalls, DeadlinePassed, Interrupted, delivery_seconds


@pytest.fixture
async def calls(nursery: trio.Nursery) -> AsyncIterator[BoundedCalls]:
    """Calls in the test's nursery."""
    yield BoundedCalls(nursery)
    nursery.cancel_scope.cancel()


async def answer() -> int:
    await trio.lowlevel.checkpoint()
    return 42


async def test_an_answer_comes_through(calls: BoundedCalls) -> None:
    assert await calls.call(1.0, answer) == 42


async def test_what_is_raised_comes_through(calls: BoundedCalls) -> None:
    async def fail() -> int:
        raise KeyError("x")

    with pytest.raises(KeyError):
        await calls.call(1.0, fail)


async def test_at_the_deadline_the_call_is_cancelled(
    calls: BoundedCalls, autojump_clock: trio.testing.MockClock
) -> None:
    cancelled = trio.Event()

    async def hang() -> int:
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()
        return 0

    with pytest.raises(DeadlinePassed):
        await calls.call(10.0, hang)
    assert trio.current_time() == 10
    await cancelled.wait()


async def test_a_call_that_swallows_its_cancellation_is_not_waited_for(
    calls: BoundedCalls, autojump_clock: trio.testing.MockClock
) -> None:
    async def swallow() -> int:
        with trio.CancelScope(shield=True):
            await trio.sleep(100)
        return 42

    with pytest.raises(DeadlinePassed):
        await calls.call(10.0, swallow)
    assert trio.current_time() == 11
    await trio.sleep(200)


async def test_what_a_call_answers_when_it_is_cancelled_at_the_deadline_is_believed(
    calls: BoundedCalls, autojump_clock: trio.testing.MockClock
) -> None:
    async def partly() -> int:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            return 42

    assert await calls.call(10.0, partly) == 42
    assert trio.current_time() == 10


async def test_a_cancelled_caller_cancels_the_call(calls: BoundedCalls, autojump_clock: trio.testing.MockClock) -> None:
    cancelled = trio.Event()

    async def hang() -> int:
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()
        return 0

    with trio.move_on_after(1):
        await calls.call(10.0, hang)
    await cancelled.wait()
    assert trio.current_time() == 1


async def test_interrupting_ends_what_is_under_way_and_refuses_what_comes_later(
    calls: BoundedCalls, autojump_clock: trio.testing.MockClock
) -> None:
    interrupted = False

    async def wait() -> None:
        nonlocal interrupted
        with pytest.raises(Interrupted):
            await calls.call(10.0, trio.sleep_forever)
        interrupted = True

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.sleep(1)
        calls.interrupt()
    assert interrupted
    with pytest.raises(Interrupted):
        await calls.call(10.0, answer)


async def test_an_answer_that_is_there_is_believed_although_the_call_was_interrupted(
    calls: BoundedCalls, autojump_clock: trio.testing.MockClock
) -> None:
    async def swallow() -> int:
        with trio.move_on_after(5, shield=True):
            await trio.sleep_forever()
        return 42

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, 1)
        nursery.start_soon(lambda: _interrupt_after(calls, 1))
        assert await calls.call(10.0, swallow) == 42


async def _interrupt_after(calls: BoundedCalls, seconds: float) -> None:
    await trio.sleep(seconds)
    calls.interrupt()


def test_large_content_has_more_time() -> None:
    assert delivery_seconds(0) == 3600
    assert delivery_seconds(100 * 1024 * 1024) == 3600 + 6400
