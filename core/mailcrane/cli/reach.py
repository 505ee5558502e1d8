"""How a command reaches its server: over the control socket, or the database itself where no server runs."""

from __future__ import annotations

from typing import TypeVar

import click
from msgspec import Struct

from mailcrane.admin.client import ControlClient, NotRunning
from mailcrane.admin.operations import Operation
from mailcrane.config.static import StaticConfig, load

Q = TypeVar("Q", bound=Struct)
A = TypeVar("A", bound=Struct)


def static_config() -> StaticConfig:
    """Return the static configuration that ``--config`` names.

    Raises:
        ConfigError: it cannot be used.
    """
    return load(config_path())


def config_path() -> str:
    """Return what ``--config`` names."""
    path: str = click.get_current_context().find_root().obj
    return path


def run(operation: Operation[Q, A], request: Q) -> A:
    """Run an operation on the running server or, where it does not need one, on the database.

    Raises:
        AdminError: it was refused.
        ConfigError: mailcrane.toml cannot be used.
    """
    static = static_config()
    try:
        with ControlClient(static.control_path) as client:
            return client.call(operation.name, request, operation.answer)
    except NotRunning:
        from mailcrane.admin.offline import run_offline  # noqa: PLC0415 - it imports the store

        return run_offline(static, operation, request)
