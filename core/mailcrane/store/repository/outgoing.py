"""How much each account has sent in the last 24 hours, and to whom it has ever sent.

Counted when messages are submitted, in steps of ten minutes, so that a limit costs a sum over at most 146 rows and no
look at the messages themselves. A recipient counts as known for `KNOWN_DAYS` after the last message to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from mailcrane.model.address import Mailbox
from mailcrane.store.errors import SendingLimitReached
from mailcrane.store.repository.accounts import Accounts
from mailcrane.store.sql import SQL, Unit, to_us

WINDOW: Final = timedelta(hours=24)
STEP: Final = timedelta(minutes=10)
KNOWN_DAYS: Final = 400

_MICROSECOND = timedelta(microseconds=1)
_STEP_US: Final = STEP // _MICROSECOND
_DAY_US: Final = timedelta(days=1) // _MICROSECOND


class OutgoingRepository:
    """Counters of what accounts submit."""

    def __init__(self, sql: SQL, unit: Unit, accounts: Accounts) -> None:
        self._sql = sql
        self._unit = unit
        self._accounts = accounts

    def count(
        self, account: str, recipients: Sequence[Mailbox], *, max_messages: int, max_first_time_recipients: int
    ) -> None:
        """Count a submission, in the unit that stores it, unless it passes a limit.

        Args:
            account: Name of the account that submits.
            recipients: A message to several counts as several.
            max_messages: In 24 hours; 0 is no limit.
            max_first_time_recipients: To which the account had never sent, in 24 hours; 0 is no limit, and no record
                of recipients is kept.

        Raises:
            SendingLimitReached: the unit is to be given up; nothing of it counts then.
            UnknownAccount: the account does not exist.
        """
        if not max_messages and not max_first_time_recipients:
            return
        account_id = self._accounts.id_of(account)
        new = sum(self._is_new(account_id, mailbox) for mailbox in recipients) if max_first_time_recipients else 0
        messages, first_time = self._sums(account_id)
        if max_messages and messages + len(recipients) > max_messages:
            raise SendingLimitReached(account, "messages", max_messages)
        if new and first_time + new > max_first_time_recipients:
            raise SendingLimitReached(account, "first-time recipients", max_first_time_recipients)
        self._sql.run(
            "INSERT INTO outgoing_counts (account_id, started_at, messages, first_time) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (account_id, started_at) DO UPDATE SET messages = messages + excluded.messages,"
            " first_time = first_time + excluded.first_time",
            (account_id, self._unit.now_us // _STEP_US * _STEP_US, len(recipients), new),
        )

    def sent(self, account: str) -> tuple[int, int]:
        """Return how many messages an account has sent in the window, and to how many recipients for the first time.

        Raises:
            UnknownAccount: the account does not exist.
        """
        return self._sums(self._accounts.id_of(account))

    def purge(self, *, limit: int = 1000) -> int:
        """Remove counters that no window has in it any more, and recipients that are forgotten; returns how many."""
        rows = self._sql.rows(
            "SELECT account_id, started_at FROM outgoing_counts WHERE started_at <= ? LIMIT ?",
            (self._oldest_us, limit),
        )
        self._sql.run_many("DELETE FROM outgoing_counts WHERE account_id = ? AND started_at = ?", rows)
        known = self._sql.rows(
            "SELECT account_id, address FROM outgoing_recipients WHERE last_at < ? LIMIT ?",
            (to_us(self._unit.now - timedelta(days=KNOWN_DAYS)), limit),
        )
        self._sql.run_many("DELETE FROM outgoing_recipients WHERE account_id = ? AND address = ?", known)
        return len(rows) + len(known)

    # --- inside -------------------------------------------------------------------------------------------------

    @property
    def _oldest_us(self) -> int:
        # A step that has only begun before the window counts whole: rather a little too much than too little.
        return to_us(self._unit.now - WINDOW - STEP)

    def _sums(self, account_id: int) -> tuple[int, int]:
        row = self._sql.row(
            "SELECT COALESCE(SUM(messages), 0), COALESCE(SUM(first_time), 0) FROM outgoing_counts"
            " WHERE account_id = ? AND started_at > ?",
            (account_id, self._oldest_us),
        )
        return (0, 0) if row is None else (int(row[0]), int(row[1]))

    def _is_new(self, account_id: int, mailbox: Mailbox) -> bool:
        """Note a recipient; returns whether nothing was sent to it before."""
        now = self._unit.now_us
        # Written again once a day at most: that it is known is all that matters.
        row = self._sql.row(
            "INSERT INTO outgoing_recipients (account_id, address, first_at, last_at) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (account_id, address) DO UPDATE SET last_at = excluded.last_at"
            " WHERE excluded.last_at > outgoing_recipients.last_at + ? RETURNING first_at = last_at",
            (account_id, str(mailbox), now, now, _DAY_US),
        )
        return row is not None and bool(row[0])
