"""Operations on webhook calls: list, show, cancel and reschedule queued ones, list those that ended or were given up.

Operations on many calls work in bounded units: each does a page and answers where the next begins.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

from mailcrane.admin.administration import Administration
from mailcrane.admin.errors import AdminError
from mailcrane.admin.queue_filter import MAX_ID
from mailcrane.admin.time_filter import parse_duration, parse_time_filter
from mailcrane.config.directory import Directory
from mailcrane.model.webhook import CallResult, RetiredCall, WebhookCall
from mailcrane.store.records import CallFilter, RetiredCallFilter
from mailcrane.store.transaction import Transaction
from mailcrane.webhook.disabled import enable
from mailcrane.webhook.ending import cancel_call, retention
from mailcrane.webhook.trouble import present_disabled

MAX_PAGE = 10_000
_UNIT = 200

CallId = Annotated[int, Meta(ge=1, le=MAX_ID)]


class SelectCalls(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Queued calls that meet every condition that is given."""

    ids: Annotated[tuple[CallId, ...], Meta(max_length=1000, description="Ids of calls; empty for all.")] = ()
    account: Annotated[str, Meta(description="Name of the account; empty for all.")] = ""
    event: Annotated[str, Meta(description="Name of the event; `incoming` for calls of incoming messages.")] = ""
    entry_id: Annotated[int, Meta(ge=0, le=MAX_ID, description="Id of the queue entry; 0 for all.")] = 0
    submitted: Annotated[str, Meta(description="When it was queued: `<-1h`, `>-2d`.")] = ""
    next_attempt: Annotated[str, Meta(description="When it is made next: `<1h`, `>1h`, `now`.")] = ""


class ListCalls(SelectCalls, frozen=True, kw_only=True):
    """List queued calls."""

    sort: Annotated[Literal["submitted", "next_attempt"], Meta(description="In which order.")] = "next_attempt"
    is_descending: Annotated[bool, Meta(description="The latest first.")] = False
    after: Annotated[str, Meta(description="The page after this one, as `next_after` of its answer.")] = ""
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE, description="The most calls.")] = 100


class CancelCalls(SelectCalls, frozen=True, kw_only=True):
    """Cancel queued calls; some at a time."""

    after_id: Annotated[int, Meta(ge=0, le=MAX_ID, description="Only calls with a greater id.")] = 0


class ScheduleCalls(SelectCalls, frozen=True, kw_only=True):
    """Set when queued calls are made next; some at a time. Those under way are left alone."""

    delay: Annotated[str, Meta(description="A duration such as `10m`; `0` for none.")]
    is_from_now: Annotated[bool, Meta(description="Whether it is from now, rather than from when it was due.")] = False
    after_id: Annotated[int, Meta(ge=0, le=MAX_ID, description="Only calls with a greater id.")] = 0


class ListRetiredCalls(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """List calls that ended and are kept, the latest first."""

    ids: Annotated[tuple[CallId, ...], Meta(max_length=1000, description="Ids of calls; empty for all.")] = ()
    account: Annotated[str, Meta(description="Name of the account; empty for all.")] = ""
    event: Annotated[str, Meta(description="Name of the event.")] = ""
    entry_id: Annotated[int, Meta(ge=0, le=MAX_ID, description="Id of the queue entry; 0 for all.")] = 0
    submitted: Annotated[str, Meta(description="When it was queued: `<-1h`, `>-2d`.")] = ""
    last_activity: Annotated[str, Meta(description="When it ended: `<-1h`, `>-2d`.")] = ""
    is_success: Annotated[bool | None, Meta(description="Only those that succeeded, or only others.")] = None
    is_dead: Annotated[bool | None, Meta(description="Only those that were given up, or only others.")] = None
    before_id: Annotated[int, Meta(ge=0, le=MAX_ID, description="The page of calls with smaller ids.")] = 0
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE, description="The most calls.")] = 100


class ShowCall(Struct, frozen=True, forbid_unknown_fields=True):
    """Show one call, queued or kept."""

    id: Annotated[int, Meta(ge=1, le=MAX_ID, description="Id of the call, as in `X-Mox-Webhook-ID`.")]


class ForgetDeadCalls(Struct, frozen=True, forbid_unknown_fields=True):
    """Take calls off the list of those that were given up; some at a time."""

    ids: Annotated[tuple[CallId, ...], Meta(max_length=1000, description="Ids of calls; empty for all.")] = ()
    account: Annotated[str, Meta(description="Name of the account; empty for all.")] = ""


class ListDisabledWebhooks(Struct, frozen=True, forbid_unknown_fields=True):
    """List webhooks that their receivers disabled by answering 410."""


class EnableWebhook(Struct, frozen=True, forbid_unknown_fields=True):
    """Post to a webhook again that its receiver disabled."""

    account: Annotated[str, Meta(description="Name of the account.")]
    url: Annotated[str, Meta(description="URL of the webhook; empty for all of the account.")] = ""


class Call(Struct, frozen=True):
    """A call.

    Attributes:
        status: ``queued``, ``under way``, or how it ended: ``delivered``, ``superseded``, ``canceled``, ``given up``,
            ``failed``.
        next_attempt_at: None for a call that ended.
        last_code: HTTP status of the last attempt; 0 without a response.
    """

    id: int
    status: str
    account: str
    event: str
    event_id: str
    entry_id: int
    url: str
    submitted_at: datetime
    next_attempt_at: datetime | None
    attempts: int
    last_code: int
    last_error: str


class CallList(Struct, frozen=True):
    """Calls; `next_after` asks for the next page and is empty on the last."""

    calls: tuple[Call, ...]
    next_after: str


class RetiredCallList(Struct, frozen=True):
    """Calls that ended; `next_before_id` asks for the next page and is 0 on the last. `dead` counts all given up."""

    calls: tuple[Call, ...]
    next_before_id: int
    dead: int


class CallAttempt(Struct, frozen=True):
    """One try.

    Attributes:
        response: The first 512 octets of the answer.
    """

    started_at: datetime
    seconds: float
    code: int
    error: str
    response: str


class CallDetails(Struct, frozen=True):
    """A call with its attempts.

    Attributes:
        superseded_by: Id of the call that took its place; 0 for none.
        retired_at: None while it is queued, like `kept_until`.
    """

    call: Call
    mode: str
    has_authorization: bool
    payload: str
    attempts: tuple[CallAttempt, ...]
    superseded_by: int
    retired_at: datetime | None
    kept_until: datetime | None


class CallsChanged(Struct, frozen=True):
    """How many calls were changed; with `next_after_id`, 0 at the end, the operation goes on."""

    count: int
    next_after_id: int


class DisabledWebhookRow(Struct, frozen=True):
    """A webhook that is not posted to, and since when."""

    account: str
    url: str
    at: datetime


class DisabledWebhookList(Struct, frozen=True):
    """The webhooks that are disabled."""

    webhooks: tuple[DisabledWebhookRow, ...]


class WebhooksEnabled(Struct, frozen=True):
    """The URLs that are posted to again."""

    urls: tuple[str, ...]


async def list_calls(administration: Administration, request: ListCalls) -> CallList:
    """List queued calls that meet every condition."""
    after_id, after_due_at = _read_cursor(request.after)

    def read(transaction: Transaction) -> list[WebhookCall]:
        return transaction.webhooks.list(
            _filter(
                request,
                transaction.now,
                is_by_due=request.sort == "next_attempt",
                is_descending=request.is_descending,
                after_id=after_id,
                after_due_at=after_due_at,
                limit=request.limit + 1,
            )
        )

    found = await administration.store.read(read)
    page = found[: request.limit]
    next_after = f"{page[-1].id}@{page[-1].due_at.isoformat()}" if len(found) > len(page) else ""
    return CallList(tuple(queued_row(call) for call in page), next_after)


async def show_call(administration: Administration, request: ShowCall) -> CallDetails:
    """Show one call, while it is queued and as long as it is kept afterwards."""
    queued, retired = await administration.store.read(
        lambda transaction: (transaction.webhooks.get(request.id), transaction.webhooks.get_retired(request.id))
    )
    if queued is not None:
        has_authorization = bool(queued.target.authorization)
        return _details(queued, queued_row(queued), has_authorization, None)
    if retired is not None:
        return _details(retired.call, retired_row(retired), retired.has_authorization, retired)
    raise AdminError("not_found", f"there is no webhook call {request.id} in the queue, nor is it kept")


async def cancel_calls(administration: Administration, request: CancelCalls) -> CallsChanged:
    """Cancel a page of queued calls: each is retired with who did it as its last result."""
    directory = Directory(await administration.configuration())

    def cancel(transaction: Transaction, call: WebhookCall) -> bool:
        keep = retention(directory, call.account)
        return cancel_call(transaction, call.id, by=administration.actor, keep=keep)

    return await _change(administration, request, request.after_id, cancel)


async def schedule_calls(administration: Administration, request: ScheduleCalls) -> CallsChanged:
    """Set when a page of queued calls is made next."""
    delay = parse_duration(request.delay)

    def reschedule(transaction: Transaction, call: WebhookCall) -> bool:
        begin = transaction.now if request.is_from_now else call.due_at
        return transaction.webhooks.reschedule(call.id, begin + delay)

    return await _change(administration, request, request.after_id, reschedule)


async def list_retired_calls(administration: Administration, request: ListRetiredCalls) -> RetiredCallList:
    """List calls that ended and are kept, the latest first."""

    def read(transaction: Transaction) -> tuple[list[RetiredCall], int]:
        submitted = parse_time_filter(request.submitted, transaction.now)
        ended = parse_time_filter(request.last_activity, transaction.now)
        wanted = RetiredCallFilter(
            ids=request.ids,
            account=request.account or None,
            event=request.event or None,
            entry_id=request.entry_id or None,
            is_success=request.is_success,
            is_dead=request.is_dead,
            submitted_after=submitted.after,
            submitted_before=submitted.before,
            retired_after=ended.after,
            retired_before=ended.before,
            is_descending=True,
            after_id=request.before_id,
            limit=request.limit + 1,
        )
        return transaction.webhooks.retired_list(wanted), transaction.webhooks.count_dead()

    found, dead = await administration.store.read(read)
    page = found[: request.limit]
    next_before_id = page[-1].call.id if len(found) > len(page) else 0
    return RetiredCallList(tuple(retired_row(retired) for retired in page), next_before_id, dead)


async def forget_dead_calls(administration: Administration, request: ForgetDeadCalls) -> CallsChanged:
    """Take a page of calls off the list of those that were given up; they are kept as before."""

    def unit(transaction: Transaction) -> tuple[int, int]:
        found = transaction.webhooks.retired_list(
            RetiredCallFilter(ids=request.ids, account=request.account or None, is_dead=True, limit=_UNIT)
        )
        return transaction.webhooks.bury(one.call.id for one in found), len(found)

    count, found = await administration.store.write(unit, key="webhooks")
    # Those that were taken off are not found again, so there is no place to go on from.
    return CallsChanged(count, 1 if found == _UNIT else 0)


async def list_disabled_webhooks(administration: Administration, request: ListDisabledWebhooks) -> DisabledWebhookList:
    """List the webhooks that are disabled."""
    directory = Directory(await administration.configuration())
    found = await administration.store.read(lambda transaction: present_disabled(transaction, lambda: directory))
    return DisabledWebhookList(tuple(DisabledWebhookRow(one.account, one.url, one.at) for one in found))


async def enable_webhook(administration: Administration, request: EnableWebhook) -> WebhooksEnabled:
    """Post to webhooks of an account again; what happened meanwhile can be replayed."""
    directory = Directory(await administration.configuration())

    def unit(transaction: Transaction) -> tuple[str, ...]:
        return tuple(
            one.url
            for one in present_disabled(transaction, lambda: directory)
            if one.account == request.account
            and request.url in {"", one.url}
            and enable(transaction, one.account, one.url)
        )

    urls = await administration.store.write(unit, key="webhooks")
    if not urls:
        raise AdminError("not_found", f'no webhook of account "{request.account}" is disabled')
    return WebhooksEnabled(urls)


async def _change(
    administration: Administration,
    request: SelectCalls,
    after_id: int,
    change: Callable[[Transaction, WebhookCall], bool],
) -> CallsChanged:
    def unit(transaction: Transaction) -> tuple[int, list[WebhookCall]]:
        found = transaction.webhooks.list(_filter(request, transaction.now, after_id=after_id, limit=_UNIT))
        return sum(change(transaction, call) for call in found), found

    count, found = await administration.store.write(unit, key="webhooks")
    return CallsChanged(count, found[-1].id if len(found) == _UNIT else 0)


def _filter(
    request: SelectCalls,
    now: datetime,
    *,
    after_id: int,
    limit: int,
    is_by_due: bool = False,
    is_descending: bool = False,
    after_due_at: datetime | None = None,
) -> CallFilter:
    submitted, due = parse_time_filter(request.submitted, now), parse_time_filter(request.next_attempt, now)
    return CallFilter(
        ids=request.ids,
        account=request.account or None,
        event=request.event or None,
        entry_id=request.entry_id or None,
        submitted_after=submitted.after,
        submitted_before=submitted.before,
        due_after=due.after,
        due_before=due.before,
        is_by_due=is_by_due,
        is_descending=is_descending,
        after_id=after_id,
        after_due_at=after_due_at if is_by_due else None,
        limit=limit,
    )


def _read_cursor(text: str) -> tuple[int, datetime | None]:
    if not text:
        return 0, None
    id_, _, due_at = text.partition("@")
    try:
        number, at = int(id_), datetime.fromisoformat(due_at)
    except ValueError:
        number, at = 0, datetime.min
    if not 0 < number <= MAX_ID or at.tzinfo is None:
        raise AdminError("bad_value", f'"{text}" is not the end of a page; it is written below the page before')
    return number, at


def queued_row(call: WebhookCall) -> Call:
    """Return a queued call as it is shown."""
    return _row(call, "under way" if call.is_under_way else "queued", call.due_at)


def retired_row(retired: RetiredCall) -> Call:
    """Return a call that ended as it is shown."""
    if retired.is_success:
        status = "delivered"
    elif retired.superseded_by:
        status = "superseded"
    elif retired.is_dead:
        status = "given up"
    elif any(result.error.startswith("canceled by ") for result in retired.call.results):
        status = "canceled"
    else:
        status = "failed"
    return _row(retired.call, status, None)


def _row(call: WebhookCall, status: str, next_attempt_at: datetime | None) -> Call:
    last = call.results[-1] if call.results else None
    return Call(
        id=call.id,
        status=status,
        account=call.account,
        event=call.event,
        event_id=call.event_id,
        entry_id=call.entry_id,
        url=call.target.url,
        submitted_at=call.submitted_at,
        next_attempt_at=next_attempt_at,
        attempts=call.attempts,
        last_code=0 if last is None else last.code,
        last_error="" if last is None else last.error,
    )


def _details(call: WebhookCall, row: Call, has_authorization: bool, retired: RetiredCall | None) -> CallDetails:
    return CallDetails(
        call=row,
        mode=call.target.mode,
        has_authorization=has_authorization,
        payload=call.payload,
        attempts=tuple(_attempt(result) for result in call.results),
        superseded_by=0 if retired is None else retired.superseded_by,
        retired_at=None if retired is None else retired.retired_at,
        kept_until=None if retired is None else retired.keep_until,
    )


def _attempt(result: CallResult) -> CallAttempt:
    return CallAttempt(result.started_at, result.duration.total_seconds(), result.code, result.error, result.response)
