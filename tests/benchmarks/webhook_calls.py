"""How many webhook calls a second one process makes to one fast receiver: ``python tests/benchmarks/webhook_calls.py``.

The receiver is another process on loopback that answers 200 to everything. Each event is of another message, stored in
a database on disk; the time is from the first call that arrives to the last that is settled, dispatching included.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import trio

from mailcrane.config.directory import Directory
from mailcrane.config.rows import Account, Configuration, Domain, Webhook
from mailcrane.config.static import WebhooksConfig
from mailcrane.http.client import GuardedClient
from mailcrane.model.clock import SystemClock
from mailcrane.model.event import EventKind, NewEvent
from mailcrane.observe.secret import Secret
from mailcrane.plugin.caller import Hooks
from mailcrane.run.serve import SWITCH_INTERVAL
from mailcrane.store.records import Worker
from mailcrane.store.sqlite import open_sqlite
from mailcrane.store.transaction import Transaction
from mailcrane.webhook.caller import WebhookCaller
from mailcrane.webhook.dispatcher import Dispatcher

_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_SECRET = "whsec_" + "c2Vj" * 8


def receive(told: Connection) -> None:
    """Answer 200 to every request, in a process of its own; tells its port."""

    async def serve(stream: trio.SocketStream) -> None:
        buffer = b""
        while data := await stream.receive_some(65536):
            buffer += data
            while (end := buffer.find(b"\r\n\r\n")) >= 0:
                head = buffer[:end].lower()
                start = head.index(b"content-length:") + 15
                length = int(head[start:].split(b"\r\n", 1)[0])
                if len(buffer) < end + 4 + length:
                    break
                buffer = buffer[end + 4 + length :]
                await stream.send_all(_OK)

    async def main() -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        told.send(listeners[0].socket.getsockname()[1])
        await trio.serve_listeners(serve, listeners)

    trio.run(main)


async def measure(url: str, calls: int, path: str, *, is_signed: bool) -> tuple[float, float]:
    """Make so many calls; return how many seconds it took, and how many of processor time in this process."""
    clock = SystemClock()
    webhook = Webhook(url, secrets=(Secret(_SECRET),) if is_signed else ())
    configuration = Configuration(
        domains=(Domain("example.org"),), accounts=(Account("ann", "example.org", outgoing_webhook=webhook),)
    )
    async with await open_sqlite(path, clock) as store:
        await store.write(lambda tx: tx.configuration.replace(configuration, expected_version=0), key="config")

        def fill(tx: Transaction) -> None:
            data = {"queue_msg_id": 1, "message_id": "<a@example.org>", "subject": "news", "extra": {"order": "17"}}
            tx.events.record([NewEvent("ann", EventKind.DELIVERED, n, data) for n in range(1, calls + 1)])

        await store.write(fill, key="account:ann")
        directory = Directory(configuration)
        client = GuardedClient(allow_networks=("127.0.0.0/8",))
        caller = WebhookCaller(
            store=store,
            directory=lambda: directory,
            client=client,
            config=WebhooksConfig(),
            worker=Worker("machine", "boot"),
            clock=clock,
        )
        dispatcher = Dispatcher(store=store, hooks=Hooks(), directory=lambda: directory, clock=clock)
        begun, used = trio.current_time(), time.process_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.watch)
            await nursery.start(dispatcher.run)
            await nursery.start(caller.run)
            while True:
                await trio.sleep(0.05)
                ended = await store.read(
                    lambda tx: tx.events.last_number("ann") >= 2 * calls and not tx.webhooks.list()
                )
                if ended:
                    break
            nursery.cancel_scope.cancel()
        seconds, used = trio.current_time() - begun, time.process_time() - used
        await client.aclose()
        return seconds, used


def main() -> None:
    """Print the rate."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--signed", action="store_true")
    arguments = parser.parse_args()
    sys.setswitchinterval(SWITCH_INTERVAL)
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=receive, args=(theirs,), daemon=True)
    process.start()
    url = f"http://127.0.0.1:{ours.recv()}/hook"
    with tempfile.TemporaryDirectory(dir=Path.home()) as directory:
        seconds, used = trio.run(
            lambda: measure(url, arguments.calls, f"{directory}/mailcrane.db", is_signed=arguments.signed)
        )
    process.kill()
    calls = arguments.calls
    print(f"{calls / seconds:.0f} calls a second ({calls} in {seconds:.2f} s)")
    print(f"{1000 * used / calls:.2f} ms of processor time a call: {calls / used:.0f} a second where a core is free")


if __name__ == "__main__":
    main()
