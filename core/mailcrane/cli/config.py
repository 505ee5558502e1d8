"""``mailcrane config``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click
import trio

from mailcrane.admin.client import ControlClient, NotRunning
from mailcrane.admin.configuration import ApplyConfiguration, DiffConfiguration, ExportConfiguration
from mailcrane.admin.operations import CONFIG_APPLY, CONFIG_DIFF, CONFIG_EXPORT
from mailcrane.cli.output import json_option, write_json
from mailcrane.cli.reach import config_path, run, static_config
from mailcrane.cli.sendmail.config import SendmailConfig
from mailcrane.config import declarative
from mailcrane.config.convert import ConfigError, convert
from mailcrane.config.describe import (
    SectionDescription,
    describe_rows,
    describe_static,
    describe_struct,
    render_text,
)
from mailcrane.config.references import dangling
from mailcrane.config.static import StaticConfig
from mailcrane.model.clock import SystemClock
from mailcrane.observe.secret import Secret
from mailcrane.plugin.context import PluginServices
from mailcrane.plugin.find import find_plugins
from mailcrane.plugin.host import PluginHost
from mailcrane.plugin.inspection import check_plugins
from mailcrane.store.sqlite import open_sqlite


@click.command(short_help="Check mailcrane.toml, the plugins and transports in it.")
@click.pass_context
def test(context: click.Context) -> None:
    """Check mailcrane.toml as `serve` would: tables of plugins and transports, services, certificates. Nothing is
    started, and the database is not looked at; where the server runs, it is asked for the accounts and routes that
    belong to the file."""
    static = static_config()
    of_plugins = check_plugins(static.plugins.enabled, static.plugin, find_plugins())
    problems = [problem.problem for problem in of_plugins if problem.is_fatal]
    for warning in of_plugins:
        if not warning.is_fatal:
            click.echo(f"{config_path()}: warning: {warning.problem}", err=True)
    if not problems:
        problems = _transport_problems(static)
    if not problems and (problem := _server_problem(static)):
        problems = [problem]
    if not problems:
        problems = _reference_problems(static)
    for problem in problems:
        click.echo(f"{config_path()}: {problem}", err=True)
    if problems:
        context.exit(1)
    click.echo(f"{config_path()} is well")


@click.command(short_help="Explain every field of the configuration.")
@click.option("--rows", is_flag=True, help="Domains, accounts and keys instead of mailcrane.toml.")
@click.option("--sendmail", "is_sendmail", is_flag=True, help="The file of `mailcrane sendmail` instead.")
@json_option
def describe(rows: bool, is_sendmail: bool, as_json: bool) -> None:
    """Explain every field of mailcrane.toml, of what `config export` writes, or of sendmail's file."""
    if is_sendmail:
        sections: tuple[SectionDescription, ...] = (describe_struct("", SendmailConfig),)
    else:
        sections = describe_rows() if rows else describe_static()
    if as_json:
        write_json(sections)
    else:
        click.echo(render_text(sections), nl=False)


@click.command(short_help="Write domains, accounts and keys as TOML.")
@click.option("-o", "--output", metavar="FILE", help="Write to a file that only you can read, not to standard output.")
def export(output: str | None) -> None:
    """Write domains, accounts, addresses, keys and routes as TOML. Private keys and passwords are in it."""
    toml = run(CONFIG_EXPORT, ExportConfiguration()).toml.reveal()
    if output is None:
        click.echo(toml, nl=False)
        return
    _write_private(Path(output), toml)


@click.command(short_help="Show what applying a file would change.")
@click.argument("file")
@json_option
@click.pass_context
def diff(context: click.Context, file: str, as_json: bool) -> None:
    """Show what applying FILE would change, secrets hidden; - is standard input.

    The exit code is 0 without a difference and 3 with one.
    """
    difference = run(CONFIG_DIFF, DiffConfiguration(_read(file)))
    if as_json:
        write_json(difference)
    else:
        _write_lines(difference.lines)
    context.exit(3 if difference.lines else 0)


@click.command(short_help="Replace domains, accounts and keys by those of a file.")
@click.argument("file")
@click.option("--yes", is_flag=True, help="Do not ask.")
def apply(file: str, yes: bool) -> None:
    """Replace domains, accounts, addresses, keys and routes by those of FILE, as one change; - is standard input.

    The difference is shown first. Accounts that are not in FILE are removed with their mail. Refused when the
    configuration was changed after the version that stands in FILE.
    """
    toml = _read(file)
    difference = run(CONFIG_DIFF, DiffConfiguration(toml))
    if not difference.lines:
        click.echo("nothing changes")
        return
    _write_lines(difference.lines)
    if not yes:
        if file == "-":
            raise click.UsageError("with standard input, --yes is needed")
        click.confirm(f"Apply {len(difference.lines)} changes?", abort=True, err=True)
    # What was shown is what is applied: a change in between is refused, also where the file names no version.
    expected = None if declarative.parse(toml.reveal(), source=file).version else difference.version
    applied = run(CONFIG_APPLY, ApplyConfiguration(toml, expected))
    click.echo(f"applied (configuration version {applied.version})")


def _read(file: str) -> Secret:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text("utf-8")
    except OSError as error:
        raise click.ClickException(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise click.ClickException(f"{file}: is not UTF-8") from None
    declarative.parse(text, source=file)
    return Secret(text)


def _write_private(path: Path, text: str) -> None:
    """Write a file with mode 0600, also where one with another mode is in its place, and never half of it."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(beside, path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise click.ClickException(f"{path}: {error.strerror}") from None


def _write_lines(lines: tuple[str, ...]) -> None:
    colors = {"+": "green", "-": "red", "~": "yellow"}
    for line in lines:
        click.secho(line, fg=colors.get(line[0]))


def _transport_problems(static: StaticConfig) -> list[str]:
    host = PluginHost.load(static.plugins.enabled, static.plugin, PluginServices())
    types = {type_.name: type_ for _, type_ in host.hooks.register_transport_types()}
    problems = []
    for name, section in static.transports.items():
        type_ = types.get(section["type"])
        if type_ is None:
            known = ", ".join(sorted(types)) or "(no enabled plugin has any)"
            problems.append(f'transports.{name}.type: there is no type "{section["type"]}". Known: {known}')
            continue
        table = {key: value for key, value in section.items() if key != "type"}
        try:
            convert(table, type_.config, f"transports.{name}")
        except ConfigError as error:
            problems.append(str(error))
    return problems


def _reference_problems(static: StaticConfig) -> list[str]:
    try:
        with ControlClient(static.control_path) as client:
            exported = client.call(CONFIG_EXPORT.name, ExportConfiguration(), CONFIG_EXPORT.answer)
    except NotRunning:
        return []
    return list(dangling(static, declarative.parse(exported.toml.reveal())))


def _server_problem(static: StaticConfig) -> str:
    """Put a server together over an empty store, as `serve` would, and say what it cannot use; nothing is started."""
    from mailcrane.run.server import make_server  # noqa: PLC0415 - it imports everything

    async def put_together() -> None:
        clock = SystemClock()
        services = PluginServices(hostname=static.hostname, clock=clock)
        host = PluginHost.load(static.plugins.enabled, static.plugin, services)
        async with await open_sqlite(":memory:", clock, inline=True) as store:
            await make_server(static, store, host, services, clock=clock)

    try:
        trio.run(put_together)
    except ConfigError as error:
        return str(error)
    return ""
