"""Commands of plugins: names are known without import, and a broken one harms nobody."""

from __future__ import annotations

import sys
import types
from importlib.metadata import EntryPoint

import click
import pytest
from click.testing import CliRunner

from mailcrane.cli import lazy
from mailcrane.cli.commands import cli


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def hello() -> None:
        """Say hello."""
        click.echo("hello")

    module = types.ModuleType("made_up_commands")
    module.hello = hello  # type: ignore[attr-defined]
    module.nothing = 3  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "made_up_commands", module)
    points = [
        EntryPoint("hello", "made_up_commands:hello", lazy.COMMANDS_GROUP),
        EntryPoint("nothing", "made_up_commands:nothing", lazy.COMMANDS_GROUP),
        EntryPoint("broken", "made_up_nowhere:x", lazy.COMMANDS_GROUP),
        EntryPoint("stop", "made_up_commands:hello", lazy.COMMANDS_GROUP),
    ]
    monkeypatch.setattr(lazy, "entry_points", lambda group: points)


def test_help_names_them_without_importing_them() -> None:
    result = CliRunner().invoke(cli, ["--help"])
    assert result.exit_code == 0
    assert "Commands of plugins" in result.output
    assert "broken" in result.output


def test_they_run() -> None:
    assert CliRunner().invoke(cli, ["hello"]).output == "hello\n"


def test_one_that_cannot_be_imported_says_whose_it_is() -> None:
    result = CliRunner().invoke(cli, ["broken"])
    assert result.exit_code == 1
    assert "the command of made_up_nowhere:x cannot be imported" in result.output
    assert CliRunner().invoke(cli, ["nothing"]).output == "Error: nothing is not a click command\n"


def test_our_own_names_are_not_replaced() -> None:
    assert "hello" not in CliRunner().invoke(cli, ["stop", "--help"]).output


def test_a_name_that_does_not_exist_gets_the_near_one() -> None:
    result = CliRunner().invoke(cli, ["helo"])
    assert result.exit_code == 2
    assert "Did you mean hello?" in result.output
