"""The names of events and the keys of their data are a promise: within a format, they are only added to."""

from __future__ import annotations

from pathlib import Path

from mailcrane.model.event import EVENT_FORMAT
from mailcrane.model.event_kinds import EVENT_KINDS

SNAPSHOT = Path(__file__).with_name("event_format.txt")


def lines() -> list[str]:
    found = [f"format {EVENT_FORMAT}"]
    for kind, described in EVENT_KINDS.items():
        found += [f"{kind} {key}{' optional' if key in described.optional else ''}" for key in described.keys]
    return found


def test_no_kind_and_no_key_of_this_format_is_gone() -> None:
    promised = SNAPSHOT.read_text("utf-8").splitlines()
    missing = sorted(set(promised) - set(lines()))
    assert not missing, f"gone: {missing}. What is taken away or renamed makes the next EVENT_FORMAT"


def test_what_was_added_is_promised_from_now_on() -> None:
    promised = set(SNAPSHOT.read_text("utf-8").splitlines())
    added = [line for line in lines() if line not in promised]
    assert not added, "append to tests/hooks/event_format.txt:\n" + "\n".join(added)
