"""Every hook that is asked, on the real server: what its answer does, and what is stated of a plugin that fails.

Each row of the table has the three things that are seen of a message: when the plugin answers, when it says nothing,
and when it fails, in every way there is. The hooks that are told of events are in `test_failing_listeners`, those asked
at start in `test_failing_starts`.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
import trio
import trio.testing
from msgspec import Struct

from mailcrane.model.delivery import ContentEdit, DeliveryPreparation, Outcome, RecipientResult, RetryPlan, RouteChoice
from mailcrane.model.message import HeaderField
from mailcrane.model.receive import Assessment, Identity, Judgement, LocalDestination, Placement, Verdict
from mailcrane.model.reply import Reply
from mailcrane.model.retired import Retention
from mailcrane.model.suppression import SuppressionCheck, SuppressionDecision
from mailcrane.model.webhook import WebhookFields, WebhookTarget
from mailcrane.plugin.base import Plugin
from mailcrane.plugin.policy import Kind, OnFailure, hookimpl
from mailcrane.plugin.spec import hook_spec, hook_specs
from mailcrane.testing.clock import START
from mailcrane.testing.failures import FAILURES, Failure, hangs

from .conftest import URL, Stage

CONFIG = """
[transports.second]
type = "fake"
"""

LATER = Reply.make(451, "4.7.1", "come back later")
NEVER = Reply.make(550, "5.7.1", "never")
FULL = Reply.make(552, "5.2.2", "mailbox full")
BY_SCHEDULE = "in seven and a half minutes"
OTHER_URL = "https://other.there.example/"


class Witness(Plugin):
    """Is asked after the odd one. Writes the evidence that there is into the message."""

    name = "witness"

    @hookimpl
    async def judge_message(self) -> Judgement:
        return Judgement(Verdict.ACCEPT, "no objection")

    @hookimpl
    async def add_header_fields(self, assessments: Any) -> HeaderField:
        return HeaderField("X-Evidence", ",".join(f"{found.name}={found.result}" for found in assessments) or "none")


class Row(Struct, frozen=True):
    """A hook.

    Attributes:
        look: Lets a message pass its stage, and returns what is to be seen.
        answer: A good one.
        answered: What is seen of it.
        silent: What is seen when the plugin has no answer.
        failing: What is seen when it fails.
        states: Where the hook's docstring promises that.
    """

    look: Callable[[Stage], Awaitable[Any]]
    answer: Any
    answered: Any
    silent: Any
    failing: Any
    states: str


async def connecting(stage: Stage) -> Any:
    client = stage.running.connect()
    greeting = await client.reply()
    if greeting.code != 220:
        with pytest.raises(EOFError):
            await client.reply()
        return (greeting.code, greeting.enhanced_status_code)
    await client.quit()
    return greeting.code


async def logging_in(stage: Stage) -> Any:
    client = stage.running.connect("submission")
    await client.hello()
    reply = await client.log_in("ann@here.example", "a ticket")
    await client.quit()
    return (reply.code, reply.enhanced_status_code)


async def received(stage: Stage) -> Any:
    seen = await stage.receive()
    return (seen.reply, *seen.folders)


def received_field(name: str) -> Callable[[Stage], Awaitable[Any]]:
    async def look(stage: Stage) -> Any:
        seen = await stage.receive()
        return (seen.reply, *seen.folders, _field(seen.octets, name))

    return look


async def attempted(stage: Stage) -> Any:
    return (await stage.submit()).result


async def rewritten(stage: Stage) -> Any:
    seen = await stage.submit()
    return (*seen.result, _field(seen.octets, "X-Made"))


async def refused(stage: Stage) -> Any:
    stage.running.transport.answer(FULL)
    return (await stage.submit()).finished["outcome"]


async def suppressing(stage: Stage) -> Any:
    stage.running.transport.answer(FULL)
    return [payload["Suppressing"] for _, payload in (await stage.submit()).webhooks]


async def put_off(stage: Stage) -> Any:
    stage.running.transport.answer(LATER)
    begun_at = stage.running.clock.now()
    seen = await stage.submit()
    (entry,) = [entry for entry in await stage.running.entries() if entry.id == seen.entry_id]
    is_scheduled = timedelta(minutes=7) < entry.due_at - begun_at < timedelta(minutes=8)
    return BY_SCHEDULE if is_scheduled else entry.due_at


async def kept(stage: Stage) -> Any:
    retired = (await stage.submit()).retired
    return retired and retired.keep_until - retired.retired_at


async def posted_to(stage: Stage) -> Any:
    return sorted(url for url, _ in (await stage.submit()).webhooks)


async def posted(stage: Stage) -> Any:
    return [payload.get("Made") for _, payload in (await stage.submit()).webhooks]


def deferred_in(hook: str, transport: str) -> tuple[str, str, str]:
    return ("deferred", transport, f"plugin odd failed in {hook}")


TAKEN = ("250 2.2.0", "ann/Inbox")
DELIVERED = ("delivered", "fake", "")
NOT_TAKEN = ("451 4.3.0",)
LATE = START + timedelta(days=1)

ROWS = {
    "accept_connection": Row(
        connecting,
        answer=Reply.make(554, "5.7.1", "not you"),
        answered=(554, "5.7.1"),
        silent=220,
        failing=(421, "4.3.0"),
        states="A failing plugin means 421 4.3.0.",
    ),
    "authenticate": Row(
        logging_in,
        answer=Identity("ann", "ann@here.example"),
        answered=(235, "2.7.0"),
        silent=(535, "5.7.8"),
        failing=(454, "4.7.0"),
        states="A failing plugin means 454 4.7.0",
    ),
    "accept_reverse_path": Row(
        received,
        answer=NEVER,
        answered=("550 5.7.1",),
        silent=TAKEN,
        failing=NOT_TAKEN,
        states="A failing plugin means 451 4.3.0.",
    ),
    "resolve_recipient": Row(
        received,
        answer=LocalDestination("bob", "Tickets"),
        answered=("250 2.2.0", "bob/Tickets"),
        silent=TAKEN,
        failing=NOT_TAKEN,
        states="A failing plugin means 451 4.3.0.",
    ),
    "assess_message": Row(
        received_field("X-Evidence"),
        answer=[Assessment("made", "up"), Assessment("more", "so")],
        answered=(*TAKEN, "made=up,more=so"),
        silent=(*TAKEN, "none"),
        failing=(*TAKEN, "none"),
        states="A failing plugin's evidence is missing.",
    ),
    "judge_message": Row(
        received,
        answer=Judgement(Verdict.QUARANTINE, "made up"),
        answered=("250 2.2.0", "ann/Junk"),
        silent=TAKEN,
        failing=NOT_TAKEN,
        states="A failing plugin means 451 4.3.0, unless another one refuses.",
    ),
    "add_header_fields": Row(
        received_field("X-Made"),
        answer=HeaderField("X-Made", "up"),
        answered=(*TAKEN, "up"),
        silent=(*TAKEN, None),
        failing=(*TAKEN, None),
        states="A failing plugin's fields are missing.",
    ),
    "place_message": Row(
        received,
        answer=Placement("Made"),
        answered=("250 2.2.0", "ann/Made"),
        silent=TAKEN,
        failing=TAKEN,
        states="A failing plugin counts as no answer.",
    ),
    "check_suppression": Row(
        attempted,
        answer=SuppressionCheck(is_suppressed=True, reason="made up"),
        answered=("failed", "", "suppressed: made up"),
        silent=DELIVERED,
        failing=deferred_in("check_suppression", ""),
        states="A failing plugin defers the attempt.",
    ),
    "plan_retry": Row(
        put_off,
        answer=RetryPlan(LATE),
        answered=LATE,
        silent=BY_SCHEDULE,
        failing=BY_SCHEDULE,
        states="A failing plugin counts as no answer.",
    ),
    "select_route": Row(
        attempted,
        answer=RouteChoice("second"),
        answered=("delivered", "second", ""),
        silent=DELIVERED,
        failing=deferred_in("select_route", ""),
        states="A failing plugin defers the attempt.",
    ),
    "rewrite_content": Row(
        rewritten,
        answer=ContentEdit((HeaderField("X-Made", "up"),)),
        answered=(*DELIVERED, "up"),
        silent=(*DELIVERED, None),
        failing=(*deferred_in("rewrite_content", "fake"), None),
        states="A failing plugin defers the attempt.",
    ),
    "prepare_delivery": Row(
        attempted,
        answer=DeliveryPreparation(LATER),
        answered=("deferred", "fake", f"put off by a plugin: {LATER}"),
        silent=DELIVERED,
        failing=deferred_in("prepare_delivery", "fake"),
        states="A failing plugin defers the attempt.",
    ),
    "classify_result": Row(
        refused,
        answer=RecipientResult(Outcome.DEFERRED, NEVER, "not so bad"),
        answered="deferred",
        silent="failed",
        failing="failed",
        states="A failing plugin counts as no answer.",
    ),
    "decide_suppression": Row(
        suppressing,
        answer=SuppressionDecision(is_suppressed=True, reason="made up"),
        answered=[True],
        silent=[False],
        failing=[False],
        states="A failing plugin counts as no answer.",
    ),
    "retain_retired": Row(
        kept,
        answer=Retention(timedelta(days=7)),
        answered=timedelta(days=7),
        silent=timedelta(days=1),
        failing=timedelta(days=1),
        states="A failing plugin counts as no answer.",
    ),
    "select_webhooks": Row(
        posted_to,
        answer=WebhookTarget(OTHER_URL),
        answered=[URL, OTHER_URL],
        silent=[URL],
        failing=[URL],
        states="A failing plugin's targets are missing.",
    ),
    "add_webhook_fields": Row(
        posted,
        answer=WebhookFields({"Made": "up"}),
        answered=["up"],
        silent=[None],
        failing=[None],
        states="A failing plugin's fields are missing.",
    ),
}

DEFERRING = [
    spec.name
    for spec in hook_specs()
    if spec.policy.stage in {"queue", "route", "transport"} and spec.policy.on_failure is OnFailure.DEFER
]


def test_every_hook_that_is_asked_is_in_the_table() -> None:
    assert list(ROWS) == [spec.name for spec in hook_specs() if spec.policy.kind not in {Kind.REGISTER, Kind.NOTIFY}]


@pytest.mark.parametrize("hook", ROWS)
def test_an_effect_is_seen_and_is_stated_where_the_hook_is_declared(hook: str) -> None:
    spec = hook_spec(hook)
    assert spec is not None
    assert ROWS[hook].answered != ROWS[hook].silent, "an answer is to be seen"
    assert ROWS[hook].states in " ".join((inspect.getdoc(spec.function) or "").split())


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.__name__)
@pytest.mark.parametrize("hook", ROWS)
async def test_a_failing_plugin_has_the_stated_effect_on_its_message_only(
    hook: str, failure: Failure, autojump_clock: trio.testing.MockClock
) -> None:
    row = ROWS[hook]
    stage = Stage(hook, row.answer)
    async with stage.run(Witness, config=CONFIG):
        with stage.failing(failure):
            assert await row.look(stage) == row.failing
        with stage.silent():
            assert await row.look(stage) == row.silent
        assert await row.look(stage) == row.answered
        (health, *_) = stage.running.server.host.health()
    assert (health.plugin, health.hooks[0].hook, health.hooks[0].failures) == ("odd", hook, 1)


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.__name__)
@pytest.mark.parametrize("hook", DEFERRING)
async def test_what_a_failing_plugin_defers_is_delivered_when_it_works_again(
    hook: str, failure: Failure, autojump_clock: trio.testing.MockClock
) -> None:
    stage = Stage(hook)
    async with stage.run(config=CONFIG) as running:
        with stage.failing(failure):
            await stage.submit()
        assert running.transport.deliveries == []
        await trio.sleep(600)
        assert len(running.transport.deliveries) == 1
        assert await running.entries() == []


@pytest.mark.parametrize("hook", ["accept_connection", "authenticate", "accept_reverse_path", "assess_message"])
async def test_one_session_does_not_wait_for_the_plugin_of_another(
    hook: str, autojump_clock: trio.testing.MockClock
) -> None:
    row = ROWS[hook]
    stage = Stage(hook)
    seen: list[Any] = []

    async def look_once() -> None:
        seen.append(await row.look(stage))

    async with stage.run(Witness) as running, trio.open_nursery() as nursery:
        with stage.failing(hangs):
            nursery.start_soon(look_once)
            await trio.testing.wait_all_tasks_blocked()
        begun_at = running.clock.now()
        assert await row.look(stage) == row.silent
        assert running.clock.now() - begun_at < timedelta(seconds=1)
        assert seen == []
    assert seen == [row.failing]


def _field(octets: bytes, name: str) -> str | None:
    header = octets.partition(b"\r\n\r\n")[0].decode().splitlines()
    return next((line.partition(": ")[2] for line in header if line.startswith(f"{name}: ")), None)
