"""What has to be removed from time to time, so that nothing grows without bound."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Final

from mailcrane.store.store import Store
from mailcrane.store.transaction import Transaction

CALLS_OF_REMOVED_KEPT: Final = timedelta(days=7)
STAGED_KEPT: Final = timedelta(hours=1)
CHANGES_KEPT: Final = timedelta(days=30)
EVENTS_KEPT: Final = timedelta(days=30)
IDEMPOTENCY_KEYS_KEPT: Final = 500_000
FAILURES_COUNTED: Final = timedelta(days=90)
"""Failures in a row are counted for so long after the last one: three in a year say nothing of an address."""
_STEP: Final = 500


async def sweep(store: Store) -> int:
    """Remove what is kept no longer, in small units; returns how many rows. To be run hourly, and at start.

    That is: retired entries and calls past their time, staged content that nothing was added to for an hour, content
    without references, expunged messages, changes and events older than 30 days, failures in a row that ended 90 days
    ago, keys of calls older than a day and beyond an account's newest 500,000, counters of sending limits that have run
    out, and what removed accounts left. A plugin that has not been told of an event by then misses it, and
    `mailcrane.plugin.notify` tells of that.

    Webhook calls of removed accounts are retired and kept for 7 days: somebody may ask what became of them.
    """
    steps: tuple[Callable[[Transaction], int], ...] = (
        lambda tx: tx.retired.purge(tx.now, limit=_STEP),
        lambda tx: tx.webhooks.purge(tx.now, limit=_STEP),
        lambda tx: tx.content.sweep(before=tx.now - STAGED_KEPT, limit=_STEP),
        _release_expunged,
        lambda tx: tx.folders.purge_changes(tx.now - CHANGES_KEPT, limit=_STEP),
        lambda tx: tx.events.purge(tx.now - EVENTS_KEPT, limit=_STEP),
        lambda tx: tx.idempotency.purge(tx.now, limit=_STEP),
        lambda tx: tx.idempotency.trim(keep=IDEMPOTENCY_KEYS_KEPT, limit=20 * _STEP),
        lambda tx: tx.suppressions.purge_failures(tx.now - FAILURES_COUNTED, limit=_STEP),
        lambda tx: tx.webhooks.retire_removed(keep=CALLS_OF_REMOVED_KEPT, limit=_STEP),
        lambda tx: tx.outgoing.purge(limit=_STEP),
        lambda tx: int(tx.configuration.purge_removed(limit=_STEP)),
    )
    total = 0
    for step in steps:
        while removed := await store.write(step, key="housekeeping"):
            total += removed
    return total


def _release_expunged(transaction: Transaction) -> int:
    # No session holds on to expunged messages yet, so that every change counts as seen.
    folders = transaction.folders
    return sum(
        folders.release_expunged(account, folders.modseq(account), limit=_STEP)
        for account in folders.accounts_with_expunged()
    )
