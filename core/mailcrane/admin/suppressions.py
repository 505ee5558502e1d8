"""Operations on suppression lists: list, look up, add, remove, and bring over whole lists."""

from __future__ import annotations

import functools
from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from mailcrane.admin.administration import Administration
from mailcrane.admin.errors import AdminError
from mailcrane.admin.queue_filter import MAX_ID
from mailcrane.model.address import AddressError, Mailbox
from mailcrane.model.suppression import (
    AlreadySuppressed,
    NotSuppressed,
    Suppression,
    SuppressionEvidence,
    SuppressionOrigin,
    base_address,
)
from mailcrane.observe.log import get_log
from mailcrane.retire.events import suppression_changed
from mailcrane.retire.suppression import put_on_list, take_off_list
from mailcrane.store.errors import UnknownAccount
from mailcrane.store.records import NewSuppression
from mailcrane.store.transaction import Transaction

_log = get_log(__name__)

MAX_IMPORTED = 1000
"""Records of one request to import."""

# Rows of one unit: others that write do not wait long.
_UNIT_ROWS = 250

_MAX_REASON = 1000

Reason = Annotated[str, Meta(max_length=_MAX_REASON, description="Why, in words.")]
Account = Annotated[str, Meta(min_length=1, description="Name of the account.")]
Address = Annotated[str, Meta(min_length=1, max_length=1000, description="The address.")]


class ListSuppressions(Struct, frozen=True, forbid_unknown_fields=True):
    """List what is suppressed, the oldest first."""

    account: Annotated[str, Meta(description="Name of the account; empty for all.")] = ""
    after_id: Annotated[int, Meta(ge=0, le=MAX_ID, description="The page after this one.")] = 0
    limit: Annotated[int, Meta(ge=1, le=10000, description="The most rows.")] = 1000


class LookUpSuppression(Struct, frozen=True, forbid_unknown_fields=True):
    """Ask whether an account sends nothing to an address, and why."""

    account: Account
    address: Address


class AddSuppression(Struct, frozen=True, forbid_unknown_fields=True):
    """Put an address on an account's list."""

    account: Account
    address: Address
    reason: Reason = ""


class RemoveSuppression(Struct, frozen=True, forbid_unknown_fields=True):
    """Take an address off an account's list."""

    account: Account
    address: Address


class SuppressionRecord(Struct, frozen=True, forbid_unknown_fields=True):
    """An address with why it is suppressed, as lists are exported and imported."""

    address: Address
    created_at: Annotated[Annotated[datetime, Meta(tz=True)] | None, Meta(description="Since when; null for now.")] = (
        None
    )
    is_manual: Annotated[bool, Meta(description="Whether a person or an application put it there.")] = False
    reason: Reason = ""
    origin: Annotated[SuppressionOrigin, Meta(description="Who put it there.")] = SuppressionOrigin.IMPORT
    code: Annotated[int, Meta(ge=0, le=999, description="Of the reply that it is there for; 0 for none.")] = 0
    enhanced_status_code: Annotated[str, Meta(max_length=20, description="Such as `5.1.1`.")] = ""
    text: Annotated[str, Meta(max_length=2000, description="The reply, in its own words.")] = ""
    remote_mta: Annotated[str, Meta(max_length=1000, description="Who said it.")] = ""
    entry_id: Annotated[int, Meta(ge=0, le=MAX_ID, description="Of the entry that failed; 0 for none.")] = 0


class ImportSuppressions(Struct, frozen=True, forbid_unknown_fields=True):
    """Put many addresses on an account's list; what is on it stays as it is, so that this may be repeated."""

    account: Account
    records: Annotated[tuple[SuppressionRecord, ...], Meta(max_length=MAX_IMPORTED, description="At most 1000.")]


class ListedSuppression(Struct, frozen=True):
    """What is on a list; the other fields mean what they mean in `SuppressionRecord`."""

    id: int
    account: str
    base_address: str
    record: SuppressionRecord


class SuppressionList(Struct, frozen=True):
    """Rows by id; `next_after_id` asks for the next page and is 0 on the last."""

    suppressions: tuple[ListedSuppression, ...]
    next_after_id: int


class SuppressionFound(Struct, frozen=True):
    """What is on the list for an address; `suppression` is null for nothing."""

    base_address: str
    suppression: ListedSuppression | None


class SuppressionsImported(Struct, frozen=True):
    """How many were added, and how many were on the list already."""

    added: int
    present: int


async def list_suppressions(administration: Administration, request: ListSuppressions) -> SuppressionList:
    """List what is suppressed."""

    def read(transaction: Transaction) -> list[Suppression]:
        if request.account:
            _check_account(transaction, request.account)
        return transaction.suppressions.list(
            request.account or None, after_id=request.after_id, limit=request.limit + 1
        )

    found = await administration.store.read(read)
    page = found[: request.limit]
    return SuppressionList(tuple(_listed(one) for one in page), page[-1].id if len(found) > len(page) else 0)


async def look_up_suppression(administration: Administration, request: LookUpSuppression) -> SuppressionFound:
    """Say whether an address is suppressed, and why."""
    base = base_address(_mailbox(request.address))

    def read(transaction: Transaction) -> Suppression | None:
        _check_account(transaction, request.account)
        return transaction.suppressions.get(request.account, base)

    found = await administration.store.read(read)
    return SuppressionFound(base, None if found is None else _listed(found))


async def add_suppression(administration: Administration, request: AddSuppression) -> ListedSuppression:
    """Put an address on a list."""
    if len(request.reason) > _MAX_REASON:
        raise AdminError("bad_value", f"the reason is longer than {_MAX_REASON} characters")
    new = NewSuppression(
        request.account, _mailbox(request.address), request.reason, SuppressionOrigin.MANUAL, is_manual=True
    )
    unit = functools.partial(put_on_list, new=new, by=administration.actor)
    try:
        added = await administration.store.write(unit, key=_key(request.account))
    except AlreadySuppressed as present:
        raise AdminError("exists", f"{present} is on the suppression list of {request.account} already") from None
    except UnknownAccount:
        raise _unknown(request.account) from None
    _log.info("address suppressed", account=request.account, address=request.address, by=administration.actor)
    return _listed(added)


async def remove_suppression(administration: Administration, request: RemoveSuppression) -> ListedSuppression:
    """Take an address off a list; returns what it was there for."""
    address = _mailbox(request.address)

    def unit(transaction: Transaction) -> Suppression:
        _check_account(transaction, request.account)
        return take_off_list(transaction, account=request.account, address=address, by=administration.actor)

    try:
        removed = await administration.store.write(unit, key=_key(request.account))
    except NotSuppressed as absent:
        raise AdminError("not_found", f"{absent} is not on the suppression list of {request.account}") from None
    _log.info("address not suppressed any more", account=request.account, address=request.address)
    return _listed(removed)


async def import_suppressions(administration: Administration, request: ImportSuppressions) -> SuppressionsImported:
    """Put many addresses on a list, in bounded units; one that is not an address stops before anything is added."""
    new = [_new(request.account, record) for record in request.records]
    added = 0
    for start in range(0, len(new), _UNIT_ROWS):
        unit = functools.partial(_add_all, new=new[start : start + _UNIT_ROWS], by=administration.actor)
        try:
            added += await administration.store.write(unit, key=_key(request.account))
        except UnknownAccount:
            raise _unknown(request.account) from None
    return SuppressionsImported(added, len(new) - added)


def record_of(suppression: Suppression) -> SuppressionRecord:
    """Return a suppression as it is exported."""
    evidence = suppression.evidence
    return SuppressionRecord(
        suppression.original_address,
        suppression.created_at,
        suppression.is_manual,
        suppression.reason,
        suppression.origin,
        evidence.code,
        evidence.enhanced_status_code,
        evidence.text,
        evidence.remote_mta,
        evidence.entry_id,
    )


def _add_all(transaction: Transaction, *, new: list[NewSuppression], by: str) -> int:
    added = [one for one in map(transaction.suppressions.add, new) if one is not None]
    transaction.events.record([suppression_changed(one, "added", by=by) for one in added])
    return len(added)


def _new(account: str, record: SuppressionRecord) -> NewSuppression:
    evidence = SuppressionEvidence(
        record.entry_id, record.code, record.enhanced_status_code, record.text, record.remote_mta
    )
    return NewSuppression(
        account,
        _mailbox(record.address),
        record.reason or "imported",
        record.origin,
        record.is_manual,
        evidence,
        record.created_at,
    )


def _listed(suppression: Suppression) -> ListedSuppression:
    return ListedSuppression(suppression.id, suppression.account, suppression.base_address, record_of(suppression))


def _mailbox(text: str) -> Mailbox:
    try:
        return Mailbox.parse(text)
    except AddressError as error:
        raise AdminError("bad_value", f'"{text}" is not an address: {error}') from None


def _check_account(transaction: Transaction, account: str) -> None:
    try:
        transaction.folders.modseq(account)
    except UnknownAccount:
        raise _unknown(account) from None


def _unknown(account: str) -> AdminError:
    return AdminError("not_found", f'there is no account "{account}"')


def _key(account: str) -> str:
    return f"account:{account}"
