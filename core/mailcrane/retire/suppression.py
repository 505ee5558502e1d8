"""Suppression after a failure, and the lists as plugins and operations change them.

What a failure does is decided before the unit (`plan_suppression` asks plugins) and carried out within it.
"""

from __future__ import annotations

import enum
import functools

from msgspec import Struct

from mailcrane.model.address import Mailbox
from mailcrane.model.delivery import Entry, RecipientResult
from mailcrane.model.suppression import (
    AlreadySuppressed,
    FailureCause,
    NotSuppressed,
    Suppression,
    SuppressionEvidence,
    SuppressionOrigin,
    base_address,
)
from mailcrane.plugin.caller import Hooks
from mailcrane.retire.cause import failure_cause
from mailcrane.retire.events import suppression_changed
from mailcrane.store.records import NewSuppression
from mailcrane.store.store import Store
from mailcrane.store.transaction import Transaction

FAILURES_THAT_SUPPRESS = 3
"""In a row, where a single one does not say enough."""

# What a peer says is kept in a row of ours: enough to be understood, not what it likes.
_MOST_CHARACTERS = 1000


class Step(enum.Enum):
    """What a failure does to the list."""

    NOTHING = "nothing"
    COUNT = "count"
    COUNT_AND_SUPPRESS_WHEN_IN_A_ROW = "count and suppress when in a row"
    SUPPRESS = "suppress"


class SuppressionPlan(Struct, frozen=True):
    """What a failure is to do to the account's list.

    Attributes:
        cause: What the last reply says of the address.
        reason: In words, for the list; empty for the core's own.
    """

    step: Step
    cause: FailureCause = FailureCause.NO_REPLY
    reason: str = ""
    origin: SuppressionOrigin = SuppressionOrigin.QUEUE


NO_SUPPRESSION = SuppressionPlan(Step.NOTHING)

_STEPS = {
    FailureCause.ADDRESS: Step.SUPPRESS,
    FailureCause.UNCLEAR: Step.COUNT_AND_SUPPRESS_WHEN_IN_A_ROW,
    FailureCause.NO_REPLY: Step.COUNT,
    FailureCause.SENDER: Step.NOTHING,
}


async def find_suppression(hooks: Hooks, entry: Entry, suppression: Suppression | None) -> str | None:
    """Return why an entry is not to be attempted; None when it is.

    Args:
        hooks: Plugins overrule the list.
        entry: About to be attempted.
        suppression: What the account's list has for its recipient.

    Raises:
        HookFailed: a plugin failed; nobody knows, so the attempt is put off.
    """
    answer = await hooks.check_suppression(entry=entry, suppression=suppression)
    if answer is not None:
        return f"suppressed: {answer.reason or 'a plugin says so'}" if answer.is_suppressed else None
    if suppression is None:
        return None
    since = suppression.created_at.date().isoformat()
    why = f" ({suppression.reason})" if suppression.reason else ""
    return f"suppressed: {suppression.base_address} is on the suppression list since {since}{why}"


async def plan_suppression(hooks: Hooks, entry: Entry, result: RecipientResult) -> SuppressionPlan:
    """Decide what the failure of an entry does to the account's list, plugins first."""
    cause = failure_cause(result.reply)
    answer = await hooks.decide_suppression(entry=entry, result=result, cause=cause)
    if answer is None:
        return SuppressionPlan(_STEPS[cause], cause)
    if not answer.is_suppressed:
        return SuppressionPlan(Step.NOTHING, cause)
    return SuppressionPlan(Step.SUPPRESS, cause, answer.reason, SuppressionOrigin.PLUGIN)


def carry_out(
    transaction: Transaction, entry: Entry, result: RecipientResult, plan: SuppressionPlan
) -> Suppression | None:
    """Do what was planned; returns what was put on the list, None for nothing or when it was on it already.

    The count of an address is over all accounts: that it is dead is the same for all of them.
    """
    if plan.step is Step.NOTHING:
        return None
    in_a_row = transaction.suppressions.count_failure(entry.forward_path)
    is_due = plan.step is Step.SUPPRESS or (
        plan.step is Step.COUNT_AND_SUPPRESS_WHEN_IN_A_ROW and in_a_row >= FAILURES_THAT_SUPPRESS
    )
    if not is_due:
        return None
    return transaction.suppressions.add(
        NewSuppression(
            entry.account,
            entry.forward_path,
            plan.reason or _reason(result, in_a_row, plan.step),
            plan.origin,
            evidence=evidence_of(entry, result),
        )
    )


def evidence_of(entry: Entry, result: RecipientResult) -> SuppressionEvidence:
    """Return what an entry's last result proves."""
    reply = result.reply
    return SuppressionEvidence(
        entry.id,
        0 if reply is None else reply.code,
        "" if reply is None else reply.enhanced_status_code,
        (result.error if reply is None else reply.text)[:_MOST_CHARACTERS],
        result.remote_mta[:_MOST_CHARACTERS],
    )


def _reason(result: RecipientResult, in_a_row: int, step: Step) -> str:
    reply = result.reply
    code = "" if reply is None else f"{reply.code} {reply.enhanced_status_code}".strip()
    if step is Step.SUPPRESS:
        return f"queue: the next hop answered {code}" if result.remote_mta else f"queue: failed with {code}"
    return f"queue: {in_a_row} failures in a row, the last one with {code}"


class SuppressionLists:
    """The lists of all accounts; what plugins are given as ``context.suppressions``."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def list(self, account: str) -> tuple[Suppression, ...]:
        """Return the whole list, the oldest first."""
        return tuple(await self._store.read(lambda transaction: transaction.suppressions.list(account)))

    async def add(self, account: str, address: Mailbox, *, is_manual: bool, reason: str) -> Suppression:
        """Put an address on the list.

        Raises:
            AlreadySuppressed: its base is on it.
            UnknownAccount: there is no such account.
        """
        origin = SuppressionOrigin.MANUAL if is_manual else SuppressionOrigin.PLUGIN
        new = NewSuppression(account, address, reason, origin, is_manual)
        return await self._store.write(functools.partial(put_on_list, new=new), key=_key(account))

    async def remove(self, account: str, address: Mailbox) -> None:
        """Take an address off the list.

        Raises:
            NotSuppressed: its base is not on it.
        """
        unit = functools.partial(take_off_list, account=account, address=address)
        await self._store.write(unit, key=_key(account))

    async def is_suppressed(self, account: str, address: Mailbox) -> bool:
        """Return whether the base of an address is on the list."""
        base = base_address(address)
        return await self._store.read(lambda transaction: transaction.suppressions.get(account, base)) is not None


def put_on_list(transaction: Transaction, *, new: NewSuppression, by: str = "") -> Suppression:
    """Put an address on a list and record that, in one unit.

    Raises:
        AlreadySuppressed: its base is on it.
        UnknownAccount: there is no such account.
    """
    added = transaction.suppressions.add(new)
    if added is None:
        raise AlreadySuppressed(base_address(new.address))
    transaction.events.record([suppression_changed(added, "added", by=by)])
    return added


def take_off_list(transaction: Transaction, *, account: str, address: Mailbox, by: str = "") -> Suppression:
    """Take an address off a list and record that, in one unit. Its failures are counted anew.

    Raises:
        NotSuppressed: its base is not on it.
    """
    base = base_address(address)
    removed = transaction.suppressions.remove(account, base)
    if removed is None:
        raise NotSuppressed(base)
    for forgotten in {address, Mailbox.parse(removed.original_address)}:
        transaction.suppressions.forget_failures(forgotten)
    transaction.events.record([suppression_changed(removed, "removed", by=by)])
    return removed


def _key(account: str) -> str:
    return f"account:{account}"
