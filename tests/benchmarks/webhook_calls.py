"""How many webhook calls a second one process makes: ``tests/benchmarks/webhook_calls.py [one] [hanging] [many]``.

The receivers are another process on loopback that answers 200 to everything at once. ``one`` has one receiver,
``hanging`` one that answers and one beside it that takes calls and never does, with as many events of its own, ``many``
50 receivers of 50 accounts. Each event is of another message, stored in a database on disk; the time is from the first
event that is dispatched to the last call to a receiver that answers that is settled. Processor time is this process's
alone, without the receivers' and without the program's start.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness import compiled, scratch
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
from mailcrane.store.store import Store
from mailcrane.store.transaction import Transaction
from mailcrane.webhook.caller import WebhookCaller
from mailcrane.webhook.dispatcher import Dispatcher
from mailcrane.webhook.slots import most_calls

SCENARIOS = {"one": 1, "hanging": 1, "many": 50}
"""With how many receivers that answer."""

_SECRET = "whsec_" + "c2Vj" * 8
_DATA = {"queue_msg_id": 1, "message_id": "<a@example.org>", "subject": "news", "extra": {"order": "17"}}
_LOOK_SECONDS = 0.02


@contextlib.contextmanager
def receivers(count: int) -> Iterator[list[str]]:
    """Run receivers that answer, for as long as the block lasts; gives their URLs."""
    command = [compiled("webhook_receiver.c"), str(count)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        try:
            yield [f"http://127.0.0.1:{port}/hook" for port in running.stdout.readline().split()]
        finally:
            running.terminate()


@contextlib.contextmanager
def hanging_receiver() -> Iterator[str]:
    """A receiver that the system connects to and that never answers; gives its URL."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/hook"


async def wait_for_event(store: Store, account: str, number: int) -> None:
    """Wait until an account has so many events. That of a call that ended is written in the unit that ends it."""
    while True:
        seen = store.wakeups.version("events")
        if await store.read(lambda tx: tx.events.last_number(account)) >= number:
            return
        await store.wakeups.wait("events", seen=seen)
        await trio.sleep(_LOOK_SECONDS)


async def measure(answering: list[str], hanging: list[str], calls: int, path: str) -> dict[str, float]:
    """Make so many calls over the receivers that answer, and as many are due to one that hangs."""
    clock, config = SystemClock(), WebhooksConfig()
    accounts = tuple(
        Account(f"account-{n}", "example.org", outgoing_webhook=Webhook(url, secrets=(Secret(_SECRET),)))
        for n, url in enumerate([*answering, *hanging])
    )
    configuration = Configuration(domains=(Domain("example.org"),), accounts=accounts)
    directory = Directory(configuration)
    async with await open_sqlite(path, clock) as store:
        await store.write(lambda tx: tx.configuration.replace(configuration, expected_version=0), key="config")
        each = calls // len(answering)

        def fill(tx: Transaction) -> None:
            for number in range(each):
                for index, account in enumerate(accounts):
                    entry_id = 1 + number * len(accounts) + index
                    tx.events.record([NewEvent(account.name, EventKind.DELIVERED, entry_id, _DATA)])

        await store.write(fill, key="events")
        client = GuardedClient(allow_networks=("127.0.0.0/8",), max_connections=most_calls(config.concurrency))
        caller = WebhookCaller(
            store=store,
            directory=lambda: directory,
            client=client,
            config=config,
            worker=Worker("machine", "boot"),
            clock=clock,
        )
        dispatcher = Dispatcher(store=store, hooks=Hooks(), directory=lambda: directory, clock=clock)
        begun, used = time.monotonic(), time.process_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.watch)
            await nursery.start(dispatcher.run)
            await nursery.start(caller.run)
            for account in accounts[: len(answering)]:
                await wait_for_event(store, account.name, 2 * each)
            seconds, used = time.monotonic() - begun, time.process_time() - used
            nursery.cancel_scope.cancel()
        await client.aclose()
        statistics = store.statistics
    made = each * len(answering)
    return {
        "rate": made / seconds,
        "count": made,
        "cpu_ms": 1000 * used / made,
        "commits": statistics.commits,
        "units": statistics.units,
    }


def run(scenario: str, calls: int) -> dict[str, float]:
    """Measure one scenario in this process."""
    with contextlib.ExitStack() as stack:
        answering = stack.enter_context(receivers(SCENARIOS[scenario]))
        hanging = [stack.enter_context(hanging_receiver())] if scenario == "hanging" else []
        folder = stack.enter_context(scratch("webhooks"))
        return trio.run(measure, answering, hanging, calls, str(folder / "mailcrane.db"))


def main() -> None:
    """Print a line for each scenario."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenarios", nargs="*", default=[], metavar="scenario", help=", ".join(SCENARIOS))
    parser.add_argument("--calls", type=int, default=3000, help="to the receivers that answer (3000)")
    parser.add_argument("--json", action="store_true", help="one object a line")
    arguments = parser.parse_args()
    if unknown := set(arguments.scenarios) - SCENARIOS.keys():
        parser.error(f"there is no scenario {', '.join(sorted(unknown))}")
    sys.setswitchinterval(SWITCH_INTERVAL)
    for scenario in arguments.scenarios or SCENARIOS:
        figures = run(scenario, arguments.calls)
        if arguments.json:
            print(json.dumps({"scenario": scenario, **figures}), flush=True)
            continue
        print(
            f"{scenario:8} {figures['rate']:6.0f} calls a second, {figures['cpu_ms']:.2f} ms of processor time a call"
            f" ({1000 / figures['cpu_ms']:.0f} a second where a core is free), {figures['commits']:.0f} commits",
            flush=True,
        )


if __name__ == "__main__":
    main()
