"""Events: one feed per account, numbered without gaps; outgoing ones wait as rows until calls were made of them.

Feeds are read by number under their account. What is to be done next over all accounts is read by state, never by
"after the last one I saw".
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec

from mailcrane.model.event import Event, EventKind, NewEvent, is_outgoing
from mailcrane.store.records import DeadLetter
from mailcrane.store.repository.accounts import Accounts
from mailcrane.store.sql import SQL, Row, Unit, from_us, to_us

_COLUMNS = "e.account_id, a.name, e.number, e.kind, e.at, e.entry_id, e.data"
# A removed account has no name: what it left is not found.
_FROM = "FROM events e JOIN accounts a ON a.id = e.account_id AND a.name IS NOT NULL"

# An attempt tells of itself with up to four: one statement, each of which costs more than its row.
_ROWS_PER_STATEMENT = 8

_NUMBERS_PER_STATEMENT = 16
_MARK_DISPATCHED = (
    "UPDATE events SET is_pending = 0 WHERE is_pending = 1 AND account_id = (SELECT id FROM accounts WHERE name = ?)"
    f" AND number IN ({', '.join('?' * _NUMBERS_PER_STATEMENT)}) RETURNING number"
)

_data_decoder = msgspec.json.Decoder(dict[str, Any])
_event_decoder = msgspec.json.Decoder(Event)
_encode = msgspec.json.Encoder().encode

# Numbers of more digits than SQLite holds are no ids of ours.
_EVENT_ID = re.compile(r"evt_(\d{1,18})_(\d{1,18})_[0-9a-f]{1,16}\Z", re.ASCII)


class EventsRepository:
    """Recorded events, and how far each plugin has been told of them."""

    def __init__(self, sql: SQL, unit: Unit, accounts: Accounts) -> None:
        self._sql = sql
        self._unit = unit
        self._accounts = accounts

    # --- recording and reading ----------------------------------------------------------------------------------

    def record(self, events: Sequence[NewEvent]) -> list[Event]:
        """Record events, numbered in order under their accounts.

        Raises:
            UnknownAccount: an account does not exist (any more); the empty name is the server's own feed.
        """
        counts: dict[str, int] = {}
        for event in events:
            counts[event.account] = counts.get(event.account, 0) + 1
        numbers = {name: self._accounts.next_event_numbers(name, count) for name, count in counts.items()}
        recorded = []
        values: list[Any] = []
        for event in events:
            account_id, number = numbers[event.account]
            numbers[event.account] = (account_id, number + 1)
            values += (
                account_id,
                number,
                event.kind.value,
                self._unit.now_us,
                event.entry_id,
                _encode(event.data) if event.data else b"",
                int(is_outgoing(event.kind)),
            )
            recorded.append(
                Event(
                    event_id(account_id, number, self._unit.now_us),
                    event.account,
                    number,
                    event.kind,
                    self._unit.now,
                    event.entry_id,
                    event.data,
                )
            )
        for start in range(0, len(recorded), _ROWS_PER_STATEMENT):
            count = min(_ROWS_PER_STATEMENT, len(recorded) - start)
            self._sql.run(
                "INSERT INTO events (account_id, number, kind, at, entry_id, data, is_pending) VALUES "
                + ", ".join(["(?, ?, ?, ?, ?, ?, ?)"] * count),
                values[7 * start : 7 * (start + count)],
            )
        if recorded:
            self._unit.wake("events")
        if any(is_outgoing(event.kind) for event in recorded):
            self._unit.wake("outgoing events")
        return recorded

    def feed(self, account: str, after: int, limit: int, *, kinds: Collection[EventKind] = ()) -> list[Event]:
        """Return an account's events after a number, in order.

        Args:
            account: Name of the account.
            after: Number of the last event that was seen; 0 begins at the oldest that is kept.
            limit: The most events.
            kinds: Only these; empty for all.
        """
        only = f" AND e.kind IN ({', '.join('?' * len(kinds))})" if kinds else ""
        rows = self._sql.rows(
            f"SELECT {_COLUMNS} {_FROM} WHERE a.name = ? AND e.number > ?{only} ORDER BY e.number LIMIT ?",
            (account, after, *sorted(kind.value for kind in kinds), limit),
        )
        return [_event(row) for row in rows]

    def get(self, ids: Iterable[str]) -> list[Event]:
        """Return events by their ids, in order; those that are not kept (any more) are left out."""
        found = []
        for id_ in ids:
            parts = _EVENT_ID.match(id_)
            row = (
                None
                if parts is None
                else self._sql.row(
                    f"SELECT {_COLUMNS} {_FROM} WHERE e.account_id = ? AND e.number = ?", (int(parts[1]), int(parts[2]))
                )
            )
            if row is not None and (event := _event(row)).id == id_:
                found.append(event)
        return found

    def window(
        self,
        account: str,
        after: int,
        size: int,
        *,
        kinds: Collection[EventKind],
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[Event]:
        """Return those of the next so many numbers of an account's feed that meet the conditions, in order.

        The cost is bounded by the window, however few meet them.

        Args:
            since: Recorded after this instant.
            until: Recorded before this instant.
        """
        conditions, parameters = "", [account, after, after + size, *sorted(kind.value for kind in kinds)]
        for operator, bound in ((">", since), ("<", until)):
            if bound is not None:
                conditions += f" AND e.at {operator} ?"
                parameters.append(to_us(bound))
        rows = self._sql.rows(
            f"SELECT {_COLUMNS} {_FROM} WHERE a.name = ? AND e.number > ? AND e.number <= ?"
            f" AND e.kind IN ({', '.join('?' * len(kinds))}){conditions} ORDER BY e.number",
            parameters,
        )
        return [_event(row) for row in rows]

    def first_number(self, account: str) -> int:
        """Return the number of the oldest event that an account has; 0 when it has none."""
        row = self._sql.row(
            "SELECT MIN(e.number) FROM events e JOIN accounts a ON a.id = e.account_id WHERE a.name = ?", (account,)
        )
        return 0 if row is None or row[0] is None else int(row[0])

    def last_number(self, account: str) -> int:
        """Return the number of an account's latest event; 0 when it never had one or does not exist."""
        row = self._sql.row("SELECT event_number FROM accounts WHERE name = ?", (account,))
        return 0 if row is None else int(row[0])

    def count_removed(self, account: str, after: int, until: int) -> int:
        """Return how many of an account's events with numbers above `after`, up to `until`, were purged."""
        row = self._sql.row(
            "SELECT id, events_after FROM accounts WHERE name = ? AND events_after > ?", (account, after)
        )
        if row is None:
            return 0
        account_id, events_after = row
        until = min(until, events_after)
        left = self._sql.row(
            "SELECT COUNT(*) FROM events WHERE account_id = ? AND number > ? AND number <= ?",
            (account_id, after, until),
        )
        return until - after - (0 if left is None else int(left[0]))

    def for_entry(self, entry_id: int) -> list[Event]:
        """Return the events of a queue entry, in order: its timeline."""
        rows = self._sql.rows(
            f"SELECT {_COLUMNS} {_FROM} WHERE e.entry_id = ? AND e.entry_id <> 0 ORDER BY e.account_id, e.number",
            (entry_id,),
        )
        return [_event(row) for row in rows]

    def purge(self, before: datetime, *, limit: int = 1000) -> int:
        """Remove events older than an instant that no webhook call waits for; returns how many.

        They go whether plugins have seen them or not, because a plugin may never come back: `count_removed` tells a
        plugin that does how many it has missed.
        """
        # `events_after` bounds where to look, so that no index by time has to be kept for every event.
        rows = self._sql.rows(
            "SELECT e.account_id, e.number FROM accounts a JOIN events e ON e.account_id = a.id"
            " AND e.number <= a.events_after + ? WHERE e.at < ? AND e.is_pending = 0 LIMIT ?",
            (limit, to_us(before), limit),
        )
        self._sql.run_many("DELETE FROM events WHERE account_id = ? AND number = ?", rows)
        self._sql.run_many(
            "UPDATE accounts SET events_after = ? WHERE id = ? AND events_after < ?",
            [(number, account_id, number) for account_id, number in rows],
        )
        return len(rows)

    # --- outgoing -----------------------------------------------------------------------------------------------

    def outgoing_pending(self, limit: int) -> list[Event]:
        """Return events of outgoing kinds that no webhook calls were made of yet, the oldest first."""
        rows = self._sql.rows(
            f"SELECT {_COLUMNS} {_FROM} WHERE e.is_pending = 1 ORDER BY e.at, e.account_id, e.number LIMIT ?",
            (limit,),
        )
        return [_event(row) for row in rows]

    def mark_dispatched(self, events: Sequence[Event]) -> list[Event]:
        """Note that calls were made of events; returns those that were still pending, for which calls are to be added.

        To be used in the unit that adds the calls: whoever comes second finds none left.
        """
        numbers: dict[str, list[int]] = {}
        for event in events:
            numbers.setdefault(event.account, []).append(event.number)
        marked: set[tuple[str, int]] = set()
        for account, wanted in numbers.items():
            for start in range(0, len(wanted), _NUMBERS_PER_STATEMENT):
                page = wanted[start : start + _NUMBERS_PER_STATEMENT]
                # As many as the statement names, so that there is one of it.
                page += page[-1:] * (_NUMBERS_PER_STATEMENT - len(page))
                marked.update((account, row[0]) for row in self._sql.rows(_MARK_DISPATCHED, (account, *page)))
        return [event for event in events if (event.account, event.number) in marked]

    # --- plugins ------------------------------------------------------------------------------------------------

    def start_position(self, plugin: str) -> bool:
        """Let a plugin that was never enabled begin at the present of every account; False when it has begun."""
        if not self._sql.run(
            "INSERT INTO notified_plugins (plugin, enabled_at) VALUES (?, ?) ON CONFLICT (plugin) DO NOTHING",
            (plugin, self._unit.now_us),
        ):
            return False
        self._sql.run(
            "INSERT INTO plugin_positions (plugin, account_id, number)"
            " SELECT ?, id, event_number FROM accounts WHERE event_number > 0",
            (plugin,),
        )
        return True

    def position(self, plugin: str, account: str) -> int:
        """Return the number of the last event of an account that a plugin is done with; 0 for none."""
        row = self._sql.row(
            "SELECT p.number FROM plugin_positions p JOIN accounts a ON a.id = p.account_id"
            " WHERE p.plugin = ? AND a.name = ?",
            (plugin, account),
        )
        return 0 if row is None else int(row[0])

    def accounts_behind(self, plugin: str) -> dict[str, int]:
        """Return the accounts that have events after a plugin's position, with that position."""
        rows = self._sql.rows(
            "SELECT a.name, COALESCE(p.number, 0) FROM accounts a LEFT JOIN plugin_positions p"
            " ON p.account_id = a.id AND p.plugin = ?"
            " WHERE a.name IS NOT NULL AND a.event_number > COALESCE(p.number, 0) ORDER BY a.id",
            (plugin,),
        )
        return dict(rows)

    def advance(self, plugin: str, account: str, number: int) -> None:
        """Note that a plugin is done with an account's events up to a number; it never goes back.

        Raises:
            UnknownAccount: there is none of this name.
        """
        self._sql.run(
            "INSERT INTO plugin_positions (plugin, account_id, number) VALUES (?, ?, ?)"
            " ON CONFLICT (plugin, account_id) DO UPDATE SET number = excluded.number"
            " WHERE excluded.number > plugin_positions.number",
            (plugin, self._accounts.id_of(account), number),
        )

    def dead_letter(self, plugin: str, event: Event, error: str) -> None:
        """Set an event aside that a plugin keeps failing at, and advance the plugin past it.

        Raises:
            UnknownAccount: the event's account does not exist (any more).
        """
        account_id = self._accounts.id_of(event.account)
        self._sql.run(
            "INSERT INTO dead_letters (plugin, account_id, number, error, at, event) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (plugin, account_id, number) DO UPDATE SET error = excluded.error, at = excluded.at",
            (plugin, account_id, event.number, error, self._unit.now_us, _encode(event)),
        )
        self.advance(plugin, event.account, event.number)

    def dead(self, plugin: str, *, limit: int = 100) -> list[DeadLetter]:
        """Return the events that were set aside for a plugin, the oldest first."""
        rows = self._sql.rows(
            "SELECT event, error, at FROM dead_letters WHERE plugin = ? ORDER BY at, account_id, number LIMIT ?",
            (plugin, limit),
        )
        return [DeadLetter(plugin, _event_decoder.decode(event), error, from_us(at)) for event, error, at in rows]

    def count_dead(self, plugin: str) -> int:
        """Return how many events are set aside for a plugin."""
        row = self._sql.row("SELECT COUNT(*) FROM dead_letters WHERE plugin = ?", (plugin,))
        return 0 if row is None else int(row[0])

    def bury(self, plugin: str, event: Event) -> None:
        """Forget an event that was set aside, because it was replayed or is not wanted."""
        self._sql.run(
            "DELETE FROM dead_letters WHERE plugin = ? AND number = ?"
            " AND account_id = (SELECT id FROM accounts WHERE name = ?)",
            (plugin, event.number, event.account),
        )


def event_id(account_id: int, number: int, at_us: int) -> str:
    """Return the text id of an event. Its time makes it another one than in a database that was begun anew."""
    return f"evt_{account_id}_{number}_{at_us:x}"


def _event(row: Row) -> Event:
    account_id, account, number, kind, at, entry_id, data = row
    return Event(
        event_id(account_id, number, at),
        account,
        number,
        EventKind(kind),
        from_us(at),
        entry_id,
        _data_decoder.decode(data) if data else {},
    )
