"""``mailcrane plugins``. Most read mailcrane.toml and the plugins themselves, and need no server."""

from __future__ import annotations

import click

from mailcrane.admin.operations import PLUGIN_DEAD, PLUGIN_REPLAY
from mailcrane.admin.plugins import ListDeadEvents, ReplayEvents
from mailcrane.cli.output import json_option, write_json, write_pairs, write_table
from mailcrane.cli.reach import run, static_config
from mailcrane.config.describe import render_text
from mailcrane.plugin.context import PluginServices
from mailcrane.plugin.find import find_plugins
from mailcrane.plugin.host import PluginHost
from mailcrane.plugin.inspection import check_plugins, hook_orders, list_plugins, show_plugin


@click.command("list", short_help="List enabled and installed plugins.")
@json_option
def list_(as_json: bool) -> None:
    """List the enabled plugins in the order in which they are asked, then those that are only installed."""
    rows = list_plugins(find_plugins(), static_config().plugins.enabled)
    if as_json:
        write_json(rows)
        return
    write_table(
        ("ORDER", "PLUGIN", "FROM", "CLASS"),
        [(row.position or "-", row.name, row.distribution or "not installed", row.target) for row in rows],
    )


@click.command(short_help="Show who is asked in each hook, in order.")
@click.argument("hook", default="")
@click.option("--all", "show_all", is_flag=True, help="Also hooks that no plugin implements.")
@json_option
def order(hook: str, show_all: bool, as_json: bool) -> None:
    """Show which plugins are asked in HOOK, or in every hook that one implements, in order."""
    static = static_config()
    host = PluginHost.load(static.plugins.enabled, static.plugin, PluginServices())
    try:
        orders = hook_orders(host.hooks, hook)
    except LookupError as error:
        raise click.ClickException(f"{error}; `mailcrane plugins order --all` lists them") from None
    orders = tuple(one for one in orders if one.plugins or show_all or hook)
    if as_json:
        write_json(orders)
        return
    write_table(
        ("HOOK", "STAGE", "KIND", "SECONDS", "WHEN IT FAILS", "PLUGINS"),
        [
            (one.hook, one.stage, one.kind.value, f"{one.timeout:g}", one.on_failure.value, one.plugins or "-")
            for one in orders
        ],
    )


@click.command(short_help="Show what a plugin implements and its configuration.")
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show the plugin NAME, enabled or not: what it implements, what it requires, every key of its table."""
    details = show_plugin(name, find_plugins())
    if as_json:
        write_json(details)
        return
    write_pairs(
        [
            ("name", details.name),
            ("from", details.distribution),
            ("class", details.target),
            ("hook API", details.api),
            ("requires", details.requires),
            ("hooks", details.hooks),
        ]
    )
    if details.description:
        click.echo(f"\n{details.description}")
    click.echo(render_text([details.config]), nl=False)


@click.command(short_help="Find what would keep plugins from starting.")
@json_option
@click.pass_context
def check(context: click.Context, as_json: bool) -> None:
    """Find every problem that shows without starting plugins. The exit code is 1 when the server would not start."""
    static = static_config()
    problems = check_plugins(static.plugins.enabled, static.plugin, find_plugins())
    if as_json:
        write_json(problems)
    else:
        for problem in problems:
            click.echo(f"{'error' if problem.is_fatal else 'warning'}: {problem.problem}", err=True)
        if not problems:
            click.echo(f"{len(static.plugins.enabled)} plugins are well")
    context.exit(1 if any(problem.is_fatal for problem in problems) else 0)


@click.command(short_help="List events that a plugin kept failing at.")
@click.argument("name")
@click.option("-n", "--limit", default=100, show_default=True, help="How many at most.")
@json_option
def dead(name: str, limit: int, as_json: bool) -> None:
    """List the events that were set aside because the plugin NAME kept failing at them, the oldest first."""
    answer = run(PLUGIN_DEAD, ListDeadEvents(name, limit))
    if as_json:
        write_json(answer.events)
        return
    write_table(
        ("EVENT", "KIND", "ACCOUNT", "ENTRY", "SET ASIDE", "ERROR"),
        [(one.id, one.kind, one.account, one.entry_id or "-", one.at, one.error) for one in answer.events],
    )
    if answer.count > len(answer.events):
        click.echo(f"{answer.count - len(answer.events)} more", err=True)


@click.command(short_help="Tell a plugin once more of such events.")
@click.argument("name")
@click.pass_context
def replay(context: click.Context, name: str) -> None:
    """Tell the plugin NAME once more of the events set aside for it. The exit code is 1 when it fails again at one."""
    answer = run(PLUGIN_REPLAY, ReplayEvents(name))
    click.echo(f"{answer.told} told, {answer.failed} still set aside")
    context.exit(1 if answer.failed else 0)
