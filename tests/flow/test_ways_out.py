"""One test for every way a message can leave the queue, from the session to what is told of it.

Each way ends in one retired row, in its events, in the webhook that the application sees, and, where the sender has to
know, in a notification in the Inbox.
"""

from __future__ import annotations

import email
import email.policy
from collections.abc import Awaitable, Callable
from datetime import timedelta
from email.message import EmailMessage
from typing import Any

import pytest
import trio
import trio.testing
from msgspec import Struct
from msgspec.structs import replace

from mailcrane.config.rows import Account, Webhook
from mailcrane.message.date import parse_date
from mailcrane.model.address import Mailbox
from mailcrane.model.event import EventKind
from mailcrane.model.reply import Reply
from mailcrane.model.retired import Retired
from mailcrane.retire.by_hand import end_by_hand
from mailcrane.retire.suppression import SuppressionLists
from mailcrane.store.records import RetiredFilter
from mailcrane.testing import PASSWORD, ROWS, RunningServer, server

CONTENT = b"From: ann@here.example\r\nSubject: news\r\nX-Mox-Extra-Order: 17\r\n\r\nHello.\r\n"

LATER = Reply.make(451, "4.7.1", "come back later")
NEVER = Reply.make(550, "5.1.1", "no such user")
FULL = Reply.make(552, "5.2.2", "mailbox full")

WITH_WEBHOOK = replace(
    ROWS,
    accounts=(replace(ROWS.accounts[0], outgoing_webhook=Webhook("https://hooks.there.example/")), *ROWS.accounts[1:]),
)


async def submit(running: RunningServer, *forward_paths: str, parameters: str = "") -> None:
    client = running.connect("submission")
    await client.hello()
    assert (await client.log_in("ann@here.example", PASSWORD)).code == 235
    assert (await client.command(f"MAIL FROM:<ann@here.example>{parameters}")).code == 250
    for path in forward_paths or ("you@there.example",):
        assert (await client.command(f"RCPT TO:<{path}>")).code == 250
    assert (await client.command("DATA")).code == 354
    reply = await client.command(CONTENT + b".")
    assert (reply.code, reply.enhanced_status_code) == (250, "2.2.0")
    await client.quit()
    await trio.sleep(1)


async def end(running: RunningServer, event: EventKind) -> None:
    ids = [entry.id for entry in await running.entries()]
    ended = await end_by_hand(
        store=running.store,
        directory=running.server.directory(),
        hooks=running.server.host.hooks,
        ids=ids,
        event=event,
        by="root",
    )
    assert ended == len(ids) == 1


async def bounces(running: RunningServer, account: str = "ann", folder: str = "Inbox") -> list[EmailMessage]:
    found = [
        email.message_from_bytes(octets, policy=email.policy.default) for octets in await running.read(account, folder)
    ]
    return [message for message in found if isinstance(message, EmailMessage)]


def of_recipient(message: EmailMessage) -> EmailMessage:
    """The recipient's block of a notification."""
    block = list(message.iter_parts())[1].get_payload()[1]  # type: ignore[index]
    assert isinstance(block, EmailMessage)
    return block


# --- the ways ---------------------------------------------------------------------------------------------------


async def delivered(running: RunningServer) -> None:
    await submit(running)


async def deferred_then_delivered(running: RunningServer) -> None:
    running.transport.answer(LATER, ConnectionError("no route"))
    await submit(running)
    await trio.sleep(3600)


async def failed(running: RunningServer) -> None:
    running.transport.answer(NEVER)
    await submit(running)


async def expired(running: RunningServer) -> None:
    running.transport.answer(*[LATER] * 8)
    await submit(running)
    await trio.sleep(20 * 3600)


async def suppressed(running: RunningServer) -> None:
    lists = SuppressionLists(running.store)
    await lists.add("ann", Mailbox("You+tag", "there.example"), is_manual=True, reason="asked to stop")
    await submit(running)


async def held_and_released(running: RunningServer) -> None:
    await submit(running, parameters=" HOLDFOR=600")
    assert running.transport.deliveries == []
    (entry,) = await running.entries()
    await running.store.write(lambda transaction: transaction.queue.update(entry.id, is_held=True), key="queue")
    await trio.sleep(7200)
    assert running.transport.deliveries == []
    await running.store.write(lambda transaction: transaction.queue.update(entry.id, is_held=False), key="queue")
    await trio.sleep(1)


async def failed_by_hand(running: RunningServer) -> None:
    running.transport.answer(LATER)
    await submit(running)
    await end(running, EventKind.FAILED)


async def dropped(running: RunningServer) -> None:
    running.transport.answer(LATER)
    await submit(running)
    await end(running, EventKind.CANCELED)


async def canceled_before_any_attempt(running: RunningServer) -> None:
    await submit(running, parameters=" HOLDFOR=3600")
    await end(running, EventKind.CANCELED)


class Way(Struct, frozen=True):
    """What a way comes to.

    Attributes:
        event: How it ends.
        attempts: How many there were.
        kinds: Those of the entry's timeline between queued and retired, but for finished attempts.
        error: With which its last event begins.
        code: In its last webhook.
        bounced: The actions of the notifications, in order.
        status: Of the last of them, with how its comment begins.
        is_suppressing: Whether it put the recipient on the list.
    """

    go: Callable[[RunningServer], Awaitable[None]]
    event: str
    attempts: int
    kinds: tuple[str, ...]
    error: str = ""
    code: int = 0
    bounced: tuple[str, ...] = ()
    status: str = ""
    is_suppressing: bool = False


WAYS = {
    "delivered": Way(delivered, "delivered", 1, ("delivered",)),
    "deferred then delivered": Way(deferred_then_delivered, "delivered", 3, ("delayed", "delayed", "delivered")),
    "failed": Way(
        failed,
        "failed",
        1,
        ("suppression_changed", "failed"),
        "550 5.1.1 no such user",
        550,
        ("failed",),
        "5.1.1 (no such user",
        is_suppressing=True,
    ),
    "expired": Way(
        expired,
        "failed",
        8,
        ("delayed",) * 7 + ("failed",),
        "given up after 8 attempts: 451 4.7.1 come back later",
        451,
        ("delayed", "failed"),
        "5.7.1 (come back later",
    ),
    "suppressed": Way(
        suppressed,
        "suppressed",
        1,
        ("suppressed",),
        "suppressed: you@there.example is on the suppression list since ",
        0,
        ("failed",),
        "5.7.1 (suppressed: you@there.example is on the",
    ),
    "held and released": Way(held_and_released, "delivered", 1, ("delivered",)),
    "failed by hand": Way(
        failed_by_hand, "failed", 1, ("delayed", "failed"), "failed by root", 0, ("failed",), "5.0.0 (failed by root"
    ),
    "dropped": Way(dropped, "canceled", 1, ("delayed", "canceled"), "canceled by root"),
    "canceled": Way(canceled_before_any_attempt, "canceled", 0, ("canceled",), "canceled by root"),
}


@pytest.mark.parametrize("name", WAYS)
async def test_a_message_leaves_in_one_retired_row_and_its_events(
    name: str, autojump_clock: trio.testing.MockClock
) -> None:
    way = WAYS[name]
    async with server(rows=WITH_WEBHOOK) as running:
        await way.go(running)
        await trio.sleep(5)
        assert await running.entries() == []
        (retired,) = await running.store.read(lambda transaction: transaction.retired.list(RetiredFilter()))
        timeline = await running.store.read(lambda transaction: transaction.events.for_entry(retired.entry.id))
        told, webhook = await bounces(running), running.receiver.calls[-1].payload
        stored = [event for event in await running.events("ann") if event.kind is EventKind.MESSAGE_STORED]
        listed = await SuppressionLists(running.store).list("ann")

    assert (retired.event, retired.is_success) == (way.event, way.event == "delivered")
    assert retired.keep_until - retired.retired_at == timedelta(days=1)
    assert (len(retired.attempts), retired.entry.attempts) == (way.attempts, way.attempts)
    assert [attempt.number for attempt in retired.attempts] == list(range(1, way.attempts + 1))
    assert all(attempt.result is not None and attempt.duration is not None for attempt in retired.attempts)

    beside = {EventKind.WEBHOOK_RETIRED, EventKind.MESSAGE_STORED}
    events = [event for event in timeline if event.kind not in beside]
    kinds = [str(event.kind) for event in events]
    assert (kinds[0], kinds[-1], kinds.count("entry_retired")) == ("message_queued", "entry_retired", 1)
    assert tuple(kind for kind in kinds[1:-1] if kind != "attempt_finished") == way.kinds
    assert kinds.count("attempt_finished") == way.attempts
    assert (events[-1].data["event"], events[-1].data["attempts"]) == (way.event, way.attempts)

    assert (webhook["Event"], webhook["QueueMsgID"], webhook["Extra"]) == (way.event, retired.entry.id, {"Order": "17"})
    assert webhook["Error"].startswith(way.error)
    assert bool(webhook["Error"]) == bool(way.error)
    assert (webhook["SMTPCode"], webhook["Suppressing"]) == (way.code, way.is_suppressing)
    assert bool(listed) == (way.is_suppressing or way.event == "suppressed")

    assert [of_recipient(message)["Action"] for message in told] == list(way.bounced)
    assert len(stored) == len(told)
    if told:
        assert of_recipient(told[-1])["Status"].startswith(way.status)
        assert of_recipient(told[-1])["Final-Recipient"] == "rfc822; you@there.example"


async def test_each_recipient_leaves_by_itself(autojump_clock: trio.testing.MockClock) -> None:
    async with server() as running:
        running.transport.answer((FULL, Reply.make(250, "2.0.0", "taken")))
        await submit(running, "a@there.example", "b@there.example")
        assert len(running.transport.deliveries) == 1
        assert await running.entries() == []
        retired = await running.store.read(lambda transaction: transaction.retired.list(RetiredFilter()))
        (told,) = await bounces(running)
    assert {(str(one.entry.forward_path), one.event) for one in retired} == {
        ("a@there.example", "failed"),
        ("b@there.example", "delivered"),
    }
    assert of_recipient(told)["Final-Recipient"] == "rfc822; a@there.example"


# --- what the sender is told ------------------------------------------------------------------------------------


async def test_a_failure_is_in_the_inbox_with_what_happened_and_what_to_do(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with server() as running:
        running.transport.answer(NEVER)
        await submit(running)
        (octets,) = await running.read("ann")
        (told,) = await bounces(running)
        (placed,) = await running.store.read(lambda transaction: transaction.folders.messages("ann", "Inbox"))
        (stored,) = [event for event in await running.events("ann") if event.kind is EventKind.MESSAGE_STORED]
        retired = await kept(running)
    assert octets.startswith(
        b"Delivered-To: ann@here.example\r\nReturn-Path: <postmaster@mail.here.example>\r\nFrom: Mail Delivery System"
    )
    assert (placed.keywords, placed.flags) == (("$dsn",), ())
    assert stored.data == {
        "message_id": told["Message-Id"],
        "folder": "Inbox",
        "uid": placed.uid,
        "size_octets": len(octets),
        "reverse_path": "postmaster@mail.here.example",
    }
    assert (told["To"], told["Subject"]) == ("ann@here.example", "Not delivered to you@there.example")
    assert told["References"] == retired.entry.message_id != ""
    text, report, original = told.iter_parts()
    words = " ".join(text.get_content().split())
    for part in (
        "was not delivered to you@there.example, and is not tried again",
        "Subject: news",
        "answered: 550 5.1.1 no such user",
        "What you can do: Check the address",
        "now on the suppression list",
    ):
        assert part in words
    assert report.get_content_type() == "message/delivery-status"
    assert "Subject: news" in original.get_content()
    assert "Hello." not in original.get_content()


async def test_a_delay_is_told_once_and_says_truly_when_the_last_attempt_is(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with server() as running:
        running.transport.answer(*[LATER] * 8)
        await submit(running)
        begun_at = running.clock.now()
        await trio.sleep(1.5 * 3600)
        assert await bounces(running) == []
        await trio.sleep(3600)
        (delayed,) = await bounces(running)
        await trio.sleep(86400)
        told = await bounces(running)
        retired = await kept(running)
    assert [of_recipient(message)["Action"] for message in told] == ["delayed", "failed"]
    block = of_recipient(delayed)
    last = parse_date(str(block["Last-Attempt-Date"]))
    until = parse_date(str(block["Will-Retry-Until"]))
    assert last is not None
    assert until is not None
    assert timedelta(minutes=110) < last - begun_at < timedelta(minutes=115)
    # The eighth attempt was made when the notification had said.
    assert abs(retired.attempts[-1].started_at - until) < timedelta(minutes=1)
    words = " ".join(next(iter(delayed.iter_parts())).get_content().split())
    assert "It was tried 5 times, and is tried 3 more times, until" in words
    assert "Do not send the message again" in words


async def kept(running: RunningServer) -> Retired:
    (retired,) = await running.store.read(lambda transaction: transaction.retired.list(RetiredFilter()))
    return retired


async def test_nobody_is_told_of_what_has_the_null_reverse_path(autojump_clock: trio.testing.MockClock) -> None:
    async with server() as running:
        running.transport.answer(NEVER)
        client = running.connect("submission")
        await client.hello()
        await client.log_in("ann@here.example", PASSWORD)
        assert (await client.send("", "you@there.example", CONTENT)).code == 250
        await trio.sleep(1)
        assert (await kept(running)).event == "failed"
        assert await bounces(running) == []


async def test_what_fails_is_never_sent_out(autojump_clock: trio.testing.MockClock) -> None:
    async with server() as running:
        running.transport.answer(NEVER)
        await submit(running)
        await trio.sleep(86400)
        assert len(running.transport.deliveries) == 1


async def test_internationalised_mail_is_told_of_in_its_own_script(autojump_clock: trio.testing.MockClock) -> None:
    async with server() as running:
        running.transport.answer(NEVER)
        client = running.connect("submission")
        await client.hello()
        await client.log_in("ann@here.example", PASSWORD)
        await client.command("MAIL FROM:<ann@here.example> SMTPUTF8")
        assert (await client.command("RCPT TO:<jürgen@bücher.example>".encode())).code == 250
        await client.command("DATA")
        assert (await client.command("From: ann@here.example\r\nSubject: Grüße\r\n\r\nHallo\r\n.".encode())).code == 250
        await trio.sleep(1)
        (octets,) = await running.read("ann")
        (told,) = await bounces(running)
    assert [part.get_content_type() for part in told.iter_parts()] == [
        "text/plain",
        "message/global-delivery-status",
        "message/global-headers",
    ]
    assert "Final-Recipient: utf-8; jürgen@bücher.example\r\n".encode() in octets
    assert "Subject: Grüße\r\n".encode() in octets


async def test_when_the_account_is_gone_postmaster_is_told(autojump_clock: trio.testing.MockClock) -> None:
    rows = replace(ROWS, settings=replace(ROWS.settings, postmaster_account="bob", postmaster_folder="Postmaster"))
    async with server(rows=rows) as running:
        directory = running.server.directory()
        running.transport.answer(LATER)
        await submit(running)
        (entry,) = await running.entries()
        # As it is between the change of the configuration and the attempt that was under way then.
        without = replace(rows, accounts=rows.accounts[1:], addresses=rows.addresses[1:2])
        gone = type(directory)(without, hostname=directory.hostname)
        await end_by_hand(
            store=running.store, directory=gone, hooks=None, ids=[entry.id], event=EventKind.FAILED, by="root"
        )
        (told,) = await bounces(running, "bob", "Postmaster")
        assert await bounces(running) == []
    assert told["To"] == "ann@here.example"
    assert told["Delivered-To"] == "ann@here.example"


async def test_without_anybody_to_tell_an_entry_ends_all_the_same(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> bytes:
        raise ValueError("odd")

    monkeypatch.setattr("mailcrane.retire.bounce.compose_dsn", broken)
    async with server() as running:
        running.transport.answer(NEVER)
        await submit(running)
        assert (await kept(running)).event == "failed"
        assert await bounces(running) == []


async def test_accounts_that_keep_nothing_are_told_all_the_same(autojump_clock: trio.testing.MockClock) -> None:
    rows = replace(ROWS, accounts=(Account("ann", "here.example"), *ROWS.accounts[1:]))
    async with server(rows=rows) as running:
        running.transport.answer(NEVER)
        await submit(running)
        assert len(await bounces(running)) == 1
        assert await running.store.read(lambda transaction: transaction.retired.list(RetiredFilter())) == []
        (retired,) = [event for event in await running.events("ann") if event.kind is EventKind.ENTRY_RETIRED]
    assert not retired.data["is_kept"]
