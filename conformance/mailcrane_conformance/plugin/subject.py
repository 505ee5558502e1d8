"""What the plugin suite tests: a plugin's class, started by the server's own host with services in memory."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import trio

from mailcrane.api import ConfigError, HookFailed, Plugin, PluginError
from mailcrane.testing import (
    HeldPluginData,
    PluginHost,
    hook_specs,
    implemented_hooks,
    made_arguments,
    made_data,
    plugin_services,
)
from mailcrane_conformance.kit import NotApplicable, Violation


@dataclass(frozen=True)
class Subject:
    """A plugin to test.

    Attributes:
        plugin: Its class.
        entry_point: Its name in the entry point group ``mailcrane.plugins``; empty does not look at it.
        config: What stands in ``[plugin.NAME]``.
        needs: The plugins that it requires, in their order.
        arguments: Of hooks, by hook, in the place of made-up ones.
        seconds: What starting, stopping and each call may take.
    """

    plugin: type[Plugin]
    entry_point: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[type[Plugin], ...] = ()
    arguments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    seconds: float = 5.0

    @property
    def hooks(self) -> tuple[str, ...]:
        """The hooks that it implements and that are asked while the server runs, in their order."""
        return tuple(hook for hook in self._implemented() if hook not in _named("register"))

    @property
    def registers(self) -> tuple[str, ...]:
        """The hooks that it implements and that are asked once, at start."""
        return tuple(hook for hook in self._implemented() if hook in _named("register"))

    @property
    def told(self) -> tuple[str, ...]:
        """Those of the hooks that are told of events."""
        return tuple(hook for hook in self._implemented() if hook in _named("notify"))

    def _implemented(self) -> tuple[str, ...]:
        return tuple(hook for hook, _ in implemented_hooks(self.plugin))

    def made(self, hook: str) -> dict[str, Any]:
        """Make the arguments of a hook; events have all the keys that they are documented with."""
        made = made_arguments(hook)
        if hook in self.told:
            event = made["event"]
            made["event"] = type(event)(
                id=event.id,
                account=event.account,
                number=event.number,
                kind=event.kind,
                at=event.at,
                entry_id=event.entry_id,
                data=made_data(event.kind),
            )
        return {**made, **self.arguments.get(hook, {})}

    def host(self, data: HeldPluginData | None = None, services: Any = None) -> PluginHost:
        """Construct the plugin with those that it needs.

        Raises:
            NotApplicable: it cannot be constructed or registered; other behaviours tell of that.
        """
        try:
            return PluginHost.of(
                [*self.needs, self.plugin],
                {self.plugin.name: dict(self.config)},
                plugin_services(data=data) if services is None else services,
                start_timeout=self.seconds,
                stop_grace=self.seconds,
            )
        except (PluginError, ConfigError, TypeError) as error:
            raise NotApplicable(f"the server refuses the plugin (see plugin/registration): {error}") from error

    @contextlib.asynccontextmanager
    async def running(self, data: HeldPluginData | None = None, services: Any = None) -> AsyncIterator[Running]:
        """Run the plugin.

        Raises:
            NotApplicable: it does not start; another behaviour tells of that.
        """
        host = self.host(data, services)
        async with contextlib.AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(host.running())
            except PluginError as error:
                raise NotApplicable(f"the plugin does not start (see plugin/starts): {error}") from error
            yield Running(self, host)


def _named(kind: str) -> frozenset[str]:
    """The hooks of a kind. The list is the server's own, so that a new hook is covered as it comes."""
    return frozenset(spec.name for spec in hook_specs() if spec.policy.kind.value == kind)


class Running:
    """A plugin that runs.

    Attributes:
        plugin: The object.
    """

    def __init__(self, subject: Subject, host: PluginHost) -> None:
        self.subject = subject
        self.host = host
        self.plugin = host.plugins[-1]

    def _implementation(self, hook: str) -> Any:
        [one] = [one for one in self.host.hooks.by_name[hook].implementations if one.plugin == self.plugin.name]
        return one

    async def ask(self, hook: str, arguments: Mapping[str, Any]) -> tuple[Any, str]:
        """Ask the plugin, with its own time limit; returns the answer, and what is wrong with it or empty."""
        implementation = self._implementation(hook)
        failures = implementation.counters.failures
        try:
            begun = implementation.begin(dict(arguments), trio.current_time() + self.subject.seconds)
            answer = await implementation.finish(begun)
        except HookFailed as failure:
            return None, failure.reason
        return answer, implementation.last_failure if implementation.counters.failures > failures else ""

    async def ask_well(self, hook: str, arguments: Mapping[str, Any], when: str = "") -> Any:
        """Ask the plugin and return its answer.

        Raises:
            Violation: it failed.
        """
        answer, problem = await self.ask(hook, arguments)
        if problem:
            raise Violation(f"{hook}{when and ' ' + when}: {problem}")
        return answer

    async def direct(self, hook: str, arguments: Mapping[str, Any]) -> Any:
        """Call the plugin's own function, with nothing around it."""
        implementation = self._implementation(hook)
        wanted = {name: arguments[name] for name in implementation.argument_names}
        return await implementation.function(**wanted)

    def is_async(self, hook: str) -> bool:
        """Whether the implementation runs in the event loop, not in a thread."""
        return not self._implementation(hook).is_threaded
