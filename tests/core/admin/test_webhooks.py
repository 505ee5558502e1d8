"""Operations on webhook calls, in a server that runs."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from msgspec.structs import replace

from mailcrane.admin.errors import AdminError
from mailcrane.admin.operations import OPERATIONS, run_named
from mailcrane.config.rows import Webhook
from mailcrane.model.event import EventKind, NewEvent
from mailcrane.observe.secret import Secret
from mailcrane.store.transaction import Transaction
from mailcrane.testing import ROWS, RunningServer, server

URL = "https://hooks.there.example/mail"
SECRET = "whsec_" + "c2Vj" * 8


def rows(**fields: Any) -> Any:
    ann = replace(ROWS.accounts[0], outgoing_webhook=Webhook(URL, **fields), keep_retired_webhooks_seconds=7 * 86400)
    return replace(ROWS, accounts=(ann, *ROWS.accounts[1:]))


@contextlib.asynccontextmanager
async def running(**fields: Any) -> AsyncIterator[RunningServer]:
    async with server(rows=rows(**fields)) as made:
        yield made


async def do(made: RunningServer, name: str, **arguments: Any) -> Any:
    return await run_named(made.server.administration().acting_as("user root"), name, arguments)


async def record(made: RunningServer, *kinds: EventKind, entry_id: int = 1) -> list[str]:
    """Record events of ann's and let them be posted."""
    events = [NewEvent("ann", kind, entry_id, {"subject": kind.value}) for kind in kinds]
    recorded = await made.store.write(lambda transaction: transaction.events.record(events), key="account:ann")
    await trio.sleep(1)
    return [event.id for event in recorded]


def told(made: RunningServer, start: int = 0) -> list[str]:
    return [call.payload["Event"] for call in made.receiver.calls[start:]]


async def test_queued_calls_are_listed_by_every_condition(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as made:
        made.receiver.answer(500, 0, 500)
        await record(made, EventKind.DELAYED, entry_id=1)
        await trio.sleep(20)
        await record(made, EventKind.FAILED, entry_id=2)
        await record(made, EventKind.DELIVERED, entry_id=3)

        async def ids(**conditions: Any) -> list[int]:
            return [call.id for call in (await do(made, "webhook_call_list", **conditions)).calls]

        assert await ids() == [1, 2, 3]
        assert await ids(is_descending=True) == [3, 2, 1]
        assert await ids(sort="submitted", is_descending=True, limit=1) == [3]
        assert await ids(ids=[1, 3]) == [1, 3]
        assert await ids(account="bob") == []
        assert await ids(event="failed") == [2]
        assert await ids(event="incoming") == []
        assert await ids(entry_id=3) == [3]
        assert await ids(submitted="<-10s") == [1]
        assert await ids(submitted=">-10s") == [2, 3]
        assert await ids(next_attempt="now") == []
        assert await ids(next_attempt="<45s") == [1]
        assert await ids(next_attempt=">45s") == [2, 3]
        with pytest.raises(AdminError, match="not a condition"):
            await ids(submitted="yesterday")
        first = (await do(made, "webhook_call_list")).calls[0]
        assert (first.status, first.attempts, first.last_code, first.url) == ("queued", 1, 500, URL)


@pytest.mark.parametrize("sort", ["submitted", "next_attempt"])
@pytest.mark.parametrize("is_descending", [False, True])
async def test_pages_are_whole_in_every_order(
    sort: str, is_descending: bool, autojump_clock: trio.testing.MockClock
) -> None:
    async with running() as made:
        made.receiver.answer(*[500] * 7)
        for entry_id in range(1, 8):
            await record(made, EventKind.DELAYED, entry_id=entry_id)
        seen, after = [], ""
        while True:
            page = await do(made, "webhook_call_list", sort=sort, is_descending=is_descending, after=after, limit=3)
            seen += [call.id for call in page.calls]
            after = page.next_after
            if not after:
                break
        assert seen == sorted(range(1, 8), reverse=is_descending)
        for bad in ("7", "x@y", "0@2026-01-01T00:00:00Z", "7@2026-01-01T00:00:00"):
            with pytest.raises(AdminError):
                await do(made, "webhook_call_list", after=bad)


async def test_a_call_is_shown_queued_and_retired(autojump_clock: trio.testing.MockClock) -> None:
    async with running(authorization=Secret("Bearer x")) as made:
        made.receiver.answer(500)
        await record(made, EventKind.DELAYED)
        queued = await do(made, "webhook_call_show", id=1)
        assert (queued.call.status, queued.has_authorization, queued.retired_at) == ("queued", True, None)
        assert [attempt.code for attempt in queued.attempts] == [500]
        assert json.loads(queued.payload)["Event"] == "delayed"
        await trio.sleep(100)
        retired = await do(made, "webhook_call_show", id=1)
        assert (retired.call.status, retired.has_authorization, len(retired.attempts)) == ("delivered", True, 2)
        assert retired.kept_until is not None
        with pytest.raises(AdminError, match="no webhook call 99"):
            await do(made, "webhook_call_show", id=99)


async def test_canceled_calls_are_not_made_again_and_say_who_did_it(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as made:
        made.receiver.answer(500, 500)
        await record(made, EventKind.DELAYED, entry_id=1)
        await record(made, EventKind.DELAYED, entry_id=2)
        assert (await do(made, "webhook_call_cancel", entry_id=1)).count == 1
        await trio.sleep(7200)
        assert len(made.receiver.calls) == 3
        (canceled,) = (await do(made, "webhook_call_retired_list", ids=[1])).calls
        assert (canceled.status, canceled.last_error) == ("canceled", "canceled by user root")
        ended = [event.data for event in await made.events("ann") if event.kind is EventKind.WEBHOOK_RETIRED]
        assert [data["canceled_by"] for data in ended] == ["user root", ""]


async def test_calls_are_rescheduled_from_their_time_or_from_now(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as made:
        made.receiver.answer(500, 500)
        await record(made, EventKind.DELAYED)
        (before,) = (await do(made, "webhook_call_list")).calls
        assert (await do(made, "webhook_call_schedule", ids=[1], delay="1h")).count == 1
        (after,) = (await do(made, "webhook_call_list")).calls
        assert (after.next_attempt_at - before.next_attempt_at).total_seconds() == 3600
        await do(made, "webhook_call_schedule", ids=[1], delay="0", is_from_now=True)
        await trio.sleep(1)
        assert len(made.receiver.calls) == 2


def _record_one(transaction: Transaction, event: NewEvent) -> None:
    transaction.events.record([event])


async def test_changes_of_many_calls_are_made_in_pieces(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as made:
        made.receiver.answer(*[500] * 450)
        for entry_id in range(1, 451):
            event = NewEvent("ann", EventKind.DELAYED, entry_id)
            await made.store.write(partial(_record_one, event=event), key="account:ann")
        await trio.sleep(10)
        counts, after_id = [], 0
        while True:
            changed = await do(made, "webhook_call_cancel", account="ann", after_id=after_id)
            counts.append(changed.count)
            after_id = changed.next_after_id
            if not after_id:
                break
        assert counts == [200, 200, 50]
        assert (await do(made, "webhook_call_list")).calls == ()


async def test_calls_that_were_given_up_are_listed_until_they_are_replayed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running() as made:
        made.receiver.answer(*[500] * 24)
        first = await record(made, EventKind.FAILED, entry_id=1)
        await record(made, EventKind.FAILED, entry_id=2)
        await trio.sleep(3 * 86400)
        dead = await do(made, "webhook_call_retired_list", is_dead=True)
        assert [(call.id, call.status, call.attempts) for call in dead.calls] == [
            (2, "given up", 12),
            (1, "given up", 12),
        ]
        (component,) = [one for one in made.server.report_health().components if one.component == "webhooks"]
        assert component.reason == "2 calls were given up: see `mailcrane queue webhook dead`"
        replayed = await do(made, "webhook_replay_calls", ids=[1])
        assert (replayed.events, replayed.calls, replayed.missing) == (1, 1, ())
        await trio.sleep(1)
        last = made.receiver.calls[-1]
        assert (last.header["webhook-id"], last.header["X-Mox-Webhook-ID"]) == (first[0], "3")
        assert (await do(made, "webhook_call_retired_list", is_dead=True)).dead == 1
        assert (await do(made, "webhook_dead_forget")).count == 1
        assert (await do(made, "webhook_call_retired_list")).dead == 0
        await trio.sleep(1)
        (component,) = [one for one in made.server.report_health().components if one.component == "webhooks"]
        assert component.reason == ""


async def test_a_range_of_events_is_replayed_in_order_also_where_no_calls_are_kept(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with server(rows=replace(rows(), accounts=(
        replace(ROWS.accounts[0], outgoing_webhook=Webhook(URL)), *ROWS.accounts[1:],
    ))) as made:  # fmt: skip
        await record(made, EventKind.DELAYED, EventKind.MESSAGE_QUEUED)
        await trio.sleep(3600)
        await record(made, EventKind.DELAYED, EventKind.FAILED)
        made.receiver.calls.clear()
        replayed = await do(made, "webhook_replay_range", account="ann", since="30m")
        assert (replayed.events, replayed.calls, replayed.next_after_number) == (2, 2, 0)
        await trio.sleep(10)
        assert told(made) == ["delayed", "failed"]
        await do(made, "webhook_replay_range", account="ann", events=["delayed"], until="30m")
        await trio.sleep(10)
        assert told(made, 2) == ["delayed"]
        for bad in ({"account": "eve"}, {"account": "ann", "events": ["message_queued"]}):
            with pytest.raises(AdminError):
                await do(made, "webhook_replay_range", **bad)


async def test_a_long_range_is_replayed_in_pieces_to_what_there_was_at_first(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running() as made:
        for start in range(0, 450, 50):
            await record(made, *[EventKind.DELIVERED] * 50, entry_id=start + 1)
        made.receiver.calls.clear()
        pieces, arguments = [], {"account": "ann"}
        while True:
            done = await do(made, "webhook_replay_range", **arguments)
            pieces.append(done.events)
            await record(made, EventKind.FAILED, entry_id=9999)
            if not done.next_after_number:
                break
            arguments |= {"after_number": done.next_after_number, "until_number": done.until_number}
        assert sum(pieces) == 450
        assert max(pieces) <= 200
        await trio.sleep(60)
        assert told(made).count("delivered") == 450


async def test_events_are_replayed_by_their_ids(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as made:
        (event_id,) = await record(made, EventKind.FAILED)
        (stored,) = await record(made, EventKind.MESSAGE_STORED)
        unknown = ["evt_1_999_0", "nonsense", event_id + "0"]
        replayed = await do(made, "webhook_replay_events", ids=[event_id, *unknown])
        assert (replayed.events, replayed.calls, replayed.missing) == (1, 1, tuple(unknown))
        await trio.sleep(1)
        assert [call.header["webhook-id"] for call in made.receiver.calls] == [event_id] * 2
        with pytest.raises(AdminError, match="not posted"):
            await do(made, "webhook_replay_events", ids=[stored])


async def test_a_call_in_the_queue_is_not_replayed(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as made:
        made.receiver.answer(500)
        await record(made, EventKind.FAILED)
        with pytest.raises(AdminError, match="schedule --now 0"):
            await do(made, "webhook_replay_calls", ids=[1])
        assert (await do(made, "webhook_replay_calls", ids=[77])).missing == ("77",)


async def test_health_forgets_a_disabled_webhook_when_its_secret_changes(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running(secrets=(Secret(SECRET),)) as made:
        made.receiver.answer(410)
        await record(made, EventKind.FAILED)
        await do(made, "webhook_secret_rotate", account="ann")
        await trio.sleep(1)
        (component,) = [one for one in made.server.report_health().components if one.component == "webhooks"]
        assert component.reason == ""


async def test_a_webhook_that_was_disabled_is_shown_and_enabled_again(autojump_clock: trio.testing.MockClock) -> None:
    async with running(secrets=(Secret(SECRET),)) as made:
        made.receiver.answer(410)
        await record(made, EventKind.FAILED, entry_id=1)
        await record(made, EventKind.FAILED, entry_id=2)
        (disabled,) = (await do(made, "webhook_disabled_list")).webhooks
        assert (disabled.account, disabled.url) == ("ann", URL)
        (component,) = [one for one in made.server.report_health().components if one.component == "webhooks"]
        assert "of ann" in component.reason
        assert (await do(made, "webhook_enable", account="ann")).urls == (URL,)
        with pytest.raises(AdminError, match="no webhook"):
            await do(made, "webhook_enable", account="ann")
        await do(made, "webhook_replay_range", account="ann")
        await trio.sleep(1)
        assert len(made.receiver.calls) == 3
        assert (await do(made, "webhook_disabled_list")).webhooks == ()


# --- trying a URL ---


async def test_a_url_is_tried_with_a_payload_for_people_to_read(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as made:
        made.receiver.answer(403)
        tried = await do(
            made, "webhook_try", url="https://new.example/", authorization="Bearer y", payload={"a": ["<&>"]}
        )
        (posted,) = made.receiver.calls
        assert posted.body == b'{\n\t"a": [\n\t\t"<&>"\n\t]\n}\n'
        assert (posted.header["X-Mox-Webhook-ID"], posted.header["X-Mox-Webhook-Attempt"]) == ("1", "1")
        assert posted.header["Authorization"] == "Bearer y"
        assert (tried.is_success, tried.code, tried.error) == (False, 403, "the receiver answered 403")
        assert (await do(made, "webhook_call_list")).calls == ()
        assert (await do(made, "webhook_call_retired_list")).calls == ()


@pytest.mark.parametrize("example", ["outgoing-delivered", "outgoing-dsn-failed", "incoming-basic"])
async def test_every_example_can_be_posted(example: str, autojump_clock: trio.testing.MockClock) -> None:
    async with running() as made:
        assert (await do(made, "webhook_try", url=URL, example=example, secrets=[SECRET])).is_success
        (posted,) = made.receiver.calls
        assert posted.payload["Version"] == 0
        assert ("Meta" in posted.payload) == example.startswith("incoming")
        assert posted.header["webhook-signature"].startswith("v1,")


async def test_what_cannot_be_tried_is_an_answer_or_refused(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as made:
        made.receiver.answer(0)
        tried = await do(made, "webhook_try", url=URL)
        assert (tried.is_success, tried.code, tried.error) == (
            False,
            0,
            "no connection to the receiver",
        )
        for bad in ({"url": "ftp://x/"}, {"url": URL, "example": "none"}, {"url": URL, "authorization": "a\nb"}):
            with pytest.raises(AdminError):
                await do(made, "webhook_try", **bad)


# --- secrets ---


async def test_a_secret_is_rotated_with_an_overlap(autojump_clock: trio.testing.MockClock) -> None:
    async with running(secrets=(Secret(SECRET),)) as made:
        rotated = await do(made, "webhook_secret_rotate", account="ann", keep_for="1h")
        assert rotated.secret.reveal().startswith("whsec_")
        await record(made, EventKind.FAILED, entry_id=1)
        listed = (await do(made, "webhook_secret_list", account="ann")).secrets
        assert [(row.fingerprint == rotated.fingerprint, row.until) for row in listed] == [
            (True, None),
            (False, rotated.kept_until),
        ]
        await trio.sleep(3601)
        await record(made, EventKind.FAILED, entry_id=2)
        assert [len(call.header["webhook-signature"].split()) for call in made.receiver.calls] == [2, 1]
        assert len((await do(made, "webhook_secret_list", account="ann")).secrets) == 1


async def test_rotating_again_shortens_no_overlap_but_its_own(autojump_clock: trio.testing.MockClock) -> None:
    async with running(secrets=(Secret(SECRET),)) as made:
        first = await do(made, "webhook_secret_rotate", account="ann", keep_for="1h")
        second = await do(made, "webhook_secret_rotate", account="ann", keep_for="2h")
        rows_ = (await do(made, "webhook_secret_list", account="ann")).secrets
        assert [row.until for row in rows_] == [None, second.kept_until, first.kept_until]
        third = await do(made, "webhook_secret_rotate", account="ann", keep_for="0")
        assert third.kept_until is None
        assert [row.fingerprint for row in (await do(made, "webhook_secret_list", account="ann")).secrets] == [
            third.fingerprint
        ]


async def test_secrets_are_removed_one_or_all_but_the_newest(autojump_clock: trio.testing.MockClock) -> None:
    async with running(secrets=(Secret(SECRET),)) as made:
        first = await do(made, "webhook_secret_rotate", account="ann")
        second = await do(made, "webhook_secret_rotate", account="ann")
        removed = await do(made, "webhook_secret_remove", account="ann", fingerprint=first.fingerprint)
        assert removed.fingerprints == (first.fingerprint,)
        assert len((await do(made, "webhook_secret_remove", account="ann")).fingerprints) == 1
        (left,) = (await do(made, "webhook_secret_list", account="ann")).secrets
        assert left.fingerprint == second.fingerprint
        with pytest.raises(AdminError, match="no secret"):
            await do(made, "webhook_secret_remove", account="ann", fingerprint="0")
        for account in ("bob", "eve"):
            with pytest.raises(AdminError):
                await do(made, "webhook_secret_rotate", account=account)


def test_operations_on_webhooks_have_descriptions() -> None:
    assert len([name for name in OPERATIONS if name.startswith("webhook_")]) == 15
