"""Suppression lists, and how often in a row delivery to an address has failed.

A list belongs to an account and has one row for a base address. The counts are of the server: they are by the exact
address, over all accounts, and are kept whether or not an account keeps retired entries.
"""

from __future__ import annotations

import builtins
from datetime import datetime

import msgspec

from mailcrane.model.address import Mailbox
from mailcrane.model.suppression import Suppression, SuppressionEvidence, SuppressionOrigin, base_address
from mailcrane.store.records import Leased, NewSuppression
from mailcrane.store.repository.accounts import Accounts
from mailcrane.store.sql import SQL, Row, Unit, from_us, to_us

_decode = msgspec.json.Decoder(SuppressionEvidence).decode
_encode = msgspec.json.Encoder().encode

_COLUMNS = "s.id, a.name, s.base_address, s.original_address, s.created_at, s.is_manual, s.reason, s.origin, s.evidence"
_FROM = "FROM suppressions s JOIN accounts a ON a.id = s.account_id"


class SuppressionsRepository:
    """Suppression lists of accounts, and failures in a row of addresses."""

    def __init__(self, sql: SQL, unit: Unit, accounts: Accounts) -> None:
        self._sql = sql
        self._unit = unit
        self._accounts = accounts

    # --- the lists ----------------------------------------------------------------------------------------------

    def add(self, new: NewSuppression) -> Suppression | None:
        """Put an address on an account's list; None when its base is on it, and then nothing is changed.

        Raises:
            UnknownAccount: there is no such account.
        """
        base = base_address(new.address)
        row = self._sql.row(
            "INSERT INTO suppressions (account_id, base_address, original_address, created_at, is_manual, reason,"
            " origin, evidence) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (account_id, base_address) DO NOTHING RETURNING id",
            (
                self._accounts.id_of(new.account),
                base,
                new.address.unicode,
                to_us(new.created_at or self._unit.now),
                int(new.is_manual),
                new.reason,
                str(new.origin),
                _encode(new.evidence),
            ),
        )
        return None if row is None else self.get(new.account, base)

    def remove(self, account: str, base: str) -> Suppression | None:
        """Take a base address off an account's list; returns what it was, None when it was not on it."""
        found = self.get(account, base)
        if found is not None:
            self._sql.run("DELETE FROM suppressions WHERE id = ?", (found.id,))
        return found

    def get(self, account: str, base: str) -> Suppression | None:
        """Return what is on an account's list for a base address, or None."""
        row = self._sql.row(
            f"SELECT {_COLUMNS} {_FROM} WHERE a.name = ? AND s.base_address = ?",
            (account, base),
        )
        return None if row is None else _suppression(row)

    def list(self, account: str | None, *, after_id: int = 0, limit: int = -1) -> builtins.list[Suppression]:
        """Return what is on a list, the oldest first.

        Args:
            account: Whose list; None for those of all accounts.
            after_id: The page after this one.
            limit: The most rows; -1 for all.
        """
        whose, parameters = ("s.account_id = (SELECT id FROM accounts WHERE name = ?)", [account])
        if account is None:
            whose, parameters = "a.name IS NOT NULL", []
        rows = self._sql.rows(
            f"SELECT {_COLUMNS} {_FROM} WHERE {whose} AND s.id > ? ORDER BY s.id LIMIT ?",
            (*parameters, after_id, limit if limit >= 0 else 2**62),
        )
        return [_suppression(row) for row in rows]

    def count(self, account: str) -> int:
        """Return how long an account's list is."""
        row = self._sql.row(f"SELECT COUNT(*) {_FROM} WHERE a.name = ?", (account,))
        return 0 if row is None else int(row[0])

    def marked(self, deliveries: tuple[tuple[Leased, ...], ...]) -> tuple[tuple[Leased, ...], ...]:
        """Return deliveries whose entries each have what the account's list says of the forward-path.

        An account without a list costs one look-up, whatever the number of its entries.
        """
        # What shares a delivery is of one message, and so of one account.
        account_ids = {
            account: self._id_with_list(account) for account in {members[0].entry.account for members in deliveries}
        }
        if not any(account_ids.values()):
            return deliveries
        return tuple(
            tuple(self._marked(one, account_ids[members[0].entry.account]) for one in members) for members in deliveries
        )

    # --- failures in a row --------------------------------------------------------------------------------------

    def count_failure(self, address: Mailbox) -> int:
        """Count a failed delivery to an address; returns how many there were since the last that succeeded."""
        row = self._sql.row(
            "INSERT INTO recipient_failures (destination, forward_local, in_a_row, last_at) VALUES (?, ?, 1, ?)"
            " ON CONFLICT (destination, forward_local) DO UPDATE SET in_a_row = recipient_failures.in_a_row + 1,"
            " last_at = excluded.last_at RETURNING in_a_row",
            (address.domain, address.local_part, self._unit.now_us),
        )
        assert row is not None, "RETURNING gives the row that was written"
        return int(row[0])

    def forget_failures(self, address: Mailbox) -> None:
        """Begin to count anew: a delivery to the address succeeded, or it was taken off a list."""
        self._sql.run(
            "DELETE FROM recipient_failures WHERE destination = ? AND forward_local = ?",
            (address.domain, address.local_part),
        )

    def purge_failures(self, before: datetime, *, limit: int = 1000) -> int:
        """Remove counts whose last failure was before an instant; returns how many."""
        rows = self._sql.rows(
            "SELECT destination, forward_local FROM recipient_failures WHERE last_at < ? LIMIT ?",
            (to_us(before), limit),
        )
        self._sql.run_many("DELETE FROM recipient_failures WHERE destination = ? AND forward_local = ?", rows)
        return len(rows)

    # --- inside -------------------------------------------------------------------------------------------------

    def _id_with_list(self, account: str) -> int:
        """Return the id of an account that has a list; 0 for one that has none."""
        row = self._sql.row(
            "SELECT id FROM accounts a WHERE name = ?"
            " AND EXISTS (SELECT 1 FROM suppressions s WHERE s.account_id = a.id)",
            (account,),
        )
        return 0 if row is None else int(row[0])

    def _marked(self, leased: Leased, account_id: int) -> Leased:
        row = account_id and self._sql.row(
            f"SELECT {_COLUMNS} {_FROM} WHERE s.account_id = ? AND s.base_address = ?",
            (account_id, base_address(leased.entry.forward_path)),
        )
        return msgspec.structs.replace(leased, suppression=_suppression(row)) if row else leased


def _suppression(row: Row) -> Suppression:
    id_, account, base, original, created_at, is_manual, reason, origin, evidence = row
    return Suppression(
        id_,
        account,
        base,
        original,
        from_us(created_at),
        bool(is_manual),
        reason,
        SuppressionOrigin(origin),
        _decode(evidence),
    )
