"""One data directory over many lives of its server, each of which ends by a kill that its orders name."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

import trio

from faulty_server import Orders, run_server
from load import LOGIN, PASSWORD, Ledger, speak_http, speak_smtp
from mailcrane.config.rows import Account, Address, Configuration, DKIMKey, Domain, Route, Webhook
from mailcrane.config.validate import validate
from mailcrane.message.dkim_keys import generate_key
from mailcrane.model.clock import SystemClock
from mailcrane.model.event import OUTGOING_EVENT_KINDS
from mailcrane.observe.secret import Secret
from mailcrane.sasl.credentials import Credentials, make_scram_secret
from mailcrane.store.sqlite import open_sqlite
from mailcrane.store.transaction import Transaction
from operating import Operator
from peers import Receiver, Sink, listening
from promises import SEEN, problems
from state import DATABASE, State, is_at_rest, read_state

LIFE_SECONDS = 30.0
"""The most that a life of the server may take, which is long only on a busy machine."""

_CONFIG = """\
hostname = "mail.here.example"
data_dir = "{data_dir}"

[log]
level = "{log_level}"

[plugins]
enabled = ["transports", "webapi"{plugins}]

[transports.sink]
type = "smtp"
host = "127.0.0.1"
port = {sink}
no_starttls = true
# Fewer than come at once: what has no place is taken back.
max_connections = 8

[transports.direct]
type = "direct"
port = {sink}
domain_ips = {{ "direct.example" = ["127.0.0.1"] }}

[queue]
default_transport = "sink"

[webhooks]
allow_networks = ["127.0.0.0/8"]

[listeners.mx]
protocol = "smtp"
addresses = ["127.0.0.1:{mx}"]
max_connections_per_minute = [0, 0, 0]
max_connections_per_network = [0, 0, 0]

[listeners.relay]
protocol = "smtp"
addresses = ["127.0.0.1:{relay}"]
relay_networks = ["127.0.0.0/8"]
relay_account = "ann"
max_connections_per_minute = [0, 0, 0]
max_connections_per_network = [0, 0, 0]

[listeners.web]
protocol = "http"
addresses = ["127.0.0.1:{web}"]
services = {{ webapi = "/webapi/" }}
require_tls_for_auth = false
limit_requests = false
"""

# The children of this server process have everything imported and begin to serve within 0.1 s.
_PRELOADED = (
    "mailcrane.run.serve",
    "mailcrane.http.server",
    "mailcrane.http.dispatch",
    "mailcrane_transports.plugin",
    "mailcrane_webapi.plugin",
)
_DAY = 86400


def fork_server() -> ForkServerContext:
    """Return the context whose processes begin quickly."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_PRELOADED))
    return context


class Campaign:
    """A server's directory, the world around it, and what its clients were told.

    Attributes:
        directory: Everything is in here.
        data_dir: The server's.
        config: Its file.
        ledger: Over all lives.
        operator: Gives orders to the server, where a load has them given.
    """

    def __init__(self, directory: Path, sink: Sink, receiver: Receiver, ports: dict[str, int], seed: str) -> None:
        self.directory = directory
        self.data_dir = directory / "data"
        self.config = directory / "mailcrane.toml"
        self.ledger = Ledger(seed)
        self.operator = Operator(self.data_dir / "control", self.ledger)
        self.sink = sink
        self.receiver = receiver
        self.ports = ports
        self.witness = directory / "witness"
        self._log = directory / "log"

    def orders(self, **what: object) -> Orders:
        """Return orders for a life, with the plugin's file."""
        return Orders(witness=str(self.witness), **what)  # type: ignore[arg-type]

    def log(self) -> str:
        """Return what the server wrote last."""
        return self._log.read_text()[-6000:] if self._log.exists() else ""

    @asynccontextmanager
    async def living(self, orders: Orders) -> AsyncIterator[ForkServerProcess]:
        """Start the server; at the end it must be gone, or is killed."""
        process = fork_server().Process(target=run_server, args=(str(self.config), str(self._log), orders))
        process.start()
        try:
            yield process
        finally:
            process.kill()
            process.join()

    async def gone(self, process: ForkServerProcess) -> int:
        """Wait until the process has ended, and return its exit code: minus the signal that killed it."""
        await trio.lowlevel.wait_readable(process.sentinel)
        process.join()
        assert process.exitcode is not None
        return process.exitcode

    async def accepting(self, process: ForkServerProcess) -> bool:
        """Wait until the server accepts; False when it is gone before."""
        for port in (self.ports["mx"], self.ports["relay"], self.ports["web"]):
            while not await _is_open(port):
                if process.exitcode is not None:
                    return False
                await trio.sleep(0.005)
        return True

    async def die(self, orders: Orders, load: Load, *, is_stopping: bool = False) -> int:
        """Live until the server is gone; clients send meanwhile. Returns the exit code."""
        waiting = self.sink.waiting
        with trio.fail_after(LIFE_SECONDS):
            async with self.living(orders) as process, trio.open_nursery() as nursery:
                if await self.accepting(process):
                    load(self, nursery)
                    if is_stopping:
                        await until(lambda: self.sink.waiting >= waiting + 3)
                        os.kill(process.pid or 0, signal.SIGTERM)
                code = await self.gone(process)
                nursery.cancel_scope.cancel()
        return code

    async def recover(self, *, is_operated: bool = False) -> int:
        """Live without a kill, with a little more mail, until nothing is due any more. Returns the exit code.

        Args:
            is_operated: Whether the operator repeats all orders.
        """
        self.sink.speed_up()
        self.receiver.is_stubborn = False
        with trio.fail_after(LIFE_SECONDS):
            async with self.living(self.orders()) as process:
                assert await self.accepting(process), self.log()
                async with trio.open_nursery() as nursery:
                    mixed_load(self, nursery, messages=3)
                await until(lambda: is_at_rest(self.data_dir, "witness"))
                if is_operated:
                    await trio.to_thread.run_sync(self.operator.finish)
                    self.ledger.is_operated = True
                    await until(lambda: is_at_rest(self.data_dir, "witness"))
                os.kill(process.pid or 0, signal.SIGTERM)
                return await self.gone(process)

    async def state(self) -> State:
        """Return what is stored, while no server runs."""
        return await read_state(self.data_dir, self.directory / "copy")

    def told(self) -> list[str]:
        """Return the ids of the events that the plugin was told of."""
        return self.witness.read_text().split() if self.witness.exists() else []

    async def check(self, *, is_at_rest: bool) -> State:
        """Fail unless everything that was promised holds; the server must be gone."""
        state = await self.state()
        found = problems(state, self.ledger, self.sink, self.receiver, self.told(), is_at_rest=is_at_rest)
        assert not found, "\n".join([*found[:20], f"{len(found)} problems", self.log()])
        assert not self.ledger.refusals, self.ledger.refusals[:5]
        return state


Load = Callable[[Campaign, trio.Nursery], None]
"""Starts clients."""


def mixed_load(campaign: Campaign, nursery: trio.Nursery, messages: int = 40) -> None:
    """Every way in at once."""
    ports, ledger = campaign.ports, campaign.ledger
    for _ in range(2):
        nursery.start_soon(partial(speak_smtp, ports["mx"], ledger, "folder", messages=messages))
        nursery.start_soon(partial(speak_smtp, ports["relay"], ledger, "relay", messages=messages))
        nursery.start_soon(partial(speak_http, ports["web"], ledger, messages=messages))
    nursery.start_soon(partial(speak_smtp, ports["relay"], ledger, "relay", messages=1, is_large=True))


def large_load(campaign: Campaign, nursery: trio.Nursery) -> None:
    """Every way in, and much that is staged, some of it given up in the middle."""
    ports, ledger = campaign.ports, campaign.ledger
    mixed_load(campaign, nursery, messages=8)
    for way, listener in (("folder", "mx"), ("relay", "relay")):
        nursery.start_soon(partial(speak_smtp, ports[listener], ledger, way, messages=6, is_large=True, abort_every=2))


def slow_load(campaign: Campaign, nursery: trio.Nursery) -> None:
    """Mail that the next hop keeps waiting, and some that it does not."""
    campaign.sink.slow_down()
    mixed_load(campaign, nursery, messages=4)
    for _ in range(2):
        nursery.start_soon(
            partial(speak_smtp, campaign.ports["relay"], campaign.ledger, "relay", messages=5, kind="slow")
        )


def stopping_load(campaign: Campaign, nursery: trio.Nursery) -> None:
    """Mail that the next hop keeps waiting, before and after it has the content."""
    campaign.sink.slow_down()
    mixed_load(campaign, nursery, messages=4)
    for kind, messages in (("sulk", 6), ("slow", 2)):
        nursery.start_soon(
            partial(speak_smtp, campaign.ports["relay"], campaign.ledger, "relay", messages=messages, kind=kind)
        )


def trouble_load(campaign: Campaign, nursery: trio.Nursery) -> None:
    """Every way in, and more of what the plugin fails at."""
    mixed_load(campaign, nursery)
    nursery.start_soon(
        partial(speak_smtp, campaign.ports["relay"], campaign.ledger, "relay", messages=8, kind="trouble")
    )


def operator_load(campaign: Campaign, nursery: trio.Nursery) -> None:
    """Every way in, and an operator who fails, drops, holds by a rule, and posts again what was given up."""
    campaign.receiver.is_stubborn = True
    mixed_load(campaign, nursery, messages=20)
    for kind in ("fail", "drop", "soft"):
        nursery.start_soon(
            partial(speak_smtp, campaign.ports["relay"], campaign.ledger, "relay", messages=12, kind=kind)
        )
    nursery.start_soon(campaign.operator.work, campaign.operator.queue_round)


def replay_load(campaign: Campaign, nursery: trio.Nursery) -> None:
    """Every way in, and an operator who cancels webhook calls and has all events posted again."""
    mixed_load(campaign, nursery)
    nursery.start_soon(campaign.operator.work, campaign.operator.webhook_round)


LOADS: dict[str, Load] = {
    "mixed": mixed_load,
    "large": large_load,
    "slow": slow_load,
    "stopping": stopping_load,
    "trouble": trouble_load,
    "late": mixed_load,
    "operator": operator_load,
    "replay": replay_load,
}


@asynccontextmanager
async def campaigning(
    directory: Path,
    *,
    seed: str,
    has_witness: bool = True,
    log_level: str = "warning",
    data_dir: Path | None = None,
) -> AsyncIterator[Campaign]:
    """Make a server's directory and the world around it; they last for the length of the block.

    Args:
        directory: Everything is in here, the data directory too unless `data_dir` names another.
        seed: For what the clients send.
        has_witness: Whether the server has the plugin.
        log_level: Of the server.
        data_dir: Exists and is empty.
    """
    sink, receiver = Sink(), Receiver()
    async with listening(sink) as sink_port, listening(receiver) as receiver_port:
        ports = {"mx": 0, "relay": 0, "web": 0}
        free = _free_ports(len(ports))
        ports = dict(zip(ports, free, strict=True))
        campaign = Campaign(directory, sink, receiver, ports, seed)
        if data_dir is None:
            campaign.data_dir.mkdir()
        else:
            campaign.data_dir = data_dir
            campaign.operator = Operator(data_dir / "control", campaign.ledger)
        hook = f"http://127.0.0.1:{receiver_port}/hook"
        await _fill(campaign.data_dir / DATABASE, hook, has_witness=has_witness)
        campaign.config.write_text(
            _CONFIG.format(
                data_dir=campaign.data_dir,
                log_level=log_level,
                plugins=', "witness"' if has_witness else "",
                sink=sink_port,
                **ports,
            )
        )
        yield campaign
        sink.speed_up()
        receiver.speed_up()


async def until(is_so: Callable[[], bool]) -> None:
    """Wait until something is so; the caller has a deadline."""
    while not is_so():  # noqa: ASYNC110 - what is waited for is in another process
        await trio.sleep(0.02)


async def _fill(path: Path, hook: str, *, has_witness: bool) -> None:
    events = (*(str(kind) for kind in sorted(OUTGOING_EVENT_KINDS)), SEEN) if has_witness else ()
    secret = Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    webhook = Webhook(hook, secrets=(secret,), events=events, mode="all")
    rows = Configuration(
        domains=(Domain("here.example"),),
        accounts=(
            Account(
                "ann",
                "here.example",
                outgoing_webhook=webhook,
                keep_retired_messages_seconds=_DAY,
                keep_retired_webhooks_seconds=_DAY,
                routes=(Route("direct", to_domains=("direct.example",)),),
                # Out of reach, but counted: that is part of the commit.
                max_outgoing_messages_per_day=1_000_000,
                max_first_time_recipients_per_day=1_000_000,
            ),
            Account("bob", "here.example"),
        ),
        addresses=(Address(LOGIN, "ann"), Address("bob@here.example", "bob")),
        dkim_keys=(DKIMKey("here.example", "one", "ed25519", Secret(generate_key("ed25519"))),),
    )

    def fill(transaction: Transaction) -> None:
        transaction.configuration.replace(validate(rows), expected_version=0)
        # One iteration: a life of the server is too short to wait for hashing.
        credentials = Credentials(1, make_scram_secret(PASSWORD.encode(), "sha256", iterations=1))
        transaction.credentials.set("ann", credentials)
        transaction.hold_rules.add(recipient_domain="held.example")

    async with await open_sqlite(str(path), SystemClock(), inline=True) as store:
        await store.write(fill, key="config")


async def _is_open(port: int) -> bool:
    try:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
    except OSError:
        return False
    await stream.aclose()
    return True


def _free_ports(count: int) -> list[int]:
    """Return ports that are free, outside of the range that outgoing connections are given."""
    found: list[int] = []
    start = 20000 + os.getpid() % 5000
    for port in range(start, start + 5000):
        with socket.socket() as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                one.bind(("127.0.0.1", port))
            except OSError:
                continue
            found.append(port)
            if len(found) == count:
                return found
    raise OSError("no free ports")
