"""Renders ``docs/reference/commands.md`` from the commands themselves."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from mailcrane.cli.commands import cli
from mailcrane.cli.lazy import LazyGroup

_INTRODUCTION = """\
# Commands

Made from the commands themselves, with `make docs`: do not edit.

`mailcrane --config PATH COMMAND`: the file names the data directory, and so the server that is meant. Commands reach a
running server over the control socket in its data directory, which belongs to the server's user. Where no server runs,
those that change or show stored state work on the database itself.

Results go to standard output, all else to standard error. Exit codes: 0 done; 1 refused, with the reason; 2 the command
line is wrong.
"""


def render() -> str:
    """Return the page."""
    return _INTRODUCTION + "\n" + "\n".join(_group_lines(cli, "mailcrane")).rstrip() + "\n"


def _group_lines(group: LazyGroup, path: str) -> Iterator[str]:
    context = click.Context(group, info_name=path)
    for name in group.shipped_commands():
        command = group.get_command(context, name)
        if isinstance(command, LazyGroup):
            yield from _group_lines(command, f"{path} {name}")
        elif command is not None:
            yield from _command_lines(command, f"{path} {name}")


def _command_lines(command: click.Command, path: str) -> Iterator[str]:
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    arguments = [parameter for parameter in command.params if isinstance(parameter, click.Argument)]
    yield f"## `{path}`"
    yield ""
    yield " ".join([f"`{path}", *(["[OPTIONS]"] if options else []), *map(_argument, arguments)]) + "`"
    yield ""
    yield inspect.cleandoc(command.help or "")
    yield ""
    if options:
        yield "| option | meaning |"
        yield "|---|---|"
        for option in options:
            default = f" Default: {option.default}." if option.show_default else ""
            yield f"| `{_names(option)}` | {option.help}{default} |"
        yield ""


# click writes these too, but not in all versions alike.
def _argument(argument: click.Argument) -> str:
    name = (argument.name or "").upper()
    return name if argument.required else f"[{name}]"


def _names(option: click.Option) -> str:
    names = "/".join((*option.opts, *option.secondary_opts))
    return names if option.is_flag else f"{names} {option.metavar or (option.name or '').upper()}"
