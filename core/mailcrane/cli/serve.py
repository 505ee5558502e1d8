"""``mailcrane serve``, ``localserve``, ``stop``, ``health`` and ``loglevels``."""

from __future__ import annotations

import os
import time

import click

from mailcrane.cli.output import json_option, write_json, write_pairs, write_table
from mailcrane.cli.reach import config_path, run

_POLL_SECONDS = 0.05


@click.command(short_help="Run the server.")
@click.pass_context
def serve(context: click.Context) -> None:
    """Run the server in the foreground until it is stopped; it logs to standard error."""
    from mailcrane.run.serve import serve as run_server  # noqa: PLC0415 - it imports everything

    context.exit(run_server(config_path()))


@click.command(short_help="Run a development server in a directory of its own.")
@click.option("--dir", "directory", metavar="DIR", help="The directory; made where it does not exist.")
@click.option("--ip", default="", help="Listen on this address only, instead of 127.0.0.1 and ::1.")
@click.option(
    "--port-base",
    type=click.IntRange(1, 64000),
    metavar="N",
    help="Listen on N + 25, N + 80 and so on instead of 1025, 1080: for a second server beside the first.",
)
@click.option("--free-ports", is_flag=True, help="Listen on ports that nobody uses.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print where the server is as one line of JSON, when it is ready."
)
@click.option("--until-eof", is_flag=True, help="Stop when standard input ends, for programs that start the server.")
@click.option("--init-only", is_flag=True, help="Make the directory and end.")
@click.pass_context
def localserve(
    context: click.Context,
    *,
    directory: str | None,
    ip: str,
    port_base: int | None,
    free_ports: bool,
    as_json: bool,
    until_eof: bool,
    init_only: bool,
) -> None:
    """Run a development server: SMTP, submission and HTTP on high ports, with an account, pages that show messages and
    webhooks, and a queue that delivers to itself."""
    from mailcrane.run.localserve import Ports  # noqa: PLC0415 - both import everything
    from mailcrane.run.serve import localserve as run_localserve  # noqa: PLC0415

    if free_ports and port_base is not None:
        raise click.UsageError("--free-ports and --port-base exclude each other")
    code = run_localserve(
        directory,
        ip,
        ports=Ports(port_base or 0, free_ports),
        init_only=init_only,
        as_json=as_json,
        until_eof=until_eof,
    )
    context.exit(code)


@click.command(short_help="Stop the running server.")
@click.option("--wait", type=click.FloatRange(0), default=30.0, show_default=True, help="Seconds to wait for its end.")
def stop(wait: float) -> None:
    """Stop the running server; connections are told to come back, and deliveries under way get some seconds."""
    from mailcrane.admin.operations import STOP  # noqa: PLC0415
    from mailcrane.admin.server import StopServer  # noqa: PLC0415

    pid = run(STOP, StopServer()).pid
    deadline = time.monotonic() + wait
    while wait and _is_running(pid):
        if time.monotonic() > deadline:
            raise click.ClickException(f"the server (process {pid}) is still there after {wait:g} seconds")
        time.sleep(_POLL_SECONDS)
    click.echo("stopped" if wait else "stopping")


@click.command(short_help="Show how the running server is.")
@json_option
@click.pass_context
def health(context: click.Context, as_json: bool) -> None:
    """Show how the running server is. The exit code is 0 when it is well, 1 when not."""
    from mailcrane.admin.operations import HEALTH  # noqa: PLC0415
    from mailcrane.admin.server import GetHealth  # noqa: PLC0415
    from mailcrane.observe.health import State  # noqa: PLC0415

    found = run(HEALTH, GetHealth())
    if as_json:
        write_json(found)
    else:
        write_pairs(
            [
                ("state", found.state.value),
                ("version", found.version),
                ("process", found.pid),
                ("configuration version", found.configuration_version),
            ]
        )
        if found.components:
            click.echo()
            write_table(
                ("COMPONENT", "STATE", "SINCE", "REASON"),
                [(item.component, item.state.value, item.since, item.reason) for item in found.components],
            )
    context.exit(0 if found.state is State.OK else 1)


@click.command(short_help="Show or set log levels of the running server.")
@click.argument("level", required=False)
@click.argument("package", required=False, default="")
@click.option("--clear", metavar="PACKAGE", help="Make a package follow the others again.")
@json_option
def loglevels(level: str | None, package: str, clear: str | None, as_json: bool) -> None:
    """Show log levels, or set LEVEL for PACKAGE or for all, until the server ends."""
    from mailcrane.admin.operations import LOG_LEVEL_SET, LOG_LEVELS  # noqa: PLC0415
    from mailcrane.admin.server import GetLogLevels, SetLogLevel  # noqa: PLC0415

    if clear is not None:
        found = run(LOG_LEVEL_SET, SetLogLevel("", clear))
    elif level is not None:
        found = run(LOG_LEVEL_SET, SetLogLevel(level, package))
    else:
        found = run(LOG_LEVELS, GetLogLevels())
    if as_json:
        write_json(found.levels)
        return
    write_table(("PACKAGE", "LEVEL"), sorted(found.levels.items()))


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """Whether the process ended and only its parent has not noticed yet."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[:1] == ["Z"]
    except OSError:
        return False
