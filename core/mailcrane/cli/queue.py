"""``mailcrane queue``."""

from __future__ import annotations

from datetime import datetime

import click

from mailcrane.admin.operations import QUEUE_COUNT, QUEUE_LIST, QUEUE_SHOW
from mailcrane.admin.queue import CountQueue, ListQueue, QueueEntry, ShowEntry
from mailcrane.admin.queue_filter import MAX_ID, EntryFilter
from mailcrane.cli.output import json_option, write_json, write_pairs, write_table
from mailcrane.cli.queue_filter import filter_options
from mailcrane.cli.reach import run
from mailcrane.store.records import QueueSort


@click.command("list", short_help="List entries of the queue.")
@filter_options
@click.option(
    "--sort",
    type=click.Choice([sort.value for sort in QueueSort]),
    default=QueueSort.QUEUED.value,
    show_default=True,
    help="By the next attempt, or in the order of queueing.",
)
@click.option("--asc/--desc", "is_ascending", default=True, help="The first one first, which is the default, or last.")
@click.option("--after", "after_id", type=click.IntRange(0, MAX_ID), default=0, help="The page after this entry.")
@click.option("--after-due", "after_due", default="", help="Its due time, where they are sorted by that.")
@click.option("-n", "limit", type=click.IntRange(1, 10000), default=100, show_default=True, help="The most entries.")
@json_option
def list_(
    *, filter_: EntryFilter, sort: str, is_ascending: bool, after_id: int, after_due: str, limit: int, as_json: bool
) -> None:
    """List entries of the queue. Conditions that are given must all be met; of --from and --to one is enough."""
    after_due_at = _instant(after_due) if after_due else None
    listed = run(QUEUE_LIST, ListQueue(filter_, QueueSort(sort), not is_ascending, after_id, after_due_at, limit))
    if as_json:
        write_json(listed.entries)
    else:
        write_table(
            ("ID", "STATUS", "ATTEMPTS", "NEXT ATTEMPT", "SIZE", "FROM", "TO"),
            [
                (
                    entry.id,
                    entry.status,
                    entry.attempts,
                    entry.due_at,
                    entry.size_octets,
                    entry.reverse_path or "<>",
                    entry.forward_path,
                )
                for entry in listed.entries
            ],
        )
    if listed.next_after_id:
        due = (
            ""
            if sort == QueueSort.QUEUED or listed.next_after_due_at is None
            else (f" --after-due {listed.next_after_due_at.isoformat()}")
        )
        click.echo(f"there are more: --after {listed.next_after_id}{due}", err=True)


@click.command(short_help="Count entries of the queue.")
@filter_options
@json_option
def count(*, filter_: EntryFilter, as_json: bool) -> None:
    """Count the entries of the queue that meet the conditions, as in `mailcrane queue list`."""
    counted = run(QUEUE_COUNT, CountQueue(filter_))
    if as_json:
        write_json(counted)
    else:
        click.echo(counted.count)


@click.command(short_help="Show one entry with its attempts and timeline.")
@click.argument("id", type=click.IntRange(1, MAX_ID))
@json_option
def show(id: int, as_json: bool) -> None:
    """Tell the whole story of the entry ID: while it is queued, kept, or as long as events tell of it."""
    details = run(QUEUE_SHOW, ShowEntry(id))
    if as_json:
        write_json(details)
        return
    if details.entry is None:
        click.echo(f"entry {id} left the queue and is not kept; this is what happened:")
    else:
        _write_entry(details.entry)
    if details.timeline:
        click.echo()
        write_table(("AT", "WHAT HAPPENED"), [(step.at, step.text) for step in details.timeline])


def _write_entry(entry: QueueEntry) -> None:
    write_pairs(
        [
            ("id", entry.id),
            ("status", entry.status),
            ("account", entry.account),
            ("from", entry.reverse_path or "<>"),
            ("to", entry.forward_path),
            ("subject", entry.subject),
            ("message-id", entry.message_id),
            ("size", f"{entry.size_octets} octets"),
            ("queued at", entry.queued_at),
            ("next attempt", entry.due_at if entry.status in {"queued", "held"} else ""),
            ("attempts", entry.attempts),
            ("transport", entry.transport),
            ("requires TLS", {None: "", True: "yes", False: "no"}[entry.require_tls]),
            ("future release", entry.future_release),
            ("unique id", entry.from_id),
            *((f"extra {key}", value) for key, value in entry.extra.items()),
        ]
    )


def _instant(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a time such as 2026-01-31T12:00:00Z") from None
    return at if at.tzinfo is not None else at.astimezone()
