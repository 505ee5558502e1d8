"""The queue in memory: a store that runs inline, a mock clock, and a transport that does what a test says."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from mailcrane.config.directory import Directory
from mailcrane.config.rows import Account, Configuration, Domain
from mailcrane.config.static import QueueConfig
from mailcrane.model.address import Mailbox, ReversePath
from mailcrane.model.delivery import Attempt, Delivery, Entry, RecipientResult
from mailcrane.model.event import Event, EventKind
from mailcrane.model.reply import Reply
from mailcrane.model.retired import Retired
from mailcrane.plugin.base import Plugin
from mailcrane.plugin.caller import Hooks
from mailcrane.queue.scheduler import Scheduler
from mailcrane.store.records import ContentDraft, NewEntry, Worker
from mailcrane.store.sqlite import open_sqlite
from mailcrane.store.sqlite.faults import Faults
from mailcrane.store.store import Store
from mailcrane.testing.clock import Clock
from mailcrane.testing.hooks import running_plugins
from mailcrane.transport.prepare import ContentPreparer
from mailcrane.transport.registry import Transports

MESSAGE = b"From: <ann@example.org>\r\nTo: <you@example.net>\r\nSubject: hello\r\n\r\nHello\r\n"

DELIVERED = RecipientResult.from_reply(Reply.make(250, "2.0.0", "taken"), remote_mta="mx (192.0.2.1)")
DEFERRED = RecipientResult.from_reply(Reply.make(451, "4.3.0", "later"))
FAILED = RecipientResult.from_reply(Reply.make(550, "5.1.1", "nobody of that name"))

Act = Any
"""A result for every forward-path, an exception to raise, or an async function of the delivery that answers."""


class ScriptedTransport:
    """Does one act per delivery, in order, and delivers when there are none left."""

    def __init__(self) -> None:
        self.acts: list[Act] = []
        self.deliveries: list[Delivery] = []
        self.octets: list[bytes] = []
        self.under_way = 0
        self.most_under_way = 0

    async def deliver(self, delivery: Delivery) -> Any:
        act = self.acts.pop(0) if self.acts else DELIVERED
        self.deliveries.append(delivery)
        self.octets.append(b"".join([chunk async for chunk in delivery.content.chunks()]))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            if isinstance(act, BaseException):
                raise act
            if inspect.iscoroutinefunction(act):
                return await act(delivery)
            return (act,) * len(delivery.entries) if isinstance(act, RecipientResult) else act
        finally:
            self.under_way -= 1

    async def aclose(self) -> None:
        pass

    @property
    def forward_paths(self) -> list[tuple[str, ...]]:
        """The forward-paths of each delivery."""
        return [tuple(str(path) for path in delivery.forward_paths) for delivery in self.deliveries]


class QueueWorld:
    """A queue with everything around it."""

    def __init__(self, store: Store, clock: Clock, faults: Faults) -> None:
        self.store = store
        self.clock = clock
        self.faults = faults
        self.transport = ScriptedTransport()
        self.transports = Transports()
        self.transports.add("fake", self.transport)
        self.config = QueueConfig(default_transport="fake")
        self.hooks = Hooks()
        self.configuration = Configuration()
        self.directory = Directory(self.configuration)
        self.scheduler: Scheduler | None = None

    async def configure(self, **fields: Any) -> None:
        """Replace parts of the configuration."""
        wanted = msgspec.structs.replace(self.configuration, **fields)
        version = await self.store.write(
            lambda transaction: transaction.configuration.replace(wanted, expected_version=self.configuration.version),
            key="config",
        )
        self.configuration = msgspec.structs.replace(wanted, version=version)
        self.directory = Directory(self.configuration)

    async def keep_retired(self) -> None:
        """Have the account keep retired entries for a day."""
        await self.configure(
            accounts=(Account("ann", "example.org", keep_retired_messages_seconds=86400),),
        )

    async def queue(
        self, *forward_paths: str, octets: bytes = MESSAGE, reverse_path: str = "ann@example.org", **fields: Any
    ) -> list[int]:
        """Queue a message for some forward-paths."""
        sender = ReversePath(Mailbox.parse(reverse_path)) if reverse_path else ReversePath()

        def unit(transaction: Any) -> list[int]:
            content = transaction.content.add(octets, ContentDraft(octets.find(b"\r\n\r\n") + 4))
            values = {"due_at": transaction.now, "message_id": "<1@example.org>", "subject": "hello", **fields}
            ids: list[int] = transaction.queue.add(
                [
                    NewEntry("ann", sender, Mailbox.parse(path), content.id, len(octets), **values)
                    for path in forward_paths or ("you@example.net",)
                ]
            )
            return ids

        return await self.store.write(unit, key="queue")

    def make_scheduler(self, boot: str = "first") -> Scheduler:
        """Make a scheduler, as one run of the server has it."""
        preparer = ContentPreparer(
            store=self.store, hooks=self.hooks, directory=lambda: self.directory, now=self.clock.now
        )
        return Scheduler(
            store=self.store,
            hooks=self.hooks,
            directory=lambda: self.directory,
            transports=self.transports,
            preparer=preparer,
            config=self.config,
            worker=Worker("machine", boot),
            clock=self.clock,
        )

    @contextlib.asynccontextmanager
    async def running(self, boot: str = "first") -> AsyncIterator[Scheduler]:
        """Run a scheduler; it is killed at the end, as by a crash."""
        scheduler = self.make_scheduler(boot)
        async with trio.open_nursery() as nursery:
            await nursery.start(scheduler.run)
            yield scheduler
            nursery.cancel_scope.cancel()

    async def run_for(self, boot: str = "first", **duration: float) -> None:
        """Run a scheduler for a while of the mock clock."""
        async with self.running(boot):
            await trio.sleep(timedelta(**duration).total_seconds())

    @contextlib.asynccontextmanager
    async def plugins(self, *plugins: type[Plugin]) -> AsyncIterator[None]:
        """Have plugins answer the hooks."""
        async with running_plugins(*plugins) as host:
            self.hooks = host.hooks
            yield

    async def entry(self, entry_id: int) -> Entry | None:
        """Return an entry, or None when it has left the queue."""
        return await self.store.read(lambda transaction: transaction.queue.get(entry_id))

    async def attempts(self, entry_id: int) -> tuple[Attempt, ...]:
        """Return the attempts of an entry in the queue."""
        return await self.store.read(lambda transaction: transaction.queue.attempts(entry_id))

    async def retired(self, entry_id: int) -> Retired | None:
        """Return the retired row of an entry."""
        return await self.store.read(lambda transaction: transaction.retired.get(entry_id))

    async def events(self, *kinds: EventKind) -> list[Event]:
        """Return the account's events."""
        return await self.store.read(lambda transaction: transaction.events.feed("ann", 0, 1000, kinds=kinds))

    async def event_kinds(self) -> list[str]:
        """Return the kinds of the account's events."""
        return [str(event.kind) for event in await self.events()]

    async def write(self, unit: Callable[[Any], Any]) -> Any:
        """Change the store."""
        return await self.store.write(unit, key="queue")


def run_on_mock_clock(function: Callable[[], Awaitable[Any]], **options: Any) -> Any:
    """Run a test on a clock that jumps when every task waits."""
    return trio.run(function, **{**options, "clock": trio.testing.MockClock(autojump_threshold=0)})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the tests of a world a mock clock: pytest-trio would do so only for those that name one."""
    for item in items:
        if "world" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.trio(run=run_on_mock_clock), append=False)


@pytest.fixture
async def world() -> AsyncIterator[QueueWorld]:
    """A queue whose account ``ann`` sends from example.org over the transport ``fake``."""
    clock, faults = Clock(), Faults()
    async with await open_sqlite(":memory:", clock, inline=True, faults=faults) as store:
        world = QueueWorld(store, clock, faults)
        await world.configure(domains=(Domain("example.org"),), accounts=(Account("ann", "example.org"),))
        yield world
