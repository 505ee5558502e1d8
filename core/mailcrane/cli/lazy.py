"""Groups of commands that are imported when they are used, so that ``--help`` is fast."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click

COMMANDS_GROUP = "mailcrane.commands"


class LazyGroup(click.Group):
    """A group that knows names and short help of its commands, and imports them when they are used.

    Args:
        lazy: Name to (``module:attribute``, short help).
        plugin_group: Entry point group with more commands; their names are known without importing them.
    """

    def __init__(self, *args: Any, lazy: Mapping[str, tuple[str, str]], plugin_group: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = dict(lazy)
        self._plugin_group = plugin_group

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return all names in the order of the table, those of plugins last."""
        return [*self.lazy, *self._plugin_commands()]

    def shipped_commands(self) -> list[str]:
        """Return the names of our own commands, those of plugins that are shipped with the server included."""
        return [*self.lazy, *(name for name, point in self._plugin_commands().items() if _is_shipped(point))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name in self.lazy:
            module, _, attribute = self.lazy[cmd_name][0].partition(":")
            command = getattr(importlib.import_module(module), attribute)
        elif (point := self._plugin_commands().get(cmd_name)) is not None:
            try:
                command = point.load()
            except Exception as error:
                # It is the plugin's code: anything may come out of it.
                raise click.ClickException(f"the command of {_owner(point)} cannot be imported: {error!r}") from error
        else:
            return None
        if not isinstance(command, click.Command):
            raise click.ClickException(f"{cmd_name} is not a click command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing any."""
        rows = [(name, short_help) for name, (_, short_help) in self.lazy.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
        plugin_rows = [(name, f"From {_owner(point)}.") for name, point in self._plugin_commands().items()]
        if plugin_rows:
            with formatter.section("Commands of plugins"):
                formatter.write_dl(plugin_rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; a name that does not exist gets the near one suggested."""
        name = args[0]
        if name and not name.startswith("-") and name not in self.list_commands(ctx):
            near = difflib.get_close_matches(name, self.list_commands(ctx), n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise click.UsageError(f"No such command {name!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what an operator can correct is one line on standard error, and exit code 1."""
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.ClickException, click.Abort):
            raise
        except Exception as error:
            if _is_for_the_operator(error):
                raise click.ClickException(str(error)) from None
            raise

    def _plugin_commands(self) -> dict[str, EntryPoint]:
        if not self._plugin_group:
            return {}
        # Our own names win: a plugin cannot replace `stop`.
        return {
            point.name: point
            for point in sorted(entry_points(group=self._plugin_group), key=lambda point: point.name)
            if point.name not in self.lazy
        }


# By name, because importing the modules that they are in would make every command slow.
_FOR_THE_OPERATOR = frozenset(
    {
        "mailcrane.admin.errors.AdminError",
        "mailcrane.admin.lock.DataDirInUse",
        "mailcrane.admin.control.ControlInUse",
        "mailcrane.config.convert.ConfigError",
        "mailcrane.plugin.errors.PluginError",
        "mailcrane.store.errors.SchemaTooNew",
        "mailcrane.store.errors.DiskFull",
    }
)


def _is_for_the_operator(error: Exception) -> bool:
    return any(f"{kind.__module__}.{kind.__qualname__}" in _FOR_THE_OPERATOR for kind in type(error).__mro__)


def _owner(point: EntryPoint) -> str:
    """Return whose command it is: the distribution, or the package of a plugin that is shipped with the server."""
    if point.dist is None:
        return point.value
    return point.module.partition(".")[0] if _is_shipped(point) else point.dist.name


def _is_shipped(point: EntryPoint) -> bool:
    return point.dist is not None and point.dist.name == "mailcrane"
