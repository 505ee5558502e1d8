"""One flow per way in which an attempt can end."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import trio

from mailcrane.api import Plugin, hookimpl
from mailcrane.model.delivery import Delivery, Outcome, RecipientResult
from mailcrane.model.event import EventKind
from mailcrane.model.reply import Reply
from mailcrane.store.records import Worker

DELIVERED = RecipientResult.from_reply(Reply.make(250, "2.0.0", "taken"))
DEFERRED = RecipientResult.from_reply(Reply.make(451, "4.3.0", "later"))
FAILED = RecipientResult.from_reply(Reply.make(550, "5.1.1", "nobody of that name"))


async def test_a_delivered_entry_leaves_the_queue_and_its_events_tell_of_it(world: Any) -> None:
    [entry_id] = await world.queue(extra={"order": "4711"}, from_id="abc")
    await world.run_for(seconds=1)
    assert await world.entry(entry_id) is None
    assert world.transport.forward_paths == [("you@example.net",)]
    assert await world.event_kinds() == ["attempt_finished", "delivered", "entry_retired"]
    [event] = await world.events(EventKind.DELIVERED)
    assert event.entry_id == entry_id
    assert event.data == {
        "queue_msg_id": entry_id,
        "from_id": "abc",
        "message_id": "<1@example.org>",
        "subject": "hello",
        "smtp_code": 0,
        "smtp_enhanced_code": "",
        "error": "",
        "extra": {"order": "4711"},
        "dsn": False,
        "suppressing": False,
    }


async def test_content_goes_with_the_last_entry_that_uses_it(world: Any) -> None:
    await world.queue("you@example.net", "me@example.com")
    world.transport.acts = [DEFERRED]
    await world.run_for(seconds=1)
    assert await world.store.read(lambda transaction: transaction.content.get(1)) is not None
    await world.run_for(minutes=10)
    assert await world.store.read(lambda transaction: transaction.content.get(1)) is None


async def test_a_retired_entry_is_kept_with_its_attempts_when_the_account_wants_it(world: Any) -> None:
    await world.keep_retired()
    [entry_id] = await world.queue()
    world.transport.acts = [DEFERRED, DELIVERED]
    await world.run_for(minutes=10)
    retired = await world.retired(entry_id)
    assert retired.event == "delivered"
    assert retired.is_success
    assert retired.keep_until - retired.retired_at == timedelta(days=1)
    assert [attempt.result for attempt in retired.attempts] == [DEFERRED, DELIVERED]
    assert [attempt.transport for attempt in retired.attempts] == ["fake", "fake"]


async def test_a_deferred_entry_is_tried_again_after_seven_and_a_half_minutes(world: Any) -> None:
    [entry_id] = await world.queue()
    world.transport.acts = [DEFERRED, DELIVERED]
    async with world.running():
        await trio.sleep(1)
        entry = await world.entry(entry_id)
        assert abs(entry.due_at - entry.last_attempt_at - timedelta(minutes=7.5)) <= timedelta(seconds=5)
        assert await world.event_kinds() == ["attempt_finished", "delayed"]
        [delayed] = await world.events(EventKind.DELAYED)
        assert (delayed.data["smtp_code"], delayed.data["smtp_enhanced_code"]) == (451, "4.3.0")
        assert delayed.data["error"] == "451 4.3.0 later"
        await trio.sleep(8 * 60)
    assert len(world.transport.deliveries) == 2
    assert world.transport.deliveries[1].attempt == 2
    assert await world.entry(entry_id) is None


async def test_a_failed_entry_leaves_the_queue_with_the_code_of_the_next_hop(world: Any) -> None:
    await world.keep_retired()
    [entry_id] = await world.queue()
    world.transport.acts = [FAILED]
    await world.run_for(seconds=1)
    assert await world.entry(entry_id) is None
    [event] = await world.events(EventKind.FAILED)
    assert (event.data["smtp_code"], event.data["smtp_enhanced_code"]) == (550, "5.1.1")
    assert event.data["error"] == "550 5.1.1 nobody of that name"
    retired = await world.retired(entry_id)
    assert (retired.event, retired.is_success) == ("failed", False)


async def test_an_entry_fails_when_its_attempts_are_exhausted(world: Any) -> None:
    [entry_id] = await world.queue(max_attempts=3)
    world.transport.acts = [DEFERRED] * 5
    await world.run_for(hours=10)
    assert len(world.transport.deliveries) == 3
    assert await world.entry(entry_id) is None
    [event] = await world.events(EventKind.FAILED)
    assert event.data["smtp_code"] == 451
    assert event.data["error"] == "given up after 3 attempts: 451 4.3.0 later"
    assert len(await world.events(EventKind.DELAYED)) == 2


async def test_eight_attempts_are_made_within_sixteen_hours(world: Any) -> None:
    await world.queue()
    world.transport.acts = [DEFERRED] * 20
    await world.run_for(hours=17)
    assert len(world.transport.deliveries) == 8
    assert len(await world.events(EventKind.FAILED)) == 1


async def test_a_transport_that_raises_defers(world: Any) -> None:
    [entry_id] = await world.queue()
    world.transport.acts = [ValueError("secret detail")]
    await world.run_for(seconds=1)
    [attempt] = await world.attempts(entry_id)
    assert attempt.result.outcome is Outcome.DEFERRED
    assert attempt.result.error == "transport fake raised ValueError"
    assert await world.event_kinds() == ["attempt_finished", "delayed"]


async def test_a_transport_that_exits_does_not_end_the_server(world: Any) -> None:
    [entry_id] = await world.queue()
    world.transport.acts = [SystemExit(1)]
    await world.run_for(minutes=10)
    assert await world.entry(entry_id) is None


@pytest.mark.parametrize("nonsense", [None, (), (DELIVERED, DELIVERED), ("250 ok",), "x", (None,)])
async def test_a_transport_that_answers_nonsense_defers_all(world: Any, nonsense: object) -> None:
    [entry_id] = await world.queue()
    world.transport.acts = [nonsense]
    await world.run_for(seconds=1)
    [attempt] = await world.attempts(entry_id)
    assert attempt.result.outcome is Outcome.DEFERRED
    assert "the transport returned" in attempt.result.error


async def test_a_transport_that_hangs_is_deferred_at_its_deadline(world: Any) -> None:
    async def hang(delivery: Delivery) -> Any:
        await trio.sleep_forever()

    await world.queue()
    world.transport.acts = [hang]
    async with world.running():
        await trio.sleep(50 * 60)
        assert world.transport.under_way == 1
        await trio.sleep(12 * 60)
    [delayed] = await world.events(EventKind.DELAYED)
    assert "no answer in 36" in delayed.data["error"]


async def test_an_answer_after_the_deadline_is_dropped(world: Any) -> None:
    async def swallow_cancellation(delivery: Delivery) -> Any:
        with trio.CancelScope(shield=True):
            await trio.sleep(3 * 3600)
        return (DELIVERED,)

    [entry_id] = await world.queue(max_attempts=1)
    world.transport.acts = [swallow_cancellation]
    await world.run_for(hours=2)
    assert await world.entry(entry_id) is None
    assert await world.event_kinds() == ["attempt_finished", "failed", "entry_retired", "message_stored"]


async def test_a_long_delivery_keeps_its_lease(world: Any) -> None:
    async def take_long(delivery: Delivery) -> Any:
        await trio.sleep(50 * 60)
        return (DELIVERED,)

    await world.queue()
    world.transport.acts = [take_long]
    await world.run_for(hours=1)
    assert len(world.transport.deliveries) == 1
    assert await world.event_kinds() == ["attempt_finished", "delivered", "entry_retired"]


async def test_a_result_under_an_old_lease_changes_nothing(world: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def lose_the_lease(delivery: Delivery) -> Any:
        await world.write(lambda transaction: transaction.queue.release_boots(Worker("machine", "another")))
        return (DELIVERED,)

    [entry_id] = await world.queue()
    world.transport.acts = [lose_the_lease]
    await world.run_for(seconds=1)
    assert (await world.entry(entry_id)).attempts == 1
    assert await world.event_kinds() == []
    assert "ending came too late" in caplog.text


async def test_an_entry_that_was_removed_during_its_attempt_has_no_events(world: Any) -> None:
    async def remove(delivery: Delivery) -> Any:
        await world.write(lambda transaction: transaction.queue.remove(delivery.entries[0].id))
        return (DELIVERED,)

    await world.queue()
    world.transport.acts = [remove]
    await world.run_for(seconds=1)
    assert await world.event_kinds() == []


class HangsAtFirst(Plugin):
    """Does not come back from the first question: the server crashes meanwhile."""

    name = "hangs"
    asked = 0

    @hookimpl
    async def classify_result(self, entry: object) -> None:
        HangsAtFirst.asked += 1
        if HangsAtFirst.asked == 1:
            await trio.sleep_forever()


async def test_after_a_crash_a_settling_entry_goes_on_at_the_hooks_and_is_not_attempted_again(world: Any) -> None:
    [entry_id] = await world.queue()
    HangsAtFirst.asked = 0
    async with world.plugins(HangsAtFirst):
        await world.run_for("first", seconds=1)
        assert await world.event_kinds() == []
        assert await world.entry(entry_id) is not None
        await world.run_for("second", seconds=1)
    assert HangsAtFirst.asked == 2
    assert len(world.transport.deliveries) == 1
    assert await world.entry(entry_id) is None
    assert await world.event_kinds() == ["attempt_finished", "delivered", "entry_retired"]


async def test_an_entry_whose_attempt_was_cut_off_by_a_crash_is_tried_at_its_next_due_time(world: Any) -> None:
    async def hang(delivery: Delivery) -> Any:
        await trio.sleep_forever()

    [entry_id] = await world.queue()
    world.transport.acts = [hang]
    await world.run_for("first", seconds=1)
    async with world.running("second"):
        await trio.sleep(60)
        assert len(world.transport.deliveries) == 1
        await trio.sleep(8 * 60)
    assert [delivery.attempt for delivery in world.transport.deliveries] == [1, 2]
    assert await world.entry(entry_id) is None


async def test_a_full_disk_after_a_delivery_does_not_deliver_it_again(world: Any) -> None:
    fails = 0

    def fail(keys: object) -> None:
        nonlocal fails
        if world.transport.deliveries and fails < 3:
            fails += 1
            raise OSError("no space")

    world.faults.before_commit = fail
    [entry_id] = await world.queue()
    await world.run_for(minutes=20)
    assert fails == 3
    assert len(world.transport.deliveries) == 1
    assert await world.entry(entry_id) is None


async def test_the_notes_and_the_next_hop_are_in_the_event_of_the_attempt(world: Any) -> None:
    await world.queue()
    reply = Reply.make(250, "2.0.0", "taken")
    world.transport.acts = [RecipientResult(Outcome.DELIVERED, reply, remote_mta="mx (192.0.2.1)", notes=("a note",))]
    await world.run_for(seconds=1)
    [event] = await world.events(EventKind.ATTEMPT_FINISHED)
    assert event.data["notes"] == ["a note"]
    assert event.data["remote_mta"] == "mx (192.0.2.1)"
    assert event.data["transport"] == "fake"
    assert event.data["outcome"] == "delivered"
    assert event.data["code"] == 250


async def test_an_empty_account_setting_does_not_keep_a_retired_entry(world: Any) -> None:
    [entry_id] = await world.queue()
    await world.run_for(seconds=1)
    assert await world.retired(entry_id) is None
    [event] = await world.events(EventKind.ENTRY_RETIRED)
    assert event.data == {
        "event": "delivered",
        "is_success": True,
        "attempts": 1,
        "is_kept": False,
        "forward_path": "you@example.net",
    }
