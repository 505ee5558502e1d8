"""Suppression in the queue: who is not attempted, and who gets on the list."""

from __future__ import annotations

from typing import Any

import pytest

from mailcrane.api import Plugin, hookimpl
from mailcrane.config.rows import Account
from mailcrane.model.address import Mailbox
from mailcrane.model.delivery import Outcome, RecipientResult
from mailcrane.model.event import EventKind
from mailcrane.model.reply import Reply
from mailcrane.model.suppression import (
    AlreadySuppressed,
    FailureCause,
    NotSuppressed,
    SuppressionCheck,
    SuppressionDecision,
    SuppressionOrigin,
)
from mailcrane.retire.suppression import SuppressionLists

YOU = Mailbox("you", "example.net")
NOBODY = RecipientResult.from_reply(Reply.make(550, "5.1.1", "no such user"), remote_mta="mx (192.0.2.1)")
FULL = RecipientResult.from_reply(Reply.make(552, "5.2.2", "mailbox full"))
SPAM = RecipientResult.from_reply(Reply.make(550, "5.7.1", "looks like spam"))
DELIVERED = RecipientResult.from_reply(Reply.make(250, "2.0.0", "taken"))


async def send(world: Any, *results: RecipientResult, to: str = "you@example.net") -> list[bool]:
    """Send one message after the other; returns for each that failed whether it suppressed."""
    before = len(await world.events(EventKind.FAILED))
    for result in results:
        world.transport.acts = [result]
        await world.queue(to)
        await world.run_for(seconds=1)
    return [event.data["suppressing"] for event in (await world.events(EventKind.FAILED))[before:]]


async def listed(world: Any, account: str = "ann") -> list[str]:
    return [one.original_address for one in await SuppressionLists(world.store).list(account)]


async def test_what_is_found_out_here_is_not_called_an_answer_of_the_next_hop(world: Any) -> None:
    await send(world, RecipientResult.from_reply(Reply.make(556, "5.1.10", "takes no mail")))
    [found] = await SuppressionLists(world.store).list("ann")
    assert found.reason == "queue: failed with 556 5.1.10"


async def test_an_address_that_does_not_exist_is_suppressed_at_once(world: Any) -> None:
    assert await send(world, NOBODY) == [True]
    [found] = await SuppressionLists(world.store).list("ann")
    assert (found.base_address, found.origin, found.is_manual) == ("you@example.net", SuppressionOrigin.QUEUE, False)
    assert found.reason == "queue: the next hop answered 550 5.1.1"
    [failed] = await world.events(EventKind.FAILED)
    evidence = found.evidence
    assert (evidence.entry_id, evidence.code, evidence.enhanced_status_code) == (failed.entry_id, 550, "5.1.1")
    assert (evidence.text, evidence.remote_mta) == ("no such user", "mx (192.0.2.1)")
    [changed] = await world.events(EventKind.SUPPRESSION_CHANGED)
    assert (changed.data["change"], changed.data["address"], changed.entry_id) == (
        "added",
        "you@example.net",
        failed.entry_id,
    )


async def test_a_suppressed_recipient_is_not_attempted_while_others_of_the_message_are(world: Any) -> None:
    await world.keep_retired()
    await SuppressionLists(world.store).add("ann", YOU, is_manual=True, reason="asked to stop")
    suppressed, _ = await world.queue("y.o.u+news@example.net", "me@example.net")
    await world.run_for(seconds=1)
    assert world.transport.forward_paths == [("me@example.net",)]
    [event] = await world.events(EventKind.SUPPRESSED)
    assert event.entry_id == suppressed
    assert event.data["error"].startswith("suppressed: you@example.net is on the suppression list since 2")
    assert event.data["error"].endswith("(asked to stop)")
    assert (event.data["smtp_code"], event.data["suppressing"]) == (0, False)
    retired = await world.retired(suppressed)
    assert (retired.event, retired.is_success) == ("suppressed", False)
    assert [attempt.result.outcome for attempt in retired.attempts] == [Outcome.FAILED]
    assert await world.events(EventKind.FAILED) == []


async def test_the_list_is_looked_at_when_an_attempt_begins_not_when_the_message_is_queued(world: Any) -> None:
    await world.queue()
    world.transport.acts = [RecipientResult.from_reply(Reply.make(451, "4.3.0", "later"))]
    await world.run_for(seconds=1)
    await SuppressionLists(world.store).add("ann", YOU, is_manual=True, reason="")
    await world.run_for(minutes=10)
    assert len(world.transport.deliveries) == 1
    assert await world.event_kinds() == [
        "attempt_finished",
        "delayed",
        "suppression_changed",
        "attempt_finished",
        "suppressed",
        "entry_retired",
        "message_stored",
    ]


async def test_the_list_of_another_account_does_not_count(world: Any) -> None:
    await world.configure(accounts=(Account("ann", "example.org"), Account("bob", "example.org")))
    await SuppressionLists(world.store).add("bob", YOU, is_manual=True, reason="")
    await world.queue()
    await world.run_for(seconds=1)
    assert len(world.transport.deliveries) == 1


async def test_the_third_failure_in_a_row_suppresses_without_any_retired_entries(world: Any) -> None:
    assert await send(world, FULL, FULL, FULL) == [False, False, True]
    [found] = await SuppressionLists(world.store).list("ann")
    assert found.reason == "queue: 3 failures in a row, the last one with 552 5.2.2"


async def test_a_delivery_in_between_ends_the_row(world: Any) -> None:
    assert await send(world, FULL, FULL, DELIVERED, FULL, FULL) == [False] * 4
    assert await send(world, FULL) == [True]


async def test_running_out_of_attempts_counts_as_a_failure_with_its_last_code(world: Any) -> None:
    await world.queue(max_attempts=1)
    world.transport.acts = [RecipientResult.from_reply(Reply.make(452, "4.2.2", "mailbox full"))]
    await world.run_for(seconds=1)
    assert await send(world, FULL, FULL) == [False, True]


async def test_failures_without_a_reply_are_counted_but_suppress_nothing(world: Any) -> None:
    silent = RecipientResult(Outcome.FAILED, error="no answer")
    assert await send(world, silent, silent, silent, silent) == [False] * 4
    assert await send(world, FULL) == [True]


async def test_what_is_our_fault_neither_suppresses_nor_counts(world: Any) -> None:
    assert await send(world, SPAM, SPAM, SPAM, SPAM, FULL, FULL) == [False] * 6
    assert await listed(world) == []


async def test_the_row_is_of_the_exact_address_and_the_list_of_its_base(world: Any) -> None:
    assert await send(world, FULL, FULL) == [False, False]
    assert await send(world, FULL, to="y.o.u@example.net") == [False]
    assert await send(world, FULL) == [True]
    await send(world, DELIVERED, to="y.o.u@example.net")
    assert len(await world.events(EventKind.SUPPRESSED)) == 1


async def test_an_address_that_is_taken_off_the_list_starts_anew(world: Any) -> None:
    lists = SuppressionLists(world.store)
    assert await send(world, FULL, FULL, FULL) == [False, False, True]
    await lists.remove("ann", Mailbox("YOU", "example.net"))
    assert await send(world, FULL, FULL) == [False, False]
    assert await send(world, FULL) == [True]
    changes = [event.data["change"] for event in await world.events(EventKind.SUPPRESSION_CHANGED)]
    assert changes == ["added", "removed", "added"]


async def test_plugins_overrule_the_list_both_ways(world: Any) -> None:
    seen: list[Any] = []

    class Overrules(Plugin):
        name = "overrules"

        @hookimpl
        async def check_suppression(self, entry: Any, suppression: Any) -> SuppressionCheck | None:
            seen.append(suppression and suppression.base_address)
            answers = {"you": SuppressionCheck(is_suppressed=False), "me": SuppressionCheck(is_suppressed=True)}
            return answers.get(entry.forward_path.local_part)

    await SuppressionLists(world.store).add("ann", YOU, is_manual=True, reason="")
    async with world.plugins(Overrules):
        await world.queue("you@example.net", "me@example.net", "other@example.net")
        await world.run_for(seconds=1)
    assert sorted(world.transport.forward_paths[0]) == ["other@example.net", "you@example.net"]
    assert sorted(seen, key=str) == [None, None, "you@example.net"]
    [suppressed] = await world.events(EventKind.SUPPRESSED)
    assert suppressed.data["error"] == "suppressed: a plugin says so"


async def test_plugins_decide_whether_a_failure_suppresses(world: Any) -> None:
    causes: list[FailureCause] = []

    class Decides(Plugin):
        name = "decides"

        @hookimpl
        async def decide_suppression(self, cause: FailureCause) -> SuppressionDecision:
            causes.append(cause)
            return SuppressionDecision(cause is FailureCause.SENDER, "we are not liked there")

    async with world.plugins(Decides):
        assert await send(world, NOBODY) == [False]
        assert await send(world, SPAM) == [True]
    assert causes == [FailureCause.ADDRESS, FailureCause.SENDER]
    [found] = await SuppressionLists(world.store).list("ann")
    assert (found.reason, found.origin) == ("we are not liked there", SuppressionOrigin.PLUGIN)


async def test_the_service_tells_what_is_on_a_list(world: Any) -> None:
    lists = SuppressionLists(world.store)
    added = await lists.add("ann", Mailbox("You+x", "example.net"), is_manual=True, reason="asked to stop")
    assert (added.origin, added.is_manual) == (SuppressionOrigin.MANUAL, True)
    assert await lists.is_suppressed("ann", YOU)
    assert not await lists.is_suppressed("ann", Mailbox("me", "example.net"))
    with pytest.raises(AlreadySuppressed):
        await lists.add("ann", YOU, is_manual=False, reason="")
    await lists.remove("ann", YOU)
    with pytest.raises(NotSuppressed):
        await lists.remove("ann", YOU)
    assert await lists.list("ann") == ()


async def test_without_a_list_a_batch_costs_one_statement_for_an_account(world: Any) -> None:
    await world.queue(*(f"{number}@example.net" for number in range(50)))
    statements: list[str] = []

    def begin(transaction: Any) -> None:
        begun = transaction.queue.begin_attempts(
            world.make_scheduler()._worker, transaction.now, 50, next_due_at=lambda entry: entry.due_at
        )
        sql = transaction.suppressions._sql
        original = type(sql).row

        def counting(self: Any, statement: str, parameters: Any = ()) -> Any:
            statements.append(statement)
            return original(self, statement, parameters)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(sql), "row", counting)
            assert len(transaction.suppressions.marked(begun.deliveries)) == 50

    await world.write(begin)
    assert len(statements) == 1
