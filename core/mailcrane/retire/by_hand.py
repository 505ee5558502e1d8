"""Entries that a person takes out of the queue: failed, of which the sender is told, or canceled."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from datetime import timedelta

from msgspec import Struct
from msgspec.structs import replace

from mailcrane.config.directory import Directory
from mailcrane.model.delivery import Attempt, Entry, Outcome, RecipientResult
from mailcrane.model.event import EventKind
from mailcrane.observe.log import get_log
from mailcrane.plugin.caller import Hooks
from mailcrane.retire.bounce import Bounce, failure_bounce, place
from mailcrane.retire.ending import retire
from mailcrane.retire.notice import Why
from mailcrane.retire.retention import retention
from mailcrane.store.records import QueueFilter
from mailcrane.store.store import Store
from mailcrane.store.transaction import Transaction

log = get_log(__name__)

# Entries of one unit: others that write do not wait long, and a crash in between leaves whole batches.
_BATCH = 100


class _Chosen(Struct, frozen=True):
    """An entry that is to end, with what had to be asked before the unit."""

    entry: Entry
    keep_for: timedelta
    result: RecipientResult
    bounce: Bounce | None


async def end_by_hand(
    *,
    store: Store,
    directory: Directory,
    hooks: Hooks | None,
    ids: Sequence[int],
    event: EventKind,
    by: str,
    conditions: QueueFilter | None = None,
) -> int:
    """Take entries out of the queue for good, held ones and those under way included.

    What an attempt under way still reports is dropped. An entry whose last attempt was delivered or failed for good,
    and that is only about to leave the queue, is left to that. Each batch is committed by itself.

    Args:
        store: Where the queue is.
        directory: The look-ups of the configuration.
        hooks: Of the running server; None where no plugins run.
        ids: Of entries; those that are not in the queue are passed over.
        event: ``failed`` or ``canceled``.
        by: Who did it, for the event and the history.
        conditions: What entries must still meet when they are ended; None for nothing.

    Returns:
        How many entries were ended.

    Raises:
        ValueError: the event is another one.
        StoreError: the store did not take a batch; those before it are committed.
    """
    if event not in {EventKind.FAILED, EventKind.CANCELED}:
        raise ValueError(f"by hand an entry fails or is canceled; it is not {event}")
    ended, wanted = 0, tuple(dict.fromkeys(ids))
    for start in range(0, len(wanted), _BATCH):
        found = await store.read(functools.partial(_read, ids=wanted[start : start + _BATCH]))
        result = RecipientResult(Outcome.FAILED, error=f"{event} by {by}")
        chosen = []
        for entry, attempts in found:
            keep_for = await retention(hooks or Hooks(), directory, entry, event, attempts)
            bounce = None
            if event is EventKind.FAILED:
                bounce = await failure_bounce(store, directory, entry, result, why=Why.BY_HAND)
            chosen.append(_Chosen(entry, keep_for, result, bounce))
        unit = functools.partial(_end, chosen=chosen, event=event, conditions=conditions)
        ended += await store.write(unit, key="queue")
    log.info("entries were ended by hand", event=str(event), by=by, count=ended)
    return ended


def _read(transaction: Transaction, *, ids: Sequence[int]) -> list[tuple[Entry, tuple[Attempt, ...]]]:
    found = (transaction.queue.get(entry_id) for entry_id in ids)
    return [(entry, transaction.queue.attempts(entry.id)) for entry in found if entry is not None]


def _end(
    transaction: Transaction, *, chosen: Sequence[_Chosen], event: EventKind, conditions: QueueFilter | None
) -> int:
    if conditions is not None and chosen:
        ids = tuple(one.entry.id for one in chosen)
        fitting = set(transaction.queue.ids(replace(conditions, ids=ids, after_id=0, limit=len(ids))))
        chosen = [one for one in chosen if one.entry.id in fitting]
    return sum(_end_one(transaction, one, event) for one in chosen)


def _end_one(transaction: Transaction, chosen: _Chosen, event: EventKind) -> bool:
    entry = transaction.queue.get(chosen.entry.id)  # As it is now: an attempt may have begun or ended since.
    if entry is None:
        return False
    attempts = transaction.queue.attempts(entry.id)
    last = attempts[-1].result if attempts else None
    if last is not None and last.outcome is not Outcome.DEFERRED:
        return False
    told = retire(transaction, entry, event, chosen.result, attempts=attempts, keep_for=chosen.keep_for)
    if chosen.bounce is not None:
        told += place(transaction, chosen.bounce)
    transaction.events.record(told)
    return True
