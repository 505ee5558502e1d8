"""Places for deliveries: no domain, and no few domains, can take them all."""

from __future__ import annotations

from typing import Any

import msgspec
import trio

from mailcrane.config.static import QueueConfig
from mailcrane.model.delivery import Delivery, RecipientResult
from mailcrane.model.reply import Reply
from mailcrane.queue.places import Places

DELIVERED = RecipientResult.from_reply(Reply.make(250, "2.0.0", "taken"))


def fill(places: Places, domain: str) -> int:
    taken = 0
    while places.room_for(domain):
        places.take(domain)
        taken += 1
    return taken


def test_fifty_domains_may_have_twenty_deliveries_each_with_the_default_settings() -> None:
    places = Places(QueueConfig().concurrency, QueueConfig().concurrency_per_domain)
    assert [fill(places, f"d{number}.example") for number in range(50)] == [20] * 50


def test_there_is_always_a_place_for_a_domain_that_has_none_while_a_few_hundred_hang() -> None:
    places = Places(2000, 20)
    taken = [fill(places, f"d{number}.example") for number in range(400)]
    assert min(taken) >= 1
    assert places.room > 20
    assert places.room_for("new.example") >= 1


def test_what_one_domain_may_have_shrinks_with_what_is_free_and_grows_again() -> None:
    places = Places(100, 20)
    hanging = [f"d{number}.example" for number in range(10)]
    taken = [fill(places, domain) for domain in hanging]
    assert taken == sorted(taken, reverse=True)
    assert taken[0] == 20 > taken[-1]
    for domain, count in zip(hanging, taken, strict=True):
        for _ in range(count):
            places.leave(domain)
    assert fill(places, "new.example") == 20


def test_places_are_never_more_than_there_are() -> None:
    places = Places(10, 20)
    assert sum(fill(places, f"d{number}.example") for number in range(100)) == 10
    assert places.room == 0
    assert places.room_for("new.example") == 0


async def test_hanging_domains_with_large_backlogs_hold_up_nobody(world: Any) -> None:
    world.config = msgspec.structs.replace(world.config, concurrency=40, concurrency_per_domain=10)

    async def hang_or_deliver(delivery: Delivery) -> Any:
        if delivery.forward_paths[0].domain.startswith("slow"):
            await trio.sleep_forever()
        return (DELIVERED,)

    world.transport.acts = [hang_or_deliver] * 1000
    for number in range(6):
        for _ in range(15):
            await world.queue(f"you@slow{number}.example")
    async with world.running():
        await trio.sleep(10)
        under_way = world.transport.under_way
        for number in range(50):
            await world.queue(f"you@quick{number % 5}.example")
        await trio.sleep(1)
        assert len(world.transport.deliveries) == under_way + 50
        assert world.transport.under_way == under_way < 40


async def test_a_domain_with_a_large_backlog_does_not_delay_the_others(world: Any) -> None:
    world.config = msgspec.structs.replace(world.config, concurrency=4, concurrency_per_domain=4)

    async def take_a_second(delivery: Delivery) -> Any:
        await trio.sleep(1)
        return (DELIVERED,)

    world.transport.acts = [take_a_second] * 1000
    for number in range(300):
        await world.queue(f"u{number}@busy.example")
    async with world.running():
        await trio.sleep(3.5)
        await world.queue("you@calm.example")
        # One place that becomes free later it is its turn.
        await trio.sleep(2)
        assert ("you@calm.example",) in world.transport.forward_paths


def test_domains_that_were_refused_at_one_next_hop_share_its_places() -> None:
    places = Places(2000, 20)
    for domain in ("a.example", "b.example"):
        for _ in range(10):
            places.take(domain)
    places.shrink("a.example", "mx", 12)
    places.shrink("b.example", "mx", 12)
    assert places.room_for("a.example") == places.room_for("b.example") == 0
    for _ in range(10):
        places.leave("a.example")
    assert places.room_for("a.example") == places.room_for("b.example") == 2
    assert places.room_for("elsewhere.example") == 20


def test_what_begins_in_one_unit_is_counted_for_all_domains_of_a_next_hop() -> None:
    places = Places(2000, 20)
    for domain in ("a.example", "b.example", "c.example"):
        places.take(domain)
        places.shrink(domain, "mx", 4)
    for domain in ("a.example", "b.example", "c.example"):
        places.leave(domain)
    room_for = places.round()
    assert room_for("a.example", 0) == 4
    assert room_for("elsewhere.example", 3) == 20
    assert room_for("b.example", 8) == 1
    assert room_for("c.example", 9) == 0


def test_the_limit_of_a_next_hop_grows_again() -> None:
    places = Places(2000, 20)
    places.take("a.example")
    places.shrink("a.example", "mx", 2)
    for _ in range(20):
        places.note_good("a.example")
    assert places.room_for("a.example") > 1
