"""What a plugin is given: its name, a log, a clock, a store of its own, and the services of the server."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar, TypeVarTuple, Unpack

import trio

from mailcrane.model.clock import Clock, SystemClock
from mailcrane.model.submission import LoginService, SubmissionService
from mailcrane.observe.log import Log, get_log
from mailcrane.plugin.call import PluginTasks

if TYPE_CHECKING:
    from mailcrane.http.client import GuardedClient
    from mailcrane.store.store import Store

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


class HTTPClientFactory(Protocol):
    """Makes guarded HTTP clients."""

    def __call__(self, *, allow_networks: tuple[str, ...] = ()) -> GuardedClient:
        """Make a client that refuses addresses which are not global, save those in ``allow_networks``."""
        ...


class PluginServices:
    """The services that plugins reach through their contexts.

    The composition root fills it in as the services come into being, which is after the plugins are constructed and
    before they are started: the services themselves ask hooks.
    """

    def __init__(
        self,
        *,
        hostname: str = "localhost",
        clock: Clock | None = None,
        store: Store | None = None,
        http: HTTPClientFactory | None = None,
        submissions: SubmissionService | None = None,
        logins: LoginService | None = None,
    ) -> None:
        self.hostname = hostname
        self.clock: Clock = SystemClock() if clock is None else clock
        self.store = store
        self.http = http
        self.submissions = submissions
        self.logins = logins


class PluginData:
    """A plugin's own key-value store; with ``entry_id`` one per queue entry, kept as long as the entry's retired row.

    It survives retries and restarts. Other plugins do not see it. Keys are texts, values are bytes.
    """

    def __init__(self, plugin: str, services: PluginServices) -> None:
        self._plugin = plugin
        self._services = services

    async def get(self, key: str, *, entry_id: int = 0) -> bytes | None:
        """Return a value, or None."""
        return await self._store.read(lambda tx: tx.plugin_data.get(self._plugin, key, entry_id))

    async def set(self, key: str, value: bytes, *, entry_id: int = 0) -> None:
        """Set a value; when this returns it survives a power cut."""
        await self._store.write(
            lambda tx: tx.plugin_data.set(self._plugin, key, value, entry_id), key=f"plugin:{self._plugin}"
        )

    async def delete(self, key: str, *, entry_id: int = 0) -> None:
        """Remove a value, whether it exists or not."""
        await self._store.write(
            lambda tx: tx.plugin_data.delete(self._plugin, key, entry_id), key=f"plugin:{self._plugin}"
        )

    @property
    def _store(self) -> Store:
        return _there(self._services.store, self._plugin, "data")


class PluginContext:
    """What a plugin is given when it is constructed. Services may be used from `Plugin.start` on.

    Attributes:
        name: Of the plugin, as in ``[plugins] enabled``.
        log: Its own log, ``mailcrane.plugins.NAME``.
        data: Its own key-value store.
    """

    def __init__(self, name: str, services: PluginServices, tasks: PluginTasks) -> None:
        self.name = name
        self.log: Log = get_log(f"mailcrane.plugins.{name}")
        self.data = PluginData(name, services)
        self._services = services
        self._tasks = tasks

    @property
    def hostname(self) -> str:
        """The server's own name."""
        return self._services.hostname

    @property
    def clock(self) -> Clock:
        """The server's clock; tests hold it."""
        return self._services.clock

    @property
    def submissions(self) -> SubmissionService:
        """Takes messages into the queue on behalf of an account."""
        return _there(self._services.submissions, self.name, "submissions")

    @property
    def logins(self) -> LoginService:
        """Verifies passwords, with the limits on failures that hold over all protocols."""
        return _there(self._services.logins, self.name, "logins")

    def http_client(self, *, allow_networks: tuple[str, ...] = ()) -> GuardedClient:
        """Make a guarded HTTP client: no addresses that are not global, no redirects, bounded size and time.

        Args:
            allow_networks: Networks that an administrator allows all the same, as CIDR.
        """
        return _there(self._services.http, self.name, "http_client")(allow_networks=allow_networks)

    async def run_in_thread(
        self, function: Callable[[Unpack[Arguments]], T], *arguments: *Arguments, is_abandoned: bool = False
    ) -> T:
        """Run what burns CPU or blocks in a thread; a plugin has a few at a time.

        Args:
            is_abandoned: Whether to leave the thread behind when the caller is cancelled, rather than wait for it.
        """
        return await trio.to_thread.run_sync(
            function, *arguments, limiter=self._tasks.limiter, abandon_on_cancel=is_abandoned
        )


def _there(service: T | None, plugin: str, what: str) -> T:
    if service is None:
        raise RuntimeError(f"plugin {plugin!r}: {what} is there from start() on, not in the constructor")
    return service


__all__ = ["HTTPClientFactory", "PluginContext", "PluginData", "PluginServices"]
