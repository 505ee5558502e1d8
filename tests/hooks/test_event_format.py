"""The names of events and the keys of their data are a promise: within a format, they are only added to."""

from __future__ import annotations

from pathlib import Path

import mailcrane
from mailcrane.model.event_kinds import format_lines, render_format

PROMISED = Path(mailcrane.__file__).parents[2] / "docs" / "reference" / "event-format.txt"


def test_no_kind_and_no_key_of_this_format_is_gone() -> None:
    missing = sorted(set(PROMISED.read_text("utf-8").splitlines()) - set(format_lines()))
    assert not missing, f"gone: {missing}. What is taken away or renamed makes the next EVENT_FORMAT and a new list"


def test_what_is_added_is_promised_and_what_is_gone_stays_promised() -> None:
    first, *others = format_lines()
    promised = "\n".join([first, "some_kind that_is_gone"]) + "\n"
    assert render_format(promised).splitlines() == [first, "some_kind that_is_gone", *others]
