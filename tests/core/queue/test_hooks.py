"""What plugins change of an attempt, and what it means when they fail."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from mailcrane.api import (
    ContentEdit,
    DeliveryPreparation,
    HeaderField,
    Outcome,
    Plugin,
    RecipientResult,
    Reply,
    Retention,
    RetryPlan,
    RouteChoice,
    hookimpl,
)
from mailcrane.model.event import EventKind

DEFERRED = RecipientResult.from_reply(Reply.make(451, "4.3.0", "later"))
FAILED = RecipientResult.from_reply(Reply.make(550, "5.1.1", "nobody of that name"))
DELIVERED = RecipientResult.from_reply(Reply.make(250, "2.0.0", "taken"))


class Scripted(Plugin):
    """Answers what a test says, and raises what is an exception."""

    answers: dict[str, Any] = {}  # noqa: RUF012 - replaced by each test
    name = "scripted"

    def _answer(self, hook: str) -> Any:
        answer = self.answers.get(hook)
        if isinstance(answer, Exception):
            raise answer
        return answer

    @hookimpl
    async def select_route(self) -> Any:
        return self._answer("select_route")

    @hookimpl
    async def rewrite_content(self) -> Any:
        return self._answer("rewrite_content")

    @hookimpl
    async def prepare_delivery(self) -> Any:
        return self._answer("prepare_delivery")

    @hookimpl
    async def classify_result(self) -> Any:
        return self._answer("classify_result")

    @hookimpl
    async def plan_retry(self, due_at: object) -> Any:
        answer = self._answer("plan_retry")
        return answer(due_at) if callable(answer) else answer

    @hookimpl
    async def retain_retired(self, event: str, attempts: Any) -> Any:
        self.answers["retained"] = (event, len(attempts))
        return self._answer("retain_retired")


@pytest.fixture(autouse=True)
def answers() -> dict[str, Any]:
    """What the plugin answers, by hook."""
    Scripted.answers = {}
    return Scripted.answers


@pytest.mark.parametrize("hook", ["select_route", "rewrite_content", "prepare_delivery"])
async def test_a_plugin_that_fails_before_the_delivery_defers_it(
    world: Any, answers: dict[str, Any], hook: str
) -> None:
    answers[hook] = ValueError("broken")
    [entry_id] = await world.queue()
    async with world.plugins(Scripted):
        await world.run_for(seconds=1)
    assert world.transport.deliveries == []
    [attempt] = await world.attempts(entry_id)
    assert attempt.result.outcome is Outcome.DEFERRED
    assert hook in attempt.result.error
    assert await world.event_kinds() == ["attempt_finished", "delayed"]


async def test_a_plugin_may_choose_the_transport(world: Any, answers: dict[str, Any]) -> None:
    world.config = type(world.config)()
    answers["select_route"] = RouteChoice("fake", "because")
    await world.queue()
    async with world.plugins(Scripted):
        await world.run_for(seconds=1)
    assert len(world.transport.deliveries) == 1


async def test_a_plugin_that_chooses_an_unknown_transport_defers(world: Any, answers: dict[str, Any]) -> None:
    answers["select_route"] = RouteChoice("gone")
    [entry_id] = await world.queue()
    async with world.plugins(Scripted):
        await world.run_for(seconds=1)
    [attempt] = await world.attempts(entry_id)
    assert attempt.result.error == "transport 'gone' (chosen by a plugin) is not in [transports]"


async def test_a_plugin_may_rewrite_the_header_before_the_delivery(world: Any, answers: dict[str, Any]) -> None:
    answers["rewrite_content"] = ContentEdit((HeaderField("X-Bag", "on the hook"),), ("subject",))
    await world.queue()
    async with world.plugins(Scripted):
        await world.run_for(seconds=1)
    assert world.transport.octets == [
        b"X-Bag: on the hook\r\nFrom: <ann@example.org>\r\nTo: <you@example.net>\r\n\r\nHello\r\n"
    ]


async def test_a_plugin_may_put_a_delivery_off(world: Any, answers: dict[str, Any]) -> None:
    answers["prepare_delivery"] = DeliveryPreparation(Reply.make(451, "4.7.1", "not in the night"), ("it is night",))
    [entry_id] = await world.queue()
    async with world.plugins(Scripted):
        await world.run_for(seconds=1)
    assert world.transport.deliveries == []
    [attempt] = await world.attempts(entry_id)
    assert attempt.result.reply == Reply.make(451, "4.7.1", "not in the night")
    assert attempt.result.notes == ("it is night",)


async def test_what_plugins_note_of_a_delivery_is_with_its_result(world: Any, answers: dict[str, Any]) -> None:
    answers["prepare_delivery"] = DeliveryPreparation(notes=("seen",))
    await world.queue()
    async with world.plugins(Scripted):
        await world.run_for(seconds=1)
    [event] = await world.events(EventKind.ATTEMPT_FINISHED)
    assert event.data["notes"] == ["seen"]


@pytest.mark.parametrize("hook", ["classify_result", "retain_retired"])
async def test_a_plugin_that_fails_after_the_delivery_counts_as_no_answer(
    world: Any, answers: dict[str, Any], hook: str
) -> None:
    await world.keep_retired()
    answers[hook] = ValueError("broken")
    [entry_id] = await world.queue()
    async with world.plugins(Scripted):
        await world.run_for(seconds=1)
    assert (await world.retired(entry_id)).event == "delivered"


async def test_a_failing_retry_plan_leaves_it_to_the_schedule(world: Any, answers: dict[str, Any]) -> None:
    answers["plan_retry"] = ValueError("broken")
    world.transport.acts = [DEFERRED]
    [entry_id] = await world.queue()
    async with world.plugins(Scripted):
        await world.run_for(seconds=1)
    entry = await world.entry(entry_id)
    assert abs(entry.due_at - entry.last_attempt_at - timedelta(minutes=7.5)) <= timedelta(seconds=5)


async def test_a_plugin_may_take_a_failure_for_a_deferral(world: Any, answers: dict[str, Any]) -> None:
    answers["classify_result"] = DEFERRED
    world.transport.acts = [FAILED]
    [entry_id] = await world.queue()
    async with world.plugins(Scripted):
        await world.run_for(seconds=1)
    [attempt] = await world.attempts(entry_id)
    assert attempt.result == DEFERRED
    assert await world.event_kinds() == ["attempt_finished", "delayed"]


async def test_a_delivered_message_stays_delivered_whatever_a_plugin_says(world: Any, answers: dict[str, Any]) -> None:
    answers["classify_result"] = FAILED
    await world.queue()
    async with world.plugins(Scripted):
        await world.run_for(seconds=1)
    assert await world.event_kinds() == ["attempt_finished", "delivered", "entry_retired"]


async def test_a_plugin_may_plan_the_next_attempt(world: Any, answers: dict[str, Any]) -> None:
    answers["plan_retry"] = lambda due_at: RetryPlan(due_at - timedelta(minutes=7))
    world.transport.acts = [DEFERRED]
    await world.queue()
    async with world.plugins(Scripted):
        await world.run_for(minutes=1)
    assert len(world.transport.deliveries) == 2


async def test_a_plugin_may_give_an_entry_up(world: Any, answers: dict[str, Any]) -> None:
    answers["plan_retry"] = RetryPlan(None)
    world.transport.acts = [DEFERRED]
    [entry_id] = await world.queue()
    async with world.plugins(Scripted):
        await world.run_for(seconds=1)
    assert await world.entry(entry_id) is None
    [event] = await world.events(EventKind.FAILED)
    assert event.data["error"] == "given up by a plugin after 1 attempts: 451 4.3.0 later"


async def test_a_due_time_without_a_time_zone_counts_as_no_answer(world: Any, answers: dict[str, Any]) -> None:
    answers["plan_retry"] = lambda due_at: RetryPlan(due_at.replace(tzinfo=None))
    world.transport.acts = [DEFERRED]
    [entry_id] = await world.queue()
    async with world.plugins(Scripted):
        await world.run_for(seconds=1)
    assert (await world.entry(entry_id)).due_at.tzinfo is not None


async def test_a_plugin_may_say_how_long_a_retired_entry_is_kept(world: Any, answers: dict[str, Any]) -> None:
    answers["retain_retired"] = Retention(timedelta(hours=1))
    world.transport.acts = [DEFERRED, FAILED]
    [entry_id] = await world.queue()
    async with world.plugins(Scripted):
        await world.run_for(minutes=10)
    retired = await world.retired(entry_id)
    assert retired.keep_until - retired.retired_at == timedelta(hours=1)
    assert answers["retained"] == ("failed", 2)


async def test_a_negative_retention_counts_as_no_answer(world: Any, answers: dict[str, Any]) -> None:
    answers["retain_retired"] = Retention(timedelta(hours=-1))
    [entry_id] = await world.queue()
    async with world.plugins(Scripted):
        await world.run_for(seconds=1)
    assert await world.retired(entry_id) is None
