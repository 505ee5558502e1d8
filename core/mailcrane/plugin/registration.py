"""Registers a plugin with pluggy, and refuses what would not do what its author thinks."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pluggy

from mailcrane.plugin.base import Plugin
from mailcrane.plugin.call import PluginTasks
from mailcrane.plugin.errors import PluginError
from mailcrane.plugin.implementation import Implementation
from mailcrane.plugin.policy import PROJECT, Kind
from mailcrane.plugin.spec import HookSpec, hook_specs


def implementations_of(manager: pluggy.PluginManager, plugin: Plugin, tasks: PluginTasks) -> tuple[Implementation, ...]:
    """Register a plugin and return its implementations, in the order of the hooks.

    Raises:
        PluginError: the name is taken, a hook does not exist, or an implementation cannot be asked.
    """
    if manager.has_plugin(plugin.name):
        raise PluginError(plugin.name, "is enabled twice", "write it once in [plugins] enabled")
    specs = {spec.name: spec for spec in hook_specs()}
    _check_names(type(plugin), specs)
    try:
        manager.register(plugin, name=plugin.name)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise PluginError(plugin.name, str(error)) from None
    implementations = []
    for name, spec in specs.items():
        # get_hookimpls lists in registration order, which is the operator's.
        for found in getattr(manager.hook, name).get_hookimpls():
            if found.plugin is plugin:
                _check_options(plugin.name, found)
                _check_function(plugin.name, spec, found)
                implementations.append(Implementation(tasks, spec, found.function))
    return tuple(implementations)


def implemented_hooks(plugin: type[Plugin]) -> tuple[tuple[str, Callable[..., Any]], ...]:
    """Return what a class implements, hook and function, in the order of the hooks; it is not constructed."""
    marked = {name: function for name, function, _ in _marked(plugin)}
    return tuple((spec.name, marked[spec.name]) for spec in hook_specs() if spec.name in marked)


def _marked(plugin: type[Plugin]) -> Iterator[tuple[str, Callable[..., Any], Mapping[str, Any]]]:
    """Yield hook, function and options of everything that is marked with ``@hookimpl``."""
    manager = pluggy.PluginManager(PROJECT)
    for attribute in dir(plugin):
        options = manager.parse_hookimpl_opts(plugin, attribute)
        if options is not None:
            yield options.get("specname") or attribute, getattr(plugin, attribute), options


def _check_names(plugin: type[Plugin], specs: dict[str, HookSpec]) -> None:
    """Check names and arguments before pluggy does, whose texts know no suggestion."""
    for name, function, options in _marked(plugin):
        if name not in specs and not options.get("optionalhook"):
            raise PluginError(plugin.name, f"there is no hook {name!r}", _suggest(name, specs))
        if name in specs:
            _, *arguments = inspect.signature(function).parameters.values()
            for argument in arguments:
                _check_argument(plugin.name, specs[name], argument)


def _check_argument(plugin: str, spec: HookSpec, argument: inspect.Parameter) -> None:
    if argument.kind not in (argument.POSITIONAL_OR_KEYWORD, argument.KEYWORD_ONLY):
        raise PluginError(plugin, f"{spec.name} takes {argument}", "name the arguments that it uses")
    if argument.name not in spec.argument_names:
        known = f"it has {', '.join(spec.arguments)}" if spec.arguments else "it has none"
        near = difflib.get_close_matches(argument.name, spec.arguments, n=1)
        raise PluginError(
            plugin,
            f"{spec.name} has no argument {argument.name!r}",
            f"did you mean {near[0]}?" if near else known,
        )


def _check_options(plugin: str, found: pluggy.HookImpl) -> None:
    for option in ("tryfirst", "trylast", "hookwrapper", "wrapper"):
        if getattr(found, option):
            raise PluginError(
                plugin,
                f"{found.function.__name__} is marked {option}",
                "the order is the operator's, in [plugins] enabled; state what must come before it in `requires`",
            )


def _check_function(plugin: str, spec: HookSpec, found: pluggy.HookImpl) -> None:
    function = found.function
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise PluginError(plugin, f"{spec.name} is a generator", "return the answer")
    if spec.policy.kind is Kind.REGISTER and inspect.iscoroutinefunction(function):
        raise PluginError(plugin, f"{spec.name} is async", "write def: it is asked once, before anything runs")


def _suggest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]}?" if near else "docs/reference/hooks.md lists the hooks"
