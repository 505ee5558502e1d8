"""Holds the enabled plugins: registers them, starts them in order, watches them, stops them in reverse order."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pluggy
import trio

from mailcrane.config.convert import convert
from mailcrane.observe.log import get_log
from mailcrane.plugin import hookspecs
from mailcrane.plugin.base import Plugin
from mailcrane.plugin.call import Call, CallFailed, PluginTasks
from mailcrane.plugin.caller import Hooks
from mailcrane.plugin.context import PluginContext, PluginServices
from mailcrane.plugin.errors import PluginError
from mailcrane.plugin.find import FoundPlugin, check_order, find_plugins, import_plugin
from mailcrane.plugin.health import PluginHealth, PluginState, hook_health
from mailcrane.plugin.implementation import Implementation
from mailcrane.plugin.policy import HOOK_API, PROJECT
from mailcrane.plugin.registration import implementations_of

log = get_log(__name__)

START_TIMEOUT = 30.0
STOP_GRACE = 10.0
_CLOSE_GRACE = 2.0


class PluginHost:
    """The enabled plugins of one server.

    Attributes:
        hooks: What the stages ask.
        plugins: In the order of ``[plugins] enabled``.
        manager: pluggy's registry. Hooks are never called through it.
    """

    def __init__(
        self,
        plugins: Sequence[_Hosted],
        *,
        start_timeout: float = START_TIMEOUT,
        stop_grace: float = STOP_GRACE,
        check_requires: bool = True,
    ) -> None:
        """Register plugins and check everything that can be checked before they are started.

        Raises:
            PluginError: a plugin cannot be used; says which and why.
        """
        self.manager = pluggy.PluginManager(PROJECT)
        self.manager.add_hookspecs(hookspecs)
        self._hosted = tuple(plugins)
        self._start_timeout = start_timeout
        self._stop_grace = stop_grace
        if check_requires:
            check_order({hosted.name: hosted.plugin.requires for hosted in self._hosted})
        by_hook: dict[str, list[Implementation]] = {}
        for hosted in self._hosted:
            _check_api(hosted.plugin)
            hosted.implementations = implementations_of(self.manager, hosted.plugin, hosted.tasks)
            for implementation in hosted.implementations:
                by_hook.setdefault(implementation.spec.name, []).append(implementation)
        self.hooks = Hooks(by_hook)

    @classmethod
    def load(
        cls,
        enabled: Sequence[str],
        sections: Mapping[str, dict[str, Any]],
        services: PluginServices,
        *,
        found: Sequence[FoundPlugin] | None = None,
    ) -> PluginHost:
        """Import and construct the enabled plugins.

        Args:
            enabled: ``[plugins] enabled``.
            sections: The tables ``[plugin.NAME]``.
            found: What is installed; looked up when None.

        Raises:
            PluginError: a plugin cannot be used.
            ConfigError: a table of one has an error.
        """
        found = find_plugins() if found is None else found
        classes = [import_plugin(name, found) for name in enabled]
        return cls.of(classes, sections, services)

    @classmethod
    def of(
        cls,
        classes: Sequence[type[Plugin]],
        sections: Mapping[str, dict[str, Any]] | None = None,
        services: PluginServices | None = None,
        *,
        start_timeout: float = START_TIMEOUT,
        stop_grace: float = STOP_GRACE,
        check_requires: bool = True,
    ) -> PluginHost:
        """Construct plugins of classes that are imported already; see `load`.

        Args:
            check_requires: False to look at one plugin without those that it requires.
        """
        services = PluginServices() if services is None else services
        hosted = []
        for plugin in classes:
            config = convert((sections or {}).get(plugin.name, {}), plugin.Config, f"plugin.{plugin.name}")
            tasks = PluginTasks(plugin.name)
            try:
                instance = plugin(config, PluginContext(plugin.name, services, tasks))
            except Exception as error:
                raise PluginError(plugin.name, f"its constructor raised {error!r}") from error
            hosted.append(_Hosted(instance, tasks))
        return cls(hosted, start_timeout=start_timeout, stop_grace=stop_grace, check_requires=check_requires)

    @property
    def plugins(self) -> tuple[Plugin, ...]:
        """The plugins, in order."""
        return tuple(hosted.plugin for hosted in self._hosted)

    def packages(self) -> dict[str, str]:
        """Return the top-level packages that the plugins come from, with the name of the plugin of each."""
        return {type(hosted.plugin).__module__.partition(".")[0]: hosted.name for hosted in self._hosted}

    def health(self) -> tuple[PluginHealth, ...]:
        """Report how each plugin does."""
        return tuple(
            PluginHealth(hosted.name, hosted.state, hosted.problem, tuple(map(hook_health, hosted.implementations)))
            for hosted in self._hosted
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[PluginHost]:
        """Start the plugins in order; stop them in reverse order at the end, however it comes.

        The stages must have ended before: a hook that is asked of a stopped plugin fails.

        Raises:
            PluginError: one did not start; those that were are stopped again.
        """
        started: list[_Hosted] = []
        try:
            for hosted in self._hosted:
                started.append(hosted)
                await self._start(hosted)
            yield self
        finally:
            with trio.CancelScope(shield=True):
                # Bounded by `_stop`, plugin by plugin.
                for hosted in reversed(started):
                    await self._stop(hosted)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the plugins until cancelled, as a task: ``await nursery.start(host.run)``."""
        async with self.running():
            task_status.started()
            await trio.sleep_forever()

    async def _start(self, hosted: _Hosted) -> None:
        hosted.state = PluginState.STARTING
        # A system task, so that a plugin that shields itself for ever does not keep the server from closing its store.
        trio.lowlevel.spawn_system_task(hosted.supervise, name=f"plugin {hosted.name}")
        nursery = await hosted.opened()
        deadline = trio.current_time() + self._start_timeout
        try:
            call = Call(hosted.tasks, "start", hosted.plugin.start, {"nursery": nursery}, blocking_limit=float("inf"))
            await call.answer(deadline)
        except CallFailed as failure:
            reason = f"not within {self._start_timeout:g} s" if failure.is_timeout else failure.reason
            hosted.state, hosted.problem = PluginState.FAILED, reason
            raise PluginError(hosted.name, f"did not start: {reason}") from failure.__cause__
        if hosted.problem:
            raise PluginError(hosted.name, f"did not start: {hosted.problem}")
        hosted.state, hosted.is_started = PluginState.RUNNING, True
        log.debug("plugin started", plugin=hosted.name)

    async def _stop(self, hosted: _Hosted) -> None:
        hosted.state = PluginState.STOPPING
        if hosted.is_started:
            try:
                call = Call(hosted.tasks, "stop", hosted.plugin.stop, {}, blocking_limit=float("inf"))
                await call.answer(trio.current_time() + self._stop_grace)
            except CallFailed as failure:
                hosted.problem = f"stop: {failure.reason}"
                log.exception("a plugin did not stop well", error=failure.__cause__ or failure, plugin=hosted.name)
        hosted.closing.set()
        with trio.move_on_after(_CLOSE_GRACE):
            await hosted.closed.wait()
        if hosted.closed.is_set():
            hosted.state = PluginState.STOPPED
        else:
            hosted.state = PluginState.ABANDONED
            log.error("a plugin has tasks that do not end and is abandoned", plugin=hosted.name)


class _Hosted:
    """One plugin with its tasks and its state.

    Attributes:
        is_started: `Plugin.start` has returned, so `Plugin.stop` is to be called.
    """

    def __init__(self, plugin: Plugin, tasks: PluginTasks) -> None:
        self.plugin = plugin
        self.name = plugin.name
        self.tasks = tasks
        self.state = PluginState.LOADED
        self.problem = ""
        self.is_started = False
        self.implementations: tuple[Implementation, ...] = ()
        self.closing = trio.Event()
        self.closed = trio.Event()
        self._opened = trio.Event()
        self._background: trio.Nursery | None = None

    async def opened(self) -> trio.Nursery:
        """Wait for the nursery of background tasks."""
        await self._opened.wait()
        assert self._background is not None
        return self._background

    async def supervise(self) -> None:
        """Hold the nurseries for calls and for background tasks until `closing`. Raises nothing."""
        try:
            async with trio.open_nursery() as calls:
                self.tasks.nursery = calls
                calls.start_soon(self._hold_background)
                await self.closing.wait()
                self.tasks.nursery = None
                calls.cancel_scope.cancel()
        except BaseException as error:
            if _crash(error) is not None:  # A call raises nothing; this is a bug of ours.
                log.exception("the tasks of a plugin crashed", error=error, plugin=self.name)
        finally:
            self.tasks.nursery = None
            self.closed.set()

    async def _hold_background(self) -> None:
        try:
            async with trio.open_nursery() as self._background:
                self._opened.set()
                await trio.sleep_forever()
        except BaseException as error:
            crash = _crash(error)
            if crash is None:
                return
            log.exception("a background task of a plugin crashed", error=error, plugin=self.name)
            self.problem = f"a background task crashed: {crash!r}"
            if not self.closing.is_set():
                self.state = PluginState.FAILED


def _crash(error: BaseException) -> BaseException | None:
    """Return the first exception in it that is not a cancellation."""
    if isinstance(error, BaseExceptionGroup):
        return next((crash for inner in error.exceptions if (crash := _crash(inner)) is not None), None)
    return None if isinstance(error, trio.Cancelled) else error


def _check_api(plugin: Plugin) -> None:
    try:
        wanted, had = (tuple(int(part) for part in version.split(".")) for version in (plugin.api, HOOK_API))
    except ValueError:
        raise PluginError(plugin.name, f"api = {plugin.api!r} is not a version", f'write api = "{HOOK_API}"') from None
    if wanted[:1] != had[:1] or wanted > had:
        raise PluginError(
            plugin.name,
            f"needs hook API {plugin.api}, this Mailcrane has {HOOK_API}",
            "install a Mailcrane or a plugin of a fitting version",
        )
