"""The configuration's rows, credentials, and what becomes of a removed account."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from mailcrane.config.rows import Account, Configuration, DKIMKey, Route, Settings, Webhook
from mailcrane.model.event import EventKind, NewEvent
from mailcrane.observe.secret import Secret
from mailcrane.sasl.credentials import Credentials, ScramSecret
from mailcrane.store.errors import UnknownAccount, VersionChanged
from mailcrane.store.housekeeping import sweep
from mailcrane.store.records import QueueFilter
from mailcrane.store.store import Store
from mailcrane.store.transaction import Transaction

CREDENTIALS = Credentials(1, ScramSecret(b"salt", 100_000, b"stored", b"server"))


async def load(store: Store) -> Configuration:
    return await store.read(lambda tx: tx.configuration.load())


async def test_a_configuration_comes_back_as_it_was_given_with_its_secrets(store: Store) -> None:
    old = await load(store)
    webhook = Webhook("https://example.org/", Secret("Bearer x"), (Secret("whsec_a"), Secret("whsec_b")), ("failed",))
    new = msgspec.structs.replace(
        old,
        settings=Settings("ann", routes=(Route("relay", to_domains=(".example.com",)),)),
        accounts=(Account("zoe", "example.org", outgoing_webhook=webhook), *old.accounts),
        dkim_keys=(DKIMKey("example.org", "s", "ed25519", Secret("-----BEGIN")),),
    )
    version = await store.write(lambda tx: tx.configuration.replace(new, expected_version=old.version), key="config")
    assert version == old.version + 1
    assert await load(store) == msgspec.structs.replace(new, version=version)
    assert store.wakeups.version("configuration") >= 1


async def test_a_change_based_on_an_old_version_is_refused(store: Store) -> None:
    old = await load(store)
    with pytest.raises(VersionChanged) as caught:
        await store.write(lambda tx: tx.configuration.replace(old, expected_version=0), key="config")
    assert (caught.value.expected, caught.value.actual) == (0, 1)
    assert await load(store) == old


async def test_an_account_keeps_its_id_over_changes(store: Store) -> None:
    old = await load(store)
    before = await store.read(lambda tx: tx.configuration.account_id("ann"))
    await store.write(lambda tx: tx.configuration.replace(old, expected_version=old.version), key="config")
    assert await store.read(lambda tx: tx.configuration.account_id("ann")) == before
    assert await store.read(lambda tx: tx.configuration.account_id("nobody")) is None


async def test_credentials_are_replaced_and_cleared(store: Store) -> None:
    assert await store.read(lambda tx: tx.credentials.get("ann")) is None
    await store.write(lambda tx: tx.credentials.set("ann", CREDENTIALS), key="config")
    newer = msgspec.structs.replace(CREDENTIALS, version=2)
    await store.write(lambda tx: tx.credentials.set("ann", newer), key="config")
    assert await store.read(lambda tx: tx.credentials.get("ann")) == newer
    assert await store.write(lambda tx: tx.credentials.clear("ann"), key="config")
    assert await store.read(lambda tx: tx.credentials.get("ann")) is None
    with pytest.raises(UnknownAccount):
        await store.write(lambda tx: tx.credentials.set("nobody", CREDENTIALS), key="config")


async def test_a_removed_account_is_gone_at_once_and_its_data_by_and_by(store: Store, make: Any) -> None:
    (entry_id,) = await store.write(make.queued(), key="queue")
    begun = await store.write(
        lambda tx: tx.queue.begin_attempts(make.worker, tx.now, 9, next_due_at=make.in_an_hour), key="queue"
    )
    (leased,) = begun.leased
    content_id = leased.entry.content_id

    def fill(transaction: Transaction) -> None:
        transaction.credentials.set("ann", CREDENTIALS)
        transaction.folders.add_message("ann", "Inbox", content_id, size_octets=16, received_at=transaction.now)
        transaction.events.record([NewEvent("ann", EventKind.DELIVERED, entry_id)])
        transaction.plugin_data.set("p", "k", b"v", entry_id)

    await store.write(fill, key="account:ann")
    old = await load(store)
    without = msgspec.structs.replace(old, accounts=old.accounts[1:], addresses=())
    version = await store.write(
        lambda tx: tx.configuration.replace(without, expected_version=old.version), key="config"
    )
    assert await store.read(lambda tx: tx.credentials.get("ann")) is None
    assert await store.read(lambda tx: tx.queue.get(entry_id)) is None
    assert await store.read(lambda tx: tx.queue.list(QueueFilter())) == []
    assert await store.read(lambda tx: tx.events.outgoing_pending(9)) == []
    assert not await store.write(lambda tx: tx.queue.reschedule(entry_id, leased.token, tx.now), key="queue")
    with pytest.raises(UnknownAccount):
        await store.write(lambda tx: tx.events.record([NewEvent("ann", EventKind.FAILED)]), key="k")
    # Made again, it is another account: nothing of the old one shows.
    await store.write(lambda tx: tx.configuration.replace(old, expected_version=version), key="config")
    assert await store.read(lambda tx: tx.folders.list("ann")) == []
    assert await sweep(store) > 0
    assert await store.read(lambda tx: tx.content.get(content_id)) is None
    assert await store.read(lambda tx: tx.plugin_data.get("p", "k", entry_id)) is None
    assert await sweep(store) == 0
    assert await store.read(lambda tx: tx.configuration.account_id("ann")) is not None
