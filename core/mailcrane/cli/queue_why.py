"""``mailcrane queue why`` and ``dump``: what stands in a domain's way, and a message as it travels."""

from __future__ import annotations

import sys

import click

from mailcrane.admin.operations import QUEUE_DUMP_HEADER, QUEUE_DUMP_PIECE, QUEUE_WHY
from mailcrane.admin.queue_dump import DumpHeader, DumpPiece
from mailcrane.admin.queue_filter import MAX_ID
from mailcrane.admin.queue_why import WhyDomain
from mailcrane.cli.output import json_option, write_json, write_lines
from mailcrane.cli.reach import run


@click.command(short_help="Say why nothing moves to a domain.")
@click.argument("domain")
@json_option
def why(domain: str, as_json: bool) -> None:
    """Say what is queued to DOMAIN and what stands in its way: limits, holds, routes, and how attempts ended last."""
    report = run(QUEUE_WHY, WhyDomain(domain))
    if as_json:
        write_json(report)
    else:
        write_lines(report.reasons)


@click.command(short_help="Write the message of an entry as it travels.")
@click.argument("id", type=click.IntRange(1, MAX_ID))
def dump(id: int) -> None:
    """Write the message of the entry ID to standard output, header and body, as it was sent last or would be sent."""
    found = run(QUEUE_DUMP_HEADER, DumpHeader(id))
    if found.is_made_now:
        click.echo("this was not sent yet: what signs it and its times will be others", err=True)
    out = sys.stdout.buffer
    out.write(found.header)
    piece, skip = 0, found.stored_offset
    while (octets := run(QUEUE_DUMP_PIECE, DumpPiece(id, piece)).octets) is not None:
        out.write(octets[skip:])
        skip = max(0, skip - len(octets))
        piece += 1
    out.flush()
