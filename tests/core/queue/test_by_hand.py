"""Entries that a person takes out of the queue."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import trio

from mailcrane.api import Plugin, hookimpl
from mailcrane.model.delivery import Delivery, RecipientResult, RouteChoice
from mailcrane.model.event import EventKind
from mailcrane.model.reply import Reply
from mailcrane.model.retired import Retention
from mailcrane.retire import by_hand
from mailcrane.retire.by_hand import end_by_hand
from mailcrane.store.records import QueueFilter

MESSAGE = b"From: <ann@example.org>\r\nSubject: hello\r\n\r\n"
LATER = RecipientResult.from_reply(Reply.make(451, "4.3.0", "later"))


async def end(world: Any, *ids: int, event: EventKind = EventKind.CANCELED) -> int:
    return await end_by_hand(
        store=world.store, directory=world.directory, hooks=world.hooks, ids=ids, event=event, by="root"
    )


@pytest.mark.parametrize("event", [EventKind.FAILED, EventKind.CANCELED])
async def test_an_entry_that_is_ended_by_hand_is_never_attempted(world: Any, event: EventKind) -> None:
    await world.keep_retired()
    first, second = await world.queue("one@example.net", "two@example.net")
    assert await end(world, first, event=event) == 1
    await world.run_for(minutes=1)
    assert world.transport.forward_paths == [("two@example.net",)]
    [told] = await world.events(event)
    assert (told.entry_id, told.data["error"], told.data["smtp_code"]) == (first, f"{event} by root", 0)
    retired = await world.retired(first)
    assert (retired.event, retired.is_success, retired.attempts) == (str(event), False, ())
    assert (await world.retired(second)).event == "delivered"


async def test_a_held_entry_is_ended_with_the_attempts_that_it_had(world: Any) -> None:
    await world.keep_retired()
    [entry_id] = await world.queue()
    world.transport.acts = [LATER]
    await world.run_for(seconds=1)
    await world.write(lambda transaction: transaction.queue.update(entry_id, is_held=True))
    assert await end(world, entry_id) == 1
    assert [attempt.result for attempt in (await world.retired(entry_id)).attempts] == [LATER]


async def test_what_is_gone_is_passed_over_and_an_id_counts_once(world: Any) -> None:
    [entry_id] = await world.queue()
    assert await end(world, entry_id, 4711, entry_id) == 1
    assert await end(world, entry_id) == 0
    assert await world.event_kinds() == ["canceled", "entry_retired"]


async def test_what_an_attempt_under_way_reports_afterwards_is_dropped(world: Any) -> None:
    [entry_id] = await world.queue()

    async def slow(delivery: Delivery) -> Any:
        await trio.sleep(60)
        return (RecipientResult.from_reply(Reply.make(250, "2.0.0", "taken")),)

    world.transport.acts = [slow]
    async with world.running():
        await trio.sleep(30)
        assert await end(world, entry_id) == 1
        await trio.sleep(60)
    assert await world.event_kinds() == ["canceled", "entry_retired"]


async def test_an_entry_that_was_delivered_a_moment_ago_is_not_canceled(world: Any) -> None:
    [entry_id] = await world.queue()

    class Slow(Plugin):
        name = "slow"

        @hookimpl
        async def classify_result(self) -> None:
            await trio.sleep(20)

    async with world.plugins(Slow), world.running():
        await trio.sleep(10)
        assert await end(world, entry_id) == 0
        await trio.sleep(20)
    assert await world.event_kinds() == ["attempt_finished", "delivered", "entry_retired"]


async def test_many_are_ended_in_bounded_units(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_hand, "_BATCH", 2)
    ids = await world.queue(*(f"{number}@example.net" for number in range(5)))
    before = world.store.statistics.units
    assert await end(world, *ids) == 5
    assert world.store.statistics.units - before == 3


async def test_plugins_are_asked_how_long_it_is_kept(world: Any) -> None:
    asked = []

    class Keeps(Plugin):
        name = "keeps"

        @hookimpl
        async def retain_retired(self, event: str) -> Retention:
            asked.append(event)
            return Retention(timedelta(days=2))

    [entry_id] = await world.queue()
    async with world.plugins(Keeps):
        await end(world, entry_id)
    assert asked == ["canceled"]
    retired = await world.retired(entry_id)
    assert (retired.keep_until - retired.retired_at).days == 2


async def test_without_a_running_server_no_plugin_is_asked(world: Any) -> None:
    [entry_id] = await world.queue()
    ended = await end_by_hand(
        store=world.store,
        directory=world.directory,
        hooks=None,
        ids=[entry_id],
        event=EventKind.FAILED,
        by="root",
    )
    assert ended == 1
    assert await world.event_kinds() == ["failed", "entry_retired", "message_stored"]


async def test_by_hand_nothing_is_delivered(world: Any) -> None:
    with pytest.raises(ValueError, match="not delivered"):
        await end(world, 1, event=EventKind.DELIVERED)


async def test_an_entry_that_does_not_meet_the_conditions_any_more_stays(world: Any) -> None:
    released, held = await world.queue("one@example.net", "two@example.net", is_held=True)

    class Releasing(Plugin):
        name = "releasing"

        @hookimpl
        async def retain_retired(self) -> None:
            await world.write(lambda transaction: transaction.queue.update(released, is_held=False))

    async with world.plugins(Releasing):
        ended = await end_by_hand(
            store=world.store,
            directory=world.directory,
            hooks=world.hooks,
            ids=(released, held),
            event=EventKind.CANCELED,
            by="root",
            conditions=QueueFilter(is_held=True),
        )
    assert ended == 1
    [told] = await world.events(EventKind.CANCELED)
    assert told.entry_id == held


async def test_an_entry_that_is_ended_before_its_content_is_read_is_no_fault(
    world: Any, caplog: pytest.LogCaptureFixture
) -> None:
    [entry_id] = await world.queue(octets=MESSAGE + b"x" * 40_000 + b"\r\n")

    class Ending(Plugin):
        name = "ending"

        @hookimpl
        async def select_route(self) -> RouteChoice:
            assert await end(world, entry_id) == 1
            return RouteChoice("fake")

    async with world.plugins(Ending):
        await world.run_for(minutes=1)
    assert await world.event_kinds() == ["canceled", "entry_retired"]
    assert world.transport.deliveries == []
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
