"""What is taken when, how much at once, and how it ends."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
import trio

from mailcrane.api import Plugin, hookimpl
from mailcrane.config.rows import Account, Domain, Route, Settings
from mailcrane.model.delivery import Delivery, Outcome, RecipientResult
from mailcrane.model.event import EventKind
from mailcrane.model.reply import Reply
from mailcrane.store.errors import DiskFull

DELIVERED = RecipientResult.from_reply(Reply.make(250, "2.0.0", "taken"))
DEFERRED = RecipientResult.from_reply(Reply.make(451, "4.3.0", "later"))
FAILED = RecipientResult.from_reply(Reply.make(550, "5.1.1", "nobody of that name"))


async def take_a_minute(delivery: Delivery) -> Any:
    await trio.sleep(60)
    return (DELIVERED,) * len(delivery.entries)


async def hang(delivery: Delivery) -> Any:
    await trio.sleep_forever()


async def test_what_becomes_due_while_the_store_is_slow_is_taken_at_once(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = world.store.write

    async def slow(unit: Any, *, key: str) -> Any:
        result = await original(unit, key=key)
        await trio.sleep(2)
        return result

    await world.queue("now@example.net")
    await world.queue("soon@example.com", due_at=world.clock.now() + timedelta(seconds=5))
    monkeypatch.setattr(world.store, "write", slow)
    await world.run_for(seconds=20)
    assert world.transport.forward_paths == [("now@example.net",), ("soon@example.com",)]


async def test_an_entry_is_taken_as_soon_as_it_is_queued(world: Any) -> None:
    async with world.running():
        await trio.sleep(100)
        await world.queue()
        await trio.sleep(0.001)
        assert len(world.transport.deliveries) == 1


async def test_an_entry_waits_for_its_due_time(world: Any) -> None:
    await world.queue(due_at=world.clock.now() + timedelta(hours=3))
    async with world.running():
        await trio.sleep(3 * 3600 - 1)
        assert world.transport.deliveries == []
        await trio.sleep(2)
        assert len(world.transport.deliveries) == 1


async def test_a_held_entry_waits_until_it_is_released(world: Any) -> None:
    [entry_id] = await world.queue(is_held=True)
    async with world.running():
        await trio.sleep(3600)
        assert world.transport.deliveries == []
        await world.write(lambda transaction: transaction.queue.update(entry_id, is_held=False))
        await trio.sleep(0.001)
        assert len(world.transport.deliveries) == 1


async def test_no_more_attempts_are_under_way_than_configured(world: Any) -> None:
    world.config = msgspec.structs.replace(world.config, concurrency=3)
    for number in range(10):
        await world.queue(f"you@d{number}.example")
    world.transport.acts = [take_a_minute] * 10
    await world.run_for(minutes=5)
    assert world.transport.most_under_way == 3
    assert len(world.transport.deliveries) == 10


async def test_a_slow_domain_does_not_hold_up_the_others(world: Any) -> None:
    world.config = msgspec.structs.replace(world.config, concurrency_per_domain=2)
    for _ in range(5):
        await world.queue("you@slow.example")
    await world.queue("you@quick.example")
    world.transport.acts = [take_a_minute] * 6
    async with world.running():
        await trio.sleep(1)
        assert world.transport.under_way == 3
        assert ("you@quick.example",) in world.transport.forward_paths
        await trio.sleep(200)
    assert world.transport.most_under_way == 3
    assert len(world.transport.deliveries) == 6


async def test_room_that_is_made_while_others_are_leased_is_used(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    write = world.store.write

    async def answer_leases_late(unit: Any, *, key: str) -> Any:
        value = await write(unit, key=key)
        if "_lease" in getattr(unit, "__qualname__", ""):
            await trio.sleep(5)
        return value

    monkeypatch.setattr(world.store, "write", answer_leases_late)
    world.config = msgspec.structs.replace(world.config, concurrency_per_domain=2)
    for _ in range(4):
        await world.queue("you@slow.example")
    world.transport.acts = [take_a_minute] * 4
    async with world.running():
        await trio.sleep(63)
        # Leased at once and answered five seconds later; in between the two that fill the domain are done.
        await world.queue("you@other.example")
        await trio.sleep(100)
    assert len(world.transport.deliveries) == 5


async def test_entries_of_one_message_and_domain_travel_together(world: Any) -> None:
    async def mixed(delivery: Delivery) -> Any:
        return (DELIVERED, FAILED, DEFERRED)[: len(delivery.entries)]

    ids = await world.queue("a@example.net", "b@example.net", "c@other.example", "d@example.net")
    world.transport.acts = [mixed] * 2
    await world.run_for(minutes=1)
    assert sorted(world.transport.forward_paths) == [
        ("a@example.net", "b@example.net", "d@example.net"),
        ("c@other.example",),
    ]
    assert [await world.entry(entry_id) is None for entry_id in ids] == [True, True, True, False]
    assert len(await world.events(EventKind.DELIVERED)) == 2
    assert len(await world.events(EventKind.FAILED)) == 1
    assert len(await world.events(EventKind.DELAYED)) == 1


async def test_entries_of_different_messages_do_not_travel_together(world: Any) -> None:
    await world.queue("a@example.net")
    await world.queue("b@example.net")
    await world.run_for(seconds=1)
    assert sorted(world.transport.forward_paths) == [("a@example.net",), ("b@example.net",)]


async def test_entries_that_travel_together_stay_together_at_the_next_attempt(world: Any) -> None:
    await world.queue("a@example.net", "b@example.net")
    world.transport.acts = [DEFERRED]
    await world.run_for(minutes=10)
    assert world.transport.forward_paths == [("a@example.net", "b@example.net")] * 2


async def test_entries_that_travel_together_split_when_their_transports_differ(world: Any) -> None:
    other = type(world.transport)()
    world.transports.add("other", other)
    ids = await world.queue("a@example.net", "b@example.net")
    await world.write(lambda transaction: transaction.queue.update(ids[1], transport="other"))
    await world.run_for(seconds=1)
    assert world.transport.forward_paths == [("a@example.net",)]
    assert other.forward_paths == [("b@example.net",)]


async def test_deliveries_under_way_may_end_after_stop(world: Any) -> None:
    [entry_id] = await world.queue()
    world.transport.acts = [take_a_minute]
    scheduler = world.make_scheduler()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: scheduler.run(stop_seconds=90))
        await trio.sleep(1)
        scheduler.stop()
        await world.queue("later@example.net")
    assert len(world.transport.deliveries) == 1
    assert await world.entry(entry_id) is None
    assert trio.current_time() < 62


async def test_deliveries_that_take_too_long_after_stop_are_cancelled_and_stay_counted(world: Any) -> None:
    [entry_id] = await world.queue()
    world.transport.acts = [hang]
    scheduler = world.make_scheduler()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: scheduler.run(stop_seconds=30))
        await trio.sleep(1)
        scheduler.stop()
    assert world.transport.under_way == 0
    assert scheduler.under_way == 0
    entry = await world.entry(entry_id)
    assert entry.attempts == 1
    assert await world.event_kinds() == []
    await world.run_for("first", minutes=10)
    assert [delivery.attempt for delivery in world.transport.deliveries] == [1, 2]


async def test_a_stop_while_the_disk_is_full_leaves_the_lease_to_the_next_start(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.queue()
    world.transport.acts = [hang]
    scheduler = world.make_scheduler()

    async def full(unit: object, *, key: str) -> None:
        raise DiskFull("no space left")

    with monkeypatch.context() as patch:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: scheduler.run(stop_seconds=30))
            await trio.sleep(1)
            patch.setattr(world.store, "write", full)
            scheduler.stop()
    await world.run_for("second", minutes=10)
    assert [delivery.attempt for delivery in world.transport.deliveries] == [1, 2]


async def test_a_scheduler_without_work_stops_at_once(world: Any) -> None:
    scheduler = world.make_scheduler()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scheduler.run)
        await trio.sleep(1)
        scheduler.stop()
    assert trio.current_time() == 1


async def test_a_delivery_costs_two_units_and_three_where_a_plugin_is_asked(world: Any) -> None:
    class Asked(Plugin):
        name = "asked"

        @hookimpl
        async def classify_result(self, entry: object) -> None:
            return None

    async def units() -> Any:
        async with world.running():
            await trio.sleep(1)
            before = world.store.statistics.units
            await world.queue()
            await trio.sleep(1)
        return world.store.statistics.units - before

    # Queued; begun, ended. With somebody to ask what comes of it, the outcome is committed by itself.
    assert await units() == 3
    async with world.plugins(Asked):
        assert await units() == 4


async def test_without_a_route_an_entry_is_deferred_with_what_to_do(world: Any) -> None:
    world.config = msgspec.structs.replace(world.config, default_transport="")
    [entry_id] = await world.queue()
    await world.run_for(seconds=1)
    [attempt] = await world.attempts(entry_id)
    assert attempt.result.outcome is Outcome.DEFERRED
    assert attempt.result.error == (
        "no route for example.net: no plugin answers, no rule matches, and [queue] default_transport is not set"
    )
    assert attempt.transport == ""


async def test_a_transport_that_was_set_for_an_entry_wins_over_routes(world: Any) -> None:
    chosen = type(world.transport)()
    world.transports.add("chosen", chosen)
    await world.configure(settings=Settings(routes=(Route("fake"),)))
    await world.queue(transport="chosen")
    await world.run_for(seconds=1)
    assert len(chosen.deliveries) == 1


async def test_a_transport_that_does_not_exist_any_more_defers(world: Any) -> None:
    [entry_id] = await world.queue(transport="gone")
    await world.run_for(seconds=1)
    [attempt] = await world.attempts(entry_id)
    assert attempt.result.error == "transport 'gone' (set for the entry) is not in [transports]"


@pytest.mark.parametrize(
    ("account", "domain", "server", "wanted"),
    [
        ("one", "two", "three", "one"),
        ("", "two", "three", "two"),
        ("", "", "three", "three"),
        ("", "", "", "fake"),
    ],
)
async def test_routes_are_asked_account_first_then_domain_then_server(
    world: Any, account: str, domain: str, server: str, wanted: str
) -> None:
    for name in ("one", "two", "three"):
        world.transports.add(name, world.transport)

    def routes(name: str) -> tuple[Route, ...]:
        return (Route(name),) if name else ()

    await world.configure(
        accounts=(Account("ann", "example.org", routes=routes(account)),),
        domains=(Domain("example.org", routes=routes(domain)),),
        settings=Settings(routes=routes(server)),
    )
    await world.queue()
    await world.run_for(seconds=1)
    [event] = await world.events(EventKind.ATTEMPT_FINISHED)
    assert event.data["transport"] == wanted


async def test_a_route_with_minimum_attempts_is_for_the_attempts_after_them(world: Any) -> None:
    fallback = type(world.transport)()
    world.transports.add("fallback", fallback)
    await world.configure(settings=Settings(routes=(Route("fallback", minimum_attempts=2),)))
    await world.queue()
    world.transport.acts = [DEFERRED] * 5
    await world.run_for(hours=1)
    assert len(world.transport.deliveries) == 2
    assert [delivery.attempt for delivery in fallback.deliveries] == [3]


async def test_mail_from_a_disabled_domain_waits_until_it_is_enabled(world: Any) -> None:
    await world.configure(domains=(Domain("example.org", is_disabled=True),))
    [entry_id] = await world.queue()
    async with world.running():
        await trio.sleep(1)
        [attempt] = await world.attempts(entry_id)
        assert attempt.result.error == "domain example.org of the reverse-path is disabled"
        await world.configure(domains=(Domain("example.org"),))
        await trio.sleep(600)
    assert await world.entry(entry_id) is None


async def test_the_null_reverse_path_is_delivered(world: Any) -> None:
    await world.queue(reverse_path="")
    await world.run_for(seconds=1)
    assert world.transport.deliveries[0].reverse_path.is_null


async def test_what_becomes_due_while_something_else_is_begun_is_begun_next(world: Any) -> None:
    class LateClock:
        """What the scheduler sees of the time after its unit: that took a second."""

        def now(self) -> datetime:
            at: datetime = world.clock.now() + timedelta(seconds=1)
            return at

    await world.queue("a@example.net")
    await world.queue("b@example.com", due_at=world.clock.now() + timedelta(milliseconds=500))
    scheduler = world.make_scheduler()
    scheduler._clock = LateClock()
    async with trio.open_nursery() as nursery:
        await nursery.start(scheduler.run)
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert world.transport.forward_paths == [("a@example.net",), ("b@example.com",)]
