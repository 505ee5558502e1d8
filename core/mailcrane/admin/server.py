"""Operations on the running server: health, log levels, stop."""

from __future__ import annotations

import os
from typing import Annotated

from msgspec import Meta, Struct

import mailcrane
from mailcrane.admin.administration import Administration
from mailcrane.admin.errors import AdminError, not_running
from mailcrane.observe import log
from mailcrane.observe.health import ComponentHealth, State


class GetHealth(Struct, frozen=True, forbid_unknown_fields=True):
    """Ask how the server is."""


class ServerHealth(Struct, frozen=True):
    """How the server is; components are listed the worst first."""

    state: State
    version: str
    pid: int
    configuration_version: int
    components: tuple[ComponentHealth, ...]


class GetLogLevels(Struct, frozen=True, forbid_unknown_fields=True):
    """Ask for the log levels that are set."""


class SetLogLevel(Struct, frozen=True, forbid_unknown_fields=True):
    """Set a log level until the server ends."""

    level: Annotated[str, Meta(description="error, warning, info or debug; empty clears.")]
    package: Annotated[str, Meta(description="Such as `smtp`; empty for all of Mailcrane.")] = ""


class LogLevels(Struct, frozen=True):
    """The levels that are set, by package."""

    levels: dict[str, str]


class StopServer(Struct, frozen=True, forbid_unknown_fields=True):
    """Stop the server."""


class Stopping(Struct, frozen=True):
    """The server has begun to stop; the process that ends is named."""

    pid: int


async def get_health(administration: Administration, request: GetHealth) -> ServerHealth:
    """Return the health of the running server."""
    if administration.health is None:
        raise not_running()
    report = administration.health()
    version = await administration.store.read(lambda transaction: transaction.configuration.version())
    return ServerHealth(report.state, mailcrane.__version__, os.getpid(), version, report.components)


async def get_log_levels(administration: Administration, request: GetLogLevels) -> LogLevels:
    """Return the log levels of the running server."""
    return LogLevels(log.get_levels())


async def set_log_level(administration: Administration, request: SetLogLevel) -> LogLevels:
    """Set a log level of the running server; the file is not changed."""
    if not request.level and not request.package:
        raise AdminError("bad_value", "name a level, or a package whose level is to be cleared")
    try:
        log.set_level(request.level, request.package or log.ROOT)
    except ValueError as error:
        raise AdminError("bad_value", str(error)) from None
    return LogLevels(log.get_levels())


async def stop_server(administration: Administration, request: StopServer) -> Stopping:
    """Begin to stop the server; the answer comes before it ends."""
    if administration.stop is None:
        raise not_running()
    administration.stop()
    return Stopping(os.getpid())
