"""The command line starts fast: help imports little, and knows each command without importing it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from mailcrane.cli import commands
from mailcrane.cli.lazy import LazyGroup

# Measured 170 on Python 3.11, of which the interpreter and click have 161; other versions differ by some.
MAX_MODULES = 230
HEAVY = {
    "trio",
    "cryptography",
    "quart",
    "hypercorn",
    "msgspec",
    "pluggy",
    "dns",
    "httpx2",
    "prometheus_client",
    "sqlite3",
}

# What a server imports when it first needs it, if ever: for names, for signatures, for a proxy.
NEEDED_LATER = {"dns", "dkim", "python_socks", "httpcore2", "quart"}
# Measured 782 on Python 3.11.
MAX_MODULES_OF_A_SERVER = 850

_PROBE = """
import atexit, json, sys
atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr))
sys.argv = ["mailcrane", *{arguments!r}]
from mailcrane.cli import main
main()
"""


def imported_by(*arguments: str) -> list[str]:
    """Run a command whose input is empty; returns the modules that it had imported at its end."""
    done = subprocess.run(
        [sys.executable, "-c", _PROBE.format(arguments=list(arguments))],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    modules: list[str] = json.loads(done.stderr.splitlines()[-1])
    return modules


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["queue", "--help"]])
def test_help_imports_little(arguments: list[str]) -> None:
    modules = imported_by(*arguments)
    assert {name.split(".")[0] for name in modules} & HEAVY == set()
    assert len(modules) < MAX_MODULES


def test_a_development_server_starts_with_what_it_needs(tmp_path: Path) -> None:
    modules = imported_by("localserve", "--dir", str(tmp_path), "--free-ports", "--json", "--until-eof")
    assert {name.split(".")[0] for name in modules} & NEEDED_LATER == set()
    assert "mailcrane_webapi.app" in modules
    assert len(modules) < MAX_MODULES_OF_A_SERVER


def groups(command: click.Command = commands.cli) -> list[LazyGroup]:
    assert isinstance(command, LazyGroup)
    context = click.Context(command)
    found = [command]
    for name in command.lazy:
        child = command.get_command(context, name)
        if isinstance(child, LazyGroup):
            found += groups(child)
    return found


def test_every_command_is_there_and_its_line_is_its_own() -> None:
    for group in groups():
        context = click.Context(group)
        for name, (_, short_help) in group.lazy.items():
            command = group.get_command(context, name)
            assert command is not None
            assert command.name == name
            assert command.short_help == short_help
            assert command.help


def test_every_option_is_explained() -> None:
    for group in groups():
        context = click.Context(group)
        for name in group.lazy:
            command = group.get_command(context, name)
            assert command is not None
            for parameter in command.params:
                assert not isinstance(parameter, click.Option) or parameter.help, (name, parameter.name)
