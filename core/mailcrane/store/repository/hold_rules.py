"""Hold rules. They are asked for every entry that is added, so a unit reads them once."""

from __future__ import annotations

import builtins

from mailcrane.model.hold_rule import HoldRule
from mailcrane.store.repository.accounts import Accounts
from mailcrane.store.sql import SQL, Row, Unit, from_us

# The rule of a removed account is removed with it.
_SELECT = (
    "SELECT r.id, r.created_at, COALESCE(a.name, ''), r.sender_domain, r.recipient_domain"
    " FROM hold_rules r LEFT JOIN accounts a ON a.id = r.account_id"
)


class HoldRulesRepository:
    """The rules, in the order of their ids."""

    def __init__(self, sql: SQL, unit: Unit, accounts: Accounts) -> None:
        self._sql = sql
        self._unit = unit
        self._accounts = accounts
        self._read_in = 0
        self._rules: tuple[HoldRule, ...] = ()

    def list(self) -> builtins.list[HoldRule]:
        """Return all rules."""
        return [_rule(row) for row in self._sql.rows(f"{_SELECT} ORDER BY r.id")]

    def get(self, rule_id: int) -> HoldRule | None:
        """Return a rule, or None when there is none of this id (any more)."""
        row = self._sql.row(f"{_SELECT} WHERE r.id = ?", (rule_id,))
        return None if row is None else _rule(row)

    def matching(self, account: str, sender_domain: str, recipient_domain: str) -> HoldRule | None:
        """Return the first rule by which an entry is held; None when no rule holds it.

        Args:
            account: Name of the account that submits.
            sender_domain: Of the reverse-path, as A-labels; empty for the null reverse-path.
            recipient_domain: Of the forward-path.
        """
        if self._read_in != self._unit.number:
            self._rules = tuple(self.list())
            self._read_in = self._unit.number
        return next((rule for rule in self._rules if rule.matches(account, sender_domain, recipient_domain)), None)

    def add(self, *, account: str = "", sender_domain: str = "", recipient_domain: str = "") -> HoldRule:
        """Add a rule for entries that are added from now on; those in the queue are left to the caller.

        Raises:
            UnknownAccount: the account does not exist.
        """
        account_id = self._accounts.id_of(account) if account else None
        row = self._sql.row(
            "INSERT INTO hold_rules (created_at, account_id, sender_domain, recipient_domain) VALUES (?, ?, ?, ?)"
            " RETURNING id",
            (self._unit.now_us, account_id, sender_domain, recipient_domain),
        )
        assert row is not None, "RETURNING gives the row that was written"
        self._read_in = 0
        return HoldRule(row[0], self._unit.now, account, sender_domain, recipient_domain)

    def remove(self, rule_id: int) -> bool:
        """Remove a rule; what it holds stays held. False when there is none of this id."""
        self._read_in = 0
        return self._sql.run("DELETE FROM hold_rules WHERE id = ?", (rule_id,)) > 0


def _rule(row: Row) -> HoldRule:
    rule_id, created_at, account, sender_domain, recipient_domain = row
    return HoldRule(rule_id, from_us(created_at), account, sender_domain, recipient_domain)
