"""What ``mailcrane queue why`` says of a domain, and that saying it costs the same however much is queued."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from msgspec.structs import replace

from mailcrane.admin.errors import AdminError
from mailcrane.admin.hold_rules import AddHoldRule, add_hold_rule
from mailcrane.admin.queue_changes import Schedule, SetHold, schedule, set_hold
from mailcrane.admin.queue_filter import EntryFilter
from mailcrane.admin.queue_why import DomainReport, WhyDomain, why_domain
from mailcrane.model.address import Mailbox
from mailcrane.model.reply import Reply
from mailcrane.model.suppression import SuppressionOrigin
from mailcrane.model.transport import NotNow
from mailcrane.store.records import NewSuppression
from mailcrane.testing import PASSWORD, RunningServer, server

CONTENT = b"From: ann@here.example\r\nSubject: news\r\n\r\nHello.\r\n"


async def submit(running: RunningServer, *forward_paths: str) -> None:
    client = running.connect("submission")
    await client.hello()
    await client.log_in("ann@here.example", PASSWORD)
    for path in forward_paths:
        assert (await client.send("ann@here.example", path, CONTENT)).code == 250
    await client.quit()
    await trio.testing.wait_all_tasks_blocked()


async def why(running: RunningServer, domain: str = "there.example") -> DomainReport:
    return await why_domain(running.server.administration(), WhyDomain(domain))


async def test_nothing_is_queued(autojump_clock: trio.testing.MockClock) -> None:
    async with server() as running:
        report = await why(running, "There.Example")
        with pytest.raises(AdminError, match="is not a domain"):
            await why(running, "no domain")
    assert report.reasons == ("nothing is queued to there.example",)
    assert (report.is_running, report.due, report.waiting, report.deliveries) == (True, 0, 0, 0)


async def test_entries_wait_after_what_the_next_hop_said(autojump_clock: trio.testing.MockClock) -> None:
    async with server() as running:
        running.transport.answer(*[Reply.make(451, "4.7.1", "come back later")] * 2, ConnectionError("no route"))
        await submit(running, "a@there.example", "b@there.example", "c@there.example")
        report = await why(running)
    assert (report.waiting, report.sampled) == (3, 3)
    first = report.answers[0]
    assert (first.error, first.count, first.transport) == (
        "451 4.7.1 come back later",
        2,
        "fake",
    )
    assert sum(answer.count for answer in report.answers) == 3
    assert [(route.transport, route.reason, route.count) for route in report.routes] == [
        ("fake", "[queue] default_transport", 3)
    ]
    assert report.reasons[0].startswith("3 wait for the next attempt, the first until ")
    assert report.reasons[1].startswith("2 of 3 looked at ended last in: 451 4.7.1 come back later")
    assert report.reasons[-1] == "3 of 3 looked at would take transport fake ([queue] default_transport)"


async def test_entries_are_held_by_rules_and_by_hand(autojump_clock: trio.testing.MockClock) -> None:
    async with server() as running:
        administration = running.server.administration()
        await add_hold_rule(administration, AddHoldRule(recipient_domain="there.example"))
        await submit(running, "a@there.example", "b@there.example", "c@there.example")
        only = EntryFilter(ids=(3,))
        await schedule(administration, Schedule(duration="1h", is_from_now=True, filter=only))
        await set_hold(administration, SetHold(is_held=False, filter=only))
        await set_hold(administration, SetHold(is_held=True, filter=only))
        report = await why(running)
    assert [(held.hold_rule, held.count) for held in report.held] == [(0, 1), (1, 2)]
    assert report.rules == ("hold rule 1 (to there.example)",)
    assert report.reasons == (
        "1 is held by an operator, a plugin or the configuration: `mailcrane queue unhold` releases",
        "2 are held by hold rule 1 (to there.example): `mailcrane queue unhold` releases",
        "hold rule 1 (to there.example) holds what fits it and comes from now on",
    )


async def test_attempts_are_under_way(autojump_clock: trio.testing.MockClock) -> None:
    async with server() as running:
        running.transport.answer(60.0)
        await submit(running, "a@there.example")
        report = await why(running)
    assert (report.under_way, report.deliveries, report.due) == (1, 1, 0)
    assert "1 is under way, in 1 deliveries" in report.reasons


async def test_a_domain_is_left_alone_because_of_a_limit(autojump_clock: trio.testing.MockClock) -> None:
    async with server() as running:
        running.transport.answer(NotNow("mx.there.example", "20 connections are open", seconds=300))
        await submit(running, "a@there.example")
        report = await why(running)
    assert report.blocked is not None
    assert (report.blocked.next_hop, report.blocked.reason) == ("mx.there.example", "20 connections are open")
    assert report.reasons[0].startswith("left alone until ")
    assert report.reasons[0].endswith("because of mx.there.example: 20 connections are open")
    assert "1 is due" in report.reasons


async def test_there_is_no_route(autojump_clock: trio.testing.MockClock) -> None:
    async with server() as running:
        running.transport.answer(Reply.make(451, "4.7.1", "come back later"))
        await submit(running, "a@there.example")
        administration = running.server.administration()
        static = administration.static
        administration.static = replace(static, queue=replace(static.queue, default_transport=""))
        report = await why_domain(administration, WhyDomain("there.example"))
    assert [route.transport for route in report.routes] == [""]
    assert any("would go nowhere: no route for there.example" in reason for reason in report.reasons)


async def test_without_a_server_it_says_what_it_cannot_know(autojump_clock: trio.testing.MockClock) -> None:
    async with server() as running:
        running.transport.answer(Reply.make(451, "4.7.1", "come back later"))
        await submit(running, "a@there.example")
        administration = running.server.administration()
        administration.scheduler = None
        report = await why_domain(administration, WhyDomain("there.example"))
    assert (report.is_running, report.blocked, report.deliveries, report.waiting) == (False, None, None, 1)
    assert report.reasons[0].startswith("no server runs, so nothing is attempted")


async def test_no_place_is_free_for_more_deliveries(autojump_clock: trio.testing.MockClock) -> None:
    async with server() as running:
        running.transport.answer(*[3600.0] * 50)
        await submit(running, *(f"{number}@there.example" for number in range(25)))
        report = await why(running)
    assert (report.due, report.deliveries) == (5, 20)
    assert report.reasons[0].startswith("no place is free: 20 deliveries are under way, and the domain may have 20 now")


async def test_recipients_on_the_suppression_list_are_told_of(autojump_clock: trio.testing.MockClock) -> None:
    async with server() as running:
        running.transport.answer(Reply.make(451, "4.7.1", "come back later"))
        await submit(running, "a@there.example")
        await running.store.write(
            lambda tx: tx.suppressions.add(
                NewSuppression("ann", Mailbox.parse("a@there.example"), "asked for it", SuppressionOrigin.MANUAL)
            ),
            key="queue",
        )
        report = await why(running)
    assert report.suppressed == 1
    assert report.reasons[-1].startswith("1 of 1 looked at is for a recipient on the suppression list")


async def test_what_entries_failed_with_of_late_is_told(autojump_clock: trio.testing.MockClock) -> None:
    async with server() as running:
        refused, gone = Reply.make(550, "5.7.1", "not from you"), Reply.make(550, "5.1.1", "nobody")
        running.transport.answer(Reply.make(250, "2.0.0", "taken"), refused, refused, gone)
        await submit(running, "a@there.example", "b@there.example", "c@there.example", "d@there.example")
        report = await why(running)
    assert [(end.event, end.error, end.count) for end in report.ended] == [
        ("failed", "550 5.1.1 nobody", 1),
        ("failed", "550 5.7.1 not from you", 2),
    ]
    assert report.reasons[0] == "nothing is queued to there.example"
    assert report.reasons[-1].startswith(
        "2 of the last 3 that left the queue undelivered failed: 550 5.7.1 not from you, from next.example"
    )
