"""``mailcrane queue webhook replay`` and ``test``: calls that are made because somebody wants to see them."""

from __future__ import annotations

import json
import sys
from typing import Any

import click
from msgspec.structs import replace

from mailcrane.admin.operations import (
    WEBHOOK_CALL_RETIRED_LIST,
    WEBHOOK_REPLAY_CALLS,
    WEBHOOK_REPLAY_EVENTS,
    WEBHOOK_REPLAY_RANGE,
    WEBHOOK_TRY,
)
from mailcrane.admin.webhook_replay import ReplayCalls, Replayed, ReplayEvents, ReplayRange
from mailcrane.admin.webhook_trial import TryWebhook
from mailcrane.admin.webhooks import ListRetiredCalls
from mailcrane.cli.output import json_option, write_json
from mailcrane.cli.queue_filter import parse_ids
from mailcrane.cli.reach import run
from mailcrane.observe.secret import Secret

_PIECE = 100


@click.command(short_help="Post events to webhooks once more.")
@click.option("--ids", default="", metavar="ID,ID,…", help="What these calls told, that have ended, each to its URL.")
@click.option("--dead", "is_dead", is_flag=True, help="What calls told that were given up, each to its URL.")
@click.option("--account", default="", help="Events of this account; with --dead its calls.")
@click.option("--event", "events", multiple=True, help="Only events of this name; may be repeated.")
@click.option("--since", default="", metavar="TIME", help="Only later ones: 2026-01-02T03:04:05Z, or how long ago: 2h.")
@click.option("--until", default="", metavar="TIME", help="Only earlier ones, likewise.")
@click.option("--event-ids", default="", metavar="ID,ID,…", help="These events, as in webhook-id.")
@json_option
@click.pass_context
def replay(
    context: click.Context,
    *,
    ids: str,
    is_dead: bool,
    account: str,
    events: tuple[str, ...],
    since: str,
    until: str,
    event_ids: str,
    as_json: bool,
) -> None:
    """Queue new calls of events of the past: by calls that ended, by events, or by account and time.

    They go where events of the account go now, signed with the secrets of now. Their webhook-id is that of the event,
    as it was the first time. Events are kept for 30 days. The exit code is 1 when something is not kept any more.
    """
    ways = [bool(ids), is_dead, bool(event_ids), bool(account) and not is_dead]
    if sum(ways) != 1:
        raise click.UsageError("Give one of --ids, --dead, --event-ids and --account.")
    if (events or since or until) and not ways[3]:
        raise click.UsageError("--event, --since and --until go with --account.")
    if ids:
        replayed = _replay_calls(parse_ids(ids))
    elif is_dead:
        replayed = _replay_dead(account)
    elif event_ids:
        replayed = _replay_events([one.strip() for one in event_ids.split(",") if one.strip()])
    else:
        replayed = _replay_range(ReplayRange(account=account, events=events, since=since, until=until))
    if as_json:
        write_json(replayed)
    else:
        click.echo(f"{replayed.calls} calls of {replayed.events} events queued")
        for missing in replayed.missing:
            click.echo(f"not kept any more: {missing}", err=True)
    context.exit(1 if replayed.missing else 0)


@click.command(short_help="Post a made-up payload to a URL.")
@click.argument("url")
@click.option(
    "--authorization-stdin", is_flag=True, help="Read the value of the Authorization header from standard input."
)
@click.option("--secret", "secrets", multiple=True, help="Sign with this secret, whsec_…; may be repeated.")
@click.option(
    "--example", default="outgoing-delivered", show_default=True, help="Or outgoing-dsn-failed, incoming-basic."
)
@click.option(
    "--payload", type=click.File("r"), default=None, help="Post the JSON object in this file; - for standard input."
)
@json_option
@click.pass_context
def test(
    context: click.Context,
    *,
    url: str,
    authorization_stdin: bool,
    secrets: tuple[str, ...],
    example: str,
    payload: Any,
    as_json: bool,
) -> None:
    """Post a payload to URL once, as call 1, attempt 1; nothing is queued, and the URL needs to be configured nowhere.

    The exit code is 1 when a call would not have succeeded with the answer.
    """
    request = TryWebhook(
        url=url,
        authorization=Secret(sys.stdin.readline().rstrip("\r\n")) if authorization_stdin else Secret(),
        secrets=tuple(Secret(secret) for secret in secrets),
        example=example,
        payload=None if payload is None else _read_payload(payload.read()),
    )
    tried = run(WEBHOOK_TRY, request)
    if as_json:
        write_json(tried)
    else:
        click.echo(tried.body, nl=False)
        click.echo(f"\n{tried.code or 'no response'} after {tried.seconds:.2f} s: {tried.error or 'taken'}")
        if tried.response:
            click.echo("".join(one if one.isprintable() or one in "\n\t" else "\ufffd" for one in tried.response))
    context.exit(0 if tried.is_success else 1)


def _read_payload(text: str) -> dict[str, Any]:
    try:
        payload = json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"not JSON: {error}", param_hint="--payload") from None
    if not isinstance(payload, dict):
        raise click.BadParameter("not a JSON object", param_hint="--payload")
    return payload


def _replay_calls(ids: tuple[int, ...]) -> Replayed:
    total = Replayed(0, 0)
    for start in range(0, len(ids), _PIECE):
        total = _sum(total, run(WEBHOOK_REPLAY_CALLS, ReplayCalls(ids[start : start + _PIECE])))
    return total


def _replay_dead(account: str) -> Replayed:
    total, before = Replayed(0, 0), 0
    while True:
        request = ListRetiredCalls(account=account, is_dead=True, before_id=before, limit=_PIECE)
        listed = run(WEBHOOK_CALL_RETIRED_LIST, request)
        if listed.calls:
            total = _sum(total, run(WEBHOOK_REPLAY_CALLS, ReplayCalls(tuple(call.id for call in listed.calls))))
        before = listed.next_before_id
        if not before:
            return total


def _replay_events(ids: list[str]) -> Replayed:
    total = Replayed(0, 0)
    for start in range(0, len(ids), _PIECE):
        total = _sum(total, run(WEBHOOK_REPLAY_EVENTS, ReplayEvents(tuple(ids[start : start + _PIECE]))))
    return total


def _replay_range(request: ReplayRange) -> Replayed:
    total = Replayed(0, 0)
    while True:
        done = run(WEBHOOK_REPLAY_RANGE, request)
        total = _sum(total, Replayed(done.events, done.calls))
        if not done.next_after_number:
            return total
        request = replace(request, after_number=done.next_after_number, until_number=done.until_number)


def _sum(total: Replayed, piece: Replayed) -> Replayed:
    summed = Replayed(total.events + piece.events, total.calls + piece.calls, (*total.missing, *piece.missing))
    if sys.stderr.isatty():
        click.echo(f"\r{summed.calls} calls queued …\r", nl=False, err=True)
    return summed
