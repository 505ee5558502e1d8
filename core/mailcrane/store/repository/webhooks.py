"""Webhook calls: queued, leased while they are made, retired.

A worker leases what is due; the lease counts the attempt and sets the next due time, so that a crash is a counted
attempt. A newer call may end older ones of the same entry and URL; what becomes of one that was under way is still
noted on its retired row.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from mailcrane.model.webhook import CallResult, RetiredCall, WebhookCall, WebhookTarget
from mailcrane.store.records import CallFilter, LeasedCall, NewCall, Worker
from mailcrane.store.repository.accounts import Accounts
from mailcrane.store.repository.heads import Heads
from mailcrane.store.sql import SQL, Row, Unit, from_us, to_us

_COLUMNS = (
    "c.id, a.name, c.event_id, c.event, c.entry_id, c.target, c.payload, c.submitted_at, c.due_at, c.attempts,"
    " c.results"
)
_WIDTH = 11
# A removed account has no name: what it left is not found.
_FROM = "FROM calls c JOIN accounts a ON a.id = c.account_id AND a.name IS NOT NULL"

_target_decoder = msgspec.json.Decoder(WebhookTarget)
_results_decoder = msgspec.json.Decoder(tuple[CallResult, ...])
_retired_decoder = msgspec.json.Decoder(RetiredCall)
_encode = msgspec.json.Encoder().encode


_ALL = CallFilter()


class WebhooksRepository:
    """Webhook calls, queued and retired; a call keeps its id."""

    def __init__(self, sql: SQL, unit: Unit, accounts: Accounts) -> None:
        self._sql = sql
        self._unit = unit
        self._accounts = accounts
        self._heads = Heads(sql, "url")

    def add(self, calls: Sequence[NewCall], *, keep_superseded: timedelta = timedelta(0)) -> list[int]:
        """Queue calls and return their ids, in order.

        Args:
            calls: Those with `supersedes` end queued calls of the same entry (not 0) and URL.
            keep_superseded: How long the ended ones are kept as retired; zero keeps them not at all.

        Raises:
            UnknownAccount: an account does not exist (any more).
        """
        ids = []
        for call in calls:
            due_at = to_us(call.due_at)
            row = self._sql.row(
                "INSERT INTO calls (account_id, event_id, event, entry_id, url, target, payload, submitted_at, due_at,"
                " pick_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
                (
                    self._accounts.id_of(call.account),
                    call.event_id,
                    call.event,
                    call.entry_id,
                    call.target.url,
                    _encode(call.target),
                    call.payload,
                    self._unit.now_us,
                    due_at,
                    due_at,
                ),
            )
            assert row is not None, "RETURNING gives the row that was written"
            ids.append(int(row[0]))
            if call.supersedes and call.entry_id:
                self._supersede(call, ids[-1], keep_superseded)
            self._heads.lower(call.target.url, due_at)
        if ids:
            self._unit.wake("webhooks")
        return ids

    def get(self, call_id: int) -> WebhookCall | None:
        """Return a queued call, or None when it is not queued (any more)."""
        row = self._sql.row(f"SELECT {_COLUMNS} {_FROM} WHERE c.id = ?", (call_id,))
        return None if row is None else _call(row)

    def list(self, filter_: CallFilter = _ALL) -> builtins.list[WebhookCall]:
        """Return the queued calls that meet a filter, in the order of their ids."""
        where, parameters = _conditions(filter_)
        rows = self._sql.rows(
            f"SELECT {_COLUMNS} {_FROM} WHERE {where} ORDER BY c.id LIMIT ?", (*parameters, filter_.limit)
        )
        return [_call(row) for row in rows]

    def next_due_at(self, *, exclude_urls: Collection[str] = ()) -> datetime | None:
        """Return when to look for due calls next; it may be a little early, never late. None when nothing waits."""
        return from_us(self._heads.earliest(exclude_urls))

    # --- making calls -------------------------------------------------------------------------------------------

    def lease_due(
        self,
        worker: Worker,
        until: datetime,
        limit: int,
        *,
        next_due_at: Callable[[WebhookCall], datetime],
        per_url: int | None = None,
        running: Mapping[str, int] | None = None,
        exclude_urls: Collection[str] = (),
    ) -> builtins.list[LeasedCall]:
        """Lease calls that are due and count the attempts that begin now, the oldest first over the URLs.

        Args:
            worker: Who holds the leases.
            until: End of the leases.
            limit: The most calls that are leased.
            next_due_at: When a call is due again should it not succeed; a pure function of the call, whose `attempts`
                count this one already.
            per_url: The most calls that may be under way to one URL, with `running` counted.
            running: Calls under way by URL.
            exclude_urls: URLs that are left alone.
        """
        now = self._unit.now_us
        busy = running or {}
        leased: builtins.list[LeasedCall] = []
        excluded = set(exclude_urls)
        if per_url is not None:
            excluded.update(url for url, count in busy.items() if count >= per_url)
        for url in self._heads.due(now, excluded, limit):
            room = limit - len(leased)
            if per_url is not None:
                room = min(room, per_url - busy.get(url, 0))
            rows = self._sql.rows(
                f"SELECT {_COLUMNS}, c.token {_FROM} WHERE c.url = ? AND c.pick_at <= ?"
                " ORDER BY c.pick_at, c.id LIMIT ?",
                (url, now, room),
            )
            leased.extend(self._begin(row, worker, to_us(until), next_due_at) for row in rows)
            head = self._sql.row(
                "SELECT pick_at FROM calls WHERE url = ? AND pick_at IS NOT NULL ORDER BY pick_at LIMIT 1", (url,)
            )
            self._heads.set(url, None if head is None else head[0])
            if len(leased) >= limit:
                break
        return leased

    def finish(self, call_id: int, token: int, result: CallResult, due_at: datetime | None = None) -> bool:
        """Note the result of a call that is to be made again, and end its lease.

        For a call that was superseded meanwhile the result is noted on its retired row, marked as superseded.

        Args:
            call_id: Of the call.
            token: Of its lease.
            result: Of the attempt.
            due_at: When it is made again; None for what `lease_due` was told.

        Returns:
            False when the token is old or the call is not queued any more.
        """
        row = self._sql.row("SELECT results, due_at, url FROM calls WHERE id = ? AND token = ?", (call_id, token))
        if row is None:
            self._note_superseded(call_id, token, result)
            return False
        results, due_us, url = row
        if due_at is not None:
            due_us = to_us(due_at)
        self._sql.run(
            "UPDATE calls SET results = ?, due_at = ?, pick_at = ?, lease_until = NULL, token = token + 1 WHERE id = ?",
            (_encode((*_results(results), result)), due_us, due_us, call_id),
        )
        self._heads.lower(url, due_us)
        self._unit.wake("webhooks")
        return True

    def postpone(self, call_id: int, token: int, due_at: datetime) -> bool:
        """Give back a call that was leased but not made: its attempt is taken back and its lease ended.

        Returns:
            False when the token is old or the call is not queued any more.
        """
        row = self._sql.row(
            "UPDATE calls SET attempts = attempts - 1, due_at = ?, pick_at = ?, lease_until = NULL, token = token + 1"
            " WHERE id = ? AND token = ? RETURNING url",
            (to_us(due_at), to_us(due_at), call_id, token),
        )
        if row is None:
            return False
        self._heads.lower(row[0], to_us(due_at))
        self._unit.wake("webhooks")
        return True

    def retire(
        self,
        call_id: int,
        token: int | None,
        result: CallResult | None,
        *,
        is_success: bool,
        keep_until: datetime | None = None,
    ) -> RetiredCall | None:
        """Take a call out of the queue, for good.

        Args:
            call_id: Of the call.
            token: Of its lease; None retires it whoever holds it (an operator's cancel).
            result: Of the last attempt, or of the cancel; noted like in `finish` where the call was superseded.
            is_success: What the retired row says.
            keep_until: How long the retired row is kept; None keeps none.

        Returns:
            The call as it was retired; None when the token is old or the call is not queued any more.
        """
        row = self._sql.row(
            f"SELECT {_COLUMNS}, c.token {_FROM} WHERE c.id = ? AND (c.token = ? OR ? IS NULL)",
            (call_id, token, token),
        )
        if row is None:
            if token is not None and result is not None:
                self._note_superseded(call_id, token, result)
            return None
        return self._retire(row, result, is_success=is_success, superseded_by=0, keep_until=keep_until)

    def renew(self, leases: Iterable[tuple[int, int]], until: datetime) -> set[int]:
        """Make leases longer, given as pairs of call id and token; returns the ids that are still held."""
        until_us = to_us(until)
        return {
            call_id
            for call_id, token in leases
            if self._sql.run(
                "UPDATE calls SET lease_until = ?, pick_at = CASE WHEN due_at > ? THEN due_at ELSE ? END"
                " WHERE id = ? AND token = ? AND lease_until IS NOT NULL",
                (until_us, until_us, until_us, call_id, token),
            )
        }

    def release_boots(self, worker: Worker) -> int:
        """End the leases of other boots of the worker's machine; their calls wait for their next due time."""
        dead = self._sql.rows(
            "SELECT id, due_at, url FROM calls WHERE lease_until IS NOT NULL AND lease_machine = ? AND lease_boot <> ?",
            (worker.machine, worker.boot),
        )
        for call_id, due_at, url in dead:
            self._sql.run(
                "UPDATE calls SET token = token + 1, lease_until = NULL, pick_at = due_at WHERE id = ?", (call_id,)
            )
            self._heads.lower(url, due_at)
        if dead:
            self._unit.wake("webhooks")
        return len(dead)

    def reschedule(self, call_id: int, due_at: datetime) -> bool:
        """Let an operator set when a call is made next. A call under way is left alone. False: it is not waiting."""
        row = self._sql.row(
            "UPDATE calls SET due_at = ?, pick_at = ? WHERE id = ? AND lease_until IS NULL RETURNING url",
            (to_us(due_at), to_us(due_at), call_id),
        )
        if row is None:
            return False
        self._heads.lower(row[0], to_us(due_at))
        self._unit.wake("webhooks")
        return True

    # --- retired ------------------------------------------------------------------------------------------------

    def get_retired(self, call_id: int) -> RetiredCall | None:
        """Return a retired call, or None when it is not kept (any more)."""
        row = self._sql.row("SELECT value FROM retired_calls WHERE id = ?", (call_id,))
        return None if row is None else _retired_decoder.decode(row[0])

    def retired_list(self, filter_: CallFilter = _ALL) -> builtins.list[RetiredCall]:
        """Return the retired calls that meet a filter, in the order of their ids."""
        where, parameters = _conditions(filter_)
        rows = self._sql.rows(
            "SELECT c.value FROM retired_calls c JOIN accounts a ON a.id = c.account_id"
            f" WHERE {where} ORDER BY c.id LIMIT ?",
            (*parameters, filter_.limit),
        )
        return [_retired_decoder.decode(value) for (value,) in rows]

    def purge(self, now: datetime, *, limit: int = 1000) -> int:
        """Remove retired calls that are kept no longer; returns how many."""
        rows = self._sql.rows("SELECT id FROM retired_calls WHERE keep_until <= ? LIMIT ?", (to_us(now), limit))
        self._sql.run_many("DELETE FROM retired_calls WHERE id = ?", rows)
        return len(rows)

    # --- inside -------------------------------------------------------------------------------------------------

    def _begin(
        self, row: Row, worker: Worker, until: int, next_due_at: Callable[[WebhookCall], datetime]
    ) -> LeasedCall:
        call, token = _call(row), row[_WIDTH] + 1
        call = msgspec.structs.replace(call, attempts=call.attempts + 1)
        call = msgspec.structs.replace(call, due_at=next_due_at(call))
        due_at = to_us(call.due_at)
        self._sql.run(
            "UPDATE calls SET token = ?, lease_until = ?, lease_machine = ?, lease_boot = ?, attempts = ?, due_at = ?,"
            " pick_at = ? WHERE id = ?",
            (token, until, worker.machine, worker.boot, call.attempts, due_at, max(until, due_at), call.id),
        )
        return LeasedCall(call, token)

    def _supersede(self, newer: NewCall, newer_id: int, keep: timedelta) -> None:
        rows = self._sql.rows(
            f"SELECT {_COLUMNS}, c.token {_FROM} WHERE c.entry_id = ? AND c.url = ? AND c.id < ?",
            (newer.entry_id, newer.target.url, newer_id),
        )
        keep_until = self._unit.now + keep if keep else None
        for row in rows:
            self._retire(row, None, is_success=False, superseded_by=newer_id, keep_until=keep_until)

    def _retire(
        self, row: Row, result: CallResult | None, *, is_success: bool, superseded_by: int, keep_until: datetime | None
    ) -> RetiredCall:
        call, token = _call(row), row[_WIDTH]
        if result is not None:
            call = msgspec.structs.replace(call, results=(*call.results, result))
        # The value of Authorization and the secrets are of no use any more and are not kept.
        target = msgspec.structs.replace(call.target, authorization="", secrets=())
        call = msgspec.structs.replace(call, target=target)
        retired = RetiredCall(call, is_success, superseded_by, self._unit.now, keep_until or self._unit.now)
        self._sql.run("DELETE FROM calls WHERE id = ?", (call.id,))
        if keep_until is not None:
            self._sql.run(
                "INSERT INTO retired_calls (id, account_id, event, entry_id, token, keep_until, value)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    call.id,
                    self._accounts.id_of(call.account),
                    call.event,
                    call.entry_id,
                    token,
                    to_us(keep_until),
                    _encode(retired),
                ),
            )
        return retired

    def _note_superseded(self, call_id: int, token: int, result: CallResult) -> None:
        row = self._sql.row("SELECT value FROM retired_calls WHERE id = ? AND token = ?", (call_id, token))
        if row is None:
            return
        retired = _retired_decoder.decode(row[0])
        if not retired.superseded_by:
            return
        noted = msgspec.structs.replace(result, error=f"{result.error} (superseded)".lstrip())
        call = msgspec.structs.replace(retired.call, results=(*retired.call.results, noted))
        # One result per attempt: the token is used up.
        self._sql.run(
            "UPDATE retired_calls SET value = ?, token = token + 1 WHERE id = ?",
            (_encode(msgspec.structs.replace(retired, call=call)), call_id),
        )


def _conditions(filter_: CallFilter) -> tuple[str, list[Any]]:
    conditions = ["c.id > ?", "a.name IS NOT NULL"]
    parameters: list[Any] = [filter_.after_id]
    if filter_.ids:
        conditions.append(f"c.id IN ({', '.join('?' * len(filter_.ids))})")
        parameters.extend(filter_.ids)
    for condition, value in (
        ("a.name = ?", filter_.account),
        ("c.event = ?", filter_.event),
        ("c.entry_id = ?", filter_.entry_id),
    ):
        if value is not None:
            conditions.append(condition)
            parameters.append(value)
    return " AND ".join(conditions), parameters


def _results(stored: bytes) -> tuple[CallResult, ...]:
    return _results_decoder.decode(stored) if stored else ()


def _call(row: Row) -> WebhookCall:
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
        results=_results(row[10]),
    )
