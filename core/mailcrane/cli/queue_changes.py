"""``mailcrane queue hold``, ``schedule`` and the others that change many entries at once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click
from msgspec import Struct
from msgspec.structs import replace

from mailcrane.admin.operations import (
    QUEUE_END,
    QUEUE_HOLD,
    QUEUE_REQUIRE_TLS,
    QUEUE_SCHEDULE,
    QUEUE_TRANSPORT,
    Operation,
)
from mailcrane.admin.queue_changes import (
    ChangedMany,
    EndEntries,
    Schedule,
    SetHold,
    SetRequireTLS,
    SetTransport,
)
from mailcrane.admin.queue_filter import EntryFilter
from mailcrane.cli.output import json_option, write_json
from mailcrane.cli.queue_filter import filter_options
from mailcrane.cli.reach import run

R = TypeVar("R", bound=Struct)

_REQUIRE_TLS = {"yes": True, "no": False, "default": None}


def bulk_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of all changes of many entries."""
    command = json_option(command)
    command = click.option("--all", "is_all", is_flag=True, help="All entries: has to be said without conditions.")(
        command
    )
    return filter_options(command)


@click.command(short_help="Hold entries: no attempts are made until they are released.")
@bulk_options
def hold(*, filter_: EntryFilter, is_all: bool, as_json: bool) -> None:
    """Hold entries: no attempts are made until they are released. An attempt that is under way goes on."""
    change_many(QUEUE_HOLD, SetHold(is_held=True, filter=filter_, is_all=is_all), "held", as_json=as_json)


@click.command(short_help="Release entries that are held.")
@bulk_options
def unhold(*, filter_: EntryFilter, is_all: bool, as_json: bool) -> None:
    """Release entries that are held, by a rule or otherwise. The rule still holds what is added later."""
    change_many(QUEUE_HOLD, SetHold(is_held=False, filter=filter_, is_all=is_all), "released", as_json=as_json)


@click.command(short_help="Move the next attempt of entries.")
@click.argument("duration")
@click.option("--now", "is_from_now", is_flag=True, help="From now on, instead of from when it is due.")
@bulk_options
def schedule(*, duration: str, is_from_now: bool, filter_: EntryFilter, is_all: bool, as_json: bool) -> None:
    """Move the next attempt by DURATION, such as 1h30m; `--now 0s` is at once, `-- -10m` ten minutes earlier."""
    request = Schedule(duration=duration, is_from_now=is_from_now, filter=filter_, is_all=is_all)
    change_many(QUEUE_SCHEDULE, request, "rescheduled", as_json=as_json)


@click.command(short_help="Set the transport that entries take.")
@click.argument("transport_name", metavar="TRANSPORT")
@bulk_options
def transport(*, transport_name: str, filter_: EntryFilter, is_all: bool, as_json: bool) -> None:
    """Let entries take TRANSPORT, a [transports.NAME], whatever routes say; '' leaves them to routes again."""
    request = SetTransport(transport=transport_name, filter=filter_, is_all=is_all)
    change_many(QUEUE_TRANSPORT, request, "changed", as_json=as_json)


@click.command(short_help="Set whether entries need a verified TLS connection.")
@click.argument("setting", type=click.Choice(list(_REQUIRE_TLS)))
@bulk_options
def requiretls(*, setting: str, filter_: EntryFilter, is_all: bool, as_json: bool) -> None:
    """Let entries travel over verified TLS only (yes), whatever there is (no), or what policies say (default)."""
    request = SetRequireTLS(require_tls=_REQUIRE_TLS[setting], filter=filter_, is_all=is_all)
    change_many(QUEUE_REQUIRE_TLS, request, "changed", as_json=as_json)


@click.command(short_help="Fail entries: the sender is told that they are not delivered.")
@bulk_options
def fail(*, filter_: EntryFilter, is_all: bool, as_json: bool) -> None:
    """Take entries out of the queue as failed, as after a last attempt: the sender and the application are told."""
    change_many(QUEUE_END, EndEntries(is_failure=True, filter=filter_, is_all=is_all), "failed", as_json=as_json)


@click.command(short_help="Drop entries: only the application is told.")
@bulk_options
def drop(*, filter_: EntryFilter, is_all: bool, as_json: bool) -> None:
    """Take entries out of the queue as canceled: the application gets the event, the sender gets no notification."""
    change_many(QUEUE_END, EndEntries(is_failure=False, filter=filter_, is_all=is_all), "dropped", as_json=as_json)


def change_many(operation: Operation[R, ChangedMany], request: R, done: str, *, as_json: bool) -> None:
    """Run an operation to its end, then say what was done."""
    answer = in_pieces(operation, request, done)
    if as_json:
        write_json({"matched": answer.matched, "changed": answer.changed})
        return
    left = f", {answer.matched - answer.changed} left as they are" if answer.matched > answer.changed else ""
    click.echo(f"{answer.changed} {done}{left}")


def in_pieces(operation: Operation[R, ChangedMany], request: R, done: str) -> ChangedMany:
    """Run an operation piece by piece to its end, with a counter where somebody looks on; returns the sums."""
    matched = changed = 0
    step: Any = request
    try:
        while True:
            answer = run(operation, step)
            matched += answer.matched
            changed += answer.changed
            if answer.position is None:
                return ChangedMany(matched, changed)
            if _is_watched():
                click.echo(f"\r{changed} {done} …", nl=False, err=True)
            step = replace(step, position=answer.position)
    finally:
        if step is not request and _is_watched():
            click.echo("\r\033[K", nl=False, err=True)


def _is_watched() -> bool:
    return sys.stderr.isatty()
