"""How a webhook call leaves the queue: a retired row where the account keeps them, and the event that tells of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from mailcrane.config.directory import Directory
from mailcrane.model.event import EventKind, NewEvent
from mailcrane.model.webhook import CallResult, WebhookCall
from mailcrane.store.housekeeping import CALLS_OF_REMOVED_KEPT, EVENTS_KEPT
from mailcrane.store.records import CallFilter, LeasedCall, NewCall
from mailcrane.store.transaction import Transaction
from mailcrane.webhook.disabled import disable

_ALL = 1_000_000

DirectorySource = Callable[[], Directory]

DEAD_KEPT = EVENTS_KEPT
"""Calls that were given up are kept at least as long as the events that they told of, so that they can be replayed."""


def retention(directory: Directory, account: str) -> timedelta:
    """Return how long retired calls of an account are kept; zero keeps nothing."""
    known = directory.account(account)
    return CALLS_OF_REMOVED_KEPT if known is None else timedelta(seconds=known.keep_retired_webhooks_seconds)


def retired_event(
    call: WebhookCall,
    *,
    is_success: bool,
    code: int = 0,
    superseded_by_event: str = "",
    is_disabling: bool = False,
    canceled_by: str = "",
) -> NewEvent:
    """Return the event of a call that ended.

    Args:
        code: HTTP status of the last attempt; 0 without a response.
        superseded_by_event: Id of the event whose call took its place; empty otherwise.
        is_disabling: Whether the receiver said that it is gone.
        canceled_by: Who canceled it; empty otherwise.
    """
    data = {
        "call_id": call.id,
        "event_id": call.event_id,
        "url": call.target.url,
        "event": call.event,
        "is_success": is_success,
        "code": code,
        "attempts": call.attempts,
        "superseded_by": superseded_by_event,
        "is_disabling": is_disabling,
        "canceled_by": canceled_by,
    }
    return NewEvent(call.account, EventKind.WEBHOOK_RETIRED, call.entry_id, data)


def end_call(
    transaction: Transaction,
    leased: LeasedCall,
    result: CallResult,
    ended: list[NewEvent],
    *,
    keep: timedelta,
    is_gone: bool = False,
) -> bool:
    """Retire a call after its last attempt; False when the lease was lost and nothing was changed.

    Args:
        ended: Where the event is put that tells of it, which the caller records in the same unit.
        keep: The account's retention; a call that is given up is kept for `DEAD_KEPT` at least.
        is_gone: Whether the receiver wants no more, which is no reason to call it again.
    """
    call = leased.call
    is_dead = not result.is_success and not is_gone
    keep = max(keep, DEAD_KEPT) if is_dead else keep
    # Reckoned from the attempt, so that a unit that runs twice comes to the same.
    keep_until = result.started_at + keep if keep else None
    retired = transaction.webhooks.retire(
        call.id, leased.token, result, is_success=result.is_success, keep_until=keep_until, is_dead=is_dead
    )
    if retired is None:
        return False
    if is_gone:
        disable(transaction, call.account, call.target)
    ended.append(retired_event(call, is_success=result.is_success, code=result.code, is_disabling=is_gone))
    release_next(transaction, call)
    return True


def cancel_call(transaction: Transaction, call_id: int, *, by: str, keep: timedelta) -> bool:
    """Take a call out of the queue for an operator; False when it is not queued (any more).

    One that is under way is not broken off: its result is noted where the retired call is kept.
    """
    call = transaction.webhooks.get(call_id)
    if call is None:
        return False
    now = transaction.now
    result = CallResult(now, timedelta(0), False, error=f"canceled by {by}")
    transaction.webhooks.retire(call_id, None, result, is_success=False, keep_until=now + keep if keep else None)
    code = call.results[-1].code if call.results else 0
    transaction.events.record([retired_event(call, is_success=False, code=code, canceled_by=by)])
    release_next(transaction, call)
    return True


def earlier_calls(transaction: Transaction, call: WebhookCall) -> list[WebhookCall]:
    """The queued calls that a call has to wait for unless its mode is ``latest``: same entry and URL, queued before."""
    if not call.entry_id or call.target.mode == "latest":
        return []
    return [other for other in _siblings(transaction, call) if other.id < call.id]


def release_next(transaction: Transaction, call: WebhookCall) -> None:
    """Make the call due that waited for this one."""
    if not call.entry_id or call.target.mode == "latest":
        return
    for other in _siblings(transaction, call):
        transaction.webhooks.reschedule(other.id, transaction.now)
        return


def is_repetition(transaction: Transaction, call: NewCall) -> bool:
    """Whether a call of mode ``changes`` would tell what its receiver knows: the kind of the call before it.

    That is the last call of the same entry and URL that is queued or was successful. One that was given up or canceled
    has told nobody. Calls that ended are known from their events, which are there however long the account keeps calls.
    """
    if call.target.mode != "changes" or not call.entry_id:
        return False
    queued = transaction.webhooks.list(CallFilter(account=call.account, entry_id=call.entry_id, limit=_ALL))
    told = [(other.id, other.event) for other in queued if other.target.url == call.target.url]
    told += [
        (event.data["call_id"], event.data["event"])
        for event in transaction.events.for_entry(call.entry_id)
        if event.kind is EventKind.WEBHOOK_RETIRED
        and event.data["is_success"]
        and event.data["url"] == call.target.url
        and event.account == call.account
    ]
    return max(told, default=(0, ""))[1] == call.event


def _siblings(transaction: Transaction, call: WebhookCall) -> list[WebhookCall]:
    calls = transaction.webhooks.list(CallFilter(account=call.account, entry_id=call.entry_id, limit=_ALL))
    return [other for other in calls if other.target.url == call.target.url and other.id != call.id]
