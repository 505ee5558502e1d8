"""The configuration that changes while running: rows of typed values, replaced as a whole.

A row is a kind, a name that is unique in its kind, and the value as JSON. Only rows that differ are written. Accounts
have a row of their own in ``accounts`` besides, whose id stays over changes; an account that is removed loses its name
at once, so that nothing finds it, and its data afterwards, in pieces (`purge_removed`).
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from mailcrane.config.rows import Account, Address, Configuration, DKIMKey, Domain, Settings
from mailcrane.observe.secret import Secret
from mailcrane.store.errors import VersionChanged
from mailcrane.store.repository.content import ContentRepository
from mailcrane.store.sql import SQL, Unit

_KINDS: dict[str, type[Struct]] = {
    "settings": Settings,
    "domain": Domain,
    "account": Account,
    "address": Address,
    "dkim_key": DKIMKey,
}


class ConfigurationRepository:
    """The configuration and the accounts that it names."""

    def __init__(self, sql: SQL, unit: Unit, content: ContentRepository) -> None:
        self._sql = sql
        self._unit = unit
        self._content = content

    def version(self) -> int:
        """Return the version of the configuration; 0 when it was never changed."""
        row = self._sql.row("SELECT version FROM configuration_version")
        return 0 if row is None else int(row[0])

    def load(self) -> Configuration:
        """Return the whole configuration, each kind in the order that it was given in."""
        values: dict[str, list[Any]] = {kind: [] for kind in _KINDS}
        for kind, value in self._sql.rows("SELECT kind, value FROM configuration ORDER BY kind, position"):
            values[kind].append(msgspec.json.decode(value, type=_KINDS[kind], dec_hook=_read_secret))
        return Configuration(
            version=self.version(),
            settings=values["settings"][0] if values["settings"] else Settings(),
            domains=tuple(values["domain"]),
            accounts=tuple(values["account"]),
            addresses=tuple(values["address"]),
            dkim_keys=tuple(values["dkim_key"]),
        )

    def replace(self, new: Configuration, *, expected_version: int) -> int:
        """Store a configuration in the place of the present one.

        Args:
            new: Validated; its own `version` is not looked at.
            expected_version: The version that the change was based on.

        Returns:
            The new version.

        Raises:
            VersionChanged: another change came in between.
        """
        version = self.version()
        if version != expected_version:
            raise VersionChanged(expected_version, version)
        self._write_rows(_rows(new))
        self._write_accounts({account.name for account in new.accounts})
        self._sql.run("UPDATE configuration_version SET version = ?", (version + 1,))
        self._unit.wake("configuration")
        return version + 1

    def account_id(self, account: str) -> int | None:
        """Return the id that an account keeps over changes; None when it does not exist."""
        row = self._sql.row("SELECT id FROM accounts WHERE name = ?", (account,))
        return None if row is None else int(row[0])

    def purge_removed(self, *, limit: int = 1000) -> bool:
        """Remove a piece of what removed accounts have left; True when there is more."""
        row = self._sql.row("SELECT id FROM accounts WHERE name IS NULL ORDER BY id LIMIT 1")
        if row is None:
            return False
        account_id = row[0]
        for table in ("messages", "entries"):
            rows = self._sql.rows(
                f"SELECT id, content_id FROM {table} WHERE account_id = ? LIMIT ?", (account_id, limit)
            )
            for row_id, content_id in rows:
                self._sql.run(f"DELETE FROM {table} WHERE id = ?", (row_id,))
                if table == "entries":
                    self._sql.run("DELETE FROM attempts WHERE entry_id = ?", (row_id,))
                    self._sql.run("DELETE FROM plugin_data WHERE entry_id = ?", (row_id,))
                self._content.release(content_id)
            if rows:
                return True
        for table, key in (
            ("changes", "modseq"),
            ("events", "number"),
            ("retired", "entry_id"),
            ("calls", "id"),
            ("dead_letters", "number"),
            ("plugin_positions", "account_id"),
            ("folders", "id"),
            ("suppressions", "id"),
            ("recipient_tls", "domain"),
            ("outgoing_counts", "started_at"),
            ("outgoing_recipients", "address"),
        ):
            rows = self._sql.rows(f"SELECT {key} FROM {table} WHERE account_id = ? LIMIT ?", (account_id, limit))
            if table == "retired":
                self._sql.run_many("DELETE FROM plugin_data WHERE entry_id = ?", rows)
            self._sql.run_many(
                f"DELETE FROM {table} WHERE account_id = ? AND {key} = ?", [(account_id, value) for (value,) in rows]
            )
            if rows:
                return True
        self._sql.run("DELETE FROM accounts WHERE id = ?", (account_id,))
        return True

    # --- inside -------------------------------------------------------------------------------------------------

    def _write_rows(self, new: dict[tuple[str, str], tuple[int, bytes]]) -> None:
        old = {
            (kind, name): (position, value)
            for kind, name, position, value in self._sql.rows("SELECT kind, name, position, value FROM configuration")
        }
        self._sql.run_many(
            "DELETE FROM configuration WHERE kind = ? AND name = ?", [key for key in old if key not in new]
        )
        self._sql.run_many(
            "INSERT INTO configuration (kind, name, position, value) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (kind, name) DO UPDATE SET position = excluded.position, value = excluded.value",
            [(*key, *row) for key, row in new.items() if old.get(key) != row],
        )

    def _write_accounts(self, names: set[str]) -> None:
        old = {
            name: account_id
            for account_id, name in self._sql.rows("SELECT id, name FROM accounts WHERE name IS NOT NULL AND id <> 0")
        }
        for name in sorted(names - old.keys()):
            # The first UIDVALIDITY is taken from the clock, so that an account that is made again does not repeat one.
            self._sql.run(
                "INSERT INTO accounts (name, modseq, event_number, uid_validity) VALUES (?, 1, 0, ?)",
                (name, self._unit.now_us // 2_000_000),
            )
        for name in sorted(old.keys() - names):
            self._remove_account(old[name])

    def _remove_account(self, account_id: int) -> None:
        self._sql.run("UPDATE accounts SET former_name = name, name = NULL WHERE id = ?", (account_id,))
        self._sql.run("DELETE FROM credentials WHERE account_id = ?", (account_id,))
        # A rule without its account would hold everybody's.
        self._sql.run("DELETE FROM hold_rules WHERE account_id = ?", (account_id,))
        for table in ("entries", "calls"):
            # Nobody takes them up any more, and results that still come change nothing.
            self._sql.run(
                f"UPDATE {table} SET pick_at = NULL, lease_until = NULL, token = token + 1 WHERE account_id = ?",
                (account_id,),
            )
        self._sql.run("UPDATE events SET is_pending = 0 WHERE account_id = ? AND is_pending = 1", (account_id,))


def _rows(configuration: Configuration) -> dict[tuple[str, str], tuple[int, bytes]]:
    named: list[tuple[str, str, Struct]] = [("settings", "", configuration.settings)]
    named += [("domain", domain.name, domain) for domain in configuration.domains]
    named += [("account", account.name, account) for account in configuration.accounts]
    named += [("address", address.address, address) for address in configuration.addresses]
    named += [("dkim_key", f"{key.selector}._domainkey.{key.domain}", key) for key in configuration.dkim_keys]
    return {
        (kind, name): (position, msgspec.json.encode(value, enc_hook=_write_secret))
        for position, (kind, name, value) in enumerate(named)
    }


def _write_secret(value: Any) -> str:
    if isinstance(value, Secret):
        return value.reveal()
    raise NotImplementedError(f"{type(value).__name__} is not stored")


def _read_secret(type_: type[Any], value: Any) -> Any:
    if type_ is Secret and isinstance(value, str):
        return Secret(value)
    raise NotImplementedError(f"{type_.__name__} is not stored")
