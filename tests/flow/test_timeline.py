"""The story of an entry, as ``mailcrane queue show`` tells it: from the session to the last webhook call."""

from __future__ import annotations

import re

import pytest
import trio
import trio.testing
from msgspec.structs import replace

from mailcrane.admin.errors import AdminError
from mailcrane.admin.hold_rules import AddHoldRule, add_hold_rule
from mailcrane.admin.queue import EntryDetails, ShowEntry, show_entry
from mailcrane.admin.queue_changes import (
    EndEntries,
    Schedule,
    SetHold,
    SetRequireTLS,
    SetTransport,
    end_entries,
    schedule,
    set_hold,
    set_require_tls,
    set_transport,
)
from mailcrane.admin.queue_filter import EntryFilter
from mailcrane.config.rows import Route, Webhook
from mailcrane.model.reply import Reply
from mailcrane.testing import PASSWORD, ROWS, RunningServer, server

CONTENT = b"From: ann@here.example\r\nSubject: news\r\n\r\nHello.\r\n"
HOOK = "https://hooks.there.example/"
ANN = replace(ROWS.accounts[0], outgoing_webhook=Webhook(HOOK), routes=(Route("fake"),))
ROWS_WITH_WEBHOOK = replace(ROWS, accounts=(ANN, *ROWS.accounts[1:]))
NOT_KEPT = replace(ROWS, accounts=(replace(ROWS.accounts[0], keep_retired_messages_seconds=0), *ROWS.accounts[1:]))


async def submit(running: RunningServer, *forward_paths: str) -> None:
    client = running.connect("submission")
    await client.hello()
    await client.log_in("ann@here.example", PASSWORD)
    assert (await client.send("ann@here.example", list(forward_paths), CONTENT)).code == 250
    await client.quit()
    await trio.testing.wait_all_tasks_blocked()


async def story(running: RunningServer, entry_id: int) -> tuple[EntryDetails, list[str]]:
    details = await show_entry(running.server.administration(), ShowEntry(entry_id))
    # Ids and instants are others in every run.
    texts = [re.sub(r"20\d\d-\S+?Z", "TIME", step.text) for step in details.timeline]
    return details, [re.sub(r"session [^;]+|event evt_\S+|after \d+\.\d\d s", "…", text) for text in texts]


async def test_the_whole_story_is_told_and_stays_when_the_entry_is_retired(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with server(rows=ROWS_WITH_WEBHOOK) as running:
        administration = running.server.administration().acting_as("uid 7")
        running.transport.answer(Reply.make(451, "4.7.1", "come back later"))
        await add_hold_rule(administration, AddHoldRule(account="ann", recipient_domain="there.example"))
        await submit(running, "you@there.example")
        only = EntryFilter(ids=(1,))
        await set_require_tls(administration, SetRequireTLS(require_tls=True, filter=only))
        await set_require_tls(administration, SetRequireTLS(require_tls=None, filter=only))
        await set_hold(administration, SetHold(is_held=False, filter=only))
        await trio.sleep(5)
        await set_transport(administration, SetTransport(transport="fake", filter=only))
        await schedule(administration, Schedule(duration="1m", is_from_now=True, filter=only))
        await trio.sleep(600)
        details, told = await story(running, 1)
    assert details.entry is not None
    assert (details.entry.status, details.event_format) == ("delivered", 1)
    assert told == [
        "queued for you@there.example from ann@here.example, over submission by ann@here.example from 192.0.2.1, …; "
        "held by hold rule 1 (of account ann, to there.example)",
        "TLS required by uid 7",
        "TLS left to policies again by uid 7",
        "released by uid 7",
        "attempt 1 over transport fake (route of account ann) to next.example (192.0.2.25): deferred …: "
        "451 4.7.1 come back later; next attempt not before TIME",
        "the application is told: delayed: 451 4.7.1 come back later",
        f"webhook call 1 for delayed to {HOOK}: taken with 200 after 1 attempt",
        "transport set to fake by uid 7",
        "next attempt moved from TIME to TIME by uid 7",
        "attempt 2 over transport fake (set for the entry) to next.example (192.0.2.25): delivered …: 250 2.0.0",
        "the application is told: delivered",
        "left the queue as delivered after 2 attempts, kept",
        f"webhook call 2 for delivered to {HOOK}: taken with 200 after 1 attempt",
    ]
    assert [step.kind for step in details.timeline][:2] == ["message_queued", "entry_changed"]
    assert all(step.id.startswith("evt_") for step in details.timeline)


async def test_webhook_calls_that_failed_were_superseded_or_still_wait_are_told(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with server(rows=ROWS_WITH_WEBHOOK) as running:
        running.transport.answer(Reply.make(451, "4.7.1", "come back later"))
        running.receiver.answer(500)
        await submit(running, "you@there.example")
        await trio.sleep(5)
        _, told = await story(running, 1)
        waiting = told[-1]
        await schedule(
            running.server.administration(), Schedule(duration="1s", is_from_now=True, filter=EntryFilter(ids=(1,)))
        )
        await trio.sleep(20)
        _, told = await story(running, 1)
    assert waiting.startswith(f"webhook call 1 for delayed to {HOOK}: next attempt not before TIME; 1 made, the last: ")
    assert f"webhook call 1 for delayed to {HOOK}: superseded by the call for … after 1 attempt" in told


async def test_an_attempt_under_way_is_told_of(autojump_clock: trio.testing.MockClock) -> None:
    async with server(rows=ROWS_WITH_WEBHOOK) as running:
        running.transport.answer(60.0)
        await submit(running, "you@there.example")
        _, told = await story(running, 1)
    assert told[-1] == "attempt 1 is under way"


async def test_what_is_not_kept_has_its_events_left(autojump_clock: trio.testing.MockClock) -> None:
    async with server(rows=NOT_KEPT) as running:
        await submit(running, "you@there.example", "drop@held.example")
        await end_entries(
            running.server.administration(), EndEntries(is_failure=False, filter=EntryFilter(forward_path="drop@"))
        )
        details, told = await story(running, 1)
        with pytest.raises(AdminError, match="nor does an event tell of it"):
            await story(running, 99)
    assert (details.entry, details.attempts) == (None, ())
    assert told[-1] == "left the queue as delivered after 1 attempt, not kept"


async def test_a_failure_is_told_with_the_suppression_and_the_notification_that_came_of_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with server() as running:
        running.transport.answer(Reply.make(550, "5.1.1", "no such user"))
        await submit(running, "you@there.example")
        await trio.sleep(10)
        _, told = await story(running, 1)
    assert "a notification for the sender is put into the folder Inbox" in told
    assert (
        "the application is told: failed: 550 5.1.1 no such user; the recipient is put on the suppression list" in told
    )
    assert any(text.startswith("you@there.example put on the suppression list by the queue: ") for text in told)
