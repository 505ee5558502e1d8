"""The real server in memory: every stage, with a store in memory, a clock that a test holds, and a scripted next hop.

Nothing runs in threads and no socket is opened, so that it can be used with trio's mock clock.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any, TypeVar

import trio
import trio.testing

from mailcrane.config.rows import Account, Address, Configuration, Domain, Settings
from mailcrane.config.static import StaticConfig, parse
from mailcrane.config.validate import validate
from mailcrane.http.dispatch import Dispatcher, Mount
from mailcrane.model.delivery import Entry
from mailcrane.model.event import Event
from mailcrane.model.transport import TransportType
from mailcrane.plugin.base import NoConfig, Plugin
from mailcrane.plugin.context import PluginServices
from mailcrane.plugin.host import PluginHost
from mailcrane.plugin.policy import hookimpl
from mailcrane.run.server import Server, make_server
from mailcrane.sasl.credentials import Credentials, make_scram_secret
from mailcrane.store.records import QueueFilter
from mailcrane.store.sqlite import open_sqlite
from mailcrane.store.store import Store
from mailcrane.store.transaction import Transaction
from mailcrane.testing.client import SMTPClient
from mailcrane.testing.clock import Clock
from mailcrane.testing.dns import FakeResolver
from mailcrane.testing.receiver import FakeReceiver
from mailcrane.testing.transport import FakeTransport
from mailcrane.testing.web import HTTPAnswer, ask_app

T = TypeVar("T")

PASSWORD = "correct horse"

CONFIG = """
hostname = "mail.here.example"
data_dir = "unused"

[queue]
default_transport = "fake"

[transports.fake]
type = "fake"

[listeners.smtp]
protocol = "smtp"
addresses = ["127.0.0.1:25"]

[listeners.submission]
protocol = "submission"
addresses = ["127.0.0.1:587"]
require_tls_for_auth = false

[listeners.relay]
protocol = "smtp"
addresses = ["127.0.0.1:26"]
relay_networks = ["192.0.2.0/24"]
relay_account = "ann"

[listeners.development]
protocol = "smtp"
addresses = ["127.0.0.1:1025"]
catch_all_account = "ann"
special_recipients = true
"""
"""The file of a test server; `server` takes text that comes after it."""

ROWS = Configuration(
    settings=Settings(postmaster_account="ann"),
    domains=(Domain("here.example"), Domain("closed.example", is_disabled=True)),
    accounts=(
        Account("ann", "here.example", keep_retired_messages_seconds=86400),
        Account("bob", "here.example"),
    ),
    addresses=(
        Address("ann@here.example", "ann"),
        Address("bob@here.example", "bob"),
        Address("ann@closed.example", "ann"),
    ),
)
"""The rows of a test server: two accounts with the password `PASSWORD`, one of which keeps retired entries."""


class RunningServer:
    """A server in memory.

    Attributes:
        server: The server itself.
        store: Its store.
        clock: Its time of day.
        transport: Its only next hop, the transport ``fake``.
        receiver: Takes its webhooks, whatever their URL.
        resolver: Its DNS, empty at first.
    """

    def __init__(
        self,
        server: Server,
        clock: Clock,
        transport: FakeTransport,
        receiver: FakeReceiver,
        nursery: trio.Nursery,
        *,
        resolver: FakeResolver,
    ) -> None:
        self.server = server
        self.store: Store = server.store
        self.clock = clock
        self.transport = transport
        self.receiver = receiver
        self.resolver = resolver
        self._nursery = nursery

    def connect(self, listener: str = "smtp", *, remote_ip: str = "192.0.2.1") -> SMTPClient:
        """Connect to an SMTP listener."""
        ours, theirs = trio.testing.memory_stream_pair()
        self._nursery.start_soon(self.server.smtp[listener].serve_stream, theirs, (remote_ip, 40000), ("127.0.0.1", 25))
        return SMTPClient(ours)

    async def request(
        self,
        method: str,
        path: str,
        *,
        listener: str = "web",
        header: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> HTTPAnswer:
        """Make an HTTP request to a listener, of which ``config`` of `server` must have one."""
        services = self.server.static.listeners[listener].services
        mounts = [Mount(place, service, self.server.web.app(service)) for service, place in services.items()]
        return await ask_app(Dispatcher(mounts, listener=listener), method, path, header=header, body=body)

    async def read(self, account: str, folder: str = "Inbox") -> list[bytes]:
        """Return the messages of a folder whole, oldest first."""

        def messages(transaction: Transaction) -> list[bytes]:
            found = []
            for message in transaction.folders.messages(account, folder):
                octets, index = message.prefix, 0
                while chunk := transaction.content.read_chunk(message.content_id, index):
                    octets += chunk
                    index += 1
                found.append(octets)
            return found

        return await self.store.read(messages)

    async def entries(self) -> list[Entry]:
        """Return the queue."""
        return await self.store.read(lambda transaction: transaction.queue.list(QueueFilter()))

    async def events(self, account: str) -> list[Event]:
        """Return the feed of an account."""
        return await self.store.read(partial(_feed, account=account, after=0))

    async def wait_for_event(self, account: str, kind: str, *, entry_id: int = 0, seconds: float = 3600) -> Event:
        """Return the first event of a kind in the feed of an account, which may come later.

        With a clock that jumps, an hour in which nothing comes costs no time.

        Args:
            kind: Such as ``delivered``; see ``docs/reference/events.md``.
            entry_id: Only of this queue entry; 0 for any.
            seconds: How long it may take.

        Raises:
            AssertionError: it did not come; the text has those that did.
        """
        wakeups = self.store.wakeups
        number, kinds = 0, []
        with trio.move_on_after(seconds):
            while True:
                seen = wakeups.version("events")
                for event in await self.store.read(partial(_feed, account=account, after=number)):
                    if event.kind == kind and entry_id in (0, event.entry_id):
                        return event
                    number = event.number
                    kinds.append(event.kind)
                await wakeups.wait("events", seen=seen)
        raise AssertionError(
            f"no event {kind!r} of {account} within {seconds:g} s; there are: {', '.join(kinds) or 'none'}"
        )

    async def change(self, configuration: Configuration) -> None:
        """Replace the configuration, and return when the server uses it."""
        checked = validate(configuration)

        def replace(transaction: Transaction) -> Configuration:
            transaction.configuration.replace(checked, expected_version=transaction.configuration.version())
            return transaction.configuration.load()

        await self.server.use(await self.store.write(replace, key="config"))


@contextlib.asynccontextmanager
async def server(
    *plugins: type[Plugin],
    config: str = "",
    rows: Configuration = ROWS,
    sections: dict[str, dict[str, Any]] | None = None,
) -> AsyncIterator[RunningServer]:
    """Run a server in memory, for the length of the block.

    Args:
        plugins: Classes, in the order in which they are asked.
        config: TOML that comes after `CONFIG`.
        rows: Domains, accounts and addresses; each account has the password `PASSWORD`.
        sections: The tables ``[plugin.NAME]``.
    """
    clock = Clock()
    transport, receiver, resolver = FakeTransport(), FakeReceiver(), FakeResolver()
    static: StaticConfig = parse(CONFIG + config)
    async with await open_sqlite(":memory:", clock, inline=True) as store:
        await store.write(lambda transaction: _fill(transaction, validate(rows)), key="config")
        services = PluginServices(hostname=static.hostname, clock=clock, resolver=resolver)
        host = PluginHost.of([*plugins, _transport_plugin(transport)], sections, services)
        made = await make_server(static, store, host, services, clock=clock, is_inline=True)
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(made.run, poster=receiver))
            async with trio.open_nursery() as connections:
                yield RunningServer(made, clock, transport, receiver, connections, resolver=resolver)
                connections.cancel_scope.cancel()
            made.stop()


def _feed(transaction: Transaction, *, account: str, after: int) -> list[Event]:
    return transaction.events.feed(account, after, 1000)


def _fill(transaction: Transaction, rows: Configuration) -> None:
    transaction.configuration.replace(rows, expected_version=0)
    # One iteration: a test does not wait for hashing.
    credentials = Credentials(1, make_scram_secret(PASSWORD.encode(), "sha256", iterations=1))
    for account in rows.accounts:
        transaction.credentials.set(account.name, credentials)
        transaction.folders.create(account.name, "Inbox")
        transaction.folders.create(account.name, "Sent", special_uses=("\\Sent",))


def _transport_plugin(transport: FakeTransport) -> type[Plugin]:
    class FakeTransportPlugin(Plugin):
        """Registers the scripted next hop."""

        name = "fake_transport"

        @hookimpl
        def register_transport_types(self) -> list[TransportType]:
            async def open_fake(_: NoConfig) -> FakeTransport:
                return transport

            return [TransportType("fake", NoConfig, open_fake)]

    return FakeTransportPlugin
