"""``mailcrane queue webhook``: the queue of webhook calls, those that ended, and webhooks that are disabled."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import click
from msgspec.structs import replace

from mailcrane.admin.operations import (
    WEBHOOK_CALL_CANCEL,
    WEBHOOK_CALL_LIST,
    WEBHOOK_CALL_RETIRED_LIST,
    WEBHOOK_CALL_SCHEDULE,
    WEBHOOK_CALL_SHOW,
    WEBHOOK_DEAD_FORGET,
    WEBHOOK_DISABLED_LIST,
    WEBHOOK_ENABLE,
    Operation,
)
from mailcrane.admin.queue_filter import MAX_ID
from mailcrane.admin.webhooks import (
    Call,
    CallDetails,
    CallsChanged,
    CancelCalls,
    EnableWebhook,
    ForgetDeadCalls,
    ListCalls,
    ListDisabledWebhooks,
    ListRetiredCalls,
    ScheduleCalls,
    ShowCall,
)
from mailcrane.cli.output import json_option, write_json, write_pairs, write_table
from mailcrane.cli.queue_filter import parse_ids
from mailcrane.cli.reach import run

_TIMES = "<1h: before one hour from now, >-1h: after one hour ago"

_ids_option = click.option("--ids", default="", metavar="ID,ID,…", help="Only these calls.")
_account_option = click.option("--account", default="", help="Only calls of this account.")
_event_option = click.option("--event", default="", help="Only of this event; `incoming`: of incoming messages.")
_entry_option = click.option(
    "--entry", "entry_id", type=click.IntRange(0, MAX_ID), default=0, metavar="ID", help="Only of this queue entry."
)
_submitted_option = click.option("--submitted", default="", metavar="TIME", help=f"Only those queued then ({_TIMES}).")
_next_option = click.option("--next-attempt", default="", metavar="TIME", help="Only those due then (`now`: by now).")
_limit_option = click.option(
    "-n", "limit", type=click.IntRange(1, 10000), default=100, show_default=True, help="The most calls."
)
_all_option = click.option("--all", "is_all", is_flag=True, help="All calls: has to be said without conditions.")


def select_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say which queued calls it is for; it is called with `select`."""

    @functools.wraps(command)
    def with_selection(
        *, ids: str, account: str, event: str, entry_id: int, submitted: str, next_attempt: str, **others: Any
    ) -> None:
        select = {
            "ids": parse_ids(ids),
            "account": account,
            "event": event,
            "entry_id": entry_id,
            "submitted": submitted,
            "next_attempt": next_attempt,
        }
        command(select={name: value for name, value in select.items() if value}, **others)

    for option in (_next_option, _submitted_option, _entry_option, _event_option, _account_option, _ids_option):
        with_selection = option(with_selection)
    return with_selection


@click.command("list", short_help="List webhook calls that are queued.")
@select_options
@click.option(
    "--sort",
    type=click.Choice(["next-attempt", "submitted"]),
    default="next-attempt",
    show_default=True,
    help="In which order.",
)
@click.option("--desc", "is_descending", is_flag=True, help="The latest first.")
@click.option("--after", default="", metavar="PAGE", help="The page after this one, as it was written below it.")
@_limit_option
@json_option
def list_(*, select: dict[str, Any], sort: str, is_descending: bool, after: str, limit: int, as_json: bool) -> None:
    """List webhook calls that are queued. Conditions that are given must all be met."""
    sort = "next_attempt" if sort == "next-attempt" else "submitted"
    request = ListCalls(**select, sort=sort, is_descending=is_descending, after=after, limit=limit)  # type: ignore[arg-type]
    listed = run(WEBHOOK_CALL_LIST, request)
    if as_json:
        write_json(listed)
        return
    _write_calls(listed.calls, "NEXT ATTEMPT", lambda call: call.next_attempt_at)
    if listed.next_after:
        click.echo(f"there are more: --after {listed.next_after}", err=True)


@click.command(short_help="Show a webhook call with its attempts and payload.")
@click.argument("id", type=click.IntRange(1, MAX_ID))
@json_option
def show(id: int, as_json: bool) -> None:
    """Show the call ID, as in X-Mox-Webhook-ID, while it is queued and as long as it is kept afterwards."""
    details = run(WEBHOOK_CALL_SHOW, ShowCall(id))
    if as_json:
        write_json(details)
        return
    _write_details(details)


@click.command(short_help="Cancel queued webhook calls.")
@select_options
@_all_option
@json_option
def cancel(*, select: dict[str, Any], is_all: bool, as_json: bool) -> None:
    """Take calls out of the queue. One that is under way is not broken off, but not made again either."""
    _check_meant(select, is_all)
    _change_many(WEBHOOK_CALL_CANCEL, CancelCalls(**select), "canceled", as_json=as_json)


@click.command(short_help="Move the next attempt of webhook calls.")
@click.argument("duration")
@click.option("--now", "is_from_now", is_flag=True, help="From now on, instead of from when it is due.")
@select_options
@_all_option
@json_option
def schedule(*, duration: str, is_from_now: bool, select: dict[str, Any], is_all: bool, as_json: bool) -> None:
    """Move the next attempt by DURATION, such as 1h30m; `--now 0` is at once, `-- -10m` ten minutes earlier.

    Calls that are under way are left alone.
    """
    _check_meant(select, is_all)
    request = ScheduleCalls(**select, delay=duration, is_from_now=is_from_now)
    _change_many(WEBHOOK_CALL_SCHEDULE, request, "rescheduled", as_json=as_json)


@click.command("list", short_help="List webhook calls that ended.")
@_ids_option
@_account_option
@_event_option
@_entry_option
@_submitted_option
@click.option("--last-activity", default="", metavar="TIME", help="Only those that ended then.")
@click.option("--success/--no-success", "is_success", default=None, help="Only those that succeeded, or only others.")
@click.option("--before", "before_id", type=click.IntRange(0, MAX_ID), default=0, help="The page of smaller ids.")
@_limit_option
@json_option
def retired_list(*, ids: str, as_json: bool, **conditions: Any) -> None:
    """List calls that ended and are kept, the latest first. Conditions that are given must all be met."""
    _list_retired(ListRetiredCalls(ids=parse_ids(ids), **conditions), as_json=as_json)


@click.command(short_help="List webhook calls that were given up.")
@_ids_option
@_account_option
@click.option("--before", "before_id", type=click.IntRange(0, MAX_ID), default=0, help="The page of smaller ids.")
@_limit_option
@click.option("--forget", is_flag=True, help="Take them off this list, instead of listing them.")
@json_option
def dead(*, ids: str, account: str, before_id: int, limit: int, forget: bool, as_json: bool) -> None:
    """List calls that were given up after the last attempt, the latest first, until they are replayed or forgotten."""
    if forget:
        _change_many(WEBHOOK_DEAD_FORGET, ForgetDeadCalls(parse_ids(ids), account), "forgotten", as_json=as_json)
        return
    request = ListRetiredCalls(ids=parse_ids(ids), account=account, is_dead=True, before_id=before_id, limit=limit)
    _list_retired(request, as_json=as_json)


@click.command(short_help="List webhooks that their receivers disabled.")
@json_option
def disabled(as_json: bool) -> None:
    """List webhooks that nothing is posted to, because their receivers answered 410."""
    listed = run(WEBHOOK_DISABLED_LIST, ListDisabledWebhooks())
    if as_json:
        write_json(listed.webhooks)
        return
    write_table(("ACCOUNT", "SINCE", "URL"), [(one.account, one.at, one.url) for one in listed.webhooks])


@click.command(short_help="Post to a webhook again that its receiver disabled.")
@click.argument("account")
@click.argument("url", default="")
@json_option
def enable(account: str, url: str, as_json: bool) -> None:
    """Post events of ACCOUNT to URL again, or to all its webhooks; `replay` posts those of the time between."""
    enabled = run(WEBHOOK_ENABLE, EnableWebhook(account, url))
    if as_json:
        write_json(enabled)
        return
    for one in enabled.urls:
        click.echo(f"{one} is posted to again")


def _list_retired(request: ListRetiredCalls, *, as_json: bool) -> None:
    listed = run(WEBHOOK_CALL_RETIRED_LIST, request)
    if as_json:
        write_json(listed)
        return
    _write_calls(listed.calls, "SUBMITTED", lambda call: call.submitted_at)
    if listed.next_before_id:
        click.echo(f"there are more: --before {listed.next_before_id}", err=True)


def _write_calls(calls: tuple[Call, ...], heading: str, when: Callable[[Call], object]) -> None:
    write_table(
        ("ID", "STATUS", "ATTEMPTS", heading, "ACCOUNT", "EVENT", "ENTRY", "CODE", "URL"),
        [
            (
                call.id,
                call.status,
                call.attempts,
                when(call),
                call.account,
                call.event,
                call.entry_id or "-",
                call.last_code or "-",
                call.url,
            )
            for call in calls
        ],
    )


def _write_details(details: CallDetails) -> None:
    call = details.call
    write_pairs(
        [
            ("id", call.id),
            ("status", call.status),
            ("account", call.account),
            ("event", f"{call.event} ({call.event_id})"),
            ("entry", call.entry_id or ""),
            ("url", call.url),
            ("mode", details.mode),
            ("authorization", "sent, not shown" if details.has_authorization else ""),
            ("submitted", call.submitted_at),
            ("next attempt", call.next_attempt_at),
            ("superseded by", details.superseded_by or ""),
            ("ended", details.retired_at),
            ("kept until", details.kept_until),
            ("payload", details.payload),
        ]
    )
    if details.attempts:
        click.echo()
        write_table(
            ("AT", "SECONDS", "CODE", "ERROR", "RESPONSE"),
            [
                (one.started_at, f"{one.seconds:.2f}", one.code or "-", one.error, one.response.strip())
                for one in details.attempts
            ],
        )


def _check_meant(select: dict[str, Any], is_all: bool) -> None:
    if not select and not is_all:
        raise click.UsageError("Say which calls, or --all.")


def _change_many(operation: Operation[Any, CallsChanged], request: Any, done: str, *, as_json: bool) -> None:
    """Run an operation piece by piece to its end, with a counter where somebody looks on; then say what was done."""
    count = 0
    is_watched = sys.stderr.isatty()
    while True:
        changed = run(operation, request)
        count += changed.count
        if not changed.next_after_id:
            break
        if is_watched:
            click.echo(f"\r{count} {done} …", nl=False, err=True)
        if not isinstance(request, ForgetDeadCalls):
            request = replace(request, after_id=changed.next_after_id)
    if is_watched:
        click.echo("\r\033[K", nl=False, err=True)
    if as_json:
        write_json({"changed": count})
    else:
        click.echo(f"{count} {done}")
