"""Plugins are registered, started in order, supervised, and stopped in reverse order."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
import pytest
import trio
import trio.testing

from mailcrane.config.convert import ConfigError
from mailcrane.model.delivery import Entry, RouteChoice
from mailcrane.model.transport import TransportType
from mailcrane.plugin.base import NoConfig, Plugin
from mailcrane.plugin.errors import HookFailed, PluginError
from mailcrane.plugin.find import FoundPlugin, find_plugins
from mailcrane.plugin.health import PluginState
from mailcrane.plugin.host import PluginHost
from mailcrane.plugin.inspection import check_plugins, hook_orders, list_plugins, show_plugin
from mailcrane.plugin.policy import hookimpl
from mailcrane.testing.hooks import plugin_services, running_plugins
from mailcrane.testing.values import made_entry

PluginMaker = Callable[..., type[Plugin]]


def lifecycle(name: str, steps: list[str], **members: Any) -> type[Plugin]:
    async def start(self: Any, nursery: trio.Nursery) -> None:
        steps.append(f"start {name}")

    async def stop(self: Any) -> None:
        steps.append(f"stop {name}")

    return type("P", (Plugin,), {"name": name, "start": start, "stop": stop, **members})


async def test_plugins_start_in_order_and_stop_in_reverse_order() -> None:
    steps: list[str] = []
    async with running_plugins(lifecycle("a", steps), lifecycle("b", steps)) as host:
        steps.append("running")
        assert [health.state for health in host.health()] == [PluginState.RUNNING] * 2
    assert steps == ["start a", "start b", "running", "stop b", "stop a"]
    assert [health.state for health in host.health()] == [PluginState.STOPPED] * 2


async def test_a_plugin_that_fails_to_start_refuses_the_start_and_stops_those_that_run() -> None:
    steps: list[str] = []

    async def start(self: Any, nursery: trio.Nursery) -> None:
        raise OSError("no such device")

    with pytest.raises(PluginError, match="'b': did not start: raised OSError"):
        async with running_plugins(lifecycle("a", steps), lifecycle("b", steps, start=start)):
            steps.append("running")
    assert steps == ["start a", "stop a"]


async def test_a_plugin_that_takes_too_long_to_start_refuses_the_start(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def start(self: Any, nursery: trio.Nursery) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(100)

    with pytest.raises(PluginError, match="not within 30 s"):
        async with running_plugins(lifecycle("slow", [], start=start)):
            pass


async def test_a_background_task_that_crashes_fails_the_health_and_nothing_else(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Crashing(Plugin):
        name = "crashing"

        async def start(self, nursery: trio.Nursery) -> None:
            nursery.start_soon(self._crash)

        async def _crash(self) -> None:
            await trio.sleep(1)
            raise RuntimeError("boom")

        @hookimpl
        async def select_route(self, entry: Entry) -> RouteChoice:
            return RouteChoice("still here")

    steps: list[str] = []
    async with running_plugins(Crashing, lifecycle("other", steps)) as host:
        await trio.sleep(2)
        assert host.health()[0].state is PluginState.FAILED
        assert "boom" in host.health()[0].problem
        assert host.health()[1].is_well
        assert await host.hooks.select_route(entry=made_entry()) == RouteChoice("still here")
    assert steps == ["start other", "stop other"]


async def test_background_tasks_are_cancelled_after_stop(autojump_clock: trio.testing.MockClock) -> None:
    steps: list[str] = []

    class Busy(Plugin):
        name = "busy"

        async def start(self, nursery: trio.Nursery) -> None:
            nursery.start_soon(self._work)

        async def _work(self) -> None:
            try:
                await trio.sleep_forever()
            finally:
                steps.append("cancelled")

        async def stop(self) -> None:
            await trio.sleep(1)
            steps.append("stopped")

    async with running_plugins(Busy):
        pass
    assert steps == ["stopped", "cancelled"]


async def test_a_plugin_that_hangs_in_stop_is_abandoned_and_the_others_are_stopped(
    autojump_clock: trio.testing.MockClock,
) -> None:
    steps: list[str] = []

    async def stop(self: Any) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(1000)

    began = trio.current_time()
    async with running_plugins(lifecycle("a", steps), lifecycle("stubborn", steps, stop=stop)) as host:
        pass
    assert trio.current_time() - began < 20
    assert steps == ["start a", "start stubborn", "stop a"]
    assert [health.state for health in host.health()] == [PluginState.STOPPED, PluginState.ABANDONED]


async def test_stopping_is_bounded_and_complete_when_the_server_is_cancelled(
    autojump_clock: trio.testing.MockClock,
) -> None:
    steps: list[str] = []
    host = PluginHost.of([lifecycle("a", steps), lifecycle("b", steps)])
    async with trio.open_nursery() as nursery:
        await nursery.start(host.run)
        nursery.cancel_scope.cancel()
    assert steps == ["start a", "start b", "stop b", "stop a"]


async def test_a_hook_of_a_plugin_that_does_not_run_fails(plugin_with: PluginMaker) -> None:
    async def answers(self: Any) -> RouteChoice:
        return RouteChoice("never")

    host = PluginHost.of([plugin_with(select_route=answers)])
    with pytest.raises(HookFailed, match="is not running"):
        await host.hooks.select_route(entry=made_entry())


async def test_a_plugin_has_a_store_of_its_own() -> None:
    services = plugin_services()

    def keeping(name: str) -> type[Plugin]:
        async def start(self: Any, nursery: trio.Nursery) -> None:
            data = self.context.data
            assert await data.get("key") is None
            assert await data.set("key", name.encode())
            assert await data.set("key", b"of the entry", entry_id=4)
            assert await data.get("key") == name.encode()
            assert await data.list() == [("key", name.encode())]
            assert await data.delete("key", entry_id=4)
            assert not await data.delete("key", entry_id=4)
            assert await self.context.run_in_thread(len, "four") == 4

        return lifecycle(name, [], start=start)

    async with running_plugins(keeping("a"), keeping("b"), services=services):
        pass


async def test_services_are_not_there_in_the_constructor() -> None:
    class Hasty(Plugin):
        name = "hasty"

        def __init__(self, config: Any, context: Any) -> None:
            super().__init__(config, context)
            _ = context.submissions

    with pytest.raises(PluginError, match="submissions is there from start"):
        PluginHost.of([Hasty])


# --- what is refused --------------------------------------------------------------------------------------------


def test_a_plugin_that_is_enabled_twice_is_refused(plugin_with: PluginMaker) -> None:
    with pytest.raises(PluginError, match="enabled twice"):
        PluginHost.of([plugin_with("a"), plugin_with("a")])


@pytest.mark.parametrize("option", ["tryfirst", "trylast", "wrapper", "hookwrapper"])
def test_a_plugin_that_wants_to_order_itself_is_refused(option: str) -> None:
    def select_route(self: Any) -> Any:
        yield

    async def plain(self: Any) -> Any: ...

    function = select_route if "wrapper" in option else plain
    plugin = type(
        "P",
        (Plugin,),
        {"name": "p", "select_route": hookimpl(**{option: True})(function)},  # type: ignore[call-overload]
    )
    with pytest.raises(PluginError, match=rf"marked {option}.*\[plugins\] enabled"):
        PluginHost.of([plugin])


def test_a_hook_that_does_not_exist_is_refused_with_a_suggestion(plugin_with: PluginMaker) -> None:
    async def select_rout(self: Any) -> Any: ...

    with pytest.raises(PluginError, match=r"no hook 'select_rout'; did you mean select_route\?"):
        PluginHost.of([plugin_with(select_rout=select_rout)])


def test_an_argument_that_does_not_exist_is_refused_with_a_suggestion(plugin_with: PluginMaker) -> None:
    async def select_route(self: Any, entri: Any) -> Any: ...

    with pytest.raises(PluginError, match=r"no argument 'entri'; did you mean entry\?"):
        PluginHost.of([plugin_with(select_route=select_route)])


def test_variable_arguments_generators_and_async_registration_are_refused(plugin_with: PluginMaker) -> None:
    async def takes_all(self: Any, **arguments: Any) -> Any: ...

    async def generates(self: Any) -> Any:
        yield

    async def registers(self: Any) -> Any: ...

    for members, problem in (
        ({"select_route": takes_all}, "name the arguments"),
        ({"select_route": generates}, "is a generator"),
        ({"register_transport_types": registers}, "write def"),
    ):
        with pytest.raises(PluginError, match=problem):
            PluginHost.of([plugin_with(**members)])


def test_a_wrong_order_is_refused_with_the_line_to_write(plugin_with: PluginMaker) -> None:
    needy = plugin_with("needy", requires=frozenset({"base"}))
    base = plugin_with("base")
    other = plugin_with("other")
    with pytest.raises(PluginError, match=r'stand before it.*write enabled = \["base", "needy", "other"\]'):
        PluginHost.of([needy, other, base])
    with pytest.raises(PluginError, match=r'be enabled before it.*write enabled = \["other", "base", "needy"\]'):
        PluginHost.of([other, needy])
    PluginHost.of([base, needy])


def test_plugins_that_require_each_other_are_refused(plugin_with: PluginMaker) -> None:
    with pytest.raises(PluginError, match="requires itself"):
        PluginHost.of([plugin_with("a", requires=frozenset({"b"})), plugin_with("b", requires=frozenset({"a"}))])


@pytest.mark.parametrize(
    ("api", "problem"), [("2.0", "needs hook API 2.0"), ("1.999", "needs"), ("x", "not a version")]
)
def test_a_plugin_for_another_hook_api_is_refused(api: str, problem: str, plugin_with: PluginMaker) -> None:
    with pytest.raises(PluginError, match=problem):
        PluginHost.of([plugin_with(api=api)])


def test_a_name_that_two_plugins_register_is_refused(plugin_with: PluginMaker) -> None:
    async def open_nothing(config: Any) -> Any: ...

    def register(self: Any) -> Any:
        return [TransportType("smtp", NoConfig, open_nothing)]

    host = PluginHost.of(
        [plugin_with("a", register_transport_types=register), plugin_with("b", register_transport_types=register)]
    )
    with pytest.raises(PluginError, match=r"'b'.*'smtp' is registered by plugin 'a' already"):
        host.hooks.register_transport_types()


def test_configuration_is_typed_and_errors_name_the_key(plugin_with: PluginMaker) -> None:
    class Config(msgspec.Struct, forbid_unknown_fields=True):
        size: Annotated[int, msgspec.Meta(description="How large.")] = 3

    plugin = plugin_with("sized", Config=Config)
    assert PluginHost.of([plugin], {"sized": {"size": 4}}).plugins[0].config == Config(4)
    with pytest.raises(ConfigError, match=r"plugin.sized.size: .*whole number"):
        PluginHost.of([plugin], {"sized": {"size": "large"}})
    with pytest.raises(ConfigError, match=r"plugin.sized.sise: .*Did you mean size"):
        PluginHost.of([plugin], {"sized": {"sise": 4}})


# --- finding and looking ----------------------------------------------------------------------------------------

MODULE = """
from typing import Annotated
import msgspec
from mailcrane.api import Plugin, hookimpl

class Nested(msgspec.Struct, forbid_unknown_fields=True):
    bare: int = 0

class Undescribed(msgspec.Struct, forbid_unknown_fields=True):
    nested: Annotated[list[Nested], msgspec.Meta(description="Many.")] = []

class Loose(msgspec.Struct):
    pass

class Fine(Plugin):
    '''Does nothing much.'''
    name = "fine"
    @hookimpl
    async def select_route(self, entry): ...
    @hookimpl
    def assess_message(self): ...

class WithUndescribed(Plugin):
    name = "undescribed"
    Config = Undescribed

class WithLoose(Plugin):
    name = "loose"
    Config = Loose
"""


@pytest.fixture
def found(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[FoundPlugin, ...]:
    (tmp_path / "made_plugins.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "made_plugins", raising=False)
    targets = {
        "fine": "made_plugins:Fine",
        "undescribed": "made_plugins:WithUndescribed",
        "loose": "made_plugins:WithLoose",
        "renamed": "made_plugins:Fine",
        "function": "made_plugins:hookimpl",
        "missing": "made_plugins:Gone",
        "broken": "no_such_module_anywhere:Plugin",
    }
    return tuple(FoundPlugin(name, target, "made 1.0") for name, target in targets.items())


def test_only_enabled_plugins_are_imported(found: tuple[FoundPlugin, ...]) -> None:
    PluginHost.load([], {}, plugin_services(), found=found)
    assert "made_plugins" not in sys.modules
    host = PluginHost.load(["fine"], {}, plugin_services(), found=found)
    assert host.packages() == {"made_plugins": "fine"}


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("undescribed", r"Config.nested.bare has no description"),
        ("loose", "takes unknown keys"),
        ("renamed", "its class says name = 'fine'"),
        ("function", "not a subclass"),
        ("missing", "cannot be imported"),
        ("broken", "cannot be imported"),
        ("fin", r'not installed; did you mean "fine"\?'),
    ],
)
def test_what_is_no_plugin_is_refused_with_the_reason(name: str, problem: str, found: tuple[FoundPlugin, ...]) -> None:
    with pytest.raises(PluginError, match=problem):
        PluginHost.load([name], {}, plugin_services(), found=found)


def test_a_name_of_two_packages_is_refused(found: tuple[FoundPlugin, ...]) -> None:
    twice = (*found, FoundPlugin("fine", "elsewhere:Fine", "other 2.0"))
    with pytest.raises(PluginError, match=r"used by made 1.0 and other 2.0"):
        PluginHost.load(["fine"], {}, plugin_services(), found=twice)


def test_entry_points_are_found_without_importing_them() -> None:
    names = {plugin.name for plugin in find_plugins()}
    assert {"transports", "webapi"} <= names


def test_the_order_that_is_told_is_the_one_that_is_walked(plugin_with: PluginMaker) -> None:
    async def route(self: Any) -> Any: ...

    host = PluginHost.of([plugin_with("b", select_route=route), plugin_with("c"), plugin_with("a", select_route=route)])
    (order,) = hook_orders(host.hooks, "select_route")
    assert order.plugins == ("b", "a")
    assert len(hook_orders(host.hooks)) == len(host.hooks.by_name)
    with pytest.raises(LookupError):
        hook_orders(host.hooks, "no_hook")


def test_plugins_are_listed_and_shown(found: tuple[FoundPlugin, ...]) -> None:
    rows = list_plugins(found, ["fine", "unknown"])
    assert [(row.name, row.position) for row in rows[:3]] == [("fine", 1), ("unknown", 2), ("undescribed", 0)]
    details = show_plugin("fine", found)
    assert details.hooks == ("assess_message (thread)", "select_route")
    assert details.description == "Does nothing much."


def test_a_check_tells_every_problem(found: tuple[FoundPlugin, ...]) -> None:
    problems = check_plugins(["loose", "fine", "broken"], {"unused": {}, "fine": {"x": 1}}, found)
    assert [(problem.plugin, problem.is_fatal) for problem in problems] == [
        ("loose", True),
        ("fine", True),
        ("broken", True),
        ("unused", False),
    ]
    assert check_plugins(["fine"], {}, found) == ()
