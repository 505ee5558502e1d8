"""The server as it is, in a process that can be told when to die: composed by `mailcrane.run.serve`, with faults.

As a script, ``faulty_server.py CONFIG`` takes its `Orders` as JSON from the environment variable `ORDERS_VARIABLE`,
which nothing else reads. `run_server` is the same for a child that was forked.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sqlite3
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any
from unittest import mock

import msgspec
import trio

from kill_points import name_of, point
from mailcrane.api import Event, EventKind, EventType, Plugin, hookimpl
from mailcrane.config.static import StaticConfig
from mailcrane.config.static import load as load_static
from mailcrane.plugin.find import FoundPlugin, find_plugins
from mailcrane.plugin.notify import Notifier
from mailcrane.run import serve
from mailcrane.store.sqlite import open_sqlite
from mailcrane.store.sqlite.connection import connect_writer
from mailcrane.store.sqlite.engine import SQLiteStore
from mailcrane.store.sqlite.faults import Faults
from mailcrane.store.transaction import Transaction
from promises import SEEN, SEEN_EVERY

ORDERS_VARIABLE = "MAILCRANE_TEST_ORDERS"

TROUBLE = "trouble"
"""The plugin fails at events of forward-paths that begin so."""

_MOST_PAGES = 1 << 30


@dataclass(frozen=True)
class Orders:
    """What is to go wrong.

    Attributes:
        point: Name of the kill point; empty for none.
        moment: ``before`` or ``after`` its COMMIT.
        hit: The how many-th run of the unit it is.
        record: File that the names of the committed units are written to, each once.
        witness: File that the plugin writes the ids of the events to that it was told of.
        lease_seconds: Of the queue, shorter than a configuration may say; 0 leaves it.
        retry_seconds: Until the second attempt of an entry, likewise.
        call_retry_seconds: Until the second attempt of a webhook call, likewise; the third is the last then.
        stop_seconds: How long deliveries under way get at a stop; 0 leaves it.
        is_hasty: Whether a message that comes in is answered before its commit, as it must not be.
        synchronous: SQLite's pragma for the connection that writes; empty leaves it.
        full: While this file exists, the database cannot become larger.
    """

    point: str = ""
    moment: str = "before"
    hit: int = 1
    record: str = ""
    witness: str = ""
    lease_seconds: float = 0.0
    retry_seconds: float = 0.0
    call_retry_seconds: float = 0.0
    stop_seconds: float = 0.0
    is_hasty: bool = False
    synchronous: str = ""
    full: str = ""

    def environment(self) -> dict[str, str]:
        """Return the environment variable that tells the script."""
        return {ORDERS_VARIABLE: json.dumps(asdict(self))}


class Witness(Plugin):
    """Notes every event that it is told of, outside of the database, and has trouble with some.

    Of some it records an event of its own, which it does again where it was killed in between.
    """

    name = "witness"
    path = ""

    @hookimpl
    def register_event_types(self) -> Sequence[EventType]:
        """Return the one."""
        return [EventType(SEEN, "A delivery was seen.")]

    @hookimpl
    async def event_recorded(self, event: Event) -> None:
        """Write the event's id down; it survives the process."""
        if event.kind is EventKind.MESSAGE_QUEUED and event.data["forward_path"].startswith(TROUBLE):
            raise RuntimeError("trouble")
        if event.kind is EventKind.DELIVERED and event.entry_id % SEEN_EVERY == 0:
            await self.context.events.record("seen", entry_id=event.entry_id, data={})
        _append(self.path, event.id)


class _Killer:
    """Sees every unit that is committed, in the writer thread."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._point = point(orders.point) if orders.point else None
        self._hits = 0
        self._batch: list[bool] = []
        self._committing: list[bool] = []
        self._recorded: set[str] = set()
        self.connection: sqlite3.Connection | None = None

    def note(self, unit: Callable[..., Any], key: str, result: Any) -> None:
        """Take note of a unit that was run."""
        name, at = name_of(unit), self._point
        self._batch.append(at is not None and name == at.unit and key.startswith(at.key) and at.counts(unit, result))
        if self._orders.record and name not in self._recorded:
            self._recorded.add(name)
            _append(self._orders.record, name)

    def limit_space(self) -> None:
        """Let the database grow, or not."""
        if self._orders.full and self.connection is not None:
            pages = 1 if os.path.exists(self._orders.full) else _MOST_PAGES
            self.connection.execute(f"PRAGMA max_page_count = {pages}").fetchall()

    def before_commit(self, keys: Sequence[str]) -> None:
        """Die here, if it is the moment."""
        self._committing, self._batch = self._batch, []
        self._die_at("before")

    def after_commit(self, keys: Sequence[str]) -> None:
        """Die here, if it is the moment."""
        self._die_at("after")

    def _die_at(self, moment: str) -> None:
        if moment == self._orders.moment:
            self._hits += sum(self._committing)
            if self._hits >= self._orders.hit and any(self._committing):
                os.kill(os.getpid(), signal.SIGKILL)


def run_server(config_path: str, log_path: str, orders: Orders) -> None:
    """Run the server of a file until it ends, in a process of its own whose output goes to a file."""
    output = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - as long as the process lives
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    code = run(config_path, orders)
    sys.stderr.flush()
    os._exit(code)


def run(config_path: str, orders: Orders) -> int:
    """Run the server of a file, and return its exit code."""
    killer = _Killer(orders)
    write = SQLiteStore.write

    async def noted_write(store: SQLiteStore, unit: Callable[[Transaction], Any], *, key: str) -> Any:
        def noted(transaction: Transaction) -> Any:
            killer.limit_space()
            result = unit(transaction)
            killer.note(unit, key, result)
            return result

        if orders.is_hasty and unit.__module__ == "mailcrane.receive.incoming":
            trio.lowlevel.spawn_system_task(functools.partial(write, store, noted, key=key))
            return None
        return await write(store, noted, key=key)

    def connect(path: str) -> sqlite3.Connection:
        killer.connection = connection = connect_writer(path)
        if orders.synchronous:
            connection.execute(f"PRAGMA synchronous = {orders.synchronous}")
        return connection

    def load(path: str) -> StaticConfig:
        static = load_static(path)
        queue, webhooks = static.queue, static.webhooks
        if orders.lease_seconds:
            queue = msgspec.structs.replace(queue, lease_seconds=orders.lease_seconds)
        if orders.retry_seconds:
            queue = msgspec.structs.replace(queue, retry_interval_seconds=orders.retry_seconds)
        if orders.call_retry_seconds:
            webhooks = msgspec.structs.replace(webhooks, retry_interval_seconds=orders.call_retry_seconds)
        return msgspec.structs.replace(static, queue=queue, webhooks=webhooks)

    Witness.path = orders.witness
    faults = Faults(before_commit=killer.before_commit, after_commit=killer.after_commit)
    with ExitStack() as patches:

        def patch(where: str, what: object) -> None:
            patches.enter_context(mock.patch(where, what))

        patch("mailcrane.run.serve.open_sqlite", functools.partial(open_sqlite, faults=faults))
        patch("mailcrane.run.serve.load", load)
        patch("mailcrane.store.sqlite.engine.SQLiteStore.write", noted_write)
        patch("mailcrane.store.sqlite.batch.connect_writer", connect)
        patch("mailcrane.plugin.host.find_plugins", _find_plugins)
        # What an operator has done to many is done in units of few, so that a kill finds it in the middle.
        patch("mailcrane.admin.entry_changes.UNIT_ENTRIES", 3)
        patch("mailcrane.admin.queue_changes._PIECE_ENTRIES", 6)
        patch("mailcrane.retire.by_hand._BATCH", 2)
        patch("mailcrane.admin.webhook_replay._UNIT", 20)
        patch("mailcrane.run.server.Notifier", functools.partial(Notifier, retry_delays=(0.01,)))
        if orders.call_retry_seconds:
            patch("mailcrane.webhook.schedule.MAX_ATTEMPTS", 3)
        if orders.stop_seconds:
            patch("mailcrane.run.server._STOP_DELIVERIES_SECONDS", orders.stop_seconds)
        return serve.serve(config_path)


def _find_plugins() -> tuple[FoundPlugin, ...]:
    return (*find_plugins(), FoundPlugin("witness", "faulty_server:Witness", ""))


def _append(path: str, line: str) -> None:
    if path:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        os.write(descriptor, f"{line}\n".encode())
        os.close(descriptor)


def main() -> int:
    """Run as the environment orders."""
    # The plugin is loaded by the name of this module, which as a script has another one.
    import faulty_server  # noqa: PLC0415

    orders = faulty_server.Orders(**json.loads(os.environ[ORDERS_VARIABLE]))
    return faulty_server.run(sys.argv[1], orders)


if __name__ == "__main__":
    sys.exit(main())
