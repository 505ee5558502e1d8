"""What is known of the TLS of recipients' domains, per account: for hints to whoever writes a message."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from mailcrane.store.repository.accounts import Accounts
from mailcrane.store.sql import SQL, Unit, from_us


class RecipientTLS(Struct, frozen=True):
    """What the hosts of a domain offered when an account last sent there and it was not as before.

    Attributes:
        has_starttls: TLS was offered.
        has_requiretls: REQUIRETLS (RFC 8689) was offered.
        changed_at: When this was first seen to be so.
    """

    domain: str
    has_starttls: bool
    has_requiretls: bool
    changed_at: datetime


class RecipientTLSRepository:
    """One row for an account and a domain."""

    def __init__(self, sql: SQL, unit: Unit, accounts: Accounts) -> None:
        self._sql = sql
        self._unit = unit
        self._accounts = accounts

    def note(self, account: str, domain: str, *, has_starttls: bool, has_requiretls: bool) -> bool:
        """Note what a domain offered; nothing is written when that is known. Returns whether it was news.

        An account that is gone needs no hints.
        """
        return bool(
            self._sql.run(
                "INSERT INTO recipient_tls (account_id, domain, has_starttls, has_requiretls, changed_at)"
                " SELECT id, ?, ?, ?, ? FROM accounts WHERE name = ? ON CONFLICT (account_id, domain) DO UPDATE SET"
                " has_starttls = excluded.has_starttls, has_requiretls = excluded.has_requiretls,"
                " changed_at = excluded.changed_at"
                " WHERE (has_starttls, has_requiretls) <> (excluded.has_starttls, excluded.has_requiretls)",
                (domain, int(has_starttls), int(has_requiretls), self._unit.now_us, account),
            )
        )

    def get(self, account: str, domain: str) -> RecipientTLS | None:
        """Return what is known of a domain.

        Raises:
            UnknownAccount: there is no such account.
        """
        row = self._sql.row(
            "SELECT has_starttls, has_requiretls, changed_at FROM recipient_tls WHERE account_id = ? AND domain = ?",
            (self._accounts.id_of(account), domain),
        )
        return None if row is None else RecipientTLS(domain, bool(row[0]), bool(row[1]), from_us(row[2]))
