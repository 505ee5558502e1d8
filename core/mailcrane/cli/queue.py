"""``mailcrane queue``."""

from __future__ import annotations

import click

from mailcrane.admin.operations import QUEUE_LIST, QUEUE_SHOW
from mailcrane.admin.queue import MAX_ID, ListQueue, ShowEntry
from mailcrane.cli.output import json_option, write_json, write_pairs, write_table
from mailcrane.cli.reach import run


@click.command("list", short_help="List entries of the queue.")
@click.option("--account", default="", help="Only those that this account submitted.")
@click.option("--from", "reverse_path", default="", help="Only those with this in the reverse-path.")
@click.option("--to", "forward_path", default="", help="Only those with this in the forward-path.")
@click.option("--held/--not-held", "is_held", default=None, help="Only held ones, or only the others.")
@click.option("--after", "after_id", type=click.IntRange(0, MAX_ID), default=0, help="The page after this entry.")
@click.option("-n", "limit", type=click.IntRange(1, 10000), default=100, show_default=True, help="The most entries.")
@json_option
def list_(
    *,
    account: str,
    reverse_path: str,
    forward_path: str,
    is_held: bool | None,
    after_id: int,
    limit: int,
    as_json: bool,
) -> None:
    """List entries of the queue by id. Conditions that are given must all be met."""
    listed = run(QUEUE_LIST, ListQueue(account, reverse_path, forward_path, is_held, after_id, limit))
    if as_json:
        write_json(listed.entries)
        return
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
        click.echo(f"there are more: --after {listed.next_after_id}", err=True)


@click.command(short_help="Show one entry with its attempts and timeline.")
@click.argument("id", type=click.IntRange(1, MAX_ID))
@json_option
def show(id: int, as_json: bool) -> None:
    """Show the entry ID, while it is queued and as long as it is kept afterwards."""
    details = run(QUEUE_SHOW, ShowEntry(id))
    if as_json:
        write_json(details)
        return
    entry = details.entry
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
            ("transport", entry.transport),
            *((f"extra {key}", value) for key, value in entry.extra.items()),
        ]
    )
    if details.attempts:
        click.echo()
        write_table(
            ("ATTEMPT", "AT", "SECONDS", "TRANSPORT", "OUTCOME", "NEXT HOP", "REPLY"),
            [
                (
                    attempt.number,
                    attempt.started_at,
                    "" if attempt.seconds is None else f"{attempt.seconds:.2f}",
                    attempt.transport,
                    attempt.outcome or "under way",
                    attempt.remote_mta,
                    attempt.reply or attempt.error,
                )
                for attempt in details.attempts
            ],
        )
    if details.timeline:
        click.echo()
        write_table(("AT", "EVENT"), [(event.at, event.kind) for event in details.timeline])
