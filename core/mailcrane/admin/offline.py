"""Runs operations on the database while no server does, under the lock of the data directory."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import TypeVar

import trio
from msgspec import Struct

from mailcrane.admin.administration import Administration
from mailcrane.admin.errors import AdminError
from mailcrane.admin.lock import DataDirInUse, hold_data_dir
from mailcrane.admin.operations import Operation
from mailcrane.config.convert import ConfigError
from mailcrane.config.static import StaticConfig
from mailcrane.model.clock import SystemClock
from mailcrane.store.sqlite import open_sqlite

Q = TypeVar("Q", bound=Struct)
A = TypeVar("A", bound=Struct)


def run_offline(static: StaticConfig, operation: Operation[Q, A], request: Q) -> A:
    """Run one operation directly on the database.

    Raises:
        AdminError: it was refused, it needs a running server, or another process is at work.
    """
    if operation.needs_server:
        raise AdminError("not_running", "no server is running")
    try:
        with hold_data_dir(static.data_dir):
            return trio.run(_run, static, operation, request)
    except DataDirInUse:
        raise AdminError(
            "in_use", f"{static.data_dir} is in use by a server that does not answer, or by another command; try again"
        ) from None
    except ConfigError as error:
        raise AdminError("bad_configuration", str(error)) from None
    except PermissionError as error:
        raise AdminError("not_permitted", f"{error.filename}: permission denied") from None


async def _run(static: StaticConfig, operation: Operation[Q, A], request: Q) -> A:
    Path(static.store_path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    async with await open_sqlite(static.store_path, SystemClock()) as store:
        return await operation.run(Administration(store, static, actor=_user()), request)


def _user() -> str:
    try:
        return f"user {getpass.getuser()}"
    except (KeyError, OSError):
        return "user unknown"
