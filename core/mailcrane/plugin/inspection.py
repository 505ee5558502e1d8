"""What ``mailcrane plugins list | order | show | check`` tell, as data.

Everything comes from the lists that the caller walks, so that it is what really happens.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from mailcrane.config.convert import ConfigError
from mailcrane.config.describe import SectionDescription, describe_struct
from mailcrane.plugin.caller import Hooks, Register
from mailcrane.plugin.context import PluginServices
from mailcrane.plugin.errors import PluginError
from mailcrane.plugin.find import FoundPlugin, import_plugin
from mailcrane.plugin.host import PluginHost
from mailcrane.plugin.policy import Kind, OnFailure
from mailcrane.plugin.registration import implemented_hooks


class PluginRow(Struct, frozen=True):
    """A plugin that is installed or enabled.

    Attributes:
        position: In ``[plugins] enabled``, from 1; 0 when it is not enabled.
        distribution: Name and version of its package; empty when it is not installed.
    """

    name: str
    position: int
    distribution: str
    target: str


class HookOrder(Struct, frozen=True):
    """Who is asked in a hook.

    Attributes:
        plugins: In the order in which they are asked, or in which their answers stand.
        merged_by: What merges the answers; empty where one answer wins.
    """

    hook: str
    stage: str
    kind: Kind
    timeout: float
    on_failure: OnFailure
    merged_by: str
    plugins: tuple[str, ...]


class PluginDetails(Struct, frozen=True):
    """One plugin.

    Attributes:
        description: The docstring of its class.
        hooks: What it implements; those run in a thread end with ``" (thread)"``.
        config: Its table, field by field.
    """

    name: str
    distribution: str
    target: str
    api: str
    requires: tuple[str, ...]
    description: str
    hooks: tuple[str, ...]
    config: SectionDescription


class PluginProblem(Struct, frozen=True):
    """Why the server would not start, or what is odd.

    Attributes:
        is_fatal: The server would not start.
    """

    plugin: str
    problem: str
    is_fatal: bool = True


def list_plugins(found: Sequence[FoundPlugin], enabled: Sequence[str]) -> tuple[PluginRow, ...]:
    """List the enabled plugins in their order, then those that are only installed."""
    by_name = {plugin.name: plugin for plugin in found}
    rows = []
    for position, name in enumerate(enabled, 1):
        plugin = by_name.pop(name, None) or FoundPlugin(name, "", "")
        rows.append(PluginRow(name, position, plugin.distribution, plugin.target))
    rows.extend(PluginRow(plugin.name, 0, plugin.distribution, plugin.target) for plugin in by_name.values())
    return tuple(rows)


def hook_orders(hooks: Hooks, hook: str = "") -> tuple[HookOrder, ...]:
    """Tell who is asked, in every hook or in one.

    Raises:
        LookupError: there is no such hook.
    """
    if hook and hook not in hooks.by_name:
        raise LookupError(f"there is no hook {hook!r}")
    orders = []
    for name, caller in hooks.by_name.items():
        policy = caller.spec.policy
        plugins = tuple(implementation.plugin for implementation in caller.implementations)
        orders.append(
            HookOrder(name, policy.stage, policy.kind, policy.timeout, policy.on_failure, policy.merged_by, plugins)
        )
    return tuple(order for order in orders if order.hook == hook or not hook)


def show_plugin(name: str, found: Sequence[FoundPlugin]) -> PluginDetails:
    """Describe one installed plugin, enabled or not. It is imported and registered, but not started.

    Raises:
        PluginError: it is not installed, or cannot be used.
    """
    plugin = import_plugin(name, found)
    installed = next(one for one in found if one.name == name)
    config = describe_struct(f"[plugin.{name}]", plugin.Config)
    hooks = tuple(
        hook + ("" if inspect.iscoroutinefunction(function) or hook.startswith("register_") else " (thread)")
        for hook, function in implemented_hooks(plugin)
    )
    return PluginDetails(
        name,
        installed.distribution,
        installed.target,
        plugin.api,
        tuple(sorted(plugin.requires)),
        inspect.getdoc(plugin) or "",
        hooks,
        config,
    )


def check_plugins(
    enabled: Sequence[str], sections: Mapping[str, dict[str, Any]], found: Sequence[FoundPlugin]
) -> tuple[PluginProblem, ...]:
    """Find every problem that shows without starting: all of them, not the first only."""
    problems = []
    for name in enabled:
        try:
            host = PluginHost.of([import_plugin(name, found)], sections, check_requires=False)
            _register(host)
        except (PluginError, ConfigError) as error:
            problems.append(PluginProblem(name, str(error)))
    if not problems:
        try:
            _register(PluginHost.load(enabled, sections, PluginServices(), found=found))
        except (PluginError, ConfigError) as error:
            problems.append(PluginProblem(getattr(error, "plugin", ""), str(error)))
    for name in sections:
        if name not in enabled:
            problems.append(PluginProblem(name, f"[plugin.{name}] is there, but it is not enabled", is_fatal=False))
    return tuple(problems)


def _register(host: PluginHost) -> None:
    for caller in host.hooks.by_name.values():
        if isinstance(caller, Register):
            caller()
