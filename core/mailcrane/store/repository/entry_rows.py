"""Queue entries and attempts as rows: what is selected, how it is read, and the conditions of a filter."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec

from mailcrane.model.address import NULL_REVERSE_PATH, Mailbox, ReversePath
from mailcrane.model.delivery import Attempt, Entry, RecipientResult
from mailcrane.store.records import QueueFilter, QueueSort
from mailcrane.store.sql import Row, from_us, to_us

COLUMNS = (
    "e.id, e.base_id, a.name, e.queued_at, e.reverse_local, e.reverse_domain, e.forward_local, e.destination,"
    " e.content_id, e.size_octets, e.message_id, e.subject, e.due_at, e.from_id, e.is_held, e.attempts,"
    " e.max_attempts, e.last_attempt_at, e.has_8bit, e.needs_smtputf8, e.transport, e.require_tls, e.future_release,"
    " e.extra, e.hold_rule"
)
WIDTH = 25
# A removed account has no name: what it left is not found.
FROM = "FROM entries e JOIN accounts a ON a.id = e.account_id AND a.name IS NOT NULL"

_REVERSE_PATH_CONTAINS = "LOWER(COALESCE(e.reverse_local || '@' || e.reverse_domain, '')) LIKE ? ESCAPE '\\'"
_FORWARD_PATH_CONTAINS = "LOWER(e.forward_local || '@' || e.destination) LIKE ? ESCAPE '\\'"

_extra_decoder = msgspec.json.Decoder(dict[str, str])
_result_decoder = msgspec.json.Decoder(RecipientResult)


def conditions(filter_: QueueFilter) -> tuple[str, list[Any]]:
    """Return what stands after WHERE for a filter, and its parameters."""
    found: list[str] = []
    parameters: list[Any] = []

    def add(condition: str, *values: Any) -> None:
        found.append(condition)
        parameters.extend(values)

    if filter_.ids:
        add(f"e.id IN ({', '.join('?' * len(filter_.ids))})", *filter_.ids)
    if filter_.account is not None:
        add("a.name = ?", filter_.account)
    paths = [
        (condition, containing(part))
        for condition, part in (
            (_REVERSE_PATH_CONTAINS, filter_.reverse_path_contains),
            (_FORWARD_PATH_CONTAINS, filter_.forward_path_contains),
        )
        if part
    ]
    if paths:
        add(f"({' OR '.join(condition for condition, _ in paths)})", *(pattern for _, pattern in paths))
    if filter_.sender_domain is not None:
        add("e.reverse_domain = ?", filter_.sender_domain)
    if filter_.recipient_domain is not None:
        add("e.destination = ?", filter_.recipient_domain)
    if filter_.is_held is not None:
        add(f"e.is_held = {int(filter_.is_held)}")
    if filter_.transport is not None:
        add("e.transport = ?", filter_.transport)
    if filter_.content_id is not None:
        add("e.content_id = ?", filter_.content_id)
    for condition, at in (
        ("e.queued_at > ?", filter_.queued_after),
        ("e.queued_at < ?", filter_.queued_before),
        ("e.due_at > ?", filter_.due_after),
        ("e.due_at < ?", filter_.due_before),
    ):
        if at is not None:
            add(condition, to_us(at))
    if filter_.until_id is not None:
        add("e.id <= ?", filter_.until_id)
    _add_page(filter_, add)
    return " AND ".join(found) or "1 = 1", parameters


def order(filter_: QueueFilter) -> str:
    """Return what stands after ORDER BY for a filter."""
    way = "DESC" if filter_.is_descending else "ASC"
    # Ids are given out in the order of queueing, so that needs no index of its own.
    return f"e.id {way}" if filter_.sort is QueueSort.QUEUED else f"e.due_at {way}, e.id {way}"


def _add_page(filter_: QueueFilter, add: Callable[..., None]) -> None:
    if not filter_.after_id:
        return
    beyond = "<" if filter_.is_descending else ">"
    if filter_.sort is QueueSort.QUEUED or filter_.after_due_at is None:
        add(f"e.id {beyond} ?", filter_.after_id)
    else:
        add(f"(e.due_at, e.id) {beyond} (?, ?)", to_us(filter_.after_due_at), filter_.after_id)


def containing(part: str) -> str:
    """Return the pattern for LIKE that finds a part in text that is lower case, with ``\\`` as escape."""
    escaped = part.lower().replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


def tristate(value: bool | None) -> int | None:
    """Return an optional boolean as it is stored."""
    return None if value is None else int(value)


def entry_of(row: Row) -> Entry:
    """Return the entry of a row that begins with `COLUMNS`."""
    reverse_local, reverse_domain = row[4], row[5]
    require_tls = row[21]
    return Entry(
        id=row[0],
        base_id=row[1],
        account=row[2],
        queued_at=from_us(row[3]),
        reverse_path=NULL_REVERSE_PATH
        if reverse_domain is None
        else ReversePath(Mailbox(reverse_local, reverse_domain)),
        forward_path=Mailbox(row[6], row[7]),
        content_id=row[8],
        size_octets=row[9],
        message_id=row[10],
        subject=row[11],
        due_at=from_us(row[12]),
        from_id=row[13],
        is_held=bool(row[14]),
        attempts=row[15],
        max_attempts=row[16],
        last_attempt_at=from_us(row[17]),
        has_8bit=bool(row[18]),
        needs_smtputf8=bool(row[19]),
        transport=row[20],
        require_tls=None if require_tls is None else bool(require_tls),
        future_release=row[22],
        extra=_extra_decoder.decode(row[23]) if row[23] else {},
        hold_rule=row[24],
    )


def attempt_of(row: Row) -> Attempt:
    """Return the attempt of a row of number, start, transport, duration, result and route."""
    number, started_at, transport, duration_us, result, route = row
    return Attempt(
        number,
        from_us(started_at),
        transport,
        None if duration_us is None else timedelta(microseconds=duration_us),
        None if result is None else _result_decoder.decode(result),
        route,
    )
