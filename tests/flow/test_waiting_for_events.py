"""Tests wait for an event of a server in memory, without a guess of how long it takes."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from mailcrane.model.reply import Reply
from mailcrane.testing import PASSWORD, RunningServer, server

CONTENT = b"From: ann@here.example\r\nSubject: news\r\n\r\nHello.\r\n"


async def submit(running: RunningServer) -> None:
    client = running.connect("submission")
    await client.hello()
    await client.log_in("ann@here.example", PASSWORD)
    await client.send("ann@here.example", "you@there.example", CONTENT)
    await client.quit()


async def test_an_event_that_comes_after_a_retry_is_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    async with server() as running:
        running.transport.answer(Reply.make(451, "4.7.1", "come back later"))
        await submit(running)
        event = await running.wait_for_event("ann", "delivered")
        assert "delayed" in {one.kind for one in await running.events("ann") if one.number < event.number}
        # One that has come already is there at once.
        assert await running.wait_for_event("ann", "delivered", entry_id=event.entry_id, seconds=0.001) == event


async def test_an_event_that_does_not_come_fails_with_those_that_did(autojump_clock: trio.testing.MockClock) -> None:
    async with server() as running:
        await submit(running)
        await running.wait_for_event("ann", "delivered")
        with pytest.raises(AssertionError, match=r"no event 'failed' of ann within 60 s; there are: .*delivered"):
            await running.wait_for_event("ann", "failed", seconds=60)
        with pytest.raises(AssertionError, match="there are: none"):
            await running.wait_for_event("bob", "failed", seconds=60)
