"""Runs a server as a process: reads the file, opens the store, waits for a signal, ends with an exit code.

``mailcrane serve`` and ``mailcrane localserve`` end here. What the operator has to mend is one line on standard error
and the exit code 1; a bug is a traceback.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import trio
from msgspec import Struct

from mailcrane.admin.accounts import INITIAL_FOLDERS
from mailcrane.admin.control import ControlInUse
from mailcrane.admin.lock import DataDirInUse, hold_data_dir
from mailcrane.config.convert import ConfigError
from mailcrane.config.static import StaticConfig, load
from mailcrane.config.validate import validate
from mailcrane.http.lifespan import LifespanFailed
from mailcrane.model.clock import SystemClock
from mailcrane.observe.log import get_log, set_up_logging
from mailcrane.plugin.context import PluginServices
from mailcrane.plugin.errors import PluginError
from mailcrane.plugin.health import PluginState
from mailcrane.plugin.host import PluginHost
from mailcrane.plugin.watchdog import Watchdog
from mailcrane.run import localserve as development
from mailcrane.run.server import Server, make_server
from mailcrane.sasl.credentials import make_credentials
from mailcrane.store.errors import StoreError
from mailcrane.store.sqlite import open_sqlite
from mailcrane.store.transaction import Transaction

log = get_log(__name__)

# The writer thread waits for the interpreter lock as long as the loop has work; the default of 5 ms starves it.
SWITCH_INTERVAL = 0.0005

# As Python has them; a command is started with higher ones.
_GC_THRESHOLDS = (700, 10, 10)

_OPERATOR_ERRORS = (ConfigError, PluginError, LifespanFailed, DataDirInUse, ControlInUse, StoreError)

Unit = Callable[[Transaction], None]


def serve(config_path: str | Path) -> int:
    """Run the server of a file until it is told to stop; returns the exit code."""
    try:
        static = load(config_path)
    except ConfigError as error:
        return _fail(error)
    set_up_logging(static.log.level, static.log.format, static.log.levels)
    return _run(static, _Process(lambda _: log.info("ready", hostname=static.hostname, pid=os.getpid())))


def localserve(
    directory: str | Path | None = None,
    ip: str = "",
    *,
    ports: development.Ports = development.AS_IN_FILE,
    init_only: bool = False,
    as_json: bool = False,
    until_eof: bool = False,
) -> int:
    """Run a development server until it is told to stop; returns the exit code.

    Args:
        directory: Made where it does not exist; `mailcrane.run.localserve.default_directory` by default.
        ip: Listen on this address only.
        ports: Listen on other ports than the file says.
        init_only: Make the directory and return.
        as_json: Print one line of JSON when the server is ready, instead of the greeting.
        until_eof: Stop when standard input ends, so that the server does not survive the program that started it.
    """
    path = Path(directory) if directory else development.default_directory()
    try:
        development.set_up(path)
        as_in_file = development.on_this_machine(load(path / development.CONFIG_NAME), ip)
    except ConfigError as error:
        return _fail(error)
    except ValueError as error:
        return _fail(f"--ip: {error}")
    except OSError as error:
        return _fail(f"{error.filename or path}: {error.strerror}")
    try:
        static = development.on_this_machine(as_in_file, ports=ports)
    except ValueError as error:
        return _fail(f"--port-base: {error}")
    if init_only:
        print(path)
        return 0
    set_up_logging(static.log.level, static.log.format, static.log.levels)

    missing = development.missing_services(static)
    if missing:
        log.info(
            "the file is left as it is, but a new one has more services: add them to those of [listeners.http]",
            file=path / development.CONFIG_NAME,
            services=", ".join(missing),
        )

    async def when_bound(server: Server) -> None:
        """Say where the server is, which is known only now where the system chose ports."""
        server.static = development.as_bound(server.static, server.bound(), ports)
        await server.store.write(_hooks_at(development.addresses_of(server.static).hooks_url), key="config")
        await server.use(await server.store.read(lambda transaction: transaction.configuration.load()))

    def announce(server: Server) -> None:
        addresses = development.addresses_of(server.static)
        if as_json:
            print(msgspec.json.encode(development.reached(addresses, path)).decode(), flush=True)
        else:
            print(development.greeting(addresses, path), flush=True)

    return _run(static, _Process(announce, _development_rows(as_in_file), when_bound, until_eof))


class _Process(Struct, frozen=True):
    """What a server's process does besides running it.

    Attributes:
        announce: Told when every listener accepts.
        prepare: A unit that is committed before the server is made; None for nothing.
        when_bound: Done when the sockets are bound; None for nothing.
        until_eof: Whether the server stops when standard input ends.
    """

    announce: Callable[[Server], None]
    prepare: Unit | None = None
    when_bound: Callable[[Server], Awaitable[None]] | None = None
    until_eof: bool = False


def _run(static: StaticConfig, process: _Process) -> int:
    sys.setswitchinterval(SWITCH_INTERVAL)
    # What imports made stays, so it is not looked through again.
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    raise_file_limit()
    try:
        return trio.run(_main, static, process)
    except* _OPERATOR_ERRORS as group:
        return_code = _report(_first(group))
    return return_code


async def _main(static: StaticConfig, process: _Process) -> int:
    services = PluginServices(hostname=static.hostname, clock=SystemClock())
    host = PluginHost.load(static.plugins.enabled, static.plugin, services)
    for name in sorted(static.plugin.keys() - set(static.plugins.enabled)):
        log.warning("the table of a plugin that is not enabled has no effect", table=f"[plugin.{name}]")
    try:
        await _serve(static, services, host, process)
    except BaseException as error:
        _leave_abandoned(host, error)
        raise
    log.info("stopped")
    _leave_abandoned(host, None)
    return 0


def _leave_abandoned(host: PluginHost, error: BaseException | None) -> None:
    """End the process where tasks of a plugin would hold up its end for ever; all that must survive is in the store."""
    if not any(plugin.state is PluginState.ABANDONED for plugin in host.health()):
        return
    return_code = 0
    if error is not None:
        first = _first(error)
        if isinstance(first, _OPERATOR_ERRORS):
            return_code = _report(first)
        else:
            traceback.print_exception(error)
            return_code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(return_code)


async def _serve(static: StaticConfig, services: PluginServices, host: PluginHost, process: _Process) -> None:
    clock = services.clock
    with hold_data_dir(static.data_dir):
        async with await open_sqlite(static.store_path, clock) as store:
            if process.prepare is not None:
                await store.write(process.prepare, key="config")
            server = await make_server(static, store, host, services, clock=clock)
            server.bind()
            if process.when_bound is not None:
                await process.when_bound(server)
            with Watchdog(packages=host.packages()).watching():
                async with trio.open_nursery() as nursery:
                    await nursery.start(_stop_on_signal, server)
                    if process.until_eof:
                        nursery.start_soon(_stop_on_eof, server)
                    nursery.start_soon(_announce_when_ready, server, process.announce)
                    await server.run(control_path=static.control_path)
                    nursery.cancel_scope.cancel()


async def _announce_when_ready(server: Server, announce: Callable[[Server], None]) -> None:
    await server.ready.wait()
    announce(server)


async def _stop_on_eof(server: Server) -> None:
    """Stop when standard input ends: its other end was closed, or the program that had it is gone."""
    while await trio.to_thread.run_sync(os.read, 0, 4096, abandon_on_cancel=True):
        pass
    log.info("stopping", reason="standard input has ended")
    server.stop()


async def _stop_on_signal(server: Server, *, task_status: trio.TaskStatus[None]) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        count = 0
        async for number in signals:
            count += 1
            log.info("stopping", signal=signal.Signals(number).name)
            if count > 1:
                # Asked twice: what is committed is safe, the rest is not worth waiting for.
                os._exit(128 + number)
            server.stop()


def raise_file_limit() -> int:
    """Raise the limit of open files as far as this process may, and report it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (ValueError, OSError) as error:
            log.warning("the limit of open files cannot be raised", limit=soft, error=error)
    log.info("open files", limit=soft)
    return soft


def _development_rows(static: StaticConfig) -> Unit:
    hooks_url = development.addresses_of(static).hooks_url

    def unit(transaction: Transaction) -> None:
        if transaction.configuration.version():
            return
        rows = validate(development.initial_configuration(hooks_url), transports=static.transports)
        transaction.configuration.replace(rows, expected_version=0)
        credentials = make_credentials(development.PASSWORD, version=transaction.now_us, legacy=static.auth.legacy)
        transaction.credentials.set(development.ACCOUNT, credentials)
        for folder, special_uses in INITIAL_FOLDERS:
            transaction.folders.create(development.ACCOUNT, folder, special_uses=special_uses)

    return unit


def _hooks_at(hooks_url: str) -> Unit:
    def unit(transaction: Transaction) -> None:
        moved = development.with_hooks_at(transaction.configuration.load(), hooks_url)
        if moved is not None:
            transaction.configuration.replace(moved, expected_version=transaction.configuration.version())

    return unit


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _report(error: BaseException) -> int:
    log.error("the server ended", problem=error)
    return _fail(error)


def _fail(problem: object) -> int:
    print(f"mailcrane: {problem}", file=sys.stderr)
    return 1
