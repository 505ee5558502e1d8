"""Keys of calls that an application may repeat: claimed while the call is carried out, then kept with its result."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

from mailcrane.model.idempotency import Claim, ClaimLost, KeyReused, Remembered
from mailcrane.store.records import Worker
from mailcrane.store.repository.accounts import Accounts
from mailcrane.store.sql import SQL, Unit, from_us, to_us

RESULTS_KEPT: Final = timedelta(hours=24)
"""How long a result is remembered, from when it was stored; a claim that came to nothing is forgotten as soon."""

TOPIC: Final = "idempotency"
"""Woken when a call ends."""


class UnderWay(Struct, frozen=True):
    """The call is being carried out.

    Attributes:
        until: When its lease is over; then another may take it.
    """

    until: datetime


class IdempotencyRepository:
    """Claims and results by account and key."""

    def __init__(self, sql: SQL, unit: Unit, accounts: Accounts) -> None:
        self._sql = sql
        self._unit = unit
        self._accounts = accounts

    def claim(
        self, account: str, key: str, fingerprint: bytes, *, token: str, lease: timedelta, worker: Worker
    ) -> Claim | Remembered | UnderWay:
        """Claim a key for one call, or say what is known of that call.

        Args:
            token: Of this claim alone.
            lease: How long the claim is the caller's; afterwards it holds until somebody takes it.
            worker: Who claims.

        Raises:
            KeyReused: the key has another fingerprint, and its call was carried out or is under way.
            UnknownAccount: there is no such account.
        """
        account_id = self._accounts.id_of(account)
        now = self._unit.now_us
        row = self._sql.row(
            "SELECT fingerprint, result, lease_until, expires_at FROM idempotency WHERE account_id = ? AND key = ?",
            (account_id, key),
        )
        is_again = False
        if row is not None and row[3] > now:
            known, result, lease_until, _ = row
            if (result is not None or lease_until > now) and known != fingerprint:
                raise KeyReused
            if result is not None:
                return Remembered(result)
            if lease_until > now:
                return UnderWay(from_us(lease_until))
            is_again = known == fingerprint
        self._sql.run(
            "INSERT INTO idempotency"
            " (account_id, key, fingerprint, token, lease_until, machine, boot, result, expires_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, NULL, ?) ON CONFLICT (account_id, key) DO UPDATE SET"
            " fingerprint = excluded.fingerprint, token = excluded.token, lease_until = excluded.lease_until,"
            " machine = excluded.machine, boot = excluded.boot, result = NULL, expires_at = excluded.expires_at",
            (
                account_id,
                key,
                fingerprint,
                token,
                now + _microseconds(lease),
                worker.machine,
                worker.boot,
                now + _microseconds(RESULTS_KEPT),
            ),
        )
        return Claim(account, key, token, is_again)

    def complete(self, claim: Claim, result: bytes) -> None:
        """Store the result of a claim, in the unit that does the work.

        Raises:
            ClaimLost: the claim is not the caller's any more; the unit must be undone.
        """
        changed = self._sql.run(
            "UPDATE idempotency SET result = ?, lease_until = 0, expires_at = ?"
            " WHERE account_id = ? AND key = ? AND token = ? AND result IS NULL",
            (
                result,
                self._unit.now_us + _microseconds(RESULTS_KEPT),
                self._accounts.id_of(claim.account),
                claim.key,
                claim.token,
            ),
        )
        if not changed:
            raise ClaimLost(f"the claim of {claim.account!r} is gone")
        self._unit.wake(TOPIC)

    def release(self, claim: Claim) -> bool:
        """Forget a claim without a result; False when it has one, or is not the caller's any more."""
        changed = self._sql.run(
            "DELETE FROM idempotency WHERE account_id = (SELECT id FROM accounts WHERE name = ?) AND key = ?"
            " AND token = ? AND result IS NULL",
            (claim.account, claim.key, claim.token),
        )
        if changed:
            self._unit.wake(TOPIC)
        return bool(changed)

    def free(self, worker: Worker) -> int:
        """End the leases of the worker's machine that other boots hold; they are dead. Returns how many."""
        return self._sql.run(
            "UPDATE idempotency SET lease_until = 0"
            " WHERE result IS NULL AND lease_until > 0 AND machine = ? AND boot <> ?",
            (worker.machine, worker.boot),
        )

    def purge(self, now: datetime, *, limit: int) -> int:
        """Forget what has expired; returns how many rows."""
        return self._sql.run(
            "DELETE FROM idempotency WHERE (account_id, key) IN"
            " (SELECT account_id, key FROM idempotency WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)",
            (to_us(now), limit),
        )

    def trim(self, *, keep: int, limit: int) -> int:
        """Forget the oldest results of accounts that have more than so many keys; returns how many rows."""
        total = self._sql.row("SELECT COUNT(*) FROM idempotency")
        if total is None or total[0] <= keep:
            # The usual case, and cheap: only an index is read.
            return 0
        removed = 0
        for account_id, count in self._sql.rows(
            "SELECT account_id, COUNT(*) FROM idempotency GROUP BY account_id HAVING COUNT(*) > ?", (keep,)
        ):
            removed += self._sql.run(
                "DELETE FROM idempotency WHERE account_id = ? AND key IN (SELECT key FROM idempotency"
                " WHERE account_id = ? AND result IS NOT NULL ORDER BY expires_at LIMIT ?)",
                (account_id, account_id, min(limit, count - keep)),
            )
        return removed


def _microseconds(length: timedelta) -> int:
    """Return a length of time in microseconds."""
    return length // timedelta(microseconds=1)
