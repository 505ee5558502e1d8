"""This server as a subject of the benchmarks: a configuration of its own in a scratch folder, one process."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import msgspec

from backlog import fill
from harness import Server, process, scratch, wait_for_banner

SMTP_PORT, RELAY_PORT, SUBMISSIONS_PORT, HTTP_PORT, SINK_PORT = 2601, 2602, 2603, 2680, 2690
DNS_PORT = 2653
LOGIN, PASSWORD = "bench@bench.example", "a bench password"

_STATIC = """\
hostname = "mail.bench.example"
data_dir = "data"

[log]
level = "warning"

[plugins]
enabled = ["transports", "webapi"]

[dns]
servers = ["127.0.0.1:{dns}"]

[transports.sink]
type = "smtp"
host = "127.0.0.1"
port = {sink}
no_starttls = true

[transports.hop]
type = "smtp"
host = "127.0.1.1"
port = {sink}
no_starttls = true

[transports.mx]
type = "direct"
port = {sink}

[queue]
default_transport = "{transport}"
hold_new_entries = {hold}

[tls.bench]
cert_file = "bench.crt"
key_file = "bench.key"

[listeners.mx]
protocol = "smtp"
addresses = ["127.0.0.1:{smtp}"]
max_connections_per_minute = [0, 0, 0]
max_connections_per_network = [0, 0, 0]

[listeners.relay]
protocol = "smtp"
addresses = ["127.0.0.1:{relay}"]
relay_networks = ["127.0.0.0/8"]
relay_account = "bench"
max_connections_per_minute = [0, 0, 0]
max_connections_per_network = [0, 0, 0]

[listeners.submissions]
protocol = "submissions"
addresses = ["127.0.0.1:{submissions}"]
tls = "bench"
max_connections_per_minute = [0, 0, 0]
max_connections_per_network = [0, 0, 0]

[listeners.web]
protocol = "http"
addresses = ["127.0.0.1:{http}"]
services = {{ webapi = "/webapi/", metrics = "/metrics/" }}
require_tls_for_auth = false
limit_requests = false
"""


class Ours(msgspec.Struct, frozen=True):
    """The running server by its listeners."""

    mx: Server
    relay: Server
    submissions: Server
    web: Server


def units_and_commits() -> tuple[float, float]:
    """How many units of work the running server has committed, and in how many commits."""
    with urllib.request.urlopen(f"http://127.0.0.1:{HTTP_PORT}/metrics/", timeout=10) as response:
        lines = dict(line.rsplit(" ", 1) for line in response.read().decode().splitlines() if line[0] != "#")
    return float(lines["mailcrane_store_units_total"]), float(lines["mailcrane_store_commits_total"])


@contextlib.contextmanager
def mailcrane(
    *, deliver: bool = False, dkim: bool = False, transport: str = "sink", backlog: int = 0
) -> Iterator[Ours]:
    """Run the server. Without ``deliver`` what is queued stays there, as Postfix's queue does when it holds.

    Args:
        deliver: Attempts are made as soon as they are due.
        dkim: The domains have an RSA-2048 key that signs at the first attempt.
        transport: ``sink`` relays everything to 127.0.0.1, ``hop`` to 127.0.1.1, ``mx`` to the mail exchangers of
            `dns_stub.py`, all on `SINK_PORT`.
        backlog: Entries that are in the queue, due, before the server starts.
    """
    with scratch("ours") as folder:
        _configure(folder, deliver=deliver, dkim=dkim, transport=transport)
        if backlog:
            fill(folder / "data", backlog)
        command = [sys.executable, "-m", "mailcrane", "--config", str(folder / "mailcrane.toml"), "serve"]
        with contextlib.ExitStack() as stack:
            if transport == "mx":
                stub = [sys.executable, str(Path(__file__).with_name("dns_stub.py")), str(DNS_PORT)]
                stack.enter_context(process(stub, folder / "dns.log"))
            pid = stack.enter_context(process(command, folder / "log"))
            try:
                wait_for_banner("127.0.0.1", SMTP_PORT)
            except TimeoutError:
                print((folder / "log").read_text(), file=sys.stderr)
                raise
            try:
                yield Ours(
                    Server("mailcrane folder", "127.0.0.1", SMTP_PORT, LOGIN, pid),
                    Server("mailcrane queue", "127.0.0.1", RELAY_PORT, "someone@elsewhere.example", pid),
                    Server("mailcrane submission", "127.0.0.1", SUBMISSIONS_PORT, "someone@elsewhere.example", pid),
                    Server("mailcrane Send", "127.0.0.1", HTTP_PORT, "someone@elsewhere.example", pid),
                )
            finally:
                if os.environ.get("BENCH_SHOW_LOG"):
                    print((folder / "log").read_text()[-4000:], file=sys.stderr)


def release(pid: int) -> None:
    """Release everything that the server with a process id holds."""
    command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    run = [one.decode() for one in command[: command.index(b"serve")]]
    subprocess.run([*run, "queue", "unhold", "--all"], check=True, timeout=600, stdout=subprocess.DEVNULL)


def _configure(folder: Path, *, deliver: bool, dkim: bool, transport: str) -> None:
    from mailcrane.message.dkim_keys import generate_key  # noqa: PLC0415  only this benchmark needs it
    from mailcrane.tls.certificate import make_self_signed  # noqa: PLC0415

    certificate, key = make_self_signed(("mail.bench.example", "127.0.0.1"))
    (folder / "bench.crt").write_bytes(certificate)
    (folder / "bench.key").write_bytes(key)
    (folder / "mailcrane.toml").write_text(
        _STATIC.format(
            smtp=SMTP_PORT,
            relay=RELAY_PORT,
            submissions=SUBMISSIONS_PORT,
            http=HTTP_PORT,
            sink=SINK_PORT,
            dns=DNS_PORT,
            transport=transport,
            hold=str(not deliver).lower(),
        )
    )
    rows = '[domains."bench.example"]\n[domains."load.example"]\n[accounts.bench]\ndomain = "bench.example"\n'
    # What is measured is not to be stopped by the limits that people have.
    rows += f'max_outgoing_messages_per_day = 0\nmax_first_time_recipients_per_day = 0\naddresses."{LOGIN}" = {{}}\n'
    if dkim:
        key_pem = generate_key("rsa")
        for domain in ("bench.example", "load.example"):
            rows += f'[domains."{domain}".dkim_keys.bench]\nalgorithm = "rsa"\n'
            rows += f"private_key_pem = '''{key_pem}'''\n"
    (folder / "rows.toml").write_text(rows)
    command = [sys.executable, "-m", "mailcrane", "--config", str(folder / "mailcrane.toml")]
    subprocess.run([*command, "config", "apply", str(folder / "rows.toml"), "--yes"], check=True, timeout=60)
    subprocess.run([*command, "password", "bench", "--stdin"], input=PASSWORD, text=True, check=True, timeout=60)
