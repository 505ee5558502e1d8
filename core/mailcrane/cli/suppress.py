"""``mailcrane queue suppress``: addresses that an account sends nothing to, and lists as files."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

import click
import msgspec

from mailcrane.admin.errors import AdminError
from mailcrane.admin.operations import (
    SUPPRESSION_ADD,
    SUPPRESSION_IMPORT,
    SUPPRESSION_LIST,
    SUPPRESSION_LOOK_UP,
    SUPPRESSION_REMOVE,
)
from mailcrane.admin.queue_filter import MAX_ID
from mailcrane.admin.suppressions import (
    MAX_IMPORTED,
    AddSuppression,
    ImportSuppressions,
    ListedSuppression,
    ListSuppressions,
    LookUpSuppression,
    RemoveSuppression,
    SuppressionRecord,
)
from mailcrane.cli.output import json_option, write_json, write_pairs, write_table
from mailcrane.cli.reach import run
from mailcrane.config.convert import encode_json
from mailcrane.model.address import AddressError, Mailbox

_PAGE_ROWS = 1000
_FIELDS = SuppressionRecord.__struct_fields__

csv_option = click.option("--csv", "as_csv", is_flag=True, help="CSV with a line of column names, not JSON lines.")


@click.command("list", short_help="List suppressed addresses.")
@click.argument("account", default="")
@click.option("--after", "after_id", type=click.IntRange(0, MAX_ID), default=0, help="The page after this id.")
@click.option("-n", "limit", type=click.IntRange(1, 10000), default=100, show_default=True, help="The most rows.")
@json_option
def list_(*, account: str, after_id: int, limit: int, as_json: bool) -> None:
    """List what ACCOUNT sends nothing to, the oldest first; without ACCOUNT, what is on all lists."""
    listed = run(SUPPRESSION_LIST, ListSuppressions(account, after_id, limit))
    if as_json:
        write_json(listed.suppressions)
    else:
        write_table(
            ("ID", "ACCOUNT", "ADDRESS", "SINCE", "ORIGIN", "REASON"),
            [
                (
                    one.id,
                    one.account,
                    one.record.address,
                    one.record.created_at,
                    one.record.origin.value,
                    one.record.reason,
                )
                for one in listed.suppressions
            ],
        )
    if listed.next_after_id:
        click.echo(f"there are more: --after {listed.next_after_id}", err=True)


@click.command(short_help="Say whether and why an address is suppressed.")
@click.argument("account")
@click.argument("address")
@json_option
@click.pass_context
def lookup(context: click.Context, *, account: str, address: str, as_json: bool) -> None:
    """Say whether ACCOUNT sends nothing to ADDRESS, and why. The exit status is 1 when it does send."""
    found = run(SUPPRESSION_LOOK_UP, LookUpSuppression(account, address))
    if as_json:
        write_json(found)
    elif found.suppression is None:
        click.echo(f"{found.base_address} is not on the suppression list of {account}")
    else:
        _show(found.suppression)
    if found.suppression is None:
        context.exit(1)


@click.command(short_help="Put an address on a suppression list.")
@click.argument("account")
@click.argument("address")
@click.option("--reason", default="", help="Why, in words.")
@json_option
def add(*, account: str, address: str, reason: str, as_json: bool) -> None:
    """Let ACCOUNT send nothing more to ADDRESS. Messages that wait already end at their next attempt."""
    added = run(SUPPRESSION_ADD, AddSuppression(account, address, reason))
    if as_json:
        write_json(added)
        return
    click.echo(f"{added.base_address} is on the suppression list of {account}")


@click.command(short_help="Take an address off a suppression list.")
@click.argument("account")
@click.argument("address")
@json_option
def remove(*, account: str, address: str, as_json: bool) -> None:
    """Let ACCOUNT send to ADDRESS again. Its failures are counted anew."""
    removed = run(SUPPRESSION_REMOVE, RemoveSuppression(account, address))
    if as_json:
        write_json(removed)
        return
    click.echo(f"{removed.base_address} is off the suppression list of {account}; it was there since:")
    _show(removed)


@click.command(short_help="Write a whole suppression list.")
@click.argument("account")
@csv_option
def export(*, account: str, as_csv: bool) -> None:
    """Write the suppression list of ACCOUNT, one address a line, in the form that `import` reads."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    if as_csv:
        writer.writerow(_FIELDS)
    written = 0
    for record in _records(account):
        if as_csv:
            row = msgspec.to_builtins(record)
            writer.writerow([_csv_cell(row[field]) for field in _FIELDS])
        else:
            click.echo(encode_json(record).decode())
        written += 1
        _progress(written, "addresses are written", is_last=False)
    _progress(written, "addresses are written", is_last=True)


@click.command("import", short_help="Read a whole suppression list.")
@click.argument("account")
@click.argument("file", type=click.File("r", encoding="utf-8", errors="strict"))
@csv_option
@json_option
def import_(*, account: str, file: TextIO, as_csv: bool, as_json: bool) -> None:
    """Put the addresses of FILE (- for standard input) on the suppression list of ACCOUNT.

    Each line is a JSON object, of which only `address` has to be there; with --csv, a row under a line of column
    names. What is on the list already stays as it is, so that an import that was interrupted can be repeated.
    """
    added = present = 0
    for batch in _batches(_read(file, as_csv=as_csv), MAX_IMPORTED):
        done = run(SUPPRESSION_IMPORT, ImportSuppressions(account, batch))
        added, present = added + done.added, present + done.present
        _progress(added + present, "addresses are read", is_last=False)
    if as_json:
        write_json({"added": added, "present": present})
        return
    click.echo(f"{added} addresses are added, {present} were on the list already")


def _records(account: str) -> Iterator[SuppressionRecord]:
    after_id = 0
    while True:
        page = run(SUPPRESSION_LIST, ListSuppressions(account, after_id, _PAGE_ROWS))
        yield from (one.record for one in page.suppressions)
        after_id = page.next_after_id
        if not after_id:
            return


def _read(file: TextIO, *, as_csv: bool) -> Iterator[SuppressionRecord]:
    """Yield the records of a file; every one is checked before its batch is sent."""
    try:
        rows: Iterable[tuple[int, Any]] = _csv_rows(file) if as_csv else _json_rows(file)
        for number, row in rows:
            try:
                record = msgspec.convert(row, SuppressionRecord, strict=not as_csv)
                Mailbox.parse(record.address)
            except (msgspec.ValidationError, AddressError) as error:
                raise _bad_line(number, str(error)) from None
            yield record
    except UnicodeDecodeError:
        raise AdminError("bad_value", "the file is not UTF-8") from None


def _json_rows(file: TextIO) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(file, 1):
        if line.strip():
            try:
                yield number, msgspec.json.decode(line)
            except msgspec.DecodeError as error:
                raise _bad_line(number, str(error)) from None


def _csv_rows(file: TextIO) -> Iterator[tuple[int, Any]]:
    reader = csv.DictReader(file)
    try:
        unknown = set(reader.fieldnames or ()) - set(_FIELDS)
        if "address" not in (reader.fieldnames or ()) or unknown:
            names = ", ".join(_FIELDS)
            raise _bad_line(1, f"the first line has to name the columns: address, and any of {names}")
        for row in reader:
            if None in row:
                raise _bad_line(reader.line_num, "there are more cells than columns")
            yield reader.line_num, {name: value for name, value in row.items() if value not in {None, ""}}
    except csv.Error as error:
        raise _bad_line(reader.line_num, str(error)) from None


def _bad_line(number: int, what: str) -> AdminError:
    return AdminError(
        "bad_value", f"line {number}: {what}; mend it and import the file again, what is on the list stays as it is"
    )


def _batches(records: Iterator[SuppressionRecord], size: int) -> Iterator[tuple[SuppressionRecord, ...]]:
    batch: list[SuppressionRecord] = []
    for record in records:
        batch.append(record)
        if len(batch) == size:
            yield tuple(batch)
            batch.clear()
    if batch:
        yield tuple(batch)


def _csv_cell(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None or value == 0 else str(value)


def _progress(count: int, what: str, *, is_last: bool) -> None:
    if sys.stderr.isatty() and (is_last or count % _PAGE_ROWS == 0):
        click.echo(f"\r{count} {what}", nl=is_last, err=True)


def _show(one: ListedSuppression) -> None:
    record = one.record
    reply = " ".join(str(part) for part in (record.code, record.enhanced_status_code, record.text) if part)
    write_pairs(
        [
            ("address", record.address),
            ("compared as", one.base_address),
            ("since", record.created_at),
            ("put there by", record.origin.value),
            ("reason", record.reason),
            ("reply", reply),
            ("said by", record.remote_mta),
            ("entry", record.entry_id or ""),
        ]
    )
