"""Events of real flows have exactly the keys that the reference page lists."""

from __future__ import annotations

import trio
import trio.testing
from msgspec.structs import replace

from mailcrane.admin.accounts import AddAccount
from mailcrane.admin.hold_rules import AddHoldRule
from mailcrane.admin.operations import ACCOUNT_ADD, HOLD_RULE_ADD, QUEUE_HOLD
from mailcrane.admin.queue_changes import SetHold
from mailcrane.admin.queue_filter import EntryFilter
from mailcrane.config.rows import Webhook
from mailcrane.model.event import Event, EventKind
from mailcrane.model.event_kinds import EVENT_KINDS
from mailcrane.model.reply import Reply
from mailcrane.retire.by_hand import end_by_hand
from mailcrane.testing import PASSWORD, ROWS, RunningServer, server

ROWS_WITH_WEBHOOK = replace(
    ROWS,
    accounts=(replace(ROWS.accounts[0], outgoing_webhook=Webhook("https://hooks.there.example/")), *ROWS.accounts[1:]),
)
CONTENT = b"From: ann@here.example\r\nSubject: news\r\n\r\nHello.\r\n"


async def everything_that_happens(running: RunningServer) -> list[Event]:
    later, never = Reply.make(451, "4.7.1", "later"), Reply.make(550, "5.1.1", "no such user")
    full = Reply.make(552, "5.2.2", "mailbox full")
    running.transport.answer(later, full, never)
    running.receiver.answer(500, 200, 410)
    client = running.connect("submission")
    await client.hello()
    await client.log_in("ann@here.example", PASSWORD)
    for path in ("deferred@there.example", "full@there.example", "failed@there.example", "failed@there.example"):
        assert (await client.send("ann@here.example", path, CONTENT)).code == 250
        await trio.sleep(1)
    await client.command("MAIL FROM:<ann@here.example> HOLDFOR=3600")
    await client.command("RCPT TO:<canceled@there.example>")
    await client.command("DATA")
    assert (await client.command(CONTENT + b".")).code == 250
    await end_by_hand(
        store=running.store,
        directory=running.server.directory(),
        hooks=running.server.host.hooks,
        ids=[entry.id for entry in await running.entries() if entry.forward_path.local_part == "canceled"],
        event=EventKind.CANCELED,
        by="a test",
    )
    stranger = running.connect()
    await stranger.hello()
    assert (await stranger.send("you@there.example", "ann@here.example", CONTENT)).code == 250
    rule = AddHoldRule(recipient_domain="held.example")
    await HOLD_RULE_ADD.run(running.server.administration(), rule)
    await client.send("ann@here.example", "you@held.example", CONTENT)
    await client.quit()
    only = EntryFilter(forward_path="you@held.example")
    await QUEUE_HOLD.run(running.server.administration(), SetHold(is_held=False, filter=only))
    await ACCOUNT_ADD.run(running.server.administration(), AddAccount("eve", "eve@here.example"))
    await trio.sleep(7 * 3600)
    return [*await running.events("ann"), *await running.events("")]


async def test_events_have_the_keys_that_the_reference_page_lists(autojump_clock: trio.testing.MockClock) -> None:
    async with server(rows=ROWS_WITH_WEBHOOK) as running:
        events = await everything_that_happens(running)
    for event in events:
        described = EVENT_KINDS[event.kind]
        assert described.keys.keys() - described.optional <= event.data.keys() <= described.keys.keys(), event.kind
    seen = {key for event in events if event.kind is EventKind.ATTEMPT_FINISHED for key in event.data}
    assert seen == EVENT_KINDS[EventKind.ATTEMPT_FINISHED].keys.keys()
    recorded = {kind for kind, described in EVENT_KINDS.items() if described.is_recorded}
    assert {event.kind for event in events} == recorded


def test_every_kind_of_event_is_described() -> None:
    assert set(EVENT_KINDS) == set(EventKind)
