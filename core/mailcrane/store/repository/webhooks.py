"""Webhook calls: queued, leased while they are made, retired.

A worker leases what is due; the lease counts the attempt and sets the next due time, so that a crash is a counted
attempt. A newer call may end older ones of the same entry and URL; what becomes of one that was under way is still
noted on its retired row.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime, timedelta

import msgspec

from mailcrane.model.webhook import CallResult, RetiredCall, WebhookCall
from mailcrane.store.records import CallFilter, LeasedCall, NewCall, RetiredCallFilter, Worker
from mailcrane.store.repository.accounts import Accounts
from mailcrane.store.repository.call_rows import (
    COLUMNS,
    WIDTH,
    call_of,
    queued_conditions,
    removed_result,
    results_of,
    retired_columns,
    retired_conditions,
    retired_of,
    without_secrets,
)
from mailcrane.store.repository.heads import Heads
from mailcrane.store.sql import SQL, Row, Unit, from_us, to_us

# A removed account has no name: what it left is not found.
_FROM = "FROM calls c JOIN accounts a ON a.id = c.account_id AND a.name IS NOT NULL"

_encode = msgspec.json.Encoder().encode

_IDS_PER_STATEMENT = 32
_ENTRIES_WAITED_FOR = (
    f"SELECT DISTINCT entry_id FROM calls WHERE entry_id IN ({', '.join('?' * _IDS_PER_STATEMENT)}) AND entry_id <> 0"
)

_ALL = CallFilter()
_ALL_RETIRED = RetiredCallFilter()


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
        account_ids = {name: self._accounts.id_of(name) for name in {call.account for call in calls}}
        heads: dict[str, int] = {}
        for call in calls:
            due_at = to_us(call.due_at)
            row = self._sql.row(
                "INSERT INTO calls (account_id, event_id, event, entry_id, url, target, payload, submitted_at, due_at,"
                " pick_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
                (
                    account_ids[call.account],
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
            heads[call.target.url] = min(due_at, heads.get(call.target.url, due_at))
        for url, due_at in heads.items():
            self._heads.lower(url, due_at)
        if ids:
            self._unit.wake("webhooks")
        return ids

    def get(self, call_id: int) -> WebhookCall | None:
        """Return a queued call, or None when it is not queued (any more)."""
        row = self._sql.row(f"SELECT {COLUMNS} {_FROM} WHERE c.id = ?", (call_id,))
        return None if row is None else call_of(row)

    def list(self, filter_: CallFilter = _ALL) -> builtins.list[WebhookCall]:
        """Return the queued calls that meet a filter, in the order that it says."""
        where, parameters = queued_conditions(filter_)
        rows = self._sql.rows(f"SELECT {COLUMNS} {_FROM} WHERE {where} LIMIT ?", (*parameters, filter_.limit))
        return [call_of(row) for row in rows]

    def next_due_at(self) -> datetime | None:
        """Return when calls become due that are not due now; it may be a little early, never late. None: never."""
        return from_us(self._heads.first_after(self._unit.now_us))

    def entries_waited_for(self, entry_ids: Collection[int]) -> set[int]:
        """Return those of some entries that have calls in the queue."""
        wanted = [entry_id for entry_id in set(entry_ids) if entry_id]
        found: set[int] = set()
        for start in range(0, len(wanted), _IDS_PER_STATEMENT):
            page = wanted[start : start + _IDS_PER_STATEMENT]
            # As many as the statement names, so that there is one of it.
            page += page[-1:] * (_IDS_PER_STATEMENT - len(page))
            found.update(row[0] for row in self._sql.rows(_ENTRIES_WAITED_FOR, page))
        return found

    # --- making calls -------------------------------------------------------------------------------------------

    def lease_due(
        self,
        worker: Worker,
        until: datetime,
        limit: int,
        *,
        next_due_at: Callable[[WebhookCall], datetime],
        room: Callable[[str, int], int] | None = None,
        exclude_urls: Collection[str] = (),
    ) -> builtins.list[LeasedCall]:
        """Lease calls that are due and count the attempts that begin now, the oldest first over the URLs.

        Args:
            worker: Who holds the leases.
            until: End of the leases.
            limit: The most calls that are leased.
            next_due_at: When a call is due again should it not succeed; a pure function of the call, whose `attempts`
                count this one already.
            room: Tells how many calls to a URL may begin, given how many this unit has leased to others; None for no
                bound but `limit`.
            exclude_urls: URLs that are left alone.
        """
        now = self._unit.now_us
        leased: builtins.list[LeasedCall] = []
        for url in self._heads.due(now, exclude_urls, limit):
            most = limit - len(leased)
            if room is not None:
                most = min(most, room(url, len(leased)))
            if most <= 0:
                # Its head stays: it is looked at again when there is room.
                continue
            rows = self._sql.rows(
                f"SELECT {COLUMNS}, c.token {_FROM} WHERE c.url = ? AND c.pick_at <= ?"
                " ORDER BY c.pick_at, c.id LIMIT ?",
                (url, now, most),
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

        For a call that was superseded or canceled meanwhile the result is noted on its retired row, and marked so.

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
            self._note_late(call_id, token, result)
            return False
        results, due_us, url = row
        if due_at is not None:
            due_us = to_us(due_at)
        self._sql.run(
            "UPDATE calls SET results = ?, due_at = ?, pick_at = ?, lease_until = NULL, token = token + 1 WHERE id = ?",
            (_encode((*results_of(results), result)), due_us, due_us, call_id),
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
        is_dead: bool = False,
    ) -> RetiredCall | None:
        """Take a call out of the queue, for good.

        Args:
            call_id: Of the call.
            token: Of its lease; None retires it whoever holds it (an operator's cancel).
            result: Of the last attempt, or of the cancel; noted like in `finish` where the call was superseded.
            is_success: What the retired row says.
            keep_until: How long the retired row is kept; None keeps none.
            is_dead: Whether it is given up, and to be found by `RetiredCallFilter.is_dead`.

        Returns:
            The call as it was retired; None when the token is old or the call is not queued any more.
        """
        row = self._sql.row(
            f"SELECT {COLUMNS}, c.token, c.account_id {_FROM} WHERE c.id = ? AND (c.token = ? OR ? IS NULL)",
            (call_id, token, token),
        )
        if row is None:
            if token is not None and result is not None:
                self._note_late(call_id, token, result)
            return None
        retired = without_secrets(
            call_of(row),
            result,
            self._unit.now,
            is_success=is_success,
            superseded_by=0,
            keep_until=keep_until or self._unit.now,
            is_dead=is_dead,
        )
        self._retire(row, retired, keep_until)
        return retired

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
        row = self._sql.row("SELECT value, is_dead FROM retired_calls WHERE id = ?", (call_id,))
        return None if row is None else retired_of(*row)

    def retired_list(self, filter_: RetiredCallFilter = _ALL_RETIRED) -> builtins.list[RetiredCall]:
        """Return the retired calls that meet a filter, by id; also those of accounts that were removed."""
        where, parameters = retired_conditions(filter_)
        rows = self._sql.rows(
            f"SELECT c.value, c.is_dead FROM retired_calls c WHERE {where} LIMIT ?", (*parameters, filter_.limit)
        )
        return [retired_of(*row) for row in rows]

    def count_dead(self) -> int:
        """Return how many calls were given up, and neither replayed nor acknowledged since."""
        row = self._sql.row("SELECT COUNT(*) FROM retired_calls WHERE is_dead = 1")
        return 0 if row is None else int(row[0])

    def bury(self, call_ids: Iterable[int]) -> int:
        """Take the mark of having been given up off retired calls; returns from how many."""
        buried = sum(
            self._sql.run("UPDATE retired_calls SET is_dead = 0 WHERE id = ? AND is_dead = 1", (call_id,))
            for call_id in call_ids
        )
        if buried:
            self._unit.wake("dead webhooks")
        return buried

    def retire_removed(self, *, keep: timedelta, limit: int = 1000) -> int:
        """Retire queued calls of accounts that were removed; returns how many."""
        rows = self._sql.rows(
            f"SELECT {COLUMNS.replace('a.name', 'a.former_name')}, c.token, c.account_id FROM calls c"
            " JOIN accounts a ON a.id = c.account_id AND a.name IS NULL AND a.former_name IS NOT NULL LIMIT ?",
            (limit,),
        )
        now, until = self._unit.now, self._unit.now + keep
        for row in rows:
            retired = without_secrets(
                call_of(row), removed_result(now), now, is_success=False, superseded_by=0, keep_until=until
            )
            self._retire(row, retired, until)
        return len(rows)

    def purge(self, now: datetime, *, limit: int = 1000) -> int:
        """Remove retired calls that are kept no longer; returns how many."""
        rows = self._sql.rows("SELECT id FROM retired_calls WHERE keep_until <= ? LIMIT ?", (to_us(now), limit))
        self._sql.run_many("DELETE FROM retired_calls WHERE id = ?", rows)
        if rows:
            self._unit.wake("dead webhooks")
        return len(rows)

    # --- inside -------------------------------------------------------------------------------------------------

    def _begin(
        self, row: Row, worker: Worker, until: int, next_due_at: Callable[[WebhookCall], datetime]
    ) -> LeasedCall:
        call, token = call_of(row), row[WIDTH] + 1
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
            f"SELECT {COLUMNS}, c.token, c.account_id {_FROM} WHERE c.entry_id = ? AND c.url = ? AND c.id < ?",
            (newer.entry_id, newer.target.url, newer_id),
        )
        keep_until = self._unit.now + keep if keep else None
        for row in rows:
            retired = without_secrets(
                call_of(row),
                None,
                self._unit.now,
                is_success=False,
                superseded_by=newer_id,
                keep_until=keep_until or self._unit.now,
            )
            self._retire(row, retired, keep_until)

    def _retire(self, row: Row, retired: RetiredCall, keep_until: datetime | None) -> None:
        call, (token, account_id) = retired.call, row[WIDTH:]
        self._sql.run("DELETE FROM calls WHERE id = ?", (call.id,))
        if keep_until is None:
            return
        self._sql.run(
            "INSERT INTO retired_calls (id, account_id, token, account, event, entry_id, submitted_at, retired_at,"
            " keep_until, is_success, is_dead, value) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                call.id,
                account_id,
                token,
                *retired_columns(retired, keep_until),
                int(retired.is_dead),
                _encode(msgspec.structs.replace(retired, is_dead=False) if retired.is_dead else retired),
            ),
        )
        if retired.is_dead:
            self._unit.wake("dead webhooks")

    def _note_late(self, call_id: int, token: int, result: CallResult) -> None:
        """Note the result of an attempt that was under way when its call was superseded or canceled."""
        row = self._sql.row("SELECT value FROM retired_calls WHERE id = ? AND token = ?", (call_id, token))
        if row is None:
            return
        retired = retired_of(row[0], 0)
        how = "superseded" if retired.superseded_by else "canceled"
        noted = msgspec.structs.replace(result, error=f"{result.error} ({how})".lstrip())
        call = msgspec.structs.replace(retired.call, results=(*retired.call.results, noted))
        # One result per attempt: the token is used up.
        self._sql.run(
            "UPDATE retired_calls SET value = ?, token = token + 1 WHERE id = ?",
            (_encode(msgspec.structs.replace(retired, call=call)), call_id),
        )
