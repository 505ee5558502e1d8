"""The words of the timeline for what a flow with a fake next hop does not show."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mailcrane.admin.timeline import tell
from mailcrane.model.address import Mailbox, ReversePath
from mailcrane.model.delivery import Attempt, Entry, Outcome, RecipientResult, TLSUse
from mailcrane.model.event import Event, EventKind
from mailcrane.model.reply import Reply
from mailcrane.retire.events import attempt_finished

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
ENTRY = Entry(
    7,
    0,
    "ann",
    AT,
    ReversePath(Mailbox.parse("ann@here.example")),
    Mailbox.parse("you@there.example"),
    1,
    20,
    "",
    "",
    AT,
)
TAKEN = Reply.make(250, "2.0.0", "taken")
CALL = {
    "call_id": 3,
    "event": "delivered",
    "url": "https://hooks.example/",
    "is_success": False,
    "code": 0,
    "attempts": 2,
    "superseded_by": "",
    "is_disabling": False,
}


def words(kind: EventKind, data: dict[str, Any]) -> str:
    (step,) = tell([Event("evt_1_1_0", "ann", 1, kind, AT, 7, data)])
    return step.text


@pytest.mark.parametrize(
    ("tls", "said"),
    [
        (None, ""),
        (TLSUse("TLSv1.3", is_verified=True, is_offered=True), ", TLSv1.3, verified"),
        (TLSUse("TLSv1.3", is_offered=True, problem="self-signed"), ", TLSv1.3, self-signed"),
        (TLSUse(is_offered=True, is_fallback=True, problem="454"), ", in plaintext after TLS did not work (454)"),
        (TLSUse(is_offered=True), ", in plaintext, although TLS was offered"),
        (TLSUse(), ", in plaintext"),
    ],
)
def test_an_attempt_tells_how_it_was_protected(tls: TLSUse | None, said: str) -> None:
    result = RecipientResult(Outcome.DELIVERED, TAKEN, remote_mta="mx.there.example (192.0.2.1)", tls=tls)
    attempt = Attempt(1, AT, "direct", timedelta(seconds=1.5), result, "route of account ann")
    event = attempt_finished(ENTRY, attempt, None)
    assert words(event.kind, event.data) == (
        "attempt 1 over transport direct (route of account ann) to mx.there.example (192.0.2.1)"
        f"{said}: delivered after 1.50 s: 250 2.0.0"
    )


def test_an_attempt_tells_what_else_is_known() -> None:
    result = RecipientResult(
        Outcome.DEFERRED, error="connection lost", is_maybe_delivered=True, notes=("8-bit content was sent",)
    )
    event = attempt_finished(ENTRY, Attempt(2, AT, "", None, result), AT + timedelta(minutes=5))
    assert words(event.kind, event.data) == (
        "attempt 2: deferred: connection lost; the connection was lost after the final dot, so the next hop may have "
        "it; 8-bit content was sent; next attempt not before 2026-03-01T12:05:00Z"
    )


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"is_success": True, "code": 200, "attempts": 1}, "taken with 200 after 1 attempt"),
        ({"superseded_by": "evt_1_9_0"}, "superseded by the call for event evt_1_9_0 after 2 attempts"),
        ({"is_disabling": True, "code": 410}, "the receiver is gone for good (410), after 2 attempts"),
        ({"code": 500}, "given up after 2 attempts, the last answered with 500"),
        ({"canceled_by": "uid 7"}, "canceled by uid 7 after 2 attempts"),
    ],
)
def test_a_webhook_call_tells_how_it_ended(changed: dict[str, Any], said: str) -> None:
    text = words(EventKind.WEBHOOK_RETIRED, CALL | changed)
    assert text == f"webhook call 3 for delivered to https://hooks.example/: {said}"


@pytest.mark.parametrize("kind", [EventKind.FAILED, EventKind.CANCELED])
def test_who_ended_an_entry_by_hand_is_said_once(kind: EventKind) -> None:
    assert words(kind, {"error": f"{kind} by uid 7"}) == f"the application is told: {kind} by uid 7"


def test_an_event_that_has_no_words_of_its_own_shows_its_data() -> None:
    text = words(EventKind.CONFIGURATION_CHANGED, {"version": 3, "by": "uid 7", "changes": []})
    assert text == "configuration changed: version 3, by uid 7"
