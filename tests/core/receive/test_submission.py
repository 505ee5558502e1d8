"""What becomes of submissions, over the service that SMTP and web APIs share."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
import trio
import trio.testing
from msgspec.structs import replace

from mailcrane.config.rows import Configuration
from mailcrane.message.content import BytesContent
from mailcrane.model.address import Mailbox, ReversePath
from mailcrane.model.receive import Identity, Judgement, Verdict
from mailcrane.model.session import SessionInfo
from mailcrane.model.submission import SentCopy, Submission, SubmissionAccepted, SubmissionRefused
from mailcrane.plugin.base import Plugin
from mailcrane.plugin.policy import hookimpl
from mailcrane.testing.in_memory import PASSWORD, ROWS, RunningServer, server
from mailcrane.testing.values import made_session

ANN = Mailbox("ann", "here.example")

BODY = b"\r\nHello.\r\n"

_numbers = itertools.count(1)


@asynccontextmanager
async def held_server(*plugins: type[Plugin], **arguments: Any) -> AsyncIterator[RunningServer]:
    """A server whose queue holds everything, so that entries can be looked at."""
    async with server(*plugins, **arguments) as running:
        running.server.submissions._is_held = True
        yield running


def made(
    content: bytes, *forward_paths: str, session: SessionInfo | None = None, reverse_path: str = "", **fields: Any
) -> Submission:
    """Make a submission by ann."""
    return Submission(
        session or made_session(protocol="submission", account="ann", id=f"s{next(_numbers)}"),
        1,
        Identity("ann", "ann@here.example"),
        ReversePath(Mailbox.parse(reverse_path or "ann@here.example")),
        tuple(Mailbox.parse(path) for path in forward_paths or ("you@there.example",)),
        BytesContent(content),
        fields.pop("received_at"),
        **fields,
    )


async def submit(running: RunningServer, content: bytes, *forward_paths: str, **fields: Any) -> SubmissionAccepted:
    submission = made(content, *forward_paths, received_at=running.clock.now(), **fields)
    return await running.server.submissions.submit(submission)


async def content_of(running: RunningServer, entry_id: int) -> bytes:
    def read(transaction: Any) -> bytes:
        entry = transaction.queue.get(entry_id)
        octets: bytes = transaction.content.read_chunk(entry.content_id, 0)
        return octets

    return await running.store.read(read)


class ManyPieces:
    """Content that an API composed and never joined."""

    size_octets = 30 * 100_000 + 26
    header = b"From: ann@here.example\r\n"

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self.header + b"\r\n"
        for number in range(30):
            yield b"%d" % (number % 10) * 99_998 + b"\r\n"


async def staged(running: RunningServer) -> int:
    """How many contents are staged or unused: what housekeeping would remove now."""
    later = running.clock.now() + timedelta(days=9)
    found: int = await running.store.write(lambda tx: tx.content.sweep(before=later, limit=100), key="k")
    return found


async def test_large_content_of_an_api_is_stored_in_many_units(autojump_clock: trio.testing.MockClock) -> None:
    async with held_server() as running:
        before = running.store.statistics.units
        submission = replace(made(b"", received_at=running.clock.now()), content=ManyPieces())
        [entry] = (await running.server.submissions.submit(submission)).entries
        assert running.store.statistics.units - before > 3_000_000 / (512 * 1024)
        found = await running.store.read(lambda tx: tx.queue.get(entry.entry_id))
        assert found is not None
        octets = await content_of(running, entry.entry_id)
        assert found.size_octets == len(octets) + ManyPieces.size_octets
        assert await staged(running) == 0


async def test_large_content_that_is_refused_leaves_nothing_behind(autojump_clock: trio.testing.MockClock) -> None:
    class Refusing(Plugin):
        name = "refusing"

        @hookimpl
        async def judge_message(self, message: Any, recipient: Any, assessments: Any) -> Judgement:
            return Judgement(Verdict.REFUSE, "no")

    async with held_server(Refusing) as running:
        submission = replace(made(b"", received_at=running.clock.now()), content=ManyPieces())
        with pytest.raises(SubmissionRefused):
            await running.server.submissions.submit(submission)
        assert await staged(running) == 0


async def test_missing_fields_are_added_and_trace_fields_stand_in_order(autojump_clock: trio.testing.MockClock) -> None:
    async with held_server() as running:
        accepted = await submit(running, b"From: ann@here.example\r\n" + BODY)
        octets = await content_of(running, accepted.entries[0].entry_id)
    names = [line.partition(b":")[0] for line in octets.split(b"\r\n\r\n")[0].splitlines() if line[:1] not in b" \t"]
    assert names == [b"Received", b"Message-Id", b"Date", b"Authentication-Results", b"From"]
    assert accepted.message_id.encode() in octets
    assert b"192.0.2.1" not in octets
    assert b"for <you@there.example>" in octets


async def test_fields_that_are_there_are_not_added(autojump_clock: trio.testing.MockClock) -> None:
    async with held_server() as running:
        header = b"From: ann@here.example\r\nMessage-ID: <own@here.example>\r\nDate: Thu, 1 Jan 2026 12:00:00 +0000\r\n"
        accepted = await submit(running, header + BODY, "you@there.example", "other@there.example")
        octets = await content_of(running, accepted.entries[0].entry_id)
    assert accepted.message_id == "<own@here.example>"
    assert octets.lower().count(b"message-id:") == octets.count(b"Date:") == 1
    assert b"there.example" not in octets


@pytest.mark.parametrize(
    ("content", "code", "enhanced"),
    [
        (b"From: ann@here.example\r\n", 554, "5.6.0"),
        (b"From ann\r\n" + BODY, 554, "5.6.0"),
        (b"Subject: x\r\n" + BODY, 550, "5.7.1"),
        (b"From: bob@here.example\r\n" + BODY, 550, "5.7.1"),
        (b"From: ann@here.example, bob@here.example\r\n" + BODY, 550, "5.7.1"),
        (b"From: ann@here.example\r\nFrom: ann@here.example\r\n" + BODY, 550, "5.7.1"),
        (b"From: ann@closed.example\r\n" + BODY, 451, "4.3.0"),
        (b"From: ann@here.example\r\nX-Mox-Extra-A: 1\r\nx-mox-extra-a: 2\r\n" + BODY, 554, "5.6.0"),
    ],
)
async def test_what_is_wrong_is_refused_and_nothing_is_stored(
    content: bytes, code: int, enhanced: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with held_server() as running:
        with pytest.raises(SubmissionRefused) as refused:
            await submit(running, content)
        assert await running.entries() == []
    assert (refused.value.reply.code, refused.value.reply.enhanced_status_code) == (code, enhanced)


async def test_extra_fields_are_collected_and_stay_in_the_message(autojump_clock: trio.testing.MockClock) -> None:
    async with held_server() as running:
        content = b"From: ann@here.example\r\nx-mox-extra-order-ID: 17\r\n" + BODY
        await submit(running, content, extra={"Shop": "3"})
        (entry,) = await running.entries()
        octets = await content_of(running, entry.id)
    assert entry.extra == {"Order-Id": "17", "Shop": "3"}
    assert octets.endswith(content)


async def test_tls_required_no_is_kept_unless_requiretls_was_asked_for(autojump_clock: trio.testing.MockClock) -> None:
    async with held_server() as running:
        content = b"From: ann@here.example\r\nTLS-Required: No\r\n" + BODY
        await submit(running, content)
        await submit(running, content, require_tls=True)
        first, second = await running.entries()
    assert (first.require_tls, second.require_tls) == (False, True)


async def test_several_recipients_share_content_and_base_id(autojump_clock: trio.testing.MockClock) -> None:
    async with held_server() as running:
        await submit(running, b"From: ann@here.example\r\n" + BODY, "a@there.example", "b@there.example")
        first, second = await running.entries()
        events = await running.events("ann")
    assert first.content_id == second.content_id
    assert first.base_id == second.base_id == first.id
    assert [event.data["forward_path"] for event in events] == ["a@there.example", "b@there.example"]


async def test_a_release_in_the_future_is_due_then(autojump_clock: trio.testing.MockClock) -> None:
    async with held_server() as running:
        release_at = running.clock.now() + timedelta(days=1)
        await submit(running, b"From: ann@here.example\r\n" + BODY, release_at=release_at, future_release="for;86400")
        (entry,) = await running.entries()
    assert (entry.due_at, entry.future_release) == (release_at, "for;86400")


async def test_smtputf8_is_needed_only_where_something_is_not_ascii(autojump_clock: trio.testing.MockClock) -> None:
    async with held_server() as running:
        await submit(running, b"From: ann@here.example\r\n" + BODY, "a@there.example", "ä@there.example")
        await submit(running, "From: ann@here.example\r\nSubject: ä\r\n".encode() + BODY)
        entries = await running.entries()
    assert [entry.needs_smtputf8 for entry in entries] == [False, True, True]


async def test_a_copy_goes_to_the_sent_folder_in_the_same_unit(autojump_clock: trio.testing.MockClock) -> None:
    async with held_server() as running:
        await submit(running, b"From: ann@here.example\r\n" + BODY, sent_copy=SentCopy(b"Bcc: x@there.example\r\n"))
        (octets,) = await running.read("ann", "Sent")
    assert octets.startswith(b"Bcc: x@there.example\r\nReceived:")


async def test_the_same_transaction_is_stored_once(autojump_clock: trio.testing.MockClock) -> None:
    async with held_server() as running:
        submission = made(b"From: ann@here.example\r\n" + BODY, received_at=running.clock.now())
        first = await running.server.submissions.submit(submission)
        second = await running.server.submissions.submit(submission)
        assert len(await running.entries()) == 1
    assert first.entries == second.entries


# --- unique ids in the reverse-path -------------------------------------------------------------------------------

WITH_IDS = replace(
    ROWS,
    accounts=(replace(ROWS.accounts[0], from_id_login_addresses=("ann@here.example",)), *ROWS.accounts[1:]),
)


async def test_each_recipient_gets_a_unique_id(autojump_clock: trio.testing.MockClock) -> None:
    async with held_server(rows=WITH_IDS) as running:
        accepted = await submit(running, b"From: ann@here.example\r\n" + BODY, "a@there.example", "b@there.example")
        first, second = await running.entries()
    assert first.from_id != second.from_id
    assert len(first.from_id) == 22
    assert str(first.reverse_path) == f"ann+{first.from_id}@here.example"
    assert [one.from_id for one in accepted.entries] == [first.from_id, second.from_id]
    assert first.base_id == 0


async def test_an_id_that_the_user_brings_is_for_one_recipient_and_one_message(
    autojump_clock: trio.testing.MockClock,
) -> None:
    content = b"From: ann@here.example\r\n" + BODY
    async with held_server(rows=WITH_IDS) as running:
        await submit(running, content, reverse_path="ann+mine@here.example")
        with pytest.raises(SubmissionRefused) as twice:
            await submit(running, content, reverse_path="ann+mine@here.example")
        with pytest.raises(SubmissionRefused) as many:
            await submit(running, content, "a@b.example", "b@b.example", reverse_path="ann+other@here.example")
        (entry,) = await running.entries()
    assert entry.from_id == "mine"
    assert twice.value.reply.enhanced_status_code == "5.1.7"
    assert many.value.reply.enhanced_status_code == "5.5.3"


async def test_an_application_cannot_bring_an_id_by_its_authors_address(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with held_server(rows=WITH_IDS) as running:
        for number in range(2):
            session = made_session(protocol="http", id=f"http{number}")
            content = b"From: ann+shop@here.example\r\n" + BODY
            await submit(
                running, content, "a@b.example", "b@b.example", session=session, reverse_path="ann+shop@here.example"
            )
        entries = await running.entries()
    assert len({entry.from_id for entry in entries}) == 4
    assert all(str(entry.reverse_path) == f"ann+{entry.from_id}@here.example" for entry in entries)


async def test_without_the_setting_there_is_no_id(autojump_clock: trio.testing.MockClock) -> None:
    async with held_server() as running:
        await submit(running, b"From: ann@here.example\r\n" + BODY, reverse_path="ann+x@here.example")
        (entry,) = await running.entries()
    assert (entry.from_id, str(entry.reverse_path)) == ("", "ann+x@here.example")


# --- judges -------------------------------------------------------------------------------------------------------


class Judge(Plugin):
    """Judges by the first letter of the recipient."""

    name = "judge"

    @hookimpl
    async def judge_message(self, recipient: Any) -> Judgement | None:
        letter = recipient.forward_path.local_part[0]
        verdicts = {"q": Verdict.QUARANTINE, "r": Verdict.REFUSE, "d": Verdict.DEFER}
        if letter == "f":
            raise ValueError("broken")
        return Judgement(verdicts[letter], "test") if letter in verdicts else None


async def test_a_judge_refuses_defers_or_holds_a_submission(autojump_clock: trio.testing.MockClock) -> None:
    content = b"From: ann@here.example\r\n" + BODY
    async with server(Judge) as running:
        with pytest.raises(SubmissionRefused) as refused:
            await submit(running, content, "a@there.example", "r@there.example")
        with pytest.raises(SubmissionRefused) as deferred:
            await submit(running, content, "d@there.example")
        await submit(running, content, "q@there.example")
        (entry,) = await running.entries()
    assert refused.value.reply.code == 550
    assert deferred.value.reply.code == 451
    assert entry.is_held


async def test_a_judge_that_fails_defers_a_submission_that_none_refuses(
    autojump_clock: trio.testing.MockClock,
) -> None:
    content = b"From: ann@here.example\r\n" + BODY
    async with server(Judge) as running:
        with pytest.raises(SubmissionRefused) as deferred:
            await submit(running, content, "a@there.example", "f@there.example")
        with pytest.raises(SubmissionRefused) as refused:
            await submit(running, content, "f@there.example", "r@there.example")
    assert (deferred.value.reply.code, deferred.value.reply.enhanced_status_code) == (451, "4.3.0")
    assert refused.value.reply.code == 550


class SlowJudge(Plugin):
    """Takes its time for each recipient."""

    name = "slow-judge"

    @hookimpl
    async def judge_message(self) -> Judgement:
        await trio.sleep(20)
        return Judgement(Verdict.ACCEPT, "after a long look")


async def test_a_slow_judge_looks_at_all_recipients_at_once(autojump_clock: trio.testing.MockClock) -> None:
    content = b"From: ann@here.example\r\n" + BODY
    async with server(SlowJudge) as running:
        begun_at = trio.current_time()
        await submit(running, content, *(f"a{number}@there.example" for number in range(10)))
        assert trio.current_time() - begun_at < 21


# --- sending limits -------------------------------------------------------------------------------------------------


def with_limits(messages: int, new: int) -> Configuration:
    ann = replace(ROWS.accounts[0], max_outgoing_messages_per_day=messages, max_first_time_recipients_per_day=new)
    return replace(ROWS, accounts=(ann, *ROWS.accounts[1:]))


async def test_an_account_submits_as_many_messages_in_a_day_as_it_may(autojump_clock: trio.testing.MockClock) -> None:
    content = b"From: ann@here.example\r\n" + BODY
    async with held_server(rows=with_limits(3, 0)) as running:
        await submit(running, content, "a@there.example", "b@there.example")
        with pytest.raises(SubmissionRefused) as refused:
            await submit(running, content, "a@there.example", "b@there.example")
        await submit(running, content, "a@there.example")
        assert len(await running.entries()) == 3
        await trio.sleep(24 * 3600 + 600)
        await submit(running, content, "a@there.example", "b@there.example")
    assert refused.value.code == "messageLimitReached"
    assert (refused.value.reply.code, refused.value.reply.enhanced_status_code) == (451, "4.7.1")


async def test_an_account_submits_to_as_many_new_recipients_in_a_day_as_it_may(
    autojump_clock: trio.testing.MockClock,
) -> None:
    content = b"From: ann@here.example\r\n" + BODY
    async with held_server(rows=with_limits(0, 1)) as running:
        await submit(running, content, "a@there.example")
        with pytest.raises(SubmissionRefused) as refused:
            await submit(running, content, "b@there.example")
        await submit(running, content, "a@there.example")
        assert len(await running.entries()) == 2
    assert refused.value.code == "recipientLimitReached"
    assert (refused.value.reply.code, refused.value.reply.enhanced_status_code) == (451, "4.7.1")


async def test_of_two_submissions_at_once_only_one_passes_the_limit(autojump_clock: trio.testing.MockClock) -> None:
    refusals: list[str] = []

    async def one(running: RunningServer) -> None:
        try:
            await submit(running, b"From: ann@here.example\r\n" + BODY)
        except SubmissionRefused as refused:
            refusals.append(refused.code)

    async with held_server(rows=with_limits(1, 0)) as running:
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(one, running)
        assert len(await running.entries()) == 1
    assert refusals == ["messageLimitReached"] * 4


async def test_a_transaction_that_was_stored_before_does_not_count_twice(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with held_server(rows=with_limits(1, 1)) as running:
        submission = made(b"From: ann@here.example\r\n" + BODY, received_at=running.clock.now())
        first = await running.server.submissions.submit(submission)
        again = await running.server.submissions.submit(submission)
        assert again.entries == first.entries
        assert await running.store.read(lambda tx: tx.outgoing.sent("ann")) == (1, 1)


async def test_an_smtp_client_that_has_reached_the_limit_is_told_to_try_later(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with held_server(rows=with_limits(1, 0)) as running:
        client = running.connect("submission")
        await client.hello()
        await client.log_in("ann@here.example", PASSWORD)
        content = b"From: ann@here.example\r\n" + BODY
        replies = [await client.send("ann@here.example", "you@there.example", content) for _ in range(2)]
        await client.quit()
    assert [(reply.code, reply.enhanced_status_code) for reply in replies] == [(250, "2.2.0"), (451, "4.7.1")]


async def test_what_a_hold_rule_holds_is_told_with_the_session_that_it_came_in_by(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with server() as running:
        await running.store.write(lambda tx: tx.hold_rules.add(recipient_domain="there.example"), key="queue")
        session = made_session(protocol="http", account="ann", id="s-held", login_address="ann@here.example")
        await submit(running, b"From: ann@here.example\r\n" + BODY, session=session)
        (entry,) = await running.entries()
        (event,) = await running.events("ann")
    assert (entry.is_held, entry.hold_rule) == (True, 1)
    assert (event.data["held_by"], event.data["hold_rule"]) == ("hold rule 1 (to there.example)", 1)
    assert (event.data["protocol"], event.data["session"], event.data["login"]) == (
        "http",
        "s-held",
        "ann@here.example",
    )
