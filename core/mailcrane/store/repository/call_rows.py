"""Rows of webhook calls: what is read of them, and the conditions of the filters."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec

from mailcrane.model.webhook import CallResult, RetiredCall, WebhookCall, WebhookTarget
from mailcrane.store.records import CallFilter, RetiredCallFilter
from mailcrane.store.sql import Row, from_us, to_us

COLUMNS = (
    "c.id, a.name, c.event_id, c.event, c.entry_id, c.target, c.payload, c.submitted_at, c.due_at, c.attempts,"
    " c.results, c.lease_until IS NOT NULL"
)
WIDTH = 12

_target_decoder = msgspec.json.Decoder(WebhookTarget)
_results_decoder = msgspec.json.Decoder(tuple[CallResult, ...])
_retired_decoder = msgspec.json.Decoder(RetiredCall)


def call_of(row: Row) -> WebhookCall:
    """Return the call of a row of `COLUMNS`."""
    return WebhookCall(
        id=row[0],
        account=row[1],
        event_id=row[2],
        event=row[3],
        entry_id=row[4],
        target=_target_decoder.decode(row[5]),
        payload=row[6],
        submitted_at=from_us(row[7]),
        due_at=from_us(row[8]),
        attempts=row[9],
        results=results_of(row[10]),
        is_under_way=bool(row[11]),
    )


def results_of(stored: bytes) -> tuple[CallResult, ...]:
    """Return the results that a call has had."""
    return _results_decoder.decode(stored) if stored else ()


def retired_of(stored: bytes, is_dead: int) -> RetiredCall:
    """Return a retired call from its stored value and the mark that may change afterwards."""
    retired = _retired_decoder.decode(stored)
    return msgspec.structs.replace(retired, is_dead=True) if is_dead else retired


def queued_conditions(filter_: CallFilter) -> tuple[str, list[Any]]:
    """Return condition and order for the calls ``c`` of accounts ``a``, and the parameters."""
    conditions = ["a.name IS NOT NULL"]
    parameters: list[Any] = []
    _add_common(conditions, parameters, filter_, "a.name")
    for column, operator, bound in (
        ("c.due_at", ">", filter_.due_after),
        ("c.due_at", "<", filter_.due_before),
    ):
        _add_bound(conditions, parameters, column, operator, bound)
    beyond, direction = ("<", "DESC") if filter_.is_descending else (">", "ASC")
    if not filter_.is_by_due:
        return _ordered_by_id(conditions, parameters, filter_)
    if filter_.after_due_at is not None:
        conditions.append(f"(c.due_at, c.id) {beyond} (?, ?)")
        parameters += [to_us(filter_.after_due_at), filter_.after_id]
    return f"{' AND '.join(conditions)} ORDER BY c.due_at {direction}, c.id {direction}", parameters


def retired_conditions(filter_: RetiredCallFilter) -> tuple[str, list[Any]]:
    """Return condition and order for the retired calls ``c``, and the parameters."""
    conditions = ["1 = 1"]
    parameters: list[Any] = []
    _add_common(conditions, parameters, filter_, "c.account")
    for column, operator, bound in (
        ("c.retired_at", ">", filter_.retired_after),
        ("c.retired_at", "<", filter_.retired_before),
    ):
        _add_bound(conditions, parameters, column, operator, bound)
    if filter_.is_success is not None:
        conditions.append("c.is_success = ?")
        parameters.append(int(filter_.is_success))
    if filter_.is_dead is not None:
        # Written out, so that SQLite sees that the index of dead ones fits.
        conditions.append(f"c.is_dead = {int(filter_.is_dead)}")
    return _ordered_by_id(conditions, parameters, filter_)


def _add_common(
    conditions: list[str], parameters: list[Any], filter_: CallFilter | RetiredCallFilter, account: str
) -> None:
    if filter_.ids:
        conditions.append(f"c.id IN ({', '.join('?' * len(filter_.ids))})")
        parameters.extend(filter_.ids)
    for condition, value in (
        (f"{account} = ?", filter_.account),
        ("c.event = ?", filter_.event),
        ("c.entry_id = ?", filter_.entry_id),
    ):
        if value is not None:
            conditions.append(condition)
            parameters.append(value)
    _add_bound(conditions, parameters, "c.submitted_at", ">", filter_.submitted_after)
    _add_bound(conditions, parameters, "c.submitted_at", "<", filter_.submitted_before)


def _add_bound(
    conditions: list[str], parameters: list[Any], column: str, operator: str, bound: datetime | None
) -> None:
    if bound is not None:
        conditions.append(f"{column} {operator} ?")
        parameters.append(to_us(bound))


def _ordered_by_id(
    conditions: list[str], parameters: list[Any], filter_: CallFilter | RetiredCallFilter
) -> tuple[str, list[Any]]:
    beyond, direction = ("<", "DESC") if filter_.is_descending else (">", "ASC")
    if filter_.after_id:
        conditions.append(f"c.id {beyond} ?")
        parameters.append(filter_.after_id)
    return f"{' AND '.join(conditions)} ORDER BY c.id {direction}", parameters


def retired_columns(retired: RetiredCall, keep_until: datetime) -> tuple[Any, ...]:
    """Return what a retired call is found by: account, event, entry and instants, for the columns of those names."""
    call = retired.call
    return (
        call.account,
        call.event,
        call.entry_id,
        to_us(call.submitted_at),
        to_us(retired.retired_at),
        to_us(keep_until),
        int(retired.is_success),
    )


def without_secrets(call: WebhookCall, result: CallResult | None, at: datetime, **fields: Any) -> RetiredCall:
    """Return a call as it is retired: with a last result, without what only a call under way needs to know.

    Args:
        result: Put behind the others; None for none.
        at: When it is retired.
        fields: Of `RetiredCall`: ``is_success``, ``superseded_by``, ``keep_until``.
    """
    if result is not None:
        call = msgspec.structs.replace(call, results=(*call.results, result))
    has_authorization = bool(call.target.authorization)
    target = msgspec.structs.replace(call.target, authorization="", secrets=())
    call = msgspec.structs.replace(call, target=target, is_under_way=False)
    return RetiredCall(call, retired_at=at, has_authorization=has_authorization, **fields)


REMOVED = "the account was removed"


def removed_result(at: datetime) -> CallResult:
    """Return the last result of a call whose account was removed."""
    return CallResult(at, timedelta(0), False, error=REMOVED)
