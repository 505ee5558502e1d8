"""The options that say which entries of the queue a command is for."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from mailcrane.admin.queue_filter import MAX_ID, EntryFilter

_TIMES = "<1h: before one hour from now, >-1h: after one hour ago"

_OPTIONS = (
    click.option("--ids", default="", metavar="ID,ID,…", help="Only these."),
    click.option("--account", default="", help="Only those that this account submitted."),
    click.option("--from", "reverse_path", default="", help="Only those with this in the reverse-path …"),
    click.option("--to", "forward_path", default="", help="… or this in the forward-path."),
    click.option("--held/--not-held", "is_held", default=None, help="Only held ones, or only the others."),
    click.option("--submitted", default="", metavar="TIME", help=f"Only those queued then ({_TIMES})."),
    click.option("--next-attempt", default="", metavar="TIME", help="Only those due then (`now`: due by now)."),
    click.option("--transport", default=None, help="Only those that have this transport set; '' for none."),
)


def filter_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options; it is called with `filter_`."""

    @functools.wraps(command)
    def with_filter(
        *,
        ids: str,
        account: str,
        reverse_path: str,
        forward_path: str,
        is_held: bool | None,
        submitted: str,
        next_attempt: str,
        transport: str | None,
        **others: Any,
    ) -> None:
        filter_ = EntryFilter(
            parse_ids(ids), account, reverse_path, forward_path, is_held, submitted, next_attempt, transport
        )
        command(filter_=filter_, **others)

    for option in reversed(_OPTIONS):
        with_filter = option(with_filter)
    return with_filter


def parse_ids(text: str) -> tuple[int, ...]:
    """Read what ``--ids`` names."""
    try:
        ids = tuple(int(part) for part in text.split(",")) if text.strip() else ()
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a list of ids such as 12,15", param_hint="--ids") from None
    if any(not 1 <= one <= MAX_ID for one in ids):
        raise click.BadParameter("ids begin at 1", param_hint="--ids")
    return ids
