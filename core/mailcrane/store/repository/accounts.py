"""Accounts as the store knows them: an id that stays, and the counters that are given out under the account's key.

The account with the id 0 and the empty name is the server's own: events and entries that belong to no account of the
configuration are under it.
"""

from __future__ import annotations

from mailcrane.store.errors import UnknownAccount
from mailcrane.store.sql import SQL


class Accounts:
    """Ids and counters of accounts."""

    def __init__(self, sql: SQL) -> None:
        self._sql = sql

    def id_of(self, name: str) -> int:
        """Return an account's id.

        Raises:
            UnknownAccount: there is none of this name.
        """
        row = self._sql.row("SELECT id FROM accounts WHERE name = ?", (name,))
        if row is None:
            raise UnknownAccount(name)
        return int(row[0])

    def next_modseq(self, name: str) -> tuple[int, int]:
        """Give out the account's next modification sequence; returns the account's id with it.

        Raises:
            UnknownAccount: there is none of this name.
        """
        row = self._sql.row("UPDATE accounts SET modseq = modseq + 1 WHERE name = ? RETURNING id, modseq", (name,))
        if row is None:
            raise UnknownAccount(name)
        return int(row[0]), int(row[1])

    def next_uid_validity(self, account_id: int) -> int:
        """Give out a UIDVALIDITY; it rises with every folder of the account."""
        row = self._sql.row(
            "UPDATE accounts SET uid_validity = uid_validity + 1 WHERE id = ? RETURNING uid_validity", (account_id,)
        )
        assert row is not None, "the id was read in this unit"
        return int(row[0])

    def next_event_numbers(self, name: str, count: int) -> tuple[int, int]:
        """Give out numbers for events; returns the account's id and the first number.

        Raises:
            UnknownAccount: there is none of this name.
        """
        row = self._sql.row(
            "UPDATE accounts SET event_number = event_number + ? WHERE name = ? RETURNING id, event_number",
            (count, name),
        )
        if row is None:
            raise UnknownAccount(name)
        return int(row[0]), int(row[1]) - count + 1
