"""Who may be called how often at once."""

from __future__ import annotations

import itertools

from mailcrane.webhook.slots import FIRST_CALLS, SLOW_SECONDS, Slots

_ids = itertools.count(1)


def fill(slots: Slots, url: str, at: float = 0.0) -> list[int]:
    """Begin as many calls to a URL as it gets."""
    begun = []
    while slots.free(at) > 0 and slots.room(url, 0) > 0:
        begun.append(next(_ids))
        slots.begin(begun[-1], url, at)
    return begun


def test_a_url_gets_more_calls_with_each_answer_up_to_its_limit() -> None:
    slots = Slots(100, 16)
    first, *others = fill(slots, "a")
    assert len(others) + 1 == FIRST_CALLS
    for call in [first, *others[:1]]:
        slots.end(call, 1.0, is_answered=True)
    assert len(fill(slots, "a", 1.0)) == 14
    assert slots.room("a", 0) == 0
    assert slots.closed() == {"a"}


def test_a_url_that_answers_at_once_keeps_its_calls_while_it_has_none() -> None:
    slots = Slots(100, 16)
    for call in fill(slots, "a"):
        slots.end(call, 0.0, is_answered=True)
    assert len(fill(slots, "a")) == 16


def test_urls_that_were_not_called_for_long_are_forgotten() -> None:
    slots = Slots(100, 16)
    for url in ("first", *map(str, range(10_000))):
        call = next(_ids)
        slots.begin(call, url, 0.0)
        slots.end(call, 0.0, is_answered=True)
    assert len(fill(slots, "first")) == FIRST_CALLS


def test_the_last_slots_are_for_urls_that_have_none() -> None:
    slots = Slots(16, 16)
    for url in "abcd":
        fill(slots, url)
    assert slots.under_way == 14
    assert slots.room("a", 0) == 0
    assert (slots.room("e", 0), slots.room("e", 1), slots.room("e", 2)) == (1, 1, 0)


def test_calls_that_are_slow_give_their_slots_back() -> None:
    slots = Slots(8, 4)
    for url in "ab":
        fill(slots, url)
    slots.begin(next(_ids), "c", 1.0)
    assert slots.free(SLOW_SECONDS - 0.1) == 0
    assert slots.next_change_at() == SLOW_SECONDS
    assert slots.free(SLOW_SECONDS) == 7
    assert slots.next_change_at() == 1.0 + SLOW_SECONDS
    assert slots.under_way == 8


def test_a_url_that_hangs_gets_one_call_at_a_time_beside_the_slots_of_others() -> None:
    slots = Slots(8, 16)
    for call in fill(slots, "hangs"):
        slots.end(call, 60.0, is_answered=False)
    assert len(fill(slots, "hangs", 60.0)) == 1
    assert slots.free(60.0) == 8
    assert slots.room("hangs", 0) == 0


def test_a_url_that_answers_late_keeps_its_calls_but_takes_no_quick_slots() -> None:
    slots = Slots(100, 16)
    for call in fill(slots, "late"):
        slots.end(call, 10.0, is_answered=True)
    assert len(fill(slots, "late", 10.0)) == 16
    assert slots.free(10.0) == 100


def test_a_url_that_answers_quickly_again_is_as_any_other() -> None:
    slots = Slots(8, 4)
    (first, *others) = fill(slots, "a")
    for call in [first, *others]:
        slots.end(call, 60.0, is_answered=False)
    (call,) = fill(slots, "a", 60.0)
    slots.end(call, 61.0, is_answered=True)
    fill(slots, "a", 61.0)
    assert slots.free(61.0) == 4


def test_the_slow_lane_has_an_end() -> None:
    slots = Slots(8, 1)
    for url in range(8 * 5):
        at = url * SLOW_SECONDS
        if not fill(slots, str(url), at):
            break
    slots.free(8 * 5 * SLOW_SECONDS)
    assert slots.under_way == 8 * 4 + 8
    assert slots.free(1e9) == 0
    assert slots.next_change_at() == float("inf")


def test_refused_connections_are_neither_answers_nor_slow() -> None:
    slots = Slots(100, 16)
    call, *_ = fill(slots, "a")
    slots.end(call, 0.1, is_answered=False)
    assert slots.room("a", 0) == 1
