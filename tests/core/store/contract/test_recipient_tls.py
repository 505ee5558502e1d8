"""What is known of recipients' TLS, as every engine keeps it."""

from __future__ import annotations

import pytest

from mailcrane.store.errors import UnknownAccount
from mailcrane.store.repository.recipient_tls import RecipientTLS
from mailcrane.store.store import Store
from mailcrane.store.transaction import Transaction

from ..conftest import HeldClock


async def note(store: Store, *, account: str = "ann", starttls: bool = True, requiretls: bool = False) -> bool:
    def unit(transaction: Transaction) -> bool:
        return transaction.recipient_tls.note(account, "example.net", has_starttls=starttls, has_requiretls=requiretls)

    return await store.write(unit, key="queue")


async def known(store: Store, account: str = "ann") -> RecipientTLS | None:
    return await store.read(lambda transaction: transaction.recipient_tls.get(account, "example.net"))


async def test_what_a_domain_offers_is_kept_from_when_it_was_first_seen(store: Store, held_clock: HeldClock) -> None:
    first = held_clock.now()
    assert await note(store)
    held_clock.move(hours=1)
    assert not await note(store)
    assert await known(store) == RecipientTLS("example.net", True, False, first)


async def test_a_change_is_noted(store: Store, held_clock: HeldClock) -> None:
    await note(store)
    held_clock.move(hours=1)
    assert await note(store, requiretls=True)
    assert await known(store) == RecipientTLS("example.net", True, True, held_clock.now())
    assert await note(store, starttls=False)


async def test_each_account_has_its_own(store: Store) -> None:
    await note(store)
    assert await known(store, "bob") is None


async def test_for_an_account_that_is_gone_nothing_is_noted(store: Store) -> None:
    assert not await note(store, account="nobody")
    with pytest.raises(UnknownAccount):
        await known(store, "nobody")
