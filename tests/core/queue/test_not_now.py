"""A transport that says it tried nothing: the attempt is taken back, and its domain is left alone for a while."""

from __future__ import annotations

from collections import deque
from datetime import timedelta
from typing import Any

import msgspec
import pytest
import trio

from mailcrane.model.delivery import Delivery, RecipientResult
from mailcrane.model.reply import Reply
from mailcrane.model.transport import NotNow
from mailcrane.queue import blocked

DELIVERED = RecipientResult.from_reply(Reply.make(250, "2.0.0", "taken"))
FULL = NotNow("mx.example.net", "20 connections are open", seconds=30)


class NextHop:
    """A next hop with some places; a delivery takes a second."""

    def __init__(self, places: int, *, name: str = "mx.example", tells: bool = False) -> None:
        self.places = places
        self.tells = tells
        self.name = name
        self.used = 0
        self.most_used = 0
        self.refused = 0
        self.taken: list[str] = []
        self._waiting: deque[trio.Event] = deque()

    async def deliver(self, delivery: Delivery) -> Any:
        if self.used >= self.places:
            self.refused += 1
            raise NotNow(
                self.name,
                f"{self.places} connections",
                seconds=600,
                wait_for_place=self._place,
                places=self.places if self.tells else 0,
            )
        self.used += 1
        self.most_used = max(self.most_used, self.used)
        self.taken.append(str(delivery.forward_paths[0]))
        try:
            await trio.sleep(1)
        finally:
            self.used -= 1
            if self._waiting:
                self._waiting.popleft().set()
        return (DELIVERED,) * len(delivery.entries)

    async def _place(self) -> None:
        if self.used >= self.places:
            event = trio.Event()
            self._waiting.append(event)
            await event.wait()


async def test_an_attempt_for_which_nothing_was_tried_is_not_counted_and_nobody_hears_of_it(world: Any) -> None:
    [entry_id] = await world.queue()
    world.transport.acts = [FULL]
    async with world.running():
        await trio.sleep(1)
        entry = await world.entry(entry_id)
        assert (entry.attempts, entry.last_attempt_at, entry.due_at) == (0, None, entry.queued_at)
        assert await world.attempts(entry_id) == ()
        assert await world.event_kinds() == []
        await trio.sleep(30)
        assert await world.entry(entry_id) is None
    assert [delivery.attempt for delivery in world.transport.deliveries] == [1, 1]


async def test_a_domain_is_left_alone_for_the_seconds_that_were_given(world: Any) -> None:
    for _ in range(3):
        await world.queue("you@example.net")
    world.transport.acts = [FULL]
    world.config = msgspec.structs.replace(world.config, concurrency_per_domain=1)
    async with world.running() as scheduler:
        await trio.sleep(0.5)
        await world.queue("you@other.example")
        await trio.sleep(0.5)
        blocked = scheduler.blocked("example.net")
        assert (blocked.next_hop, blocked.reason) == ("mx.example.net", "20 connections are open")
        assert blocked.until - world.clock.now() == timedelta(seconds=29)
        assert scheduler.blocked_domains() == ("example.net",)
        assert scheduler.blocked("other.example") is None
        assert world.transport.forward_paths == [("you@example.net",), ("you@other.example",)]
        # What comes meanwhile waits too.
        await world.queue("late@example.net")
        await trio.sleep(28.9)
        assert len(world.transport.deliveries) == 2
        await trio.sleep(0.2)
        assert len(world.transport.deliveries) == 6
        assert scheduler.blocked_domains() == ()


async def test_of_several_transports_only_the_one_that_says_so_is_taken_back(world: Any) -> None:
    other = type(world.transport)()
    world.transports.add("other", other)
    ids = await world.queue("a@example.net", "b@example.net", "c@example.net")
    await world.write(lambda transaction: transaction.queue.update(ids[1], transport="other"))
    other.acts = [FULL]
    async with world.running():
        await trio.sleep(1)
        assert [await world.entry(entry_id) is None for entry_id in ids] == [True, False, True]
        await trio.sleep(30)
        assert await world.entry(ids[1]) is None


async def test_deliveries_begin_as_soon_as_there_is_a_place(world: Any) -> None:
    hop = NextHop(3)
    world.transports.add("fake", hop)
    for number in range(12):
        await world.queue(f"u{number}@example.net")
    async with world.running():
        await trio.sleep(5)
    # Four rounds of a second, with what it takes to tell of a place.
    assert len(hop.taken) == 12
    assert hop.most_used == 3


async def test_a_limit_that_was_met_is_not_asked_about_for_each_message(world: Any) -> None:
    hop = NextHop(3)
    world.transports.add("fake", hop)
    for number in range(200):
        await world.queue(f"u{number}@example.net")
    async with world.running():
        await trio.sleep(100)
    assert len(hop.taken) == 200
    # Seventeen of the first twenty, then one for every dozen or so.
    assert hop.refused < 17 + 200 / 6


async def test_a_limit_that_is_lifted_is_found_out(world: Any) -> None:
    hop = NextHop(1)
    world.transports.add("fake", hop)
    for number in range(300):
        await world.queue(f"u{number}@example.net")
    async with world.running():
        await trio.sleep(20)
        assert len(hop.taken) <= 21
        hop.places = 1000
        await trio.sleep(60)
    assert hop.most_used > 10


async def test_domains_that_share_a_next_hop_all_get_places_and_none_is_left_empty(world: Any) -> None:
    hop = NextHop(2)
    world.transports.add("fake", hop)
    for number in range(10):
        for domain in ("a.example", "b.example", "c.example", "d.example"):
            await world.queue(f"u{number}@{domain}")
    async with world.running():
        await trio.sleep(12)
        # How turns fall is even only where the transport tells how many places there are: see the next test.
        assert len(hop.taken) >= 20
        await trio.sleep(15)
    assert len(hop.taken) == 40


async def test_domains_share_the_places_of_a_next_hop_that_tells_how_many_it_has(world: Any) -> None:
    hop = NextHop(4, tells=True)
    world.transports.add("fake", hop)
    for number in range(8):
        for domain in range(20):
            await world.queue(f"u{number}@d{domain}.example")
    async with world.running():
        await trio.sleep(20)
        assert len({path.partition("@")[2] for path in hop.taken}) == 20
        await trio.sleep(40)
    assert len(hop.taken) == 160
    # Nearly all that began before the first refusal, then one for every few dozen.
    assert hop.refused < 156 + 10


async def test_a_domain_that_waits_for_a_place_costs_the_others_nothing(world: Any) -> None:
    hop = NextHop(0)
    world.transports.add("full", hop)
    for number in range(500):
        await world.queue(f"u{number}@full.example", transport="full")
    async with world.running() as scheduler:
        await trio.sleep(5)
        refused = hop.refused
        assert refused <= 20
        assert scheduler.under_way_to("full.example") == 0
        for number in range(50):
            await world.queue(f"u{number}@example.net")
            await trio.sleep(0.1)
        assert len(world.transport.deliveries) == 50
        assert hop.refused == refused


async def test_a_wait_for_a_place_that_fails_leaves_it_to_time(world: Any) -> None:
    async def wait_for_place() -> None:
        raise ValueError("a bug")

    [entry_id] = await world.queue()
    world.transport.acts = [NotNow("mx", "full", seconds=10, wait_for_place=wait_for_place)]
    async with world.running():
        await trio.sleep(9)
        assert await world.entry(entry_id) is not None
        await trio.sleep(2)
        assert await world.entry(entry_id) is None


@pytest.mark.parametrize(("asked", "wanted"), [(-1.0, 0.05), (0.0, 0.05), (1e9, 3600.0), (float("nan"), 0.05)])
async def test_what_a_transport_asks_for_is_kept_within_bounds(world: Any, asked: float, wanted: float) -> None:
    await world.queue()
    world.transport.acts = [NotNow("mx", "full", seconds=asked)] + [FULL] * 5
    async with world.running() as scheduler:
        await trio.testing.wait_all_tasks_blocked()
        until = scheduler.blocked("example.net").until
        assert until - world.clock.now() == timedelta(seconds=wanted)


async def test_what_is_remembered_of_blocked_domains_is_bounded(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocked, "_MOST_DOMAINS", 5)
    for number in range(20):
        await world.queue(f"you@d{number}.example")
    world.transport.acts = [FULL] * 20
    async with world.running() as scheduler:
        await trio.sleep(1)
        assert len(scheduler.blocked_domains()) == 5
        # Those that are not remembered are left alone as well.
        await trio.sleep(28)
        assert len(world.transport.deliveries) == 20
        await trio.sleep(2)
        assert len(world.transport.deliveries) == 40


async def test_a_stop_does_not_wait_for_places(world: Any) -> None:
    hop = NextHop(0)
    world.transports.add("fake", hop)
    await world.queue()
    scheduler = world.make_scheduler()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scheduler.run)
        await trio.sleep(1)
        scheduler.stop()
    assert trio.current_time() < 2
