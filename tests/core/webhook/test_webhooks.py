from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trio
import trio.lowlevel
from standardwebhooks import Webhook as StandardWebhook

import mailcrane
from mailcrane.config.rows import RetiringSecret, Webhook
from mailcrane.config.static import WebhooksConfig
from mailcrane.http.client import ConnectFailed
from mailcrane.model.event import Event, EventKind
from mailcrane.model.webhook import WebhookFields, WebhookTarget
from mailcrane.observe.secret import Secret
from mailcrane.plugin.base import Plugin
from mailcrane.plugin.policy import hookimpl
from mailcrane.store.housekeeping import sweep
from mailcrane.webhook.caller import INTERRUPTED
from mailcrane.webhook.disabled import enable, is_disabled
from mailcrane.webhook.schedule import MAX_ATTEMPTS

World = Any  # of conftest.py, which cannot be imported

URL = "https://app.example/hook"
SECRET = "whsec_c2VjcmV0"


class MoreTargets(Plugin):
    name = "more-targets"

    @hookimpl
    async def select_webhooks(self, event: Event) -> list[WebhookTarget]:
        return [WebhookTarget("https://ops.example/"), WebhookTarget(URL, "not the account's")]


class MoreFields(Plugin):
    name = "more-fields"

    @hookimpl
    async def add_webhook_fields(self, event: Event, payload: dict[str, Any]) -> WebhookFields:
        payload["Event"] = "changed"
        payload["Extra"]["added"] = "changed"
        return WebhookFields({"Tenant": 4, "Event": "replaced"})


class Broken(Plugin):
    name = "broken"

    @hookimpl
    async def select_webhooks(self, event: Event) -> list[WebhookTarget]:
        raise RuntimeError("broken")

    @hookimpl
    async def add_webhook_fields(self, event: Event, payload: dict[str, Any]) -> WebhookFields:
        raise RuntimeError("broken")


# --- from events to calls ---


async def test_an_outgoing_event_is_posted_once(world: World) -> None:
    event = await world.record(EventKind.DELIVERED, queue_msg_id=1, subject="hi", extra={"a": "b"})
    await world.run_for(seconds=1)
    await world.run_for("second", hours=1)
    (posted,) = world.client.posted
    assert posted.url == URL
    payload = json.loads(posted.body)
    assert (payload["Event"], payload["Subject"], payload["Extra"]) == ("delivered", "hi", {"a": "b"})
    assert posted.headers == {
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": f"mailcrane/{mailcrane.__version__} (webhook)",
        "X-Mox-Webhook-ID": "1",
        "X-Mox-Webhook-Attempt": "1",
        "webhook-id": event.id,
        "webhook-timestamp": posted.headers["webhook-timestamp"],
    }


async def test_events_that_are_not_outgoing_or_not_wanted_are_not_posted(world: World) -> None:
    await world.configure(Webhook(URL, events=("failed",)))
    await world.record(EventKind.MESSAGE_QUEUED)
    await world.record(EventKind.DELIVERED)
    await world.record(EventKind.FAILED)
    await world.run_for(seconds=1)
    assert [json.loads(posted.body)["Event"] for posted in world.client.posted] == ["failed"]


async def test_an_account_without_a_webhook_posts_nothing_also_later(world: World) -> None:
    await world.configure(None)
    await world.record()
    await world.run_for(seconds=1)
    await world.configure(Webhook(URL))
    await world.run_for("second", seconds=1)
    assert world.client.posted == []


async def test_many_events_are_dispatched_in_batches(world: World) -> None:
    for entry_id in range(1, 251):
        await world.record(entry_id=entry_id)
    await world.run_for(seconds=1)
    assert len(world.client.posted) == 250
    assert world.client.most_under_way <= 16


async def test_calls_are_leased_made_and_settled_many_at_a_time(world: World) -> None:
    for entry_id in range(1, 251):
        await world.record(entry_id=entry_id)
    before = world.store.statistics.units
    await world.run_for(seconds=1)
    assert len(await world.ended()) == 250
    assert world.client.most_under_way == 16
    assert world.store.statistics.units - before < 60


async def test_authorization_and_signatures_go_with_the_call(world: World) -> None:
    await world.configure(Webhook(URL, Secret("Bearer x"), (Secret(SECRET), Secret("whsec_b3RoZXI="))))
    await world.record()
    await world.run_for(seconds=1)
    headers = world.client.posted[0].headers
    assert headers["Authorization"] == "Bearer x"
    assert [part[:3] for part in headers["webhook-signature"].split(" ")] == ["v1,", "v1,"]


async def test_plugins_add_targets_but_each_url_is_told_once(world: World) -> None:
    async with world.plugins(MoreTargets):
        await world.record()
        await world.run_for(seconds=1)
    assert sorted(posted.url for posted in world.client.posted) == [URL, "https://ops.example/"]
    assert all("Authorization" not in posted.headers for posted in world.client.posted)
    assert len({posted.headers["webhook-id"] for posted in world.client.posted}) == 1


async def test_plugins_add_fields_and_change_none(world: World) -> None:
    async with world.plugins(MoreFields):
        await world.record(extra={"a": "b"})
        await world.run_for(seconds=1)
    payload = json.loads(world.client.posted[0].body)
    assert (payload["Event"], payload["Extra"], payload["Tenant"]) == ("delivered", {"a": "b"}, 4)
    assert list(payload)[-1] == "Tenant"


async def test_a_broken_plugin_costs_its_answer_only(world: World) -> None:
    async with world.plugins(Broken, MoreFields):
        await world.record()
        await world.run_for(seconds=1)
    assert json.loads(world.client.posted[0].body)["Tenant"] == 4


async def test_events_wait_while_the_store_cannot_take_calls(world: World) -> None:
    failures = iter([OSError("disk")] * 3)

    def fail(keys: Any) -> None:
        if "webhooks" in keys:
            for failure in failures:
                raise failure

    await world.record()
    world.faults.before_commit = fail
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.make_dispatcher().run)
        await trio.sleep(30)
        nursery.cancel_scope.cancel()
    assert len(await world.queued()) == 1


# --- results ---


async def test_a_call_that_succeeds_is_retired(world: World) -> None:
    world.client.answer = b"\xff" + b"x" * 1000
    await world.record()
    await world.run_for(seconds=1)
    assert await world.queued() == []
    (retired,) = await world.retired()
    assert retired.is_success
    assert retired.keep_until - retired.retired_at <= timedelta(days=1)
    (result,) = retired.call.results
    assert (result.code, result.response) == (200, "\ufffd" + "x" * 511)
    (event,) = await world.ended()
    assert event.data == {
        "call_id": 1, "event_id": retired.call.event_id, "url": URL, "event": "delivered", "is_success": True,
        "code": 200, "attempts": 1, "superseded_by": "", "is_disabling": False, "canceled_by": "",
    }  # fmt: skip


async def test_nothing_is_kept_for_an_account_that_keeps_nothing(world: World) -> None:
    await world.configure(Webhook(URL), keep=timedelta(0))
    await world.record()
    await world.run_for(seconds=1)
    assert await world.retired() == []
    assert len(await world.ended()) == 1


@pytest.mark.parametrize("status", [201, 204, 301, 403, 410, 500])
async def test_without_a_secret_only_200_is_success(world: World, status: int) -> None:
    world.client.acts = [status]
    await world.record()
    await world.run_for(minutes=2)
    assert world.client.attempts == [("1", "1"), ("1", "2")]
    (retired,) = await world.retired()
    assert [result.code for result in retired.call.results] == [status, 200]
    assert str(status) in retired.call.results[0].error


@pytest.mark.parametrize("status", [200, 201, 204])
async def test_with_a_secret_any_2xx_is_success(world: World, status: int) -> None:
    await world.configure(Webhook(URL, secrets=(Secret(SECRET),)))
    world.client.acts = [status]
    await world.record()
    await world.run_for(hours=1)
    assert len(world.client.posted) == 1


async def test_with_a_secret_410_disables_the_webhook(world: World) -> None:
    webhook = Webhook(URL, secrets=(Secret(SECRET),))
    await world.configure(webhook)
    world.client.acts = [410]
    await world.record(entry_id=1)
    await world.run_for(hours=1)
    await world.record(entry_id=2)
    await world.run_for(hours=1)
    assert len(world.client.posted) == 1
    (event,) = await world.ended()
    assert (event.data["code"], event.data["is_success"], event.data["is_disabling"]) == (410, False, True)
    (retired,) = await world.retired()
    assert not retired.is_success

    target = WebhookTarget(URL, secrets=(SECRET,))
    assert await world.store.read(lambda transaction: is_disabled(transaction, "ann", target))
    assert await world.store.write(lambda transaction: enable(transaction, "ann", URL), key="webhooks")
    await world.record(entry_id=3)
    await world.run_for(seconds=1)
    assert len(world.client.posted) == 2


async def test_a_disabled_webhook_is_another_one_with_a_new_secret(world: World) -> None:
    await world.configure(Webhook(URL, secrets=(Secret(SECRET),)))
    world.client.acts = [410]
    await world.record(entry_id=1)
    await world.run_for(seconds=1)
    await world.configure(Webhook(URL, secrets=(Secret("whsec_bmV3"),)))
    await world.record(entry_id=2)
    await world.run_for(seconds=1)
    assert len(world.client.posted) == 2


async def test_a_receiver_that_never_answers_200_is_given_up_after_twelve_attempts(world: World) -> None:
    world.client.acts = [500] * 20
    await world.record()
    await world.run_for(days=3)
    assert len(world.client.posted) == MAX_ATTEMPTS
    minutes = [
        (later.at - earlier.at) / 60
        for earlier, later in zip(world.client.posted, world.client.posted[1:], strict=False)
    ]
    assert minutes == pytest.approx([1, 2, 4, 7.5, 15, 30, 60, 120, 240, 480, 960], rel=0.0101)
    assert len({posted.headers["webhook-id"] for posted in world.client.posted}) == 1
    (event,) = await world.ended()
    assert (event.data["attempts"], event.data["is_success"]) == (12, False)
    (retired,) = await world.retired()
    assert len(retired.call.results) == MAX_ATTEMPTS


async def test_no_response_is_a_failure_with_its_reason(world: World) -> None:
    world.client.acts = [ConnectFailed("cannot resolve app.example"), trio.sleep_forever]
    await world.record()
    await world.run_for(minutes=10)
    (retired,) = await world.retired()
    first, second, third = retired.call.results
    assert (first.code, first.error) == (0, "cannot resolve app.example")
    assert second.error == "no response within 60 s"
    assert second.duration == timedelta(seconds=60)
    assert third.is_success


async def test_a_bug_in_the_client_costs_one_attempt(world: World) -> None:
    world.client.acts = [ZeroDivisionError()]
    await world.record(entry_id=1)
    await world.record(entry_id=2)
    await world.run_for(minutes=10)
    assert len(await world.retired()) == 2


# --- order and limits ---


async def test_a_newer_event_of_a_message_ends_the_calls_of_older_ones(world: World) -> None:
    world.client.acts = [500]
    first = await world.record(EventKind.DELAYED)
    await world.run_for(seconds=10)
    second = await world.record(EventKind.DELIVERED)
    await world.run_for(hours=1)
    assert [json.loads(posted.body)["Event"] for posted in world.client.posted] == ["delayed", "delivered"]
    older, newer = await world.retired()
    assert (older.superseded_by, older.is_success) == (newer.call.id, False)
    ended = await world.ended()
    assert [(event.data["event_id"], event.data["superseded_by"]) for event in ended] == [
        (first.id, second.id),
        (second.id, ""),
    ]
    assert ended[0].data["code"] == 500


async def test_a_call_waits_for_the_superseded_one_that_is_under_way(world: World) -> None:
    async def slow() -> int:
        await trio.sleep(30)
        return 500

    world.client.acts = [slow]
    async with world.running():
        await world.record(EventKind.DELAYED)
        await trio.sleep(1)
        await world.record(EventKind.FAILED)
        await world.record(EventKind.DELIVERED)
        await trio.sleep(60)
    assert world.client.most_under_way == 1
    assert [json.loads(posted.body)["Event"] for posted in world.client.posted] == ["delayed", "delivered"]
    first, second, third = await world.retired()
    assert first.call.results[0].error.endswith("(superseded)")
    assert second.call.results == ()
    assert third.is_success


async def test_calls_of_different_messages_do_not_wait_for_each_other(world: World) -> None:
    async def slow() -> int:
        await trio.sleep(30)
        return 200

    world.client.acts = [slow]
    async with world.running():
        await world.record(entry_id=1)
        await world.record(entry_id=2)
        await trio.sleep(1)
        assert world.client.most_under_way == 2
        assert len(await world.queued()) == 1


async def test_in_mode_all_every_event_is_posted_in_order(world: World) -> None:
    await world.configure(Webhook(URL, mode="all"))
    world.client.acts = [500]
    await world.record(EventKind.DELAYED)
    await world.run_for(seconds=10)
    await world.record(EventKind.DELAYED, error="second")
    await world.record(EventKind.DELIVERED)
    await world.record(EventKind.DELIVERED, entry_id=2)
    await world.run_for("second", seconds=10)
    assert [json.loads(posted.body)["QueueMsgID"] for posted in world.client.posted] == [1, 2]
    assert [call.attempts for call in await world.queued()] == [1, 0, 0]
    world.client.acts = [500]
    await world.run_for("third", minutes=5)
    assert world.client.attempts[-3:] == [("1", "3"), ("2", "1"), ("3", "1")]
    assert all(not call.superseded_by for call in await world.retired())
    last = [posted.at for posted in world.client.posted[-3:]]
    assert last[2] - last[0] < 1


async def test_calls_at_once_are_limited_over_all_and_per_url(world: World) -> None:
    world.config = WebhooksConfig(concurrency=5, concurrency_per_url=3)

    async def slow() -> int:
        await trio.sleep(1)
        return 200

    world.client.acts = [slow] * 40
    async with world.plugins(MoreTargets):
        for entry_id in range(1, 11):
            await world.record(entry_id=entry_id)
        await world.run_for(minutes=1)
    assert len(world.client.posted) == 20
    assert world.client.most_under_way == 5
    times = [posted.at for posted in world.client.posted if posted.url == URL]
    assert max(times.count(at) for at in times) == 3


# --- crashes and stops ---


async def test_a_call_that_was_under_way_in_a_crash_is_made_again(world: World) -> None:
    world.client.acts = [trio.sleep_forever]
    await world.record()
    await world.run_for(seconds=5)
    (call,) = await world.queued()
    assert call.attempts == 1
    await world.run_for("second", minutes=2)
    assert world.client.attempts == [("1", "1"), ("1", "2")]
    assert await world.queued() == []


async def test_a_result_that_cannot_be_stored_at_once_is_stored_later(world: World) -> None:
    await world.record()
    async with world.running():
        await trio.lowlevel.checkpoint()
        failures = iter([OSError("disk")] * 3)

        def fail(keys: Any) -> None:
            if world.client.posted:
                for failure in failures:
                    raise failure

        world.faults.before_commit = fail
        await trio.sleep(60)
    assert len(world.client.posted) == 1
    assert len(await world.retired()) == 1


async def test_a_stop_lets_calls_end_and_breaks_off_those_that_do_not(world: World) -> None:
    async def slow() -> int:
        await trio.sleep(2)
        return 200

    world.client.acts = [slow, trio.sleep_forever]
    await world.record(entry_id=1)
    await world.record(entry_id=2)
    async with trio.open_nursery() as nursery:
        caller = world.make_caller()
        await world.make_dispatcher().dispatch_pending()
        nursery.start_soon(caller.run)
        await trio.sleep(1)
        assert caller.under_way == 2
        caller.stop()
    assert len(await world.retired()) == 1
    (call,) = await world.queued()
    assert call.results[0].error == INTERRUPTED
    await world.record(entry_id=3)
    await world.run_for("second", minutes=2)
    assert await world.queued() == []


async def test_a_call_canceled_by_an_operator_stays_canceled(world: World) -> None:
    async def cancel() -> int:
        await world.store.write(
            lambda transaction: transaction.webhooks.retire(1, None, None, is_success=False), key="webhooks"
        )
        return 200

    world.client.acts = [cancel]
    await world.record()
    await world.run_for(hours=1)
    assert len(world.client.posted) == 1
    assert await world.ended() == []


async def test_calls_of_a_removed_account_are_dropped(world: World) -> None:
    async def remove() -> int:
        await world.remove_accounts()
        return 200

    world.client.acts = [remove]
    await world.record(entry_id=1)
    await world.run_for(seconds=1)
    await world.run_for("second", hours=1)
    assert len(world.client.posted) == 1
    assert await world.queued() == []


async def test_an_account_that_is_removed_while_its_events_are_planned_stops_nobody(world: World) -> None:
    class Removes(Plugin):
        name = "removes"

        @hookimpl
        async def select_webhooks(self, event: Event) -> list[WebhookTarget]:
            await world.remove_accounts()
            return []

    async with world.plugins(Removes):
        await world.record(entry_id=1)
        await world.run_for(seconds=1)
    assert world.client.posted == []


async def test_units_that_run_twice_do_everything_once(world: World) -> None:
    world.faults.rerun_units = True
    world.client.acts = [500, 500]
    await world.record(EventKind.DELAYED)
    await world.run_for(seconds=10)
    await world.record(EventKind.FAILED)
    await world.run_for("second", hours=1)
    assert world.client.attempts == [("1", "1"), ("2", "1"), ("2", "2")]
    assert len(await world.ended()) == 2
    assert len(await world.retired()) == 2


# --- mode changes ---


async def kinds_posted(world: World) -> list[str]:
    return [json.loads(posted.body)["Event"] for posted in world.client.posted]


async def test_in_mode_changes_a_repeated_kind_is_not_posted_again(world: World) -> None:
    await world.configure(Webhook(URL, mode="changes"), keep=timedelta(0))
    for kind in (EventKind.DELAYED, EventKind.DELAYED, EventKind.DELAYED, EventKind.FAILED):
        await world.record(kind)
        await world.run_for(seconds=1)
    await world.record(EventKind.DELAYED, entry_id=2)
    await world.run_for(seconds=1)
    assert await kinds_posted(world) == ["delayed", "failed", "delayed"]


async def test_in_mode_changes_a_kind_that_comes_back_is_posted_again(world: World) -> None:
    await world.configure(Webhook(URL, mode="changes"))
    for kind in (EventKind.DELAYED, EventKind.RELAYED, EventKind.RELAYED, EventKind.DELAYED):
        await world.record(kind)
    await world.run_for(seconds=1)
    assert await kinds_posted(world) == ["delayed", "relayed", "delayed"]


async def test_in_mode_changes_only_events_that_are_wanted_count(world: World) -> None:
    await world.configure(Webhook(URL, events=("delayed", "failed"), mode="changes"))
    for kind in (EventKind.DELAYED, EventKind.RELAYED, EventKind.DELAYED, EventKind.FAILED):
        await world.record(kind)
    await world.run_for(seconds=1)
    assert await kinds_posted(world) == ["delayed", "failed"]


async def test_in_mode_changes_what_nobody_took_does_not_count(world: World) -> None:
    await world.configure(Webhook(URL, mode="changes"))
    world.client.acts = [500] * MAX_ATTEMPTS
    await world.record(EventKind.DELAYED)
    await world.run_for(hours=1)
    await world.record(EventKind.DELAYED)
    await world.run_for("second", days=3)
    await world.record(EventKind.DELAYED)
    await world.run_for("third", hours=1)
    # The second one came while the first was still to be posted; the third after that was given up.
    assert [event.data["is_success"] for event in await world.ended()] == [False, True]


async def test_in_mode_changes_events_without_a_message_are_all_posted(world: World) -> None:
    await world.configure(Webhook(URL, mode="changes"))
    for _ in range(2):
        await world.record(EventKind.UNRECOGNIZED, entry_id=0)
    await world.run_for(seconds=1)
    assert len(world.client.posted) == 2


# --- calls that hang ---


async def test_receivers_that_hang_slow_no_other(world: World) -> None:
    """Twenty receivers that never answer, with a hundred messages each, and one that does."""

    class Elsewhere(Plugin):
        name = "elsewhere"

        @hookimpl
        async def select_webhooks(self, event: Event) -> list[WebhookTarget]:
            return [WebhookTarget(f"https://hangs-{event.entry_id % 20}.example/")]

    async def hang() -> int:
        await trio.sleep_forever()
        return 0

    posts = world.client.post

    async def post(url: str, **arguments: Any) -> Any:
        if "hangs" in url:
            await hang()
        return await posts(url, **arguments)

    world.client.post = post
    async with world.plugins(Elsewhere):
        for entry_id in range(1, 2001):
            await world.record(EventKind.DELIVERED, entry_id=entry_id)
        async with world.running():
            await trio.sleep(0.9)
            assert len(world.client.posted) > 100
            await trio.sleep(59)
    assert len(world.client.posted) == 2000


def signed_with(posted: Any, secrets: tuple[str, ...]) -> set[str]:
    """Which of the secrets a call was signed with, in the opinion of the official library."""
    at = datetime.fromtimestamp(int(posted.headers["webhook-timestamp"]), UTC)
    signatures = posted.headers["webhook-signature"].split(" ")
    return {
        secret
        for secret in secrets
        if StandardWebhook(secret).sign(posted.headers["webhook-id"], at, posted.body.decode()) in signatures
    }


async def test_what_is_queued_is_signed_with_the_secrets_of_the_moment(world: World) -> None:
    old, new = "whsec_" + "b2xk" * 8, "whsec_" + "bmV3" * 8
    await world.configure(Webhook(URL, secrets=(Secret(old),)))
    world.client.acts = [500]
    await world.record()
    await world.run_for(seconds=10)
    until = world.clock.now() + timedelta(hours=1)
    await world.configure(Webhook(URL, secrets=(Secret(new),), retiring_secrets=(RetiringSecret(Secret(old), until),)))
    world.client.acts = [500] * 6
    await world.run_for("second", hours=3)
    assert [signed_with(posted, (old, new)) for posted in (*world.client.posted[:2], world.client.posted[-1])] == [
        {old}, {old, new}, {new}
    ]  # fmt: skip


# --- removed accounts ---


async def test_calls_of_a_removed_account_are_kept_for_seven_days(world: World) -> None:
    world.client.acts = [500]
    await world.record()
    await world.run_for(seconds=1)
    await world.remove_accounts()
    await sweep(world.store)
    (retired,) = await world.retired()
    assert (retired.call.account, retired.is_success) == ("ann", False)
    assert [result.error for result in retired.call.results] == ["the receiver answered 500", "the account was removed"]
    await trio.sleep(timedelta(days=6).total_seconds())
    await sweep(world.store)
    assert len(await world.retired()) == 1
    await trio.sleep(timedelta(days=2).total_seconds())
    await sweep(world.store)
    assert await world.retired() == []


async def test_a_call_that_is_given_up_is_kept_and_counted_also_where_nothing_is_kept(world: World) -> None:
    await world.configure(Webhook(URL), keep=timedelta(0))
    world.client.acts = [500] * MAX_ATTEMPTS
    await world.record()
    await world.run_for(days=3)
    (dead,) = await world.retired()
    assert dead.is_dead
    assert await world.store.read(lambda transaction: transaction.webhooks.count_dead()) == 1
    await trio.sleep(timedelta(days=27).total_seconds())
    await sweep(world.store)
    assert len(await world.retired()) == 1
    await trio.sleep(timedelta(days=4).total_seconds())
    await sweep(world.store)
    assert await world.retired() == []
