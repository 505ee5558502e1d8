"""How commands write: tables for people, JSON for programs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import click
import msgspec

from mailcrane.config.convert import encode_json

json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON.")


def write_json(value: Any) -> None:
    """Write a value as JSON, indented."""
    click.echo(msgspec.json.format(encode_json(value), indent=2).decode())


def write_lines(lines: Iterable[str]) -> None:
    """Write sentences, each on a line of its own."""
    for line in lines:
        click.echo(_cell(line))


def write_table(heading: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write columns, as wide as they need to be; the last is not padded."""
    texts = [[_cell(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(heading, *texts, strict=True)]
    for row in (list(heading), *texts):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        click.echo("  ".join(cells).rstrip())


def write_pairs(pairs: Iterable[tuple[str, object]]) -> None:
    """Write names with their values; those without a value are left out."""
    shown = [(name, _cell(value)) for name, value in pairs if value not in ("", None, ())]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        click.echo(f"{name.ljust(width)}  {value}")


def _cell(value: object) -> str:
    """Return one line of text without anything that a terminal would act on."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, tuple | list):
        return ", ".join(_cell(item) for item in value)
    return "".join(character if character.isprintable() else "\ufffd" for character in str(value))
