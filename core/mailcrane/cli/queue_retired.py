"""``mailcrane queue retired``."""

from __future__ import annotations

from typing import Any, Literal, cast

import click

from mailcrane.admin.operations import QUEUE_RETIRED_LIST
from mailcrane.admin.queue_filter import MAX_ID
from mailcrane.admin.queue_retired import ListRetired
from mailcrane.cli.output import json_option, write_json, write_table
from mailcrane.cli.queue_filter import parse_ids
from mailcrane.cli.reach import run


@click.command("list", short_help="List entries that left the queue.")
@click.option("--ids", default="", metavar="ID,ID,…", help="Only these.")
@click.option("--account", default="", help="Only those that this account submitted.")
@click.option("--from", "reverse_path", default="", help="Only those with this in the reverse-path …")
@click.option("--to", "forward_path", default="", help="… or this in the forward-path.")
@click.option(
    "--result", type=click.Choice(["success", "failure"]), default=None, help="Delivered ones, or the others."
)
@click.option("--event", default="", help="How it ended: delivered, failed, suppressed or canceled.")
@click.option("--last-activity", default="", metavar="TIME", help="When it left the queue: >-1h is in the last hour.")
@click.option("--before", "before_id", type=click.IntRange(0, MAX_ID), default=0, help="The page after this entry.")
@click.option("-n", "limit", type=click.IntRange(1, 10000), default=100, show_default=True, help="The most entries.")
@json_option
def list_(*, ids: str, result: str | None, as_json: bool, **conditions: Any) -> None:
    """List entries that left the queue and are kept, the latest first. `queue show` tells the story of one."""
    wanted = cast(Literal["", "success", "failure"], result or "")
    listed = run(QUEUE_RETIRED_LIST, ListRetired(ids=parse_ids(ids), result=wanted, **conditions))
    if as_json:
        write_json(listed.entries)
    else:
        write_table(
            ("ID", "ENDED", "AT", "ATTEMPTS", "FROM", "TO", "LAST"),
            [
                (
                    entry.id,
                    entry.event,
                    entry.retired_at,
                    entry.attempts,
                    entry.reverse_path or "<>",
                    entry.forward_path,
                    entry.last,
                )
                for entry in listed.entries
            ],
        )
    if listed.next_before_id:
        click.echo(f"there are more: --before {listed.next_before_id}", err=True)
