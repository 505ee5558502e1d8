"""Operations on entries that left the queue, for as long as their account keeps them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

from mailcrane.admin.administration import Administration
from mailcrane.admin.queue_filter import MAX_ID
from mailcrane.admin.time_filter import parse_time_filter
from mailcrane.model.retired import Retired
from mailcrane.store.records import RetiredFilter
from mailcrane.store.transaction import Transaction


class ListRetired(Struct, frozen=True, forbid_unknown_fields=True):
    """List entries that left the queue and meet every condition that is given; of the two paths one is enough."""

    ids: Annotated[tuple[Annotated[int, Meta(ge=1, le=MAX_ID)], ...], Meta(description="Ids of entries.")] = ()
    account: Annotated[str, Meta(description="Name of the account that submitted; empty for all.")] = ""
    reverse_path: Annotated[str, Meta(description="Part of the reverse-path.")] = ""
    forward_path: Annotated[str, Meta(description="Part of the forward-path.")] = ""
    result: Annotated[
        Literal["", "success", "failure"], Meta(description="Only delivered ones, or only the others.")
    ] = ""
    event: Annotated[str, Meta(description="How it ended: `delivered`, `failed`, `suppressed` or `canceled`.")] = ""
    last_activity: Annotated[str, Meta(description="When it left the queue: `<-1h` before, `>-1h` after.")] = ""
    before_id: Annotated[int, Meta(ge=0, le=MAX_ID, description="The page after this entry; 0 for the first.")] = 0
    limit: Annotated[int, Meta(ge=1, le=10000, description="The most entries.")] = 100


class RetiredEntry(Struct, frozen=True):
    """An entry that left the queue.

    Attributes:
        event: How it ended: ``delivered``, ``failed``, ``suppressed`` or ``canceled``.
        last: What the last attempt ended with; empty without one, and where it was delivered without a word.
    """

    id: int
    event: str
    is_success: bool
    account: str
    reverse_path: str
    forward_path: str
    queued_at: datetime
    retired_at: datetime
    keep_until: datetime
    attempts: int
    size_octets: int
    message_id: str
    subject: str
    from_id: str
    last: str
    extra: dict[str, str]


class RetiredList(Struct, frozen=True):
    """The entries, the latest first; `next_before_id` asks for the next page and is 0 on the last."""

    entries: tuple[RetiredEntry, ...]
    next_before_id: int


async def list_retired(administration: Administration, request: ListRetired) -> RetiredList:
    """List entries that left the queue."""

    def read(transaction: Transaction) -> list[Retired]:
        activity = parse_time_filter(request.last_activity, transaction.now)
        return transaction.retired.list(
            RetiredFilter(
                ids=request.ids,
                account=request.account or None,
                reverse_path_contains=request.reverse_path,
                forward_path_contains=request.forward_path,
                is_success=None if not request.result else request.result == "success",
                event=request.event or None,
                retired_after=activity.after,
                retired_before=activity.before,
                before_id=request.before_id,
                limit=request.limit + 1,
            )
        )

    found = await administration.store.read(read)
    page = found[: request.limit]
    return RetiredList(tuple(map(_listed, page)), page[-1].entry.id if len(found) > len(page) else 0)


def _listed(retired: Retired) -> RetiredEntry:
    entry = retired.entry
    result = retired.attempts[-1].result if retired.attempts else None
    return RetiredEntry(
        id=entry.id,
        event=retired.event,
        is_success=retired.is_success,
        account=entry.account,
        reverse_path=str(entry.reverse_path),
        forward_path=entry.forward_path.unicode,
        queued_at=entry.queued_at,
        retired_at=retired.retired_at,
        keep_until=retired.keep_until,
        attempts=entry.attempts,
        size_octets=entry.size_octets,
        message_id=entry.message_id,
        subject=entry.subject,
        from_id=entry.from_id,
        last="" if result is None else result.error or str(result.reply or ""),
        extra=entry.extra,
    )
