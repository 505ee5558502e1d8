"""Limits and back-off per next hop, on a clock that is told the time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import pytest
import trio
import trio.testing

from mailcrane.model.reply import Reply
from mailcrane.model.transport import NotNow
from mailcrane.transport.next_hops import AtLimit, LeftAlone, NextHopLimits, NextHops, Place, Suspended, is_push_back

HOST = "mx.example.org"


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


def made(time: Time, max_connections: int = 4, messages_per_second: float = 0.0) -> NextHops:
    return NextHops(NextHopLimits(max_connections, messages_per_second), now=time)


def one_message(hops: NextHops, say: Callable[[Place], None] = Place.accepted) -> None:
    with hops.enter(HOST) as place:
        say(place)


def unreachable(place: Place) -> None:
    place.unreachable("connection refused")


def pushed_back(place: Place) -> None:
    place.pushed_back("421 4.7.0 slow down")


# --- limits ---------------------------------------------------------------------------------------------------------


def test_no_more_connections_than_allowed_are_made_at_once(time: Time) -> None:
    hops = made(time, max_connections=2)
    with hops.enter(HOST), hops.enter(HOST):
        assert hops.places_taken(HOST) == 2
        with pytest.raises(AtLimit, match="2 connections at once is the limit") as limit, hops.enter(HOST):
            pass
        assert isinstance(limit.value, NotNow)
        assert limit.value.next_hop == HOST
    with hops.enter(HOST):
        pass


def test_a_full_next_hop_keeps_nobody_from_another(time: Time) -> None:
    hops = made(time, max_connections=1)
    with hops.enter(HOST), hops.enter("mx.example.net"):
        pass


def test_messages_a_second_are_limited_after_a_burst_of_one_second(time: Time) -> None:
    hops = made(time, max_connections=100, messages_per_second=10)
    for _ in range(10):
        one_message(hops)
    with pytest.raises(AtLimit, match="10 messages a second is the limit") as limit:
        one_message(hops)
    assert limit.value.seconds == pytest.approx(0.5)
    time.now += limit.value.seconds
    for _ in range(5):
        one_message(hops)
    with pytest.raises(AtLimit):
        one_message(hops)


def test_a_rate_below_one_a_second_lets_one_message_through_now_and_then(time: Time) -> None:
    hops = made(time, messages_per_second=0.1)
    one_message(hops)
    with pytest.raises(AtLimit) as limit:
        one_message(hops)
    assert limit.value.seconds == pytest.approx(10)
    time.now += 10
    one_message(hops)


# --- waiting for a place --------------------------------------------------------------------------------------------


async def test_those_who_wait_are_told_of_a_place_in_order_and_one_for_each(
    time: Time, autojump_clock: trio.testing.MockClock
) -> None:
    hops = made(time, max_connections=2)
    told: list[int] = []

    async def wait(number: int) -> None:
        with pytest.raises(AtLimit) as limit, hops.enter(HOST):
            pass
        assert limit.value.wait_for_place is not None
        await limit.value.wait_for_place()
        told.append(number)

    async with trio.open_nursery() as nursery:
        with ExitStack() as second:
            with ExitStack() as first:
                first.enter_context(hops.enter(HOST))
                second.enter_context(hops.enter(HOST))
                for number in range(3):
                    nursery.start_soon(wait, number)
                    await trio.testing.wait_all_tasks_blocked()
            await trio.testing.wait_all_tasks_blocked()
            assert told == [0]
        await trio.testing.wait_all_tasks_blocked()
        assert told == [0, 1]
        with hops.enter(HOST):
            pass
        await trio.testing.wait_all_tasks_blocked()
        assert told == [0, 1, 2]


async def test_one_who_gives_up_waiting_takes_nobodys_turn(time: Time, autojump_clock: trio.testing.MockClock) -> None:
    hops = made(time, max_connections=1)
    told: list[str] = []

    async def wait(name: str, scope: trio.CancelScope) -> None:
        with scope:
            with pytest.raises(AtLimit) as limit, hops.enter(HOST):
                pass
            assert limit.value.wait_for_place is not None
            await limit.value.wait_for_place()
            told.append(name)

    async with trio.open_nursery() as nursery:
        impatient = trio.CancelScope()
        with hops.enter(HOST):
            nursery.start_soon(wait, "impatient", impatient)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(wait, "patient", trio.CancelScope())
            await trio.testing.wait_all_tasks_blocked()
            impatient.cancel()
            await trio.testing.wait_all_tasks_blocked()
    assert told == ["patient"]


async def test_a_place_that_became_free_before_the_wait_is_told_at_once(
    time: Time, autojump_clock: trio.testing.MockClock
) -> None:
    hops = made(time, max_connections=1)
    with hops.enter(HOST), pytest.raises(AtLimit) as limit, hops.enter(HOST):
        pass
    assert limit.value.wait_for_place is not None
    await limit.value.wait_for_place()


# --- back-off -------------------------------------------------------------------------------------------------------


def test_a_push_back_halves_the_connections_once_for_all_that_were_open(time: Time) -> None:
    hops = made(time, max_connections=16)
    with ExitStack() as stack:
        places = [stack.enter_context(hops.enter(HOST)) for _ in range(16)]
        time.now += 1
        for place in places:
            place.pushed_back("421 4.7.0 too many connections")
        assert hops.places(HOST) == 8
    with ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(hops.enter(HOST))
        with pytest.raises(AtLimit, match=r"8 of 16 connections, after: 421 4\.7\.0 too many"), hops.enter(HOST):
            pass


def test_each_round_of_messages_gives_a_connection_back(time: Time) -> None:
    hops = made(time, max_connections=4)
    with ExitStack() as stack:
        places = [stack.enter_context(hops.enter(HOST)) for _ in range(4)]
        places[0].pushed_back("421")
    time.now += 1
    seen = [hops.places(HOST)]
    for _ in range(12):
        one_message(hops)
        seen.append(hops.places(HOST))
    assert seen[0] == 2
    assert seen[-1] == 4
    assert seen == sorted(seen)
    assert len(hops) == 0  # nothing is remembered of a next hop without trouble


def test_a_next_hop_that_cannot_be_reached_is_left_alone_and_then_tried_with_one_message(time: Time) -> None:
    hops = made(time)
    one_message(hops, unreachable)
    with pytest.raises(LeftAlone, match="left alone for 30 s: connection refused") as pause:
        one_message(hops)
    assert pause.value.seconds == pytest.approx(30)
    assert pause.value.wait_for_place is None
    time.now += 30
    with hops.enter(HOST) as probe:
        with pytest.raises(AtLimit, match="one message tries whether it works again"), hops.enter(HOST):
            pass
        probe.accepted()
    assert hops.places(HOST) == 2


def test_a_next_hop_that_fails_again_is_answered_for_from_memory_and_ever_longer(time: Time) -> None:
    hops = made(time)
    one_message(hops, unreachable)
    time.now += 30
    pauses = []
    for _ in range(7):
        one_message(hops, unreachable)
        with pytest.raises(Suspended, match=r"mx\.example\.org is not tried again for .*: connection refused") as pause:
            one_message(hops)
        pauses.append(pause.value.seconds)
        time.now += pause.value.seconds
    assert pauses == pytest.approx([60, 120, 240, 480, 600, 600, 600])
    one_message(hops)
    one_message(hops)


def test_a_refused_connection_beside_others_that_work_only_lowers_the_number(time: Time) -> None:
    hops = made(time, max_connections=4)
    with ExitStack() as stack:
        places = [stack.enter_context(hops.enter(HOST)) for _ in range(4)]
        time.now += 1
        places[0].accepted()
        places[1].unreachable("connection refused")
        assert hops.places(HOST) == 2


def test_a_push_back_on_the_only_connection_pauses(time: Time) -> None:
    hops = made(time)
    one_message(hops, pushed_back)
    with pytest.raises(LeftAlone, match="421"):
        one_message(hops)


def test_what_began_before_the_trouble_does_not_end_it(time: Time) -> None:
    hops = made(time)
    with hops.enter(HOST) as old:
        time.now += 1
        one_message(hops, unreachable)
        old.accepted()
    assert hops.places(HOST) == 0


def test_trouble_of_long_ago_is_forgotten(time: Time) -> None:
    hops = made(time, max_connections=4)
    one_message(hops, unreachable)
    time.now += 3600
    with hops.enter(HOST), hops.enter(HOST), hops.enter(HOST), hops.enter(HOST):
        pass


def test_next_hops_at_rest_are_not_remembered(time: Time) -> None:
    hops = made(time, messages_per_second=5)
    for number in range(5000):
        with hops.enter(f"mx{number}.example"):
            time.now += 0.1
    assert len(hops) < 4200


# --- what is a push-back --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "is_one"),
    [
        (Reply(421, "", ("closing",)), True),
        (Reply(450, "4.7.1", ("rate limited",)), True),
        (Reply(451, "4.7.650", ("The mail server has been temporarily rate limited",)), True),
        (Reply(451, "4.7.1", ("Greylisting in action, please come back later",)), False),
        (Reply(452, "4.3.2", ("busy",)), True),
        (Reply(452, "", ("Too many messages from your address",)), True),
        (Reply(452, "4.5.3", ("Too many recipients",)), False),
        (Reply(452, "", ("Too many recipients",)), False),
        # Gmail says so of one mailbox.
        (Reply(450, "4.2.1", ("The user you are trying to contact is receiving mail too fast",)), False),
        (Reply(450, "4.2.0", ("mailbox busy",)), False),
        (Reply(550, "5.7.1", ("too many bad things",)), False),
        (Reply(250, "2.0.0", ("ok",)), False),
    ],
)
def test_a_reply_asks_to_slow_down_or_does_not(reply: Reply, *, is_one: bool) -> None:
    assert is_push_back(reply) is is_one
