"""Durations and conditions on instants, as operators write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from mailcrane.admin.errors import AdminError
from mailcrane.admin.time_filter import TimeBounds, parse_duration, parse_time_filter

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
JUST = timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("90s", timedelta(seconds=90)),
        ("1h30m", timedelta(minutes=90)),
        ("1.5h", timedelta(minutes=90)),
        (".5s", timedelta(milliseconds=500)),
        ("250ms", timedelta(milliseconds=250)),
        ("2d", timedelta(days=2)),
        ("1w", timedelta(days=7)),
        ("-2h", timedelta(hours=-2)),
        ("+2h", timedelta(hours=2)),
        ("0", timedelta(0)),
    ],
)
def test_durations_are_read(text: str, duration: timedelta) -> None:
    assert parse_duration(text) == duration


@pytest.mark.parametrize("text", ["", "-", "5", "h", "1x", "1h ", "1h-1m", "1e3s", "999999w", "9" * 400 + "h", "--1h"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(AdminError) as caught:
        parse_duration(text)
    assert caught.value.code == "bad_value"


@pytest.mark.parametrize(
    ("text", "bounds"),
    [
        ("", TimeBounds()),
        ("<1h", TimeBounds(before=NOW + timedelta(hours=1) + JUST)),
        ("> 1h", TimeBounds(after=NOW + timedelta(hours=1))),
        (">-2d", TimeBounds(after=NOW - timedelta(days=2))),
        ("<now", TimeBounds(before=NOW + JUST)),
        ("now", TimeBounds(before=NOW + JUST)),
        (">now", TimeBounds(after=NOW)),
    ],
)
def test_conditions_are_relative_to_now(text: str, bounds: TimeBounds) -> None:
    assert parse_time_filter(text, NOW) == bounds


@pytest.mark.parametrize("text", ["1h", "=1h", "<", ">soon", "tomorrow"])
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(AdminError):
        parse_time_filter(text, NOW)
