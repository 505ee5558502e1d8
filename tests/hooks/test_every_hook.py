"""What every hook promises of a plugin that raises, hangs, is late, answers nonsense or blocks the loop."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from mailcrane.plugin.base import Plugin
from mailcrane.plugin.errors import HookFailed, PluginError
from mailcrane.plugin.host import PluginHost
from mailcrane.plugin.implementation import CallCounters
from mailcrane.plugin.policy import Kind, OnFailure
from mailcrane.plugin.spec import hook_spec, hook_specs
from mailcrane.testing.failures import FAST, SLOW, Failure, blocks_the_loop, hangs, hangs_shielded, impatient
from mailcrane.testing.hooks import ask_host, made_arguments, running_plugins

PluginMaker = Callable[..., type[Plugin]]

ASYNC_HOOKS = [spec.name for spec in hook_specs() if spec.policy.kind is not Kind.REGISTER]
REGISTER_HOOKS = [spec.name for spec in hook_specs() if spec.policy.kind is Kind.REGISTER]


def first_oddly(odd: Failure, good: Any) -> Callable[[Any], Awaitable[Any]]:
    """Return an implementation that does something odd when first called, and answers well from then on."""
    calls = 0

    async def implementation(self: Any) -> Any:
        nonlocal calls
        calls += 1
        return await odd(good) if calls == 1 else good

    return implementation


@pytest.mark.parametrize("hook", ASYNC_HOOKS)
async def test_an_answer_reaches_the_stage(
    hook: str, plugin_with: PluginMaker, good_answers: dict[str, Any], autojump_clock: trio.testing.MockClock
) -> None:
    async def implementation(self: Any) -> Any:
        return good_answers[hook]

    async with running_plugins(plugin_with(**{hook: implementation})) as host:
        await expect_good(host, hook, good_answers)
        counters = counters_of(host, hook)
    assert (counters.calls, counters.failures) == (1, 0)


@pytest.mark.parametrize("odd", FAST)
@pytest.mark.parametrize("hook", ASYNC_HOOKS)
async def test_a_failure_has_its_meaning_and_the_next_call_is_unaffected(
    hook: str,
    odd: Failure,
    plugin_with: PluginMaker,
    good_answers: dict[str, Any],
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running_plugins(plugin_with(**{hook: first_oddly(odd, good_answers[hook])})) as host:
        began = trio.current_time()
        await expect_failure(host, hook)
        assert trio.current_time() == began
        await expect_good(host, hook, good_answers)
        counters = counters_of(host, hook)
    assert (counters.calls, counters.failures, counters.timeouts) == (2, 1, 0)


@pytest.mark.parametrize("odd", SLOW)
@pytest.mark.parametrize("hook", ASYNC_HOOKS)
async def test_the_stage_waits_no_longer_than_the_timeout_and_the_next_call_is_unaffected(
    hook: str,
    odd: Failure,
    plugin_with: PluginMaker,
    good_answers: dict[str, Any],
    autojump_clock: trio.testing.MockClock,
) -> None:
    spec = hook_spec(hook)
    assert spec is not None
    async with running_plugins(plugin_with(**{hook: first_oddly(odd, good_answers[hook])})) as host:
        began = trio.current_time()
        await expect_failure(host, hook)
        assert trio.current_time() - began == pytest.approx(spec.policy.timeout)
        await expect_good(host, hook, good_answers)
        assert trio.current_time() - began == pytest.approx(spec.policy.timeout)
        if odd is hangs_shielded:
            await trio.sleep(3600)
        await trio.testing.wait_all_tasks_blocked()
        counters = counters_of(host, hook)
    assert (counters.calls, counters.failures, counters.timeouts) == (2, 1, 1)
    # Whoever ends by being cancelled is not late.
    assert counters.late == (0 if odd is hangs else 1)


@pytest.mark.parametrize("hook", ASYNC_HOOKS)
async def test_a_plugin_that_blocks_the_loop_counts_as_timed_out(
    hook: str, plugin_with: PluginMaker, good_answers: dict[str, Any]
) -> None:
    async with running_plugins(plugin_with(**{hook: first_oddly(blocks_the_loop, good_answers[hook])})) as host:
        with impatient():
            await expect_failure(host, hook)
        await expect_good(host, hook, good_answers)
        counters = counters_of(host, hook)
    assert (counters.calls, counters.failures, counters.timeouts) == (2, 1, 1)


@pytest.mark.parametrize("hook", ASYNC_HOOKS)
async def test_a_plain_def_runs_in_a_thread(hook: str, plugin_with: PluginMaker, good_answers: dict[str, Any]) -> None:
    def implementation(self: Any) -> Any:
        with pytest.raises(RuntimeError):
            trio.lowlevel.current_task()
        return good_answers[hook]

    async with running_plugins(plugin_with(**{hook: implementation})) as host:
        await expect_good(host, hook, good_answers)


@pytest.mark.parametrize("hook", ASYNC_HOOKS)
async def test_what_a_plugin_does_to_its_arguments_is_seen_by_nobody(hook: str, plugin_with: PluginMaker) -> None:
    spec = hook_spec(hook)
    assert spec is not None

    async def spoil(self: Any, **arguments: Any) -> None:
        for found in dicts_in(arguments):
            found["spoilt"] = True
            found.pop("kept", None)

    names: dict[str, Any] = {"spoil": spoil}
    takes = ", ".join(spec.arguments)
    gives = ", ".join(f"{name}={name}" for name in spec.arguments)
    exec(f"async def implementation(self, {takes}): return await spoil(self, {gives})", names)
    given = made_arguments(hook)
    for found in dicts_in(list(given.values())):
        found["kept"] = "value"
    if "payload" in given:
        given["payload"]["Extra"] = {"nested": "value"}
    async with running_plugins(plugin_with(**{hook: names["implementation"]})) as host:
        before = copy.deepcopy(dicts_in(list(given.values())))
        await ask_host(host, hook, given)
    assert dicts_in(list(given.values())) == before


@pytest.mark.parametrize("hook", REGISTER_HOOKS)
@pytest.mark.parametrize("answer", [object(), 5, "text", {"a": 1}])
async def test_nonsense_at_registration_refuses_the_start(hook: str, answer: Any, plugin_with: PluginMaker) -> None:
    def implementation(self: Any) -> Any:
        return answer

    host = PluginHost.of([plugin_with("odd", **{hook: implementation})])
    with pytest.raises(PluginError, match=f"'odd': {hook}: answered"):
        await ask_host(host, hook, {})


@pytest.mark.parametrize("hook", REGISTER_HOOKS)
async def test_a_raise_at_registration_refuses_the_start(hook: str, plugin_with: PluginMaker) -> None:
    def implementation(self: Any) -> Any:
        raise ValueError("odd")

    host = PluginHost.of([plugin_with("odd", **{hook: implementation})])
    with pytest.raises(PluginError, match=f"'odd': {hook} raised"):
        await ask_host(host, hook, {})


def dicts_in(value: Any) -> list[dict[str, Any]]:
    """Every dict that can be reached from a value, those in structs included."""
    if isinstance(value, dict):
        return [value, *(found for inner in value.values() for found in dicts_in(inner))]
    if isinstance(value, (list, tuple)):
        return [found for inner in value for found in dicts_in(inner)]
    if isinstance(value, msgspec.Struct):
        return [found for name in value.__struct_fields__ for found in dicts_in(getattr(value, name))]
    return []


async def expect_failure(host: PluginHost, hook: str) -> None:
    spec = hook_spec(hook)
    assert spec is not None
    if spec.policy.on_failure in (OnFailure.DEFER, OnFailure.RETRY):
        with pytest.raises(HookFailed) as caught:
            await ask_host(host, hook, made_arguments(hook))
        assert (caught.value.plugin, caught.value.hook) == ("odd", hook)
    else:
        assert not await ask_host(host, hook, made_arguments(hook))


async def expect_good(host: PluginHost, hook: str, good_answers: dict[str, Any]) -> None:
    good = good_answers[hook]
    answer = await ask_host(host, hook, made_arguments(hook))
    if isinstance(answer, list):
        assert answer == [("odd", one) for one in (good if isinstance(good, list) else [good])]
    else:
        assert answer == good


def counters_of(host: PluginHost, hook: str) -> CallCounters:
    return host.hooks.by_name[hook].implementations[0].counters
