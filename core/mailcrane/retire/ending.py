"""The last unit of an attempt: the entry leaves the queue, or gets a new due time, with the events that tell of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace

from mailcrane.model.delivery import Attempt, Entry, Outcome, RecipientResult
from mailcrane.model.event import EventKind, NewEvent
from mailcrane.model.retired import Retired
from mailcrane.retire import events
from mailcrane.retire.bounce import Bounce, place
from mailcrane.retire.suppression import NO_SUPPRESSION, SuppressionPlan, carry_out
from mailcrane.store.records import Leased
from mailcrane.store.transaction import Transaction


class Ending(Struct, frozen=True):
    """What an attempt comes to for one entry, after all hooks were asked.

    Attributes:
        leased: The entry, with the token of its lease and its last attempt as the transport reported it.
        result: What the attempt's result is taken for.
        due_at: When the entry is tried again; None when it leaves the queue.
        keep_for: How long the retired entry is kept; zero keeps none.
        suppression: What a failure does to the account's suppression list.
        bounce: What tells the sender, to be placed in the same unit; None for nothing.
        is_suppressed: Whether it was not attempted because its recipient is suppressed.
    """

    leased: Leased
    result: RecipientResult
    due_at: datetime | None = None
    keep_for: timedelta = timedelta(0)
    suppression: SuppressionPlan = NO_SUPPRESSION
    bounce: Bounce | None = None
    is_suppressed: bool = False

    @property
    def event(self) -> EventKind:
        """The event that an application is told of."""
        if self.due_at is not None:
            return EventKind.DELAYED
        if self.is_suppressed:
            return EventKind.SUPPRESSED
        return EventKind.DELIVERED if self.result.outcome is Outcome.DELIVERED else EventKind.FAILED

    @property
    def attempt(self) -> Attempt:
        """The last attempt with the result that it is taken for."""
        return replace(self.leased.attempt, result=self.result)


def end_attempts(transaction: Transaction, endings: Sequence[Ending]) -> frozenset[int]:
    """Write endings and their events.

    Returns:
        The ids of the entries that were not written, because another worker holds them by now or they are gone.
    """
    lost: set[int] = set()
    told: list[NewEvent] = []
    for ending in endings:
        entry = ending.leased.entry
        if not transaction.queue.holds(entry.id, ending.leased.token):
            lost.add(entry.id)
        elif ending.due_at is not None:
            told += _put_off(transaction, ending, ending.due_at)
        else:
            told += _retire(transaction, ending)
    transaction.events.record(told)
    return frozenset(lost)


def _put_off(transaction: Transaction, ending: Ending, due_at: datetime) -> list[NewEvent]:
    entry, token = ending.leased.entry, ending.leased.token
    is_revised = ending.result != ending.leased.attempt.result
    transaction.queue.reschedule(entry.id, token, due_at, result=ending.result if is_revised else None)
    return [
        events.attempt_finished(entry, ending.attempt, due_at),
        events.outgoing(entry, EventKind.DELAYED, ending.result),
        *(() if ending.bounce is None else place(transaction, ending.bounce)),
    ]


def _retire(transaction: Transaction, ending: Ending) -> list[NewEvent]:
    entry = ending.leased.entry
    before = transaction.queue.attempts(entry.id)[:-1] if entry.attempts > 1 and ending.keep_for else ()
    added = None
    if ending.event is EventKind.DELIVERED:
        transaction.suppressions.forget_failures(entry.forward_path)
    else:
        added = carry_out(transaction, entry, ending.result, ending.suppression)
    told = [] if added is None else [events.suppression_changed(added, "added")]
    return [
        events.attempt_finished(entry, ending.attempt, None),
        *told,
        *retire(
            transaction,
            entry,
            ending.event,
            ending.result,
            attempts=(*before, ending.attempt),
            keep_for=ending.keep_for,
            token=ending.leased.token,
            is_suppressing=added is not None,
        ),
        *(() if ending.bounce is None else place(transaction, ending.bounce)),
    ]


def retire(
    transaction: Transaction,
    entry: Entry,
    event: EventKind,
    result: RecipientResult,
    *,
    attempts: Sequence[Attempt],
    keep_for: timedelta,
    token: int | None = None,
    is_suppressing: bool = False,
) -> list[NewEvent]:
    """Take an entry out of the queue.

    Args:
        transaction: The unit.
        entry: In the queue, and the caller's if it has a lease.
        event: How it ends: ``delivered``, ``failed``, ``suppressed`` or ``canceled``.
        result: What the application is told of the end.
        attempts: The history that is kept.
        keep_for: How long; zero keeps nothing.
        token: Of the lease; None takes the entry whoever holds it.
        is_suppressing: Whether the recipient was put on the suppression list because of it.

    Returns:
        The events that tell of it, to be recorded in this unit.
    """
    is_success, is_kept = event is EventKind.DELIVERED, keep_for > timedelta(0)
    if is_kept:
        until = transaction.now + keep_for
        transaction.retired.add(Retired(entry, event, is_success, transaction.now, until, tuple(attempts)))
    transaction.queue.remove(entry.id, token)
    return [
        events.outgoing(entry, event, result, is_suppressing=is_suppressing),
        events.entry_retired(entry, event, is_success=is_success, is_kept=is_kept),
    ]
