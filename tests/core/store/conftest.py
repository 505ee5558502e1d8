"""The engines that the contract is asked of, and values to store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import pytest

from mailcrane.config.rows import Account, Address, Configuration, Domain
from mailcrane.model.address import Mailbox, ReversePath
from mailcrane.model.delivery import Entry
from mailcrane.store.records import ContentDraft, NewEntry, Worker
from mailcrane.store.sqlite import open_sqlite
from mailcrane.store.sqlite.faults import NO_FAULTS, Faults
from mailcrane.store.store import Store
from mailcrane.store.transaction import Transaction

CONFIGURATION = Configuration(
    domains=(Domain("example.org"),),
    accounts=(Account("ann", "example.org"), Account("bob", "example.org")),
    addresses=(Address("ann@example.org", "ann"),),
)


class HeldClock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.at = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

    def now(self) -> datetime:
        return self.at

    def move(self, **by: float) -> None:
        self.at += timedelta(**by)


class OpenStore(Protocol):
    """Opens the same database again and again, with the accounts ann and bob."""

    def __call__(self, faults: Faults = NO_FAULTS) -> AbstractAsyncContextManager[Store]: ...


class Make:
    """Makes values, and units that store them."""

    worker = Worker("machine", "boot 1")
    configuration = CONFIGURATION

    def entry(
        self,
        transaction: Transaction,
        content_id: int,
        forward_path: str = "cee@example.net",
        *,
        due_at: datetime | None = None,
    ) -> NewEntry:
        return NewEntry(
            "ann",
            ReversePath(Mailbox.parse("ann@example.org")),
            Mailbox.parse(forward_path),
            content_id,
            16,
            due_at or transaction.now,
            message_id="<1@example.org>",
        )

    def content(self, transaction: Transaction, octets: bytes = b"Subject: x\r\n\r\ny\r\n", origin: str = "") -> int:
        return transaction.content.add(octets, ContentDraft(octets.find(b"\r\n\r\n") + 4), origin=origin).id

    def queued(self, *forward_paths: str) -> Callable[[Transaction], list[int]]:
        """A unit that queues a message and returns the ids of its entries."""

        def unit(transaction: Transaction) -> list[int]:
            content_id = self.content(transaction)
            paths = forward_paths or ("cee@example.net",)
            return transaction.queue.add([self.entry(transaction, content_id, path) for path in paths])

        return unit

    @staticmethod
    def in_an_hour(entry: Entry) -> datetime:
        assert entry.last_attempt_at is not None
        return entry.last_attempt_at + timedelta(hours=1)


@pytest.fixture
def make() -> Make:
    return Make()


@pytest.fixture
def held_clock() -> HeldClock:
    return HeldClock()


@pytest.fixture(params=["sqlite", "sqlite inline"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path, held_clock: HeldClock) -> OpenStore:
    """How each engine is opened. An engine that is to fulfil the contract is added here."""
    is_inline = request.param == "sqlite inline"

    @asynccontextmanager
    async def opened(faults: Faults = NO_FAULTS) -> AsyncIterator[Store]:
        path = str(tmp_path / "mailcrane.db")
        async with await open_sqlite(path, held_clock, inline=is_inline, faults=faults) as store:
            if await store.read(lambda tx: tx.configuration.version()) == 0:
                await store.write(lambda tx: tx.configuration.replace(CONFIGURATION, expected_version=0), key="config")
            yield store

    return opened


@pytest.fixture
async def store(open_store: OpenStore) -> AsyncIterator[Store]:
    async with open_store() as opened:
        yield opened
