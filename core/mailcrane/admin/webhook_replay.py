"""Operations that post events once more: of calls that ended, of single events, or of a range of an account's events.

What is posted is made anew from the stored event, so that calls that are kept no longer can be replayed as well, as
long as the event is kept. Each operation does a piece and answers where the next begins.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from msgspec import Meta, Struct

from mailcrane.admin.administration import Administration
from mailcrane.admin.errors import AdminError, not_running
from mailcrane.admin.time_filter import parse_instant
from mailcrane.admin.webhooks import CallId
from mailcrane.model.event import OUTGOING_EVENT_KINDS, Event, EventKind, is_plugin_kind
from mailcrane.store.errors import UnknownAccount
from mailcrane.store.transaction import Transaction
from mailcrane.webhook.dispatcher import Dispatcher

_MAX_NUMBER = 2**63 - 1
_MAX_IDS = 500
_UNIT = 200
# Numbers of a feed that are looked at in one read, and in one operation.
_WINDOW = 5_000
_WINDOWS = 20


class ReplayCalls(Struct, frozen=True, forbid_unknown_fields=True):
    """Post once more what calls told that have ended, each to its own URL."""

    ids: Annotated[tuple[CallId, ...], Meta(min_length=1, max_length=_MAX_IDS, description="Ids of calls.")]


class ReplayEvents(Struct, frozen=True, forbid_unknown_fields=True):
    """Post events once more, by their ids."""

    ids: Annotated[tuple[str, ...], Meta(min_length=1, max_length=_MAX_IDS, description="Ids of events, `evt_…`.")]


class ReplayRange(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Post events of an account once more, in their order; some at a time."""

    account: Annotated[str, Meta(description="Name of the account.")]
    events: Annotated[tuple[str, ...], Meta(description="Names of events; empty for all that are not a plugin's.")] = ()
    since: Annotated[str, Meta(description="Recorded after this: RFC 3339, or how long ago; empty for all.")] = ""
    until: Annotated[str, Meta(description="Recorded before this, likewise; empty for all until now.")] = ""
    after_number: Annotated[
        int, Meta(ge=0, le=_MAX_NUMBER, description="Only events with a greater number; 0 begins.")
    ] = 0
    until_number: Annotated[
        int, Meta(ge=0, le=_MAX_NUMBER, description="And with at most this; 0 for all there are now.")
    ] = 0


class Replayed(Struct, frozen=True):
    """What was done.

    Attributes:
        events: Events that were found and looked at.
        calls: Calls that were queued. There are none for a target that does not want the event, or is disabled.
        missing: Ids of calls or events that are not kept, or whose events are not.
    """

    events: int
    calls: int
    missing: tuple[str, ...] = ()


class RangeReplayed(Struct, frozen=True):
    """What was done; with `next_after_number` and `until_number` the operation goes on, unless the former is 0."""

    events: int
    calls: int
    next_after_number: int
    until_number: int


async def replay_calls(administration: Administration, request: ReplayCalls) -> Replayed:
    """Queue new calls of the events of calls that ended; those that were given up are off the list of those then."""
    dispatcher = _dispatcher(administration)

    def read(transaction: Transaction) -> tuple[list[int], dict[int, tuple[str, str]], dict[str, Event]]:
        queued = [id_ for id_ in request.ids if transaction.webhooks.get(id_) is not None]
        retired = {id_: transaction.webhooks.get_retired(id_) for id_ in request.ids}
        told = {id_: (one.call.event_id, one.call.target.url) for id_, one in retired.items() if one is not None}
        events = {event.id: event for event in transaction.events.get(event_id for event_id, _ in told.values())}
        return queued, told, events

    queued, told, events = await administration.store.read(read)
    if queued:
        raise AdminError(
            "bad_value",
            f"call {queued[0]} is in the queue; `mailcrane queue webhook schedule --now 0 --ids {queued[0]}` makes it",
        )
    found = {id_: (events[event_id], url) for id_, (event_id, url) in told.items() if event_id in events}
    calls = 0
    # One event may have had several calls, to several URLs: each is a replay of its own, and a unit of its own. Who
    # repeats this for those that are given up, because it was interrupted, replays those that were not.
    for id_, (event, url) in found.items():
        calls += await _replay(dispatcher, [event], {event.id: url}, calls=(id_,))
    return Replayed(len(found), calls, tuple(str(id_) for id_ in request.ids if id_ not in found))


async def replay_events(administration: Administration, request: ReplayEvents) -> Replayed:
    """Queue new calls of events, wherever they are posted to today."""
    dispatcher = _dispatcher(administration)
    found = await administration.store.read(lambda transaction: transaction.events.get(request.ids))
    for event in found:
        _check_kind(event.kind)
    calls = 0
    for start in range(0, len(found), _UNIT):
        calls += await _replay(dispatcher, found[start : start + _UNIT])
    known = {event.id for event in found}
    return Replayed(len(found), calls, tuple(id_ for id_ in request.ids if id_ not in known))


async def replay_range(administration: Administration, request: ReplayRange) -> RangeReplayed:
    """Queue new calls of a piece of an account's events."""
    dispatcher = _dispatcher(administration)
    kinds = frozenset(_kind(name) for name in request.events) or OUTGOING_EVENT_KINDS

    def bounds(transaction: Transaction) -> tuple[int, int]:
        if transaction.configuration.account_id(request.account) is None:
            raise AdminError("not_found", f'there is no account "{request.account}"')
        first = max(request.after_number, transaction.events.first_number(request.account) - 1)
        return first, request.until_number or transaction.events.last_number(request.account)

    after, last = await administration.store.read(bounds)
    events = calls = 0
    for _ in range(_WINDOWS):
        if after >= last or events >= _UNIT:
            break
        size = min(_WINDOW, last - after)
        found = await administration.store.read(_reading(request, after, size, kinds))
        # What does not fit into this piece is read again for the next one.
        piece = found[:_UNIT]
        calls += await _replay(dispatcher, piece)
        events += len(piece)
        after = piece[-1].number if len(found) > len(piece) else after + size
    return RangeReplayed(events, calls, after if after < last else 0, last)


def _reading(
    request: ReplayRange, after: int, size: int, kinds: frozenset[EventKind]
) -> Callable[[Transaction], list[Event]]:
    def read(transaction: Transaction) -> list[Event]:
        return transaction.events.window(
            request.account,
            after,
            size,
            kinds=kinds,
            since=parse_instant(request.since, transaction.now) if request.since else None,
            until=parse_instant(request.until, transaction.now) if request.until else None,
        )

    return read


async def _replay(
    dispatcher: Dispatcher, events: list[Event], urls: dict[str, str] | None = None, *, calls: tuple[int, ...] = ()
) -> int:
    if not events:
        return 0
    try:
        return await dispatcher.replay(events, urls, calls=calls)
    except UnknownAccount as error:
        raise AdminError("not_found", f'the account "{error.account}" was removed') from None


def _dispatcher(administration: Administration) -> Dispatcher:
    if administration.dispatcher is None:
        raise not_running()
    return administration.dispatcher


def _kind(name: str) -> EventKind:
    try:
        kind = EventKind(name)
    except ValueError:
        raise AdminError("bad_value", f'"{name}" is not an event') from None
    _check_kind(kind)
    return kind


def _check_kind(kind: EventKind) -> None:
    if kind not in OUTGOING_EVENT_KINDS and not is_plugin_kind(kind):
        raise AdminError("bad_value", f"{kind.value} is not posted to webhooks")
