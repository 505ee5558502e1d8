"""Operations that change many entries of the queue: hold, release, reschedule, set transport or TLS, fail, drop.

One request does a piece of the work and answers where the next one goes on, so that whoever asks can show progress
and stop, and a filter's times mean the same in all pieces. No filter at all has to be asked for.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import replace

from mailcrane.admin import entry_changes
from mailcrane.admin.administration import Administration
from mailcrane.admin.entry_changes import Edit, EntryChange, changing, for_each_unit
from mailcrane.admin.errors import AdminError
from mailcrane.admin.queue_filter import MAX_ID, EntryFilter
from mailcrane.admin.time_filter import parse_duration
from mailcrane.model.delivery import Entry
from mailcrane.model.event import EventKind
from mailcrane.observe.log import get_log
from mailcrane.retire.by_hand import end_by_hand
from mailcrane.store.records import QueueFilter
from mailcrane.store.transaction import Transaction

_log = get_log(__name__)

_PIECE_ENTRIES = 2000

Act = Callable[[Sequence[int]], Awaitable[int]]


class Position(Struct, frozen=True, forbid_unknown_fields=True):
    """How far a change of many entries has come."""

    as_of: Annotated[datetime, Meta(description="What times of the filter are relative to.")]
    until_id: Annotated[int, Meta(ge=0, le=MAX_ID, description="The newest entry when it began.")]
    after_id: Annotated[int, Meta(ge=0, le=MAX_ID, description="The last entry that is done.")] = 0


class ChangeMany(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """For which entries, and where to go on."""

    filter: Annotated[EntryFilter, Meta(description="Which entries.")] = EntryFilter()
    is_all: Annotated[bool, Meta(description="That an empty filter is meant.")] = False
    position: Annotated[Position | None, Meta(description="From the answer before; null to begin.")] = None


class SetHold(ChangeMany, frozen=True, kw_only=True):
    """Hold entries, or release them."""

    is_held: Annotated[bool, Meta(description="Whether they are held from now on.")]


class Schedule(ChangeMany, frozen=True, kw_only=True):
    """Move the next attempt."""

    duration: Annotated[str, Meta(description="Such as `1h30m` or `-10m`.")]
    is_from_now: Annotated[bool, Meta(description="From now on, instead of from when it is due.")] = False


class SetTransport(ChangeMany, frozen=True, kw_only=True):
    """Set the transport that entries take, whatever routes say."""

    transport: Annotated[str, Meta(description="Name of a `[transports.NAME]`; empty leaves it to routes.")]


class SetRequireTLS(ChangeMany, frozen=True, kw_only=True):
    """Set whether a verified TLS connection is required."""

    require_tls: Annotated[
        bool | None, Meta(description="true as REQUIRETLS, false as `TLS-Required: No`, null for the usual policy.")
    ]


class EndEntries(ChangeMany, frozen=True, kw_only=True):
    """Take entries out of the queue for good."""

    is_failure: Annotated[
        bool, Meta(description="true: they failed, and the sender is told. false: they are canceled, without a word.")
    ]


class ChangedMany(Struct, frozen=True):
    """What was done; the next request carries `position`, which is null when all is done.

    Attributes:
        matched: Entries that met the filter.
        changed: Those of them that were not so already.
    """

    matched: int
    changed: int
    position: Position | None = None


async def set_hold(administration: Administration, request: SetHold) -> ChangedMany:
    """Hold entries or release them; an attempt under way goes on."""
    edit = entry_changes.hold if request.is_held else entry_changes.release
    return await _change(administration, request, edit)


async def schedule(administration: Administration, request: Schedule) -> ChangedMany:
    """Move the next attempt of entries."""
    by = parse_duration(request.duration)

    def edit(entry: Entry, now: datetime) -> EntryChange | None:
        return entry_changes.reschedule(entry, (now if request.is_from_now else entry.due_at) + by)

    return await _change(administration, request, edit)


async def set_transport(administration: Administration, request: SetTransport) -> ChangedMany:
    """Set the transport of entries."""
    known = administration.static.transports
    if request.transport and request.transport not in known:
        raise AdminError(
            "not_found",
            f'there is no transport "{request.transport}"; mailcrane.toml has: {", ".join(sorted(known)) or "(none)"}',
        )
    return await _change(
        administration, request, lambda entry, now: entry_changes.set_transport(entry, request.transport)
    )


async def set_require_tls(administration: Administration, request: SetRequireTLS) -> ChangedMany:
    """Set whether entries need TLS."""
    return await _change(
        administration, request, lambda entry, now: entry_changes.set_require_tls(entry, request.require_tls)
    )


async def end_entries(administration: Administration, request: EndEntries) -> ChangedMany:
    """Take entries out of the queue for good, held ones and those under way included."""
    event = EventKind.FAILED if request.is_failure else EventKind.CANCELED
    directory = await administration.directory()

    def act(conditions: QueueFilter) -> Act:
        async def end(ids: Sequence[int]) -> int:
            return await end_by_hand(
                store=administration.store,
                directory=directory,
                hooks=administration.hooks,
                ids=ids,
                event=event,
                by=administration.actor,
                conditions=conditions,
            )

        return end

    return await in_pieces(administration, request, act)


async def in_pieces(
    administration: Administration, request: ChangeMany, act: Callable[[QueueFilter], Act]
) -> ChangedMany:
    """Do something for a piece of the entries that a request is for.

    Args:
        administration: Whose store it is.
        request: Its position says which piece.
        act: Given the conditions, returns what is done for the ids of one unit.

    Raises:
        AdminError: the filter is empty and that was not asked for, or it is no filter.
    """
    if request.filter.is_empty and not request.is_all:
        raise AdminError("no_filter", "that would be for every entry: say which ones, or --all when that is meant")
    as_of = request.position.as_of if request.position else await administration.store.read(_now)
    return await piece(administration, request.filter.conditions(as_of), request.position, act)


async def piece(
    administration: Administration,
    conditions: QueueFilter,
    position: Position | None,
    act: Callable[[QueueFilter], Act],
) -> ChangedMany:
    """Do something for a piece of the entries that meet conditions.

    Args:
        administration: Whose store it is.
        conditions: Which entries.
        position: Which piece; None for the first.
        act: Given the conditions, returns what is done for the ids of one unit.
    """
    if position is None:
        position = await administration.store.read(_beginning)
    conditions = replace(conditions, until_id=position.until_id)
    page = replace(conditions, after_id=position.after_id, limit=_PIECE_ENTRIES)
    ids = await administration.store.read(lambda transaction: transaction.queue.ids(page))
    changed = await for_each_unit(ids, act(conditions))
    is_done = len(ids) < _PIECE_ENTRIES
    return ChangedMany(len(ids), changed, None if is_done else replace(position, after_id=ids[-1]))


async def _change(administration: Administration, request: ChangeMany, edit: Edit) -> ChangedMany:
    act = functools.partial(changing, administration.store, edit=edit, by=administration.actor)
    done = await in_pieces(administration, request, act)
    _log.info("entries changed", operation=type(request).__name__, count=done.changed, by=administration.actor)
    return done


def _now(transaction: Transaction) -> datetime:
    return transaction.now


def _beginning(transaction: Transaction) -> Position:
    return Position(transaction.now, transaction.queue.last_id())
