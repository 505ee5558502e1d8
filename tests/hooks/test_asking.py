"""Order, budgets, cancellation, leaving out: what callers do beyond one implementation."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

from mailcrane.model.delivery import ContentEdit, Entry, RouteChoice
from mailcrane.model.receive import Assessment, Judgement, Verdict
from mailcrane.plugin import call as call_module
from mailcrane.plugin.base import Plugin
from mailcrane.plugin.caller import Hooks
from mailcrane.plugin.errors import HookFailed
from mailcrane.plugin.host import PluginHost
from mailcrane.plugin.implementation import Implementation
from mailcrane.testing.hooks import made_arguments, running_plugins
from mailcrane.testing.values import made_entry

PluginMaker = Callable[..., type[Plugin]]


async def test_without_plugins_a_call_is_no_checkpoint() -> None:
    hooks = Hooks()
    with trio.testing.assert_no_checkpoints():
        assert await hooks.select_route(entry=made_entry()) is None
        assert await hooks.assess_message(**made_arguments("assess_message")) == []
        assert await hooks.judge_message(**made_arguments("judge_message")) is None
    assert hooks.register_transport_types() == []


async def test_a_wrong_argument_is_noticed_without_plugins_too() -> None:
    with pytest.raises(TypeError, match="select_route is asked with entry"):
        await Hooks().select_route(message=1)


async def test_the_first_answer_in_the_operators_order_wins(plugin_with: PluginMaker) -> None:
    asked: list[str] = []

    def answering(name: str, answer: RouteChoice | None) -> type[Plugin]:
        async def select_route(self: Any, entry: Entry) -> RouteChoice | None:
            asked.append(name)
            return answer

        return plugin_with(name, select_route=select_route)

    plugins = [answering("zero", None), answering("one", RouteChoice("one")), answering("two", RouteChoice("two"))]
    async with running_plugins(*plugins) as host:
        assert await host.hooks.select_route(entry=made_entry()) == RouteChoice("one")
    assert asked == ["zero", "one"]


async def test_answers_are_collected_at_once_and_stand_in_the_operators_order(
    plugin_with: PluginMaker, autojump_clock: trio.testing.MockClock
) -> None:
    def assessing(name: str, seconds: float, *results: str) -> type[Plugin]:
        async def assess_message(self: Any) -> Any:
            await trio.sleep(seconds)
            return [Assessment(name, result) for result in results]

        return plugin_with(name, assess_message=assess_message)

    plugins = (assessing("slow", 9, "a", "b"), assessing("quick", 1, "c"), assessing("silent", 5))
    async with running_plugins(*plugins) as host:
        began = trio.current_time()
        answers = await host.hooks.assess_message(**made_arguments("assess_message"))
        assert trio.current_time() - began == 9
    assert [(plugin, found.result) for plugin, found in answers] == [("slow", "a"), ("slow", "b"), ("quick", "c")]


async def test_one_that_fails_does_not_take_the_evidence_of_others_away(plugin_with: PluginMaker) -> None:
    async def fails(self: Any) -> Any:
        return [Assessment("a", "b"), "nonsense"]

    async def works(self: Any) -> Any:
        return Assessment("c", "d")

    async with running_plugins(
        plugin_with("bad", assess_message=fails), plugin_with("good", assess_message=works)
    ) as host:
        answers = await host.hooks.assess_message(**made_arguments("assess_message"))
    assert answers == [("good", Assessment("c", "d"))]


async def test_one_that_fails_defers_an_attempt_although_others_answer(plugin_with: PluginMaker) -> None:
    async def fails(self: Any) -> Any:
        raise ValueError("odd")

    async def works(self: Any) -> Any:
        return ContentEdit()

    async with running_plugins(
        plugin_with("good", rewrite_content=works), plugin_with("bad", rewrite_content=fails)
    ) as host:
        with pytest.raises(HookFailed, match="'bad' failed in rewrite_content"):
            await host.hooks.rewrite_content(**made_arguments("rewrite_content"))


@pytest.mark.parametrize(
    ("verdicts", "winner"),
    [
        ((Verdict.ACCEPT, Verdict.REFUSE, Verdict.DEFER), 1),
        ((Verdict.QUARANTINE, Verdict.DEFER, Verdict.ACCEPT), 1),
        ((Verdict.QUARANTINE, Verdict.ACCEPT, Verdict.QUARANTINE), 0),
    ],
)
async def test_the_strictest_judgement_wins_and_of_equals_the_first(
    plugin_with: PluginMaker, verdicts: tuple[Verdict, ...], winner: int
) -> None:
    def judging(name: str, verdict: Verdict) -> type[Plugin]:
        async def judge_message(self: Any) -> Judgement:
            return Judgement(verdict, name)

        return plugin_with(name, judge_message=judge_message)

    plugins = [judging(f"judge-{number}", verdict) for number, verdict in enumerate(verdicts)]
    async with running_plugins(*plugins) as host:
        judgement = await host.hooks.judge_message(**made_arguments("judge_message"))
    assert judgement is not None
    assert judgement.reason == f"judge-{winner}"


@pytest.mark.parametrize("failing_first", [True, False])
@pytest.mark.parametrize("verdict", list(Verdict))
async def test_beside_a_judge_that_fails_only_a_refusal_stands(
    verdict: Verdict, failing_first: bool, plugin_with: PluginMaker, autojump_clock: trio.testing.MockClock
) -> None:
    async def fails(self: Any) -> Judgement:
        raise ValueError("odd")

    async def judges(self: Any) -> Judgement:
        await trio.sleep(1)
        return Judgement(verdict, "known")

    plugins = [plugin_with("odd", judge_message=fails), plugin_with("well", judge_message=judges)]
    async with running_plugins(*(plugins if failing_first else reversed(plugins))) as host:
        if verdict is Verdict.REFUSE:
            judgement = await host.hooks.judge_message(**made_arguments("judge_message"))
            assert judgement == Judgement(Verdict.REFUSE, "known")
        else:
            with pytest.raises(HookFailed, match="odd"):
                await host.hooks.judge_message(**made_arguments("judge_message"))
        assert host.hooks.judge_message.implementations[not failing_first].counters.failures == 1


async def test_all_implementations_share_the_budget_of_the_stage(
    plugin_with: PluginMaker, autojump_clock: trio.testing.MockClock
) -> None:
    async def slow(self: Any) -> None:
        await trio.sleep(6)

    async def never_asked(self: Any) -> Any:
        return RouteChoice("never")

    plugins = (
        plugin_with("a", select_route=slow),
        plugin_with("b", select_route=slow),
        plugin_with("c", select_route=never_asked),
    )
    async with running_plugins(*plugins) as host:
        began = trio.current_time()
        with pytest.raises(HookFailed, match="'b' failed in select_route: no answer in time"):
            await host.hooks.select_route(entry=made_entry(), _budget=10.0)
        assert trio.current_time() - began == 10


async def test_who_comes_after_the_budget_is_not_asked_and_not_blamed(
    plugin_with: PluginMaker, autojump_clock: trio.testing.MockClock
) -> None:
    async def hangs(self: Any) -> None:
        await trio.sleep_forever()

    async def answers(self: Any) -> Any:
        return made_arguments("classify_result")["result"]

    async with running_plugins(
        plugin_with("a", classify_result=hangs), plugin_with("b", classify_result=answers)
    ) as host:
        assert await host.hooks.classify_result(**made_arguments("classify_result"), _budget=5.0) is None
        second = host.hooks.classify_result.implementations[1]
    assert (second.counters.calls, second.counters.failures) == (0, 0)


async def test_a_caller_that_is_cancelled_takes_the_plugins_call_with_it(
    plugin_with: PluginMaker, autojump_clock: trio.testing.MockClock
) -> None:
    ends: list[str] = []

    async def hangs(self: Any) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ends.append("cancelled")

    async with running_plugins(
        plugin_with("a", select_route=hangs),
        plugin_with("b", assess_message=hangs),
        plugin_with("c", assess_message=hangs),
    ) as host:
        with trio.move_on_after(1):
            await host.hooks.select_route(entry=made_entry())
        with trio.move_on_after(1):
            await host.hooks.assess_message(**made_arguments("assess_message"))
        await trio.testing.wait_all_tasks_blocked()
        assert ends == ["cancelled"] * 3
        # Nobody was asked too long: that is not the plugin's failure.
        assert host.hooks.select_route.implementations[0].counters.failures == 0


async def test_an_implementation_that_may_be_skipped_is_left_out_when_it_keeps_failing(
    plugin_with: PluginMaker, autojump_clock: trio.testing.MockClock
) -> None:
    calls: list[float] = []
    is_broken = True

    async def flaky(self: Any) -> Any:
        calls.append(trio.current_time())
        if is_broken:
            raise ValueError("odd")

    async def ask(host: PluginHost) -> None:
        assert await host.hooks.plan_retry(**made_arguments("plan_retry")) is None

    async with running_plugins(plugin_with("flaky", plan_retry=flaky)) as host:
        for _ in range(20):
            await ask(host)
        assert len(calls) == 5
        assert host.health()[0].hooks[0].left_out_seconds == 60
        assert not host.health()[0].is_well
        await trio.sleep(61)
        for _ in range(5):
            await ask(host)
        assert len(calls) == 6
        assert host.health()[0].hooks[0].left_out_seconds == 120
        await trio.sleep(121)
        is_broken = False
        for _ in range(5):
            await ask(host)
        assert len(calls) == 11
        assert host.health()[0].is_well


async def test_an_implementation_that_defers_is_never_left_out(plugin_with: PluginMaker) -> None:
    async def fails(self: Any) -> Any:
        raise ValueError("odd")

    async with running_plugins(plugin_with("fails", select_route=fails)) as host:
        for _ in range(20):
            with pytest.raises(HookFailed):
                await host.hooks.select_route(entry=made_entry())
        assert host.hooks.select_route.implementations[0].counters.calls == 20


async def test_calls_that_never_end_do_not_pile_up(
    plugin_with: PluginMaker, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call_module, "MAX_OVERDUE_CALLS", 3)
    begun = 0

    async def shielded(self: Any) -> None:
        nonlocal begun
        begun += 1
        with trio.CancelScope(shield=True):
            await trio.sleep(100)

    async def ask(host: PluginHost) -> None:
        with pytest.raises(HookFailed):
            await host.hooks.select_route(entry=made_entry(), _budget=1.0)

    async with running_plugins(plugin_with("shielded", select_route=shielded)) as host:
        for _ in range(10):
            await ask(host)
        assert begun == 3
        await trio.sleep(100)
        await ask(host)
        assert begun == 4
        await trio.sleep(100)


async def test_a_call_under_way_when_the_plugin_is_stopped_fails(
    plugin_with: PluginMaker, autojump_clock: trio.testing.MockClock
) -> None:
    async def hangs(self: Any) -> None:
        await trio.sleep_forever()

    async def ask(host: PluginHost) -> None:
        with pytest.raises(HookFailed, match="the plugin was stopped"):
            await host.hooks.select_route(entry=made_entry())

    async with trio.open_nursery() as nursery, running_plugins(plugin_with("hangs", select_route=hangs)) as host:
        nursery.start_soon(ask, host)
        await trio.testing.wait_all_tasks_blocked()


async def test_a_thread_that_answers_late_is_dropped_and_counted(
    plugin_with: PluginMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    told_late = trio.Event()
    note_late = Implementation._note_late

    def note(self: Implementation, seconds: float) -> None:
        note_late(self, seconds)
        told_late.set()

    monkeypatch.setattr(Implementation, "_note_late", note)

    def slow(self: Any) -> RouteChoice:
        go_on.wait(10)
        return RouteChoice("late")

    async with running_plugins(plugin_with("slow", select_route=slow)) as host:
        with pytest.raises(HookFailed, match="no answer in time"):
            await host.hooks.select_route(entry=made_entry(), _budget=0.02)
        go_on.set()
        with trio.fail_after(5):
            await told_late.wait()
        assert host.hooks.select_route.implementations[0].counters.late == 1
        assert await host.hooks.select_route(entry=made_entry()) == RouteChoice("late")


async def test_a_plain_def_that_returns_a_coroutine_has_failed(plugin_with: PluginMaker) -> None:
    async def answer() -> RouteChoice:
        return RouteChoice("odd")

    async with running_plugins(plugin_with(select_route=lambda self: answer())) as host:
        with pytest.raises(HookFailed, match="write async def"):
            await host.hooks.select_route(entry=made_entry())


@pytest.mark.parametrize(
    ("hook", "answer", "problem"),
    [
        ("select_route", "RouteChoice(None)", "Expected `str`"),
        ("accept_reverse_path", "Reply(250)", "4yz or 5yz"),
        ("prepare_delivery", "DeliveryPreparation(Reply(550))", "4yz, not 550"),
        ("judge_message", "Judgement(Verdict.REFUSE, 'x', Reply(451))", "REFUSE is 5yz"),
        ("judge_message", "Judgement(7, 'x')", "bad Judgement"),
    ],
)
async def test_an_answer_of_the_right_type_with_wrong_content_is_nonsense(
    plugin_with: PluginMaker, hook: str, answer: str, problem: str
) -> None:
    import mailcrane.api  # noqa: PLC0415 - the names for eval

    value = eval(answer, {name: getattr(mailcrane.api, name) for name in dir(mailcrane.api)})

    async def implementation(self: Any) -> Any:
        return value

    async with running_plugins(plugin_with(**{hook: implementation})) as host:
        with pytest.raises(HookFailed, match=problem):
            await host.hooks.by_name[hook](**made_arguments(hook))  # type: ignore[operator]


async def test_context_variables_of_the_stage_reach_the_plugin(plugin_with: PluginMaker) -> None:
    from mailcrane.observe.log import _context, log_context  # noqa: PLC0415

    seen: list[Any] = []

    async def looks(self: Any) -> None:
        seen.append(_context.get().get("session"))

    def looks_from_a_thread(self: Any) -> None:
        seen.append(_context.get().get("session"))

    plugins = (plugin_with("a", select_route=looks), plugin_with("b", select_route=looks_from_a_thread))
    async with running_plugins(*plugins) as host:
        with log_context(session="s1"):
            await host.hooks.select_route(entry=made_entry())
    assert seen == ["s1", "s1"]
