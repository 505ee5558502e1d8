"""Operations on hold rules. A rule holds what is in the queue when it is added, and all that comes later."""

from __future__ import annotations

import functools
from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import replace

from mailcrane.admin import entry_changes
from mailcrane.admin.administration import Administration
from mailcrane.admin.entry_changes import changing, for_each_unit
from mailcrane.admin.errors import AdminError
from mailcrane.admin.queue_filter import MAX_ID
from mailcrane.model.address import AddressError, Mailbox, domain_to_unicode
from mailcrane.model.hold_rule import HoldRule
from mailcrane.observe.log import get_log
from mailcrane.store.errors import UnknownAccount
from mailcrane.store.records import QueueFilter
from mailcrane.store.transaction import Transaction

_log = get_log(__name__)

_PAGE_ENTRIES = 2000


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
    """The new rule, and how many entries of the queue it holds that were not held before."""

    rule: ListedHoldRule
    held: int


class HoldRuleRemoved(Struct, frozen=True):
    """The rule is gone."""

    id: int


async def list_hold_rules(administration: Administration, request: ListHoldRules) -> HoldRuleList:
    """List the hold rules."""
    rules = await administration.store.read(lambda transaction: transaction.hold_rules.list())
    return HoldRuleList(tuple(_listed(rule) for rule in rules))


async def add_hold_rule(administration: Administration, request: AddHoldRule) -> HoldRuleAdded:
    """Add a hold rule, then hold what it fits of the entries that are in the queue already."""
    account, sender, recipient = request.account, _domain(request.sender_domain), _domain(request.recipient_domain)

    def unit(transaction: Transaction) -> tuple[HoldRule, int]:
        for rule in transaction.hold_rules.list():
            if (rule.account, rule.sender_domain, rule.recipient_domain) == (account, sender, recipient):
                raise AdminError("exists", f"{rule} is there already")
        added = transaction.hold_rules.add(account=account, sender_domain=sender, recipient_domain=recipient)
        # What is added from here on is held by the rule itself.
        return added, transaction.queue.last_id()

    try:
        rule, until_id = await administration.store.write(unit, key="queue")
    except UnknownAccount:
        raise AdminError("not_found", f'there is no account "{account}"') from None
    held = await _hold(administration, rule, until_id)
    _log.info("hold rule added", rule=str(rule), held=held, by=administration.actor)
    return HoldRuleAdded(_listed(rule), held)


async def remove_hold_rule(administration: Administration, request: RemoveHoldRule) -> HoldRuleRemoved:
    """Remove a hold rule. What it holds is released with ``mailcrane queue unhold``."""
    if not await administration.store.write(lambda transaction: transaction.hold_rules.remove(request.id), key="queue"):
        raise AdminError("not_found", f"there is no hold rule {request.id}; `mailcrane queue holdrules list` shows all")
    _log.info("hold rule removed", rule=request.id, by=administration.actor)
    return HoldRuleRemoved(request.id)


async def _hold(administration: Administration, rule: HoldRule, until_id: int) -> int:
    conditions = QueueFilter(
        account=rule.account or None,
        sender_domain=rule.sender_domain or None,
        recipient_domain=rule.recipient_domain or None,
        is_held=False,
        until_id=until_id,
        limit=_PAGE_ENTRIES,
    )
    edit = functools.partial(entry_changes.hold, rule=rule)
    act = changing(administration.store, conditions, edit, administration.actor)
    held = after_id = 0
    while True:
        page = functools.partial(_ids, conditions=replace(conditions, after_id=after_id))
        ids = await administration.store.read(page)
        if not ids:
            return held
        held += await for_each_unit(ids, act)
        after_id = ids[-1]


def _ids(transaction: Transaction, conditions: QueueFilter) -> list[int]:
    return transaction.queue.ids(conditions)


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
