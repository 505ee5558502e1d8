"""The server: every stage put together around one store.

`Server` makes the stages and hands each what it needs; `Server.run` starts them from the store outwards, and stops
them from the outside inwards: first nothing new is taken, then what is under way ends, then plugins stop.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import trio

from mailcrane.admin.administration import Administration
from mailcrane.admin.control import serve_control
from mailcrane.admin.web import monitoring_apps
from mailcrane.config.directory import Directory
from mailcrane.config.references import dangling
from mailcrane.config.rows import Configuration
from mailcrane.config.static import StaticConfig
from mailcrane.dns.server import make_resolver
from mailcrane.http.app import HTTPApp
from mailcrane.http.client import GuardedClient
from mailcrane.listener.smtp import SMTPListener
from mailcrane.model.clock import Clock
from mailcrane.observe.health import Health, HealthReport, State
from mailcrane.observe.log import get_log
from mailcrane.plugin.context import PluginServices
from mailcrane.plugin.data import StoredPluginData
from mailcrane.plugin.events import registered_event_types
from mailcrane.plugin.health import PluginState
from mailcrane.plugin.host import PluginHost
from mailcrane.plugin.notify import Notifier
from mailcrane.queue.scheduler import Scheduler
from mailcrane.receive.idempotency import IdempotencyKeys
from mailcrane.receive.incoming import IncomingReceiver
from mailcrane.receive.submission import SubmissionReceiver
from mailcrane.retire.recording import PluginEventRecorder
from mailcrane.retire.suppression import SuppressionLists
from mailcrane.run import listeners
from mailcrane.run.catcher import Catcher
from mailcrane.run.messages import Messages
from mailcrane.session.login import Logins
from mailcrane.session.smtp import SessionServices
from mailcrane.store.housekeeping import sweep
from mailcrane.store.records import Worker
from mailcrane.store.store import Store
from mailcrane.store.transaction import Transaction
from mailcrane.transport.prepare import ContentPreparer
from mailcrane.transport.registry import open_transports
from mailcrane.webhook.attempt import HTTPPoster
from mailcrane.webhook.caller import WebhookCaller
from mailcrane.webhook.dispatcher import Dispatcher
from mailcrane.webhook.slots import most_calls
from mailcrane.webhook.trouble import TOPIC as WEBHOOK_TROUBLE
from mailcrane.webhook.trouble import watch_trouble

log = get_log(__name__)

_SECRET_KEY = "server_secret"
_CORE = "core"
_HOUSEKEEPING_SECONDS = 3600.0

# Deliveries under way when the server stops get so long; then they are put back for the next start.
_STOP_DELIVERIES_SECONDS = 10.0


class Server:
    """One server process.

    Attributes:
        static: The file.
        store: Open; whoever opened it closes it.
        host: The plugins.
        smtp: The SMTP listeners, by name.
        web: The web applications.
        logins: Verifies logins.
        submissions: Takes submissions.
        health: How the parts do.
        scheduler: The queue's; set once the server runs.
        ready: Set when every listener accepts.
    """

    def __init__(
        self,
        static: StaticConfig,
        store: Store,
        host: PluginHost,
        services: PluginServices,
        *,
        clock: Clock,
        configuration: Configuration,
        server_secret: bytes,
        is_inline: bool = False,
    ) -> None:
        """Put the stages together. `make_server` reads what it needs from the store first.

        Args:
            services: What the plugins were constructed with; filled in here, but for a resolver that is there.
            configuration: As stored now.
            server_secret: As stored.
            is_inline: Nothing runs in threads: for tests with a mock clock.
        """
        self.static = static
        self.store = store
        self.host = host
        self.clock = clock
        self.health = Health(clock)
        self._is_inline = is_inline
        self._directory = Directory(configuration, hostname=static.hostname)
        hooks = host.hooks
        self._event_types = registered_event_types(hooks)
        self._look_for_what_is_named()
        self.logins = Logins(
            hooks, store, self.directory, server_secret=server_secret, hostname=static.hostname, is_inline=is_inline
        )
        self.submissions = SubmissionReceiver(
            store, hooks, self.directory, hostname=static.hostname, is_held=static.queue.hold_new_entries
        )
        self._worker = Worker(socket.gethostname(), secrets.token_hex(8))
        self._idempotency = IdempotencyKeys(store, worker=self._worker, clock=clock)
        services.submissions = self.submissions
        services.idempotency = self._idempotency
        services.logins = self.logins
        services.suppressions = SuppressionLists(store)
        services.http = self.http_client
        services.is_local_domain = lambda domain: self.directory().is_local_domain(domain)
        services.events = PluginEventRecorder(store, self._event_types)
        if services.resolver is None:
            services.resolver = make_resolver(static.dns)
        session_services = SessionServices(
            clock,
            hooks,
            self.directory,
            store,
            self.logins,
            self.submissions,
            IncomingReceiver(store, hooks, hostname=static.hostname),
        )
        certificates = listeners.load_certificates(static)
        self.smtp: dict[str, SMTPListener] = {
            name: listeners.make_smtp_listener(static, name, session_services, certificates)
            for name in listeners.listener_names(static, lambda one: one.protocol not in {"http", "https"})
        }
        self._certificates = certificates
        self._stop = trio.Event()
        apps = _web_apps(host, clock, store, report=self.report_health, count=self._count, stopping=self._stop)
        self.web = listeners.WebServices(apps)
        self.web.check(static)
        self._web_sockets: dict[str, list[trio.SocketListener]] = {}
        self._notifier = Notifier(store, hooks)
        self._dispatcher = Dispatcher(store=store, hooks=hooks, directory=self.directory, clock=clock)
        self._poster: HTTPPoster | None = None
        self.scheduler: Scheduler | None = None
        self.ready = trio.Event()

    def directory(self) -> Directory:
        """Return the look-ups of the present configuration."""
        return self._directory

    def http_client(self, *, allow_networks: tuple[str, ...] = ()) -> GuardedClient:
        """Make an HTTP client that reaches global addresses, and networks that the operator or the caller allows."""
        return GuardedClient(allow_networks=(*self.static.webhooks.allow_networks, *allow_networks))

    async def use(self, configuration: Configuration) -> None:
        """Use a configuration that was stored; an older one than the present is not used."""
        if configuration.version > self._directory.version:
            self._directory = Directory(configuration, hostname=self.static.hostname)
            self._look_for_what_is_named()
            # A webhook that was changed is disabled no longer.
            self.store.wakeups.wake(WEBHOOK_TROUBLE)
            log.info("configuration in use", version=configuration.version)

    def bind(self) -> None:
        """Bind the sockets of all listeners.

        Raises:
            ConfigError: an address cannot be bound.
        """
        for name, listener in self.smtp.items():
            listeners.bind_smtp(self.static, name, listener)
        for name in listeners.listener_names(self.static, lambda one: one.protocol in {"http", "https"}):
            self._web_sockets[name] = listeners.bind_http(self.static, name)

    def bound(self) -> dict[str, list[tuple[str, int]]]:
        """Return the addresses that `bind` bound, by listener, with the ports that the system chose."""
        web = {name: [one.socket.getsockname()[:2] for one in bound] for name, bound in self._web_sockets.items()}
        return {**{name: listener.addresses for name, listener in self.smtp.items()}, **web}

    def stop(self) -> None:
        """Begin to stop; `run` returns when everything has ended."""
        self._stop.set()

    def report_health(self) -> HealthReport:
        """Return how the server is, plugins included."""
        for plugin in self.host.health():
            state = _HEALTH_OF_PLUGIN.get(plugin.state, State.DEGRADED if plugin.left_out else State.OK)
            self.health.set(f"plugin {plugin.plugin}", state, plugin.reason, is_vital=False)
        return self.health.report()

    def administration(self) -> Administration:
        """Return what operations on this server are functions of."""
        return Administration(
            self.store,
            self.static,
            reload=self.use,
            health=self.report_health,
            stop=self.stop,
            notifier=self._notifier,
            hooks=self.host.hooks,
            scheduler=self.scheduler,
            dispatcher=self._dispatcher,
            poster=self._poster,
            is_inline=self._is_inline,
        )

    async def run(
        self,
        *,
        control_path: str = "",
        poster: HTTPPoster | None = None,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Run until `stop`.

        Args:
            control_path: Where the control socket is made; empty for none.
            poster: Posts webhooks; `http_client` by default.
            task_status: Started when every listener accepts.

        Raises:
            StoreFailed: the store is dead; what was answered is safe, nothing else can be done.
            PluginError: a plugin did not start.
            ConfigError: a transport cannot be opened.
        """
        hooks = self.host.hooks
        async with AsyncExitStack() as stack:
            stack.callback(self._close_sockets)
            await stack.enter_async_context(self.host.running())
            opened = await open_transports(
                [transport_type for _, transport_type in hooks.register_transport_types()], self.static.transports
            )
            stack.push_async_callback(opened.aclose)
            worker = self._worker
            await self._idempotency.free_dead()
            if poster is None:
                client = GuardedClient(
                    allow_networks=self.static.webhooks.allow_networks,
                    max_connections=most_calls(self.static.webhooks.concurrency),
                )
                stack.push_async_callback(client.aclose)
                poster = client
            self._poster = poster
            self.scheduler = scheduler = Scheduler(
                store=self.store,
                hooks=hooks,
                directory=self.directory,
                transports=opened,
                preparer=ContentPreparer(store=self.store, hooks=hooks, directory=self.directory, now=self.clock.now),
                config=self.static.queue,
                worker=worker,
                clock=self.clock,
            )
            caller = WebhookCaller(
                store=self.store,
                directory=self.directory,
                client=poster,
                config=self.static.webhooks,
                worker=worker,
                clock=self.clock,
            )
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.store.watch)
                nursery.start_soon(self._follow_configuration)
                nursery.start_soon(self._keep_house)
                await nursery.start(self._notifier.run)
                await nursery.start(self._dispatcher.run)
                nursery.start_soon(watch_trouble, self.store, self.directory, self.health)
                if control_path:
                    await nursery.start(serve_control, self.administration(), control_path)
                async with trio.open_nursery() as calling:
                    await calling.start(caller.run)
                    async with trio.open_nursery() as delivering:
                        await delivering.start(self._run_scheduler, scheduler)
                        await self._run_listeners(task_status)
                        scheduler.stop()
                    # What the last attempts recorded is posted now or after the next start.
                    caller.stop()
                nursery.cancel_scope.cancel()

    def _look_for_what_is_named(self) -> None:
        problems = dangling(self.static, self._directory.configuration, event_types=self._event_types)
        if problems or self.health.get("configuration") is not None:
            self.health.set("configuration", State.DEGRADED if problems else State.OK, "; ".join(problems))

    def _close_sockets(self) -> None:
        """Close what a start that failed has left; those that were served are closed already."""
        for listener in self.smtp.values():
            listener.close()
        for sockets in self._web_sockets.values():
            for one in sockets:
                one.socket.close()

    async def _count(self) -> None:
        if self.scheduler is not None:
            await self.scheduler.count()

    async def _run_scheduler(self, scheduler: Scheduler, *, task_status: trio.TaskStatus[None]) -> None:
        await scheduler.run(stop_seconds=_STOP_DELIVERIES_SECONDS, task_status=task_status)

    async def _run_listeners(self, task_status: trio.TaskStatus[None]) -> None:
        """Serve until `stop`, then until the sessions have ended or their time is up."""
        async with trio.open_nursery() as lifespans:
            async with AsyncExitStack() as applications, trio.open_nursery() as nursery:
                for listener in self.smtp.values():
                    nursery.start_soon(listener.run)
                if self._web_sockets:
                    from mailcrane.http.server import serve_http  # noqa: PLC0415

                    made = listeners.make_http_listeners(self.static, self._web_sockets, self.web, self._certificates)
                    await self.web.start(lifespans, applications)
                    await nursery.start(serve_http, made, self._stop)
                self.health.set("listeners", State.OK)
                # Now, so that it tells since when a plugin is well.
                self.report_health()
                self.ready.set()
                task_status.started()
                await self._stop.wait()
                for listener in self.smtp.values():
                    nursery.start_soon(listener.stop)
            lifespans.cancel_scope.cancel()

    async def _follow_configuration(self) -> None:
        """Use what another process, or a plugin, stored."""
        wakeups = self.store.wakeups
        seen = wakeups.version("configuration")
        while True:
            await self.use(await self.store.read(lambda transaction: transaction.configuration.load()))
            seen = await wakeups.wait("configuration", seen=seen)

    async def _keep_house(self) -> None:
        while True:
            try:
                removed = await sweep(self.store)
                log.debug("old rows removed", count=removed)
            except Exception:
                # Nothing depends on it today; the next round tries again.
                log.exception("old rows could not be removed")
            await trio.sleep(_HOUSEKEEPING_SECONDS)


async def make_server(
    static: StaticConfig,
    store: Store,
    host: PluginHost,
    services: PluginServices,
    *,
    clock: Clock,
    is_inline: bool = False,
) -> Server:
    """Make a server of what is stored. Its listeners are not bound yet."""
    services.data = StoredPluginData(store)
    secret = await store.write(_server_secret, key="config")
    configuration = await store.read(lambda transaction: transaction.configuration.load())
    return Server(
        static,
        store,
        host,
        services,
        clock=clock,
        configuration=configuration,
        server_secret=secret,
        is_inline=is_inline,
    )


def _server_secret(transaction: Transaction) -> bytes:
    """Return the secret of this server; it is made when it is asked for the first time."""
    secret = transaction.plugin_data.get(_CORE, _SECRET_KEY)
    if secret is None:
        secret = secrets.token_bytes(32)
        transaction.plugin_data.set(_CORE, _SECRET_KEY, secret)
    return secret


def _web_apps(
    host: PluginHost,
    clock: Clock,
    store: Store,
    *,
    report: Callable[[], HealthReport],
    count: Callable[[], Awaitable[None]],
    stopping: trio.Event,
) -> dict[str, HTTPApp]:
    """The web services that listeners may name; a plugin's takes the place of one of ours."""

    async def recipient(entry_id: int) -> str:
        return await store.read(lambda transaction: _forward_path(transaction, entry_id))

    ours = (
        HTTPApp("hooks", "/hooks/", lambda: Catcher(clock, recipient, stopping)),
        HTTPApp("messages", "/messages/", lambda: Messages(store, stopping)),
        *monitoring_apps(report, count),
    )
    return {app.service: app for app in (*ours, *(app for _, app in host.hooks.register_http_apps()))}


def _forward_path(transaction: Transaction, entry_id: int) -> str:
    """Return the forward-path of an entry, queued or retired; empty where it is not known."""
    entry = transaction.queue.get(entry_id)
    if entry is None:
        retired = transaction.retired.get(entry_id)
        entry = None if retired is None else retired.entry
    return "" if entry is None else str(entry.forward_path)


_HEALTH_OF_PLUGIN = {
    PluginState.FAILED: State.FAILED,
    PluginState.ABANDONED: State.FAILED,
    PluginState.STOPPED: State.DEGRADED,
}
