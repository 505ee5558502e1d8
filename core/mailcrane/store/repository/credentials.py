"""What passwords are verified against, one value per account."""

from __future__ import annotations

import msgspec

from mailcrane.sasl.credentials import Credentials
from mailcrane.store.repository.accounts import Accounts
from mailcrane.store.sql import SQL, Unit

_decoder = msgspec.json.Decoder(Credentials)


class CredentialsRepository:
    """Credentials by account."""

    def __init__(self, sql: SQL, unit: Unit, accounts: Accounts) -> None:
        self._sql = sql
        self._unit = unit
        self._accounts = accounts

    def get(self, account: str) -> Credentials | None:
        """Return an account's credentials, or None where it has none or does not exist."""
        row = self._sql.row(
            "SELECT c.value FROM credentials c JOIN accounts a ON a.id = c.account_id WHERE a.name = ?", (account,)
        )
        return None if row is None else _decoder.decode(row[0])

    def set(self, account: str, credentials: Credentials) -> None:
        """Replace an account's credentials. Wakes ``credentials``.

        Raises:
            UnknownAccount: there is none of this name.
        """
        self._sql.run(
            "INSERT INTO credentials (account_id, value) VALUES (?, ?)"
            " ON CONFLICT (account_id) DO UPDATE SET value = excluded.value",
            (self._accounts.id_of(account), msgspec.json.encode(credentials)),
        )
        self._unit.wake("credentials")

    def clear(self, account: str) -> bool:
        """Remove an account's credentials, so that nobody can log in. Wakes ``credentials``.

        Returns:
            False when there were none.
        """
        self._unit.wake("credentials")
        return bool(
            self._sql.run(
                "DELETE FROM credentials WHERE account_id = (SELECT id FROM accounts WHERE name = ?)", (account,)
            )
        )
