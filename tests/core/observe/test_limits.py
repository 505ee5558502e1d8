from __future__ import annotations

import pytest

from mailcrane.observe.limits import Window, WindowLimiter, networks_of


class FakeClock:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def test_an_address_is_refused_above_its_limit_until_the_next_window(clock: FakeClock) -> None:
    limiter = WindowLimiter([Window(60, (2, 10, 10))], clock=clock)
    assert [limiter.add("192.0.2.1") for _ in range(3)] == [True, True, False]
    assert not limiter.may_add("192.0.2.1")
    clock.time += 60
    assert limiter.may_add("192.0.2.1")
    assert limiter.add("192.0.2.1")


def test_neighbours_share_the_wider_limits(clock: FakeClock) -> None:
    limiter = WindowLimiter([Window(60, (2, 3, 4))], clock=clock)
    assert limiter.add("192.0.2.1", 2)
    assert limiter.add("192.0.2.2")
    assert not limiter.add("192.0.2.3")
    assert limiter.add("192.0.2.65")
    assert not limiter.add("192.0.3.1")
    assert limiter.add("198.51.100.1")


def test_ipv6_addresses_of_one_64_are_one_client(clock: FakeClock) -> None:
    limiter = WindowLimiter([Window(60, (1, 2, 3))], clock=clock)
    assert limiter.add("2001:db8::1")
    assert not limiter.add("2001:db8::2")
    assert limiter.add("2001:db8:0:1::1")
    assert not limiter.add("2001:db8:0:2::1")
    assert limiter.add("2001:db8:1::1")
    assert not limiter.add("2001:db8:2::1")


def test_every_window_must_have_room_and_a_refusal_counts_nowhere(clock: FakeClock) -> None:
    limiter = WindowLimiter([Window(60, (2, 9, 9)), Window(3600, (3, 9, 9))], clock=clock)
    assert limiter.add("192.0.2.1", 2)
    assert not limiter.add("192.0.2.1")
    clock.time += 60
    assert limiter.add("192.0.2.1")
    assert not limiter.add("192.0.2.1")


def test_a_reset_gives_back_what_the_address_took_from_its_neighbours(clock: FakeClock) -> None:
    limiter = WindowLimiter([Window(60, (5, 5, 5))], clock=clock)
    limiter.add("192.0.2.1", 3)
    limiter.add("192.0.2.2", 2)
    limiter.reset("192.0.2.1")
    assert limiter.add("192.0.2.3", 3)
    assert not limiter.add("192.0.2.1")


def test_memory_is_bounded_by_forgetting_the_network_seen_first(clock: FakeClock) -> None:
    limiter = WindowLimiter([Window(60, (1, 9, 9))], clock=clock, max_networks=6)
    assert limiter.add("192.0.2.1")
    assert limiter.add("198.51.100.1")
    assert limiter.add("203.0.113.1")
    assert limiter.may_add("192.0.2.1")
    assert not limiter.may_add("203.0.113.1")


def test_a_mapped_address_counts_as_the_ipv4_address() -> None:
    assert networks_of("::ffff:192.0.2.1") == networks_of("192.0.2.1")
    assert networks_of("192.0.2.1") != networks_of("192.0.2.2")


def test_what_is_no_address_is_refused() -> None:
    with pytest.raises(ValueError, match="address"):
        networks_of("nonsense")
