"""What a plugin is given: its name, a log, a clock, a store of its own, and the services of the server."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar, TypeVarTuple, Unpack

import trio

from mailcrane.dns.answer import Resolver
from mailcrane.model.clock import Clock, SystemClock
from mailcrane.model.event import EventService
from mailcrane.model.idempotency import IdempotencyService
from mailcrane.model.submission import LoginService, SubmissionService
from mailcrane.model.suppression import SuppressionService
from mailcrane.observe.log import Log, get_log
from mailcrane.plugin.call import PluginTasks
from mailcrane.plugin.data import PluginData, PluginDataStore
from mailcrane.plugin.events import PluginEvents

if TYPE_CHECKING:
    from mailcrane.http.client import GuardedClient

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
        data: PluginDataStore | None = None,
        http: HTTPClientFactory | None = None,
        submissions: SubmissionService | None = None,
        logins: LoginService | None = None,
        suppressions: SuppressionService | None = None,
        events: EventService | None = None,
        resolver: Resolver | None = None,
        idempotency: IdempotencyService | None = None,
        is_local_domain: Callable[[str], bool] | None = None,
    ) -> None:
        self.hostname = hostname
        self.clock: Clock = SystemClock() if clock is None else clock
        self.data = data
        self.http = http
        self.submissions = submissions
        self.logins = logins
        self.suppressions = suppressions
        self.resolver = resolver
        self.events = events
        self.idempotency = idempotency
        self.is_local_domain = is_local_domain


class PluginContext:
    """What a plugin is given when it is constructed. Services may be used from `Plugin.start` on.

    Attributes:
        name: Of the plugin, as in ``[plugins] enabled``.
        log: Its own log, ``mailcrane.plugins.NAME``.
        data: Its own key-value store.
        events: Records events of its own kinds, which `register_event_types` names.
    """

    def __init__(self, name: str, services: PluginServices, tasks: PluginTasks) -> None:
        self.name = name
        self.log: Log = get_log(f"mailcrane.plugins.{name}")
        self.data = PluginData(name, self._data_store)
        self.events = PluginEvents(name, self._event_service)
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

    @property
    def suppressions(self) -> SuppressionService:
        """The addresses that an account sends nothing to."""
        return _there(self._services.suppressions, self.name, "suppressions")

    @property
    def resolver(self) -> Resolver:
        """Looks names up in DNS, with a cache that the whole server shares."""
        return _there(self._services.resolver, self.name, "resolver")

    @property
    def idempotency(self) -> IdempotencyService:
        """Keys of calls that an application may repeat."""
        return _there(self._services.idempotency, self.name, "idempotency")

    def is_local_domain(self, domain: str) -> bool:
        """Return whether this server takes mail for a domain itself; the name in A-label form."""
        return _there(self._services.is_local_domain, self.name, "is_local_domain")(domain)

    def http_client(self, *, allow_networks: tuple[str, ...] = ()) -> GuardedClient:
        """Make a guarded HTTP client: no addresses that are not global, no redirects, bounded size and time.

        Args:
            allow_networks: Networks that an administrator allows all the same, as CIDR.
        """
        return _there(self._services.http, self.name, "http_client")(allow_networks=allow_networks)

    def _event_service(self) -> EventService:
        return _there(self._services.events, self.name, "events")

    def _data_store(self) -> PluginDataStore:
        return _there(self._services.data, self.name, "data")

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
