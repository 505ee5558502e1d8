"""Queue entries and attempts as rows: what is selected, how it is read, and the conditions of a filter."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec

from mailcrane.model.address import NULL_REVERSE_PATH, Mailbox, ReversePath
from mailcrane.model.delivery import Attempt, Entry, RecipientResult
from mailcrane.store.records import QueueFilter
from mailcrane.store.sql import Row, from_us, to_us

COLUMNS = (
    "e.id, e.base_id, a.name, e.queued_at, e.reverse_local, e.reverse_domain, e.forward_local, e.destination,"
    " e.content_id, e.size_octets, e.message_id, e.subject, e.due_at, e.from_id, e.is_held, e.attempts,"
    " e.max_attempts, e.last_attempt_at, e.has_8bit, e.needs_smtputf8, e.transport, e.require_tls, e.future_release,"
    " e.extra"
)
WIDTH = 24
# A removed account has no name: what it left is not found.
FROM = "FROM entries e JOIN accounts a ON a.id = e.account_id AND a.name IS NOT NULL"

_extra_decoder = msgspec.json.Decoder(dict[str, str])
_result_decoder = msgspec.json.Decoder(RecipientResult)


def conditions(filter_: QueueFilter) -> tuple[str, list[Any]]:
    """Return what stands after WHERE for a filter, and its parameters."""
    found = ["e.id > ?"]
    parameters: list[Any] = [filter_.after_id]

    def add(condition: str, *values: Any) -> None:
        found.append(condition)
        parameters.extend(values)

    if filter_.ids:
        add(f"e.id IN ({', '.join('?' * len(filter_.ids))})", *filter_.ids)
    if filter_.account is not None:
        add("a.name = ?", filter_.account)
    if filter_.reverse_path_contains:
        add(
            "LOWER(COALESCE(e.reverse_local || '@' || e.reverse_domain, '')) LIKE ? ESCAPE '\\'",
            _pattern(filter_.reverse_path_contains),
        )
    if filter_.forward_path_contains:
        add(
            "LOWER(e.forward_local || '@' || e.destination) LIKE ? ESCAPE '\\'", _pattern(filter_.forward_path_contains)
        )
    if filter_.is_held is not None:
        add("e.is_held = ?", int(filter_.is_held))
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
    return " AND ".join(found), parameters


def _pattern(part: str) -> str:
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
    )


def attempt_of(row: Row) -> Attempt:
    """Return the attempt of a row of number, start, transport, duration and result."""
    number, started_at, transport, duration_us, result = row
    return Attempt(
        number,
        from_us(started_at),
        transport,
        None if duration_us is None else timedelta(microseconds=duration_us),
        None if result is None else _result_decoder.decode(result),
    )
