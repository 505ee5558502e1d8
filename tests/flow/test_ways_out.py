"""One test for every way a message can leave the queue, from the session to the event that tells of it."""

from __future__ import annotations

from datetime import timedelta

import trio
import trio.testing

from mailcrane.model.event import EventKind
from mailcrane.model.reply import Reply
from mailcrane.store.records import RetiredFilter
from mailcrane.testing.in_memory import PASSWORD, RunningServer, server

CONTENT = b"From: ann@here.example\r\nSubject: news\r\nX-Mox-Extra-Order: 17\r\n\r\nHello.\r\n"

LATER = Reply.make(451, "4.7.1", "come back later")
NEVER = Reply.make(550, "5.1.1", "no such user")


async def submit(running: RunningServer, *forward_paths: str) -> None:
    client = running.connect("submission")
    await client.hello()
    assert (await client.log_in("ann@here.example", PASSWORD)).code == 235
    reply = await client.send("ann@here.example", list(forward_paths or ("you@there.example",)), CONTENT)
    assert (reply.code, reply.enhanced_status_code) == (250, "2.2.0")
    await client.quit()


async def kinds(running: RunningServer) -> list[EventKind]:
    return [event.kind for event in await running.events("ann")]


async def test_a_submitted_message_is_delivered(autojump_clock: trio.testing.MockClock) -> None:
    async with server() as running:
        await submit(running)
        await trio.testing.wait_all_tasks_blocked()
        (delivered,) = running.transport.deliveries
        assert await running.entries() == []
        events = await running.events("ann")
        (retired,) = await running.store.read(lambda transaction: transaction.retired.list(RetiredFilter()))
    assert str(delivered.delivery.reverse_path) == "ann@here.example"
    assert delivered.octets.endswith(CONTENT)
    assert [event.kind for event in events] == [
        EventKind.MESSAGE_QUEUED,
        EventKind.ATTEMPT_FINISHED,
        EventKind.DELIVERED,
        EventKind.ENTRY_RETIRED,
    ]
    assert events[2].data["extra"] == {"Order": "17"}
    assert events[2].data["subject"] == "news"
    assert (retired.event, retired.is_success) == ("delivered", True)


async def test_a_deferred_message_is_delivered_later(autojump_clock: trio.testing.MockClock) -> None:
    async with server() as running:
        running.transport.answer(LATER, ConnectionError("no route"))
        begin = running.clock.now()
        await submit(running)
        await trio.testing.wait_all_tasks_blocked()
        (entry,) = await running.entries()
        assert entry.attempts == 1
        assert timedelta(minutes=7) < entry.due_at - begin < timedelta(minutes=8)
        await trio.sleep(3600)
        assert await running.entries() == []
        told = await kinds(running)
    assert len(running.transport.deliveries) == 3
    assert told.count(EventKind.DELAYED) == 2
    assert told.count(EventKind.DELIVERED) == 1


async def test_a_refused_message_fails_at_once(autojump_clock: trio.testing.MockClock) -> None:
    async with server() as running:
        running.transport.answer(NEVER)
        await submit(running)
        await trio.testing.wait_all_tasks_blocked()
        assert await running.entries() == []
        failed = next(event for event in await running.events("ann") if event.kind is EventKind.FAILED)
        (retired,) = await running.store.read(lambda transaction: transaction.retired.list(RetiredFilter()))
    assert (failed.data["smtp_code"], failed.data["smtp_enhanced_code"]) == (550, "5.1.1")
    assert not retired.is_success


async def test_a_message_that_is_never_taken_expires_after_eight_attempts(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with server() as running:
        running.transport.answer(*[LATER] * 8)
        await submit(running)
        await trio.sleep(2 * 86400)
        assert await running.entries() == []
        told = await kinds(running)
    assert len(running.transport.deliveries) == 8
    assert told.count(EventKind.DELAYED) == 7
    assert told.count(EventKind.FAILED) == 1


async def test_each_recipient_leaves_by_itself(autojump_clock: trio.testing.MockClock) -> None:
    async with server() as running:
        running.transport.answer(NEVER)
        await submit(running, "a@one.example", "b@two.example")
        await trio.testing.wait_all_tasks_blocked()
        told = await kinds(running)
    assert told.count(EventKind.FAILED) == 1
    assert told.count(EventKind.DELIVERED) == 1


async def test_a_held_message_stays_until_it_is_released(autojump_clock: trio.testing.MockClock) -> None:
    async with server() as running:
        client = running.connect("submission")
        await client.hello()
        await client.log_in("ann@here.example", PASSWORD)
        reply = await client.command("MAIL FROM:<ann@here.example> HOLDFOR=3600")
        assert reply.code == 250
        await client.command("RCPT TO:<you@there.example>")
        await client.command("DATA")
        assert (await client.command(CONTENT + b".")).code == 250
        await trio.sleep(3000)
        assert running.transport.deliveries == []
        await trio.sleep(1000)
        assert len(running.transport.deliveries) == 1
