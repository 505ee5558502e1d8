"""Operations on the queue: list and count entries, show one with its timeline."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import replace

from mailcrane.admin.administration import Administration
from mailcrane.admin.errors import AdminError
from mailcrane.admin.queue_filter import MAX_ID, EntryFilter
from mailcrane.admin.timeline import TimelineStep, tell
from mailcrane.model.delivery import Attempt, Entry
from mailcrane.model.event import EVENT_FORMAT
from mailcrane.store.records import CallFilter, QueueSort
from mailcrane.store.transaction import Transaction


class ListQueue(Struct, frozen=True, forbid_unknown_fields=True):
    """List entries."""

    filter: Annotated[EntryFilter, Meta(description="Which entries.")] = EntryFilter()
    sort: Annotated[QueueSort, Meta(description="By the next attempt, or in the order of queueing.")] = QueueSort.QUEUED
    is_descending: Annotated[bool, Meta(description="The last one first.")] = False
    after_id: Annotated[int, Meta(ge=0, le=MAX_ID, description="The page after this entry; 0 for the first.")] = 0
    after_due_at: Annotated[
        datetime | None, Meta(description="Its due time; for pages that are sorted by the next attempt.")
    ] = None
    limit: Annotated[int, Meta(ge=1, le=10000, description="The most entries.")] = 100


class CountQueue(Struct, frozen=True, forbid_unknown_fields=True):
    """Count entries."""

    filter: Annotated[EntryFilter, Meta(description="Which entries.")] = EntryFilter()


class ShowEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """Show one entry."""

    id: Annotated[int, Meta(ge=1, le=MAX_ID, description="Id of the entry.")]


class QueueEntry(Struct, frozen=True):
    """An entry; the fields mean what they mean in `mailcrane.model.delivery.Entry`.

    Attributes:
        status: ``queued``, ``held``, or how it ended: ``delivered``, ``failed``, ``suppressed``, ``canceled``.
    """

    id: int
    base_id: int
    status: str
    account: str
    reverse_path: str
    forward_path: str
    queued_at: datetime
    due_at: datetime
    attempts: int
    last_attempt_at: datetime | None
    size_octets: int
    message_id: str
    subject: str
    from_id: str
    transport: str
    require_tls: bool | None
    future_release: str
    hold_rule: int
    extra: dict[str, str]


class QueueList(Struct, frozen=True):
    """A page of entries; the next request carries the last two, which are 0 and null on the last page."""

    entries: tuple[QueueEntry, ...]
    next_after_id: int = 0
    next_after_due_at: datetime | None = None


class QueueCount(Struct, frozen=True):
    """How many entries there are."""

    count: int


class QueueAttempt(Struct, frozen=True):
    """One try; `outcome` is empty while it is under way, `route` says which rule or plugin chose the transport."""

    number: int
    started_at: datetime
    seconds: float | None
    transport: str
    route: str
    outcome: str
    reply: str
    error: str
    remote_mta: str


class EntryDetails(Struct, frozen=True):
    """An entry, queued or retired, with all that happened to it.

    Attributes:
        entry: Null where it left the queue and is not kept; what is left then is the timeline.
        event_format: Of the kinds and data in the timeline, see the reference page of events.
    """

    entry: QueueEntry | None
    attempts: tuple[QueueAttempt, ...]
    timeline: tuple[TimelineStep, ...]
    event_format: int = EVENT_FORMAT


async def list_queue(administration: Administration, request: ListQueue) -> QueueList:
    """List entries of the queue, a page at a time."""
    if request.sort is QueueSort.NEXT_ATTEMPT and request.after_id and request.after_due_at is None:
        raise AdminError("bad_value", "the page after an entry needs its due time too where they are sorted by that")

    def read(transaction: Transaction) -> list[Entry]:
        conditions = request.filter.conditions(transaction.now)
        return transaction.queue.list(
            replace(
                conditions,
                sort=request.sort,
                is_descending=request.is_descending,
                after_id=request.after_id,
                after_due_at=request.after_due_at,
                limit=request.limit + 1,
            )
        )

    found = await administration.store.read(read)
    page = tuple(_entry(entry, _status(entry)) for entry in found[: request.limit])
    if len(found) == len(page):
        return QueueList(page)
    return QueueList(page, page[-1].id, page[-1].due_at)


async def count_queue(administration: Administration, request: CountQueue) -> QueueCount:
    """Count entries of the queue."""
    return QueueCount(
        await administration.store.read(
            lambda transaction: transaction.queue.count(request.filter.conditions(transaction.now))
        )
    )


async def show_entry(administration: Administration, request: ShowEntry) -> EntryDetails:
    """Show one entry: while it is queued, as long as it is kept afterwards, and as long as events tell of it."""

    def read(transaction: Transaction) -> EntryDetails:
        events = transaction.events.for_entry(request.id)
        calls = transaction.webhooks.list(CallFilter(entry_id=request.id))
        entry = transaction.queue.get(request.id)
        retired = transaction.retired.get(request.id) if entry is None else None
        if entry is not None:
            shown, attempts = _entry(entry, _status(entry)), transaction.queue.attempts(request.id)
            return EntryDetails(shown, tuple(map(_attempt, attempts)), tell(events, attempts, calls))
        if retired is not None:
            shown = _entry(retired.entry, retired.event)
            return EntryDetails(shown, tuple(map(_attempt, retired.attempts)), tell(events, (), calls))
        if not events:
            raise AdminError(
                "not_found",
                f"there is no entry {request.id} in the queue, nor is it kept, nor does an event tell of it",
            )
        return EntryDetails(None, (), tell(events, (), calls))

    return await administration.store.read(read)


def _status(entry: Entry) -> str:
    return "held" if entry.is_held else "queued"


def _entry(entry: Entry, status: str) -> QueueEntry:
    return QueueEntry(
        id=entry.id,
        base_id=entry.base_id,
        status=status,
        account=entry.account,
        reverse_path=str(entry.reverse_path),
        forward_path=entry.forward_path.unicode,
        queued_at=entry.queued_at,
        due_at=entry.due_at,
        attempts=entry.attempts,
        last_attempt_at=entry.last_attempt_at,
        size_octets=entry.size_octets,
        message_id=entry.message_id,
        subject=entry.subject,
        from_id=entry.from_id,
        transport=entry.transport,
        require_tls=entry.require_tls,
        future_release=entry.future_release,
        hold_rule=entry.hold_rule,
        extra=entry.extra,
    )


def _attempt(attempt: Attempt) -> QueueAttempt:
    result = attempt.result
    return QueueAttempt(
        number=attempt.number,
        started_at=attempt.started_at,
        seconds=None if attempt.duration is None else attempt.duration.total_seconds(),
        transport=attempt.transport,
        route=attempt.route,
        outcome="" if result is None else result.outcome.value,
        reply="" if result is None or result.reply is None else str(result.reply),
        error="" if result is None else result.error,
        remote_mta="" if result is None else result.remote_mta,
    )
