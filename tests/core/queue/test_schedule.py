"""When an entry is tried again."""

from __future__ import annotations

from datetime import timedelta

import pytest

from mailcrane.queue.schedule import JITTER, is_exhausted, next_due_at
from mailcrane.testing.clock import START
from mailcrane.testing.values import made_entry


@pytest.mark.parametrize(("attempts", "minutes"), [(1, 7.5), (2, 15), (3, 30), (4, 60), (5, 120), (6, 240), (7, 480)])
def test_each_wait_is_twice_as_long_as_the_one_before(attempts: int, minutes: float) -> None:
    for entry_id in range(1, 50):
        due_at = next_due_at(made_entry(id=entry_id, attempts=attempts, last_attempt_at=START))
        assert abs(due_at - START - timedelta(minutes=minutes)) <= JITTER * 2 ** (attempts - 1)


def test_entries_that_are_queued_together_drift_apart() -> None:
    due = {next_due_at(made_entry(id=entry_id, attempts=1, last_attempt_at=START)) for entry_id in range(1, 101)}
    assert len(due) > 90
    assert max(due) - min(due) > JITTER


def test_entries_that_travel_together_keep_together() -> None:
    due = {next_due_at(made_entry(id=i, base_id=1, attempts=1, last_attempt_at=START)) for i in range(1, 101)}
    assert len(due) == 1


def test_many_attempts_do_not_leave_the_calendar() -> None:
    due_at = next_due_at(made_entry(attempts=1000, last_attempt_at=START))
    assert due_at - START < timedelta(days=30)


def test_the_entrys_own_limit_wins_over_the_queues() -> None:
    assert is_exhausted(made_entry(attempts=8), 8)
    assert not is_exhausted(made_entry(attempts=7), 8)
    assert is_exhausted(made_entry(attempts=2, max_attempts=2), 8)
    assert not is_exhausted(made_entry(attempts=8, max_attempts=20), 8)


def test_a_shorter_first_interval_makes_every_wait_and_its_jitter_shorter() -> None:
    for attempts, seconds in [(1, 1), (2, 2), (5, 16)]:
        entry = made_entry(attempts=attempts, last_attempt_at=START)
        wait = next_due_at(entry, timedelta(seconds=1)) - START
        assert abs(wait.total_seconds() - seconds) <= 0.02 * seconds
