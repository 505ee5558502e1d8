"""What monitoring sees of the queue."""

from __future__ import annotations

from typing import Any

import trio
from msgspec.structs import replace

from mailcrane.model.delivery import Delivery, RecipientResult, TLSUse
from mailcrane.model.reply import Reply
from mailcrane.model.transport import NotNow
from mailcrane.queue import measures

DELIVERED = RecipientResult.from_reply(Reply.make(250, "2.0.0", "taken"))
DEFERRED = RecipientResult.from_reply(Reply.make(451, "4.3.0", "later"))
FAILED = RecipientResult.from_reply(Reply.make(550, "5.1.1", "nobody of that name"))


async def test_deliveries_are_counted_by_attempt_transport_and_result(world: Any) -> None:
    world.transports.add("measured", world.transport)
    wanted = [("1", "deferred"), ("2", "not_now"), ("2", "partly"), ("3", "error"), ("4", "delivered")]
    before = [measures.delivery_seconds.count(attempt, "measured", "unknown", result) for attempt, result in wanted]
    world.transport.acts = [DEFERRED, NotNow("mx", "full", seconds=1), (DELIVERED, DEFERRED), ValueError(), DELIVERED]
    await world.queue("a@example.net", "b@example.net", transport="measured")
    await world.run_for(hours=2)
    after = [measures.delivery_seconds.count(attempt, "measured", "unknown", result) for attempt, result in wanted]
    # A raise of the transport is taken for a deferral, and counted as one.
    assert [new - old for new, old in zip(after, before, strict=True)] == [1, 1, 1, 0, 1]


async def test_deliveries_are_counted_by_the_tls_that_was_asked_for(world: Any) -> None:
    before = measures.delivery_seconds.count("1", "fake", "verified", "delivered")
    world.transport.acts = [replace(DELIVERED, tls=TLSUse("TLSv1.3", asked="verified"))]
    await world.queue()
    await world.run_for(seconds=1)
    assert measures.delivery_seconds.count("1", "fake", "verified", "delivered") - before == 1


async def test_late_attempts_share_a_label(world: Any) -> None:
    before = measures.delivery_seconds.count("10+", "fake", "unknown", "deferred")
    world.transport.acts = [DEFERRED] * 12
    await world.queue(max_attempts=12)
    await world.run_for(hours=24 * 30)
    assert measures.delivery_seconds.count("10+", "fake", "unknown", "deferred") - before == 3


async def test_what_becomes_of_entries_is_counted(world: Any) -> None:
    events = ("delivered", "delayed", "failed")
    before = [measures.entry_outcomes.value(event) for event in events]

    async def mixed(delivery: Delivery) -> Any:
        return (DELIVERED, DEFERRED, FAILED)

    world.transport.acts = [mixed]
    await world.queue("a@example.net", "b@example.net", "c@example.net")
    await world.run_for(minutes=10)
    assert [measures.entry_outcomes.value(event) - old for event, old in zip(events, before, strict=True)] == [2, 1, 1]


async def test_the_length_of_the_queue_and_what_is_held_are_gauges(world: Any) -> None:
    ids = await world.queue("a@example.net", "b@example.net", is_held=True)
    await world.queue("c@example.net")

    async def gauges() -> tuple[float, float]:
        await world.make_scheduler().count()
        return measures.entries.value(), measures.held_entries.value()

    assert await gauges() == (3, 2)
    await world.write(lambda transaction: transaction.queue.update(ids[0], is_held=False))
    await world.write(lambda transaction: transaction.queue.update(ids[0], is_held=False))
    assert await gauges() == (3, 1)
    await world.run_for(seconds=1)
    assert await gauges() == (1, 1)
    await world.write(lambda transaction: transaction.queue.remove(ids[1]))
    assert await gauges() == (0, 0)


async def test_deliveries_under_way_and_blocked_domains_are_gauges(world: Any) -> None:
    async def hang(delivery: Delivery) -> Any:
        if delivery.forward_paths[0].domain == "full.example":
            raise NotNow("mx", "full", seconds=60)
        await trio.sleep_forever()

    world.transport.acts = [hang] * 3
    for path in ("a@example.net", "b@example.net", "c@full.example"):
        await world.queue(path)
    async with world.running() as scheduler:
        await trio.sleep(1)
        await scheduler.count()
        assert (measures.deliveries.value(), measures.blocked_domains.value()) == (2, 1)
