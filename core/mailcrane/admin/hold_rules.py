"""Operations on hold rules: a rule holds what comes later; what is in the queue already is held piece by piece."""

from __future__ import annotations

import functools
from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from mailcrane.admin import entry_changes
from mailcrane.admin.administration import Administration
from mailcrane.admin.entry_changes import changing
from mailcrane.admin.errors import AdminError
from mailcrane.admin.queue_changes import ChangedMany, Position, piece
from mailcrane.admin.queue_filter import MAX_ID
from mailcrane.model.address import AddressError, Mailbox, domain_to_unicode
from mailcrane.model.hold_rule import HoldRule
from mailcrane.observe.log import get_log
from mailcrane.store.errors import UnknownAccount
from mailcrane.store.records import QueueFilter
from mailcrane.store.transaction import Transaction

_log = get_log(__name__)


class ListHoldRules(Struct, frozen=True, forbid_unknown_fields=True):
    """List the hold rules."""


class AddHoldRule(Struct, frozen=True, forbid_unknown_fields=True):
    """Add a hold rule; an entry is held when all that is given here fits. Nothing given holds everything."""

    account: Annotated[str, Meta(description="Name of the account that submits.")] = ""
    sender_domain: Annotated[str, Meta(description="Domain of the reverse-path.")] = ""
    recipient_domain: Annotated[str, Meta(description="Domain of the forward-path.")] = ""


class RemoveHoldRule(Struct, frozen=True, forbid_unknown_fields=True):
    """Remove a hold rule; nothing is released by it."""

    id: Annotated[int, Meta(ge=1, le=MAX_ID, description="Id of the rule.")]


class ListedHoldRule(Struct, frozen=True):
    """A rule; fields that are empty fit everything. Domains are in Unicode."""

    id: int
    created_at: datetime
    account: str
    sender_domain: str
    recipient_domain: str


class HoldRuleList(Struct, frozen=True):
    """The rules, by id."""

    rules: tuple[ListedHoldRule, ...]


class HoldRuleAdded(Struct, frozen=True):
    """The rule holds what is added from now on; `is_new` is false where there was an equal one already."""

    rule: ListedHoldRule
    is_new: bool


class ApplyHoldRule(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Hold what a rule fits of the entries that are in the queue."""

    id: Annotated[int, Meta(ge=1, le=MAX_ID, description="Id of the rule.")]
    position: Annotated[Position | None, Meta(description="From the answer before; null to begin.")] = None


class HoldRuleRemoved(Struct, frozen=True):
    """The rule is gone."""

    id: int


async def list_hold_rules(administration: Administration, request: ListHoldRules) -> HoldRuleList:
    """List the hold rules."""
    rules = await administration.store.read(lambda transaction: transaction.hold_rules.list())
    return HoldRuleList(tuple(_listed(rule) for rule in rules))


async def add_hold_rule(administration: Administration, request: AddHoldRule) -> HoldRuleAdded:
    """Add a hold rule for what is added from now on; `apply_hold_rule` holds what is in the queue already."""
    account, sender, recipient = request.account, _domain(request.sender_domain), _domain(request.recipient_domain)

    def unit(transaction: Transaction) -> tuple[HoldRule, bool]:
        for rule in transaction.hold_rules.list():
            if (rule.account, rule.sender_domain, rule.recipient_domain) == (account, sender, recipient):
                return rule, False
        added = transaction.hold_rules.add(account=account, sender_domain=sender, recipient_domain=recipient)
        return added, True

    try:
        rule, is_new = await administration.store.write(unit, key="queue")
    except UnknownAccount:
        raise AdminError("not_found", f'there is no account "{account}"') from None
    if is_new:
        _log.info("hold rule added", rule=str(rule), by=administration.actor)
    return HoldRuleAdded(_listed(rule), is_new)


async def apply_hold_rule(administration: Administration, request: ApplyHoldRule) -> ChangedMany:
    """Hold a piece of what a rule fits of the entries that are in the queue and not held yet."""
    rule = await administration.store.read(lambda transaction: transaction.hold_rules.get(request.id))
    if rule is None:
        raise _no_rule(request.id)
    conditions = QueueFilter(
        account=rule.account or None,
        sender_domain=rule.sender_domain or None,
        recipient_domain=rule.recipient_domain or None,
        is_held=False,
    )
    edit = functools.partial(entry_changes.hold, rule=rule)
    act = functools.partial(changing, administration.store, edit=edit, by=administration.actor)
    return await piece(administration, conditions, request.position, act)


async def remove_hold_rule(administration: Administration, request: RemoveHoldRule) -> HoldRuleRemoved:
    """Remove a hold rule. What it holds is released with ``mailcrane queue unhold``."""
    if not await administration.store.write(lambda transaction: transaction.hold_rules.remove(request.id), key="queue"):
        raise _no_rule(request.id)
    _log.info("hold rule removed", rule=request.id, by=administration.actor)
    return HoldRuleRemoved(request.id)


def _no_rule(rule_id: int) -> AdminError:
    return AdminError(
        "not_found", f"there is no hold rule {rule_id}; `mailcrane queue holdrules list` shows those there are"
    )


def _domain(text: str) -> str:
    if not text:
        return ""
    try:
        return Mailbox.parse(f"postmaster@{text}").domain
    except AddressError as error:
        raise AdminError("bad_value", f'"{text}" is not a domain: {error}') from None


def _listed(rule: HoldRule) -> ListedHoldRule:
    return ListedHoldRule(
        rule.id,
        rule.created_at,
        rule.account,
        domain_to_unicode(rule.sender_domain),
        domain_to_unicode(rule.recipient_domain),
    )
