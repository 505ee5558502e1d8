"""Entries that left the queue, for as long as their account keeps them."""

from __future__ import annotations

import builtins
from datetime import datetime
from typing import Any

import msgspec

from mailcrane.model.retired import Retired
from mailcrane.store.records import RetiredFilter
from mailcrane.store.repository.accounts import Accounts
from mailcrane.store.repository.entry_rows import containing
from mailcrane.store.sql import SQL, to_us

_decoder = msgspec.json.Decoder(Retired)
_encode = msgspec.json.Encoder().encode


_ALL = RetiredFilter()


class RetiredRepository:
    """Retired entries; an entry keeps its id."""

    def __init__(self, sql: SQL, accounts: Accounts) -> None:
        self._sql = sql
        self._accounts = accounts

    def add(self, retired: Retired) -> None:
        """Store a retired entry; before `QueueRepository.remove` of the same unit, so that plugin data stays.

        Raises:
            UnknownAccount: its account does not exist (any more).
        """
        entry = retired.entry
        self._sql.run(
            "INSERT INTO retired (entry_id, account_id, from_id, message_id, forward_local, destination, event,"
            " is_success, retired_at, keep_until, value, reverse_path) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                entry.id,
                self._accounts.id_of(entry.account),
                entry.from_id,
                entry.message_id,
                entry.forward_path.local_part,
                entry.forward_path.domain,
                retired.event,
                int(retired.is_success),
                to_us(retired.retired_at),
                to_us(retired.keep_until),
                _encode(retired),
                str(entry.reverse_path),
            ),
        )

    def get(self, entry_id: int) -> Retired | None:
        """Return a retired entry, or None when it is not kept (any more)."""
        row = self._sql.row("SELECT value FROM retired WHERE entry_id = ?", (entry_id,))
        return None if row is None else _decoder.decode(row[0])

    def find_from_id(self, from_id: str) -> Retired | None:
        """Return the retired entry whose reverse-path had a unique id, or None."""
        row = self._sql.row("SELECT value FROM retired WHERE from_id = ? AND from_id <> ''", (from_id,))
        return None if row is None else _decoder.decode(row[0])

    def list(self, filter_: RetiredFilter = _ALL) -> builtins.list[Retired]:
        """Return the retired entries that meet a filter, the highest id first."""
        conditions = ["a.name IS NOT NULL"]
        parameters: list[Any] = []
        if filter_.forward_path is not None:
            conditions.append("r.forward_local = ? AND r.destination = ?")
            parameters += [filter_.forward_path.local_part, filter_.forward_path.domain]
        if filter_.ids:
            conditions.append(f"r.entry_id IN ({', '.join('?' * len(filter_.ids))})")
            parameters += filter_.ids
        paths = {
            "LOWER(r.reverse_path) LIKE ? ESCAPE '\\'": filter_.reverse_path_contains,
            "LOWER(r.forward_local || '@' || r.destination) LIKE ? ESCAPE '\\'": filter_.forward_path_contains,
        }
        wanted = {condition: containing(part) for condition, part in paths.items() if part}
        if wanted:
            conditions.append(f"({' OR '.join(wanted)})")
            parameters += wanted.values()
        for condition, value in (
            ("a.name = ?", filter_.account),
            ("r.event = ?", filter_.event),
            ("r.is_success = ?", None if filter_.is_success is None else int(filter_.is_success)),
            ("r.retired_at > ?", to_us(filter_.retired_after)),
            ("r.retired_at < ?", to_us(filter_.retired_before)),
            ("r.entry_id < ?", filter_.before_id or None),
        ):
            if value is not None:
                conditions.append(condition)
                parameters.append(value)
        rows = self._sql.rows(
            "SELECT r.value FROM retired r JOIN accounts a ON a.id = r.account_id"
            f" WHERE {' AND '.join(conditions)} ORDER BY r.entry_id DESC LIMIT ?",
            (*parameters, filter_.limit),
        )
        return [_decoder.decode(value) for (value,) in rows]

    def purge(self, now: datetime, *, limit: int = 1000) -> int:
        """Remove rows that are kept no longer, with the plugin data of their entries; returns how many."""
        rows = self._sql.rows("SELECT entry_id FROM retired WHERE keep_until <= ? LIMIT ?", (to_us(now), limit))
        self._sql.run_many("DELETE FROM plugin_data WHERE entry_id = ?", rows)
        self._sql.run_many("DELETE FROM retired WHERE entry_id = ?", rows)
        return len(rows)
