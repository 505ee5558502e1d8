"""Webhooks in memory: a store that runs inline, a mock clock, and a client that answers what a test says."""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from mailcrane.config.directory import Directory
from mailcrane.config.rows import Account, Configuration, Domain, Webhook
from mailcrane.config.static import WebhooksConfig
from mailcrane.http.client import HTTPResponse
from mailcrane.model.event import Event, EventKind, NewEvent
from mailcrane.model.webhook import RetiredCall, WebhookCall
from mailcrane.plugin.base import Plugin
from mailcrane.plugin.caller import Hooks
from mailcrane.store.records import Worker
from mailcrane.store.sqlite import open_sqlite
from mailcrane.store.sqlite.faults import Faults
from mailcrane.store.store import Store
from mailcrane.testing.clock import Clock
from mailcrane.testing.hooks import running_plugins
from mailcrane.webhook.caller import WebhookCaller
from mailcrane.webhook.dispatcher import Dispatcher

URL = "https://app.example/hook"


class Posted(msgspec.Struct):
    """A request as the client got it."""

    at: float
    url: str
    headers: dict[str, str]
    body: bytes


class FakeClient:
    """Answers one act per request, in order, and 200 when there are none left.

    An act is a status, an exception to raise, or an async function that answers a status.
    """

    def __init__(self) -> None:
        self.acts: list[Any] = []
        self.posted: list[Posted] = []
        self.answer = b"ok"
        self.under_way = 0
        self.most_under_way = 0

    async def post(
        self,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes,
        timeout: float = 60.0,  # noqa: ASYNC109 - the client's signature
        max_response_octets: int = 65536,
        body_seconds: float = math.inf,
    ) -> HTTPResponse:
        self.posted.append(Posted(trio.current_time(), url, dict(headers), body))
        act = self.acts.pop(0) if self.acts else 200
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await trio.lowlevel.checkpoint()
            if isinstance(act, BaseException):
                raise act
            status = act if isinstance(act, int) else await act()
            return HTTPResponse(status, {}, self.answer[:max_response_octets])
        finally:
            self.under_way -= 1

    @property
    def attempts(self) -> list[tuple[str, str]]:
        """Call id and attempt of each request."""
        return [(one.headers["X-Mox-Webhook-ID"], one.headers["X-Mox-Webhook-Attempt"]) for one in self.posted]


class World:
    """Webhooks with everything around them."""

    def __init__(self, store: Store, clock: Clock, faults: Faults) -> None:
        self.store = store
        self.clock = clock
        self.faults = faults
        self.client = FakeClient()
        self.config = WebhooksConfig()
        self.hooks = Hooks()
        self.configuration = Configuration()
        self.directory = Directory(self.configuration)

    async def configure(self, webhook: Webhook | None = None, *, keep: timedelta = timedelta(days=1)) -> None:
        """Give the account ann a webhook."""
        ann = Account(
            "ann",
            "example.org",
            outgoing_webhook=webhook,
            keep_retired_webhooks_seconds=int(keep.total_seconds()),
        )
        wanted = msgspec.structs.replace(
            self.configuration, domains=(Domain("example.org"),), accounts=(ann, Account("bob", "example.org"))
        )
        version = await self.store.write(
            lambda transaction: transaction.configuration.replace(wanted, expected_version=self.configuration.version),
            key="config",
        )
        self.configuration = msgspec.structs.replace(wanted, version=version)
        self.directory = Directory(self.configuration)

    async def remove_accounts(self) -> None:
        """Remove all accounts, as an operator might at any moment."""
        await self.store.write(
            lambda transaction: transaction.configuration.replace(
                Configuration(), expected_version=transaction.configuration.version()
            ),
            key="config",
        )

    async def record(self, kind: EventKind = EventKind.DELIVERED, entry_id: int = 1, **data: Any) -> Event:
        """Record an event of ann's."""
        events = await self.store.write(
            lambda transaction: transaction.events.record([NewEvent("ann", kind, entry_id, data)]), key="account:ann"
        )
        return events[0]

    @contextlib.asynccontextmanager
    async def running(self, boot: str = "first") -> AsyncIterator[WebhookCaller]:
        """Run dispatcher and caller; they are killed at the end, as by a crash."""
        caller = self.make_caller(boot)
        async with trio.open_nursery() as nursery:
            await nursery.start(self.make_dispatcher().run)
            await nursery.start(caller.run)
            yield caller
            nursery.cancel_scope.cancel()

    async def run_for(self, boot: str = "first", **duration: float) -> None:
        """Run for a while of the mock clock."""
        async with self.running(boot):
            await trio.sleep(timedelta(**duration).total_seconds())

    def make_dispatcher(self) -> Dispatcher:
        """Make a dispatcher."""
        return Dispatcher(store=self.store, hooks=self.hooks, directory=lambda: self.directory, clock=self.clock)

    def make_caller(self, boot: str = "first") -> WebhookCaller:
        """Make a caller, as one run of the server has it."""
        return WebhookCaller(
            store=self.store,
            directory=lambda: self.directory,
            client=self.client,
            config=self.config,
            worker=Worker("machine", boot),
            clock=self.clock,
        )

    @contextlib.asynccontextmanager
    async def plugins(self, *plugins: type[Plugin]) -> AsyncIterator[None]:
        """Have plugins answer the hooks."""
        async with running_plugins(*plugins) as host:
            self.hooks = host.hooks
            yield

    async def queued(self) -> list[WebhookCall]:
        """The calls in the queue."""
        return await self.store.read(lambda transaction: transaction.webhooks.list())

    async def retired(self) -> list[RetiredCall]:
        """The calls that ended."""
        return await self.store.read(lambda transaction: transaction.webhooks.retired_list())

    async def ended(self) -> list[Event]:
        """The events of calls that ended."""
        return await self.store.read(
            lambda transaction: transaction.events.feed("ann", 0, 1000, kinds=(EventKind.WEBHOOK_RETIRED,))
        )


def _run_on_mock_clock(function: Callable[[], Awaitable[Any]], **options: Any) -> Any:
    return trio.run(function, **{**options, "clock": trio.testing.MockClock(autojump_threshold=0)})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the tests of a world a mock clock: pytest-trio would do so only for those that name one."""
    for item in items:
        if "world" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.trio(run=_run_on_mock_clock))


@pytest.fixture
async def world() -> AsyncIterator[World]:
    clock, faults = Clock(), Faults()
    async with await open_sqlite(":memory:", clock, inline=True, faults=faults) as store:
        made = World(store, clock, faults)
        await made.configure(Webhook(URL))
        yield made
