"""How a webhook call leaves the queue: a retired row where the account keeps them, and the event that tells of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from mailcrane.config.directory import Directory
from mailcrane.model.event import EventKind, NewEvent
from mailcrane.model.webhook import CallResult, WebhookCall
from mailcrane.store.records import CallFilter, LeasedCall
from mailcrane.store.transaction import Transaction
from mailcrane.webhook.disabled import disable

DirectorySource = Callable[[], Directory]

OF_UNKNOWN_ACCOUNTS = timedelta(days=7)
"""For calls of an account that is gone: somebody may still ask what became of them."""


def retention(directory: Directory, account: str) -> timedelta:
    """Return how long retired calls of an account are kept; zero keeps nothing."""
    known = directory.account(account)
    return OF_UNKNOWN_ACCOUNTS if known is None else timedelta(seconds=known.keep_retired_webhooks_seconds)


def retired_event(
    call: WebhookCall, *, is_success: bool, code: int = 0, superseded_by_event: str = "", is_disabling: bool = False
) -> NewEvent:
    """Return the event of a call that ended.

    Args:
        code: HTTP status of the last attempt; 0 without a response.
        superseded_by_event: Id of the event whose call took its place; empty otherwise.
        is_disabling: Whether the receiver said that it is gone.
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
    }
    return NewEvent(call.account, EventKind.WEBHOOK_RETIRED, call.entry_id, data)


def end_call(
    transaction: Transaction, leased: LeasedCall, result: CallResult, *, keep: timedelta, is_gone: bool = False
) -> bool:
    """Retire a call after its last attempt; False when the lease was lost and nothing was changed."""
    call = leased.call
    # Reckoned from the attempt, so that a unit that runs twice comes to the same.
    keep_until = result.started_at + keep if keep else None
    retired = transaction.webhooks.retire(
        call.id, leased.token, result, is_success=result.is_success, keep_until=keep_until
    )
    if retired is None:
        return False
    if is_gone:
        disable(transaction, call.account, call.target)
    event = retired_event(call, is_success=result.is_success, code=result.code, is_disabling=is_gone)
    transaction.events.record([event])
    release_next(transaction, call)
    return True


def earlier_calls(transaction: Transaction, call: WebhookCall) -> list[WebhookCall]:
    """The queued calls that a call of mode ``all`` has to wait for: same entry, same URL, queued before."""
    if not call.entry_id or call.target.mode != "all":
        return []
    return [other for other in _siblings(transaction, call) if other.id < call.id]


def release_next(transaction: Transaction, call: WebhookCall) -> None:
    """Make the call due that waited for this one."""
    if not call.entry_id or call.target.mode != "all":
        return
    for other in _siblings(transaction, call):
        transaction.webhooks.reschedule(other.id, transaction.now)
        return


def _siblings(transaction: Transaction, call: WebhookCall) -> list[WebhookCall]:
    calls = transaction.webhooks.list(CallFilter(account=call.account, entry_id=call.entry_id))
    return [other for other in calls if other.target.url == call.target.url and other.id != call.id]
