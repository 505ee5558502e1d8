"""``make bench``: how fast messages are accepted and sent, next to peers in the same run. Figures, never assertions.

    python tests/benchmarks/run.py [--runs N] [--seconds N] [accept] [submission] [send] [outbound] [backlog] [webhooks]
        [memory]

Rows go to the screen and to ``bench-results/``; the latency plot goes there too. What a figure means, and the last
figures that were published, stand in ``docs/explanation/performance.md``.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import other_servers
import outbound as end_to_end
from harness import RESULTS, Measured, Server, line_of, measure, process, resident_mib, save, scratch, smtp_load
from ours import HTTP_PORT, LOGIN, PASSWORD, SINK_PORT, SUBMISSIONS_PORT, mailcrane, release, units_and_commits
from plot import latency_plot

_CONNECTIONS = (1, 10, 50, 200)
_OCTETS = (4096, 50_000)
_PER_CONNECTION = (1, 50)


def accept(runs: int, seconds: int) -> list[Measured]:
    """Plain durable accept: into a folder, into the queue, and the peers', the same load on each in turn."""
    rows: list[Measured] = []

    def load(server: Server, *, is_ours: bool = False) -> None:
        for size in _OCTETS:
            for kept in _PER_CONNECTION:
                for count in _CONNECTIONS:
                    name = f"accept {size // 1000} KB, {count} conn., {kept} msg/conn."
                    run: Callable[[], dict[str, float]] = functools.partial(
                        smtp_load, server, connections=count, octets=size, per_connection=kept, seconds=seconds
                    )
                    if is_ours:
                        run = functools.partial(_with_units_per_commit, run)
                    rows.append(measure(server, name, "msg/s", run, runs))

    with mailcrane() as ours:
        load(ours.mx, is_ours=True)
    with mailcrane() as ours:
        load(ours.relay, is_ours=True)
    for start in (
        functools.partial(other_servers.postfix, "maildir"),
        functools.partial(other_servers.postfix, "queue"),
        other_servers.aiosmtpd,
    ):
        with start() as server:
            load(server)
    return rows


def _with_units_per_commit(run: Callable[[], dict[str, float]]) -> dict[str, float]:
    units, commits = units_and_commits()
    figures = run()
    units_after, commits_after = units_and_commits()
    return {**figures, "units_per_commit": round((units_after - units) / max(1.0, commits_after - commits), 1)}


def _client_load(what: str, port: int, connections: int, seconds: int) -> dict[str, float]:
    script = Path(__file__).with_name("client_load.py")
    command = [sys.executable, str(script), what, str(port), str(connections), str(seconds)]
    command += [LOGIN, PASSWORD, "someone@elsewhere.example"]
    answer = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=seconds + 120).stdout)
    if last := answer.pop("last_bad"):
        print(f"  bad: {last}", flush=True)
    return dict(answer)


def submission(runs: int, seconds: int) -> list[Measured]:
    """Submission with TLS and AUTH: queued, then with DKIM signing and delivery to a sink at the same time."""
    return _with_and_without_delivery("submit", SUBMISSIONS_PORT, "submission, TLS+AUTH", runs, seconds)


def send(runs: int, seconds: int) -> list[Measured]:
    """``Send`` on 50 keep-alive connections: queued, then with DKIM signing and delivery to a sink as well."""
    return _with_and_without_delivery("send", HTTP_PORT, "Send, 50 keep-alive", runs, seconds)


def _with_and_without_delivery(what: str, port: int, name: str, runs: int, seconds: int) -> list[Measured]:
    rows = []
    for deliver in (False, True):
        with contextlib.ExitStack() as stack:
            if deliver:
                folder = stack.enter_context(scratch("sink"))
                sink = [sys.executable, str(Path(__file__).with_name("sink.py")), str(SINK_PORT)]
                stack.enter_context(process(sink, folder / "log"))
            ours = stack.enter_context(mailcrane(deliver=deliver, dkim=True))
            server = ours.web if what == "send" else ours.submissions
            run = functools.partial(_client_load, what, port, 50, seconds)
            load = f"{name}, RSA-2048, delivered" if deliver else f"{name}, queued"
            rows.append(measure(server, load, "msg/s", run, runs))
    return rows


def outbound(runs: int, seconds: int) -> list[Measured]:
    """From injection over SMTP to the next hops, over 1, 50 and 1,000 domains, quick next hops and slow ones.

    First what is injected goes on at once; then 4,000 messages for each second of a run are held, and released
    together. Haraka cannot hold.
    """
    rows: list[Measured] = []
    for wait_ms in (0, 200):
        with end_to_end.sink(wait_ms, hosts=1000) as hops:
            for name, start, release in _senders():
                with start() as server:
                    for domains in (1, 50, 1000):
                        slots = 20 * domains if wait_ms else 2000
                        load = functools.partial(
                            end_to_end.send_through,
                            server,
                            hops,
                            # Slow next hops take 5 a second for each of 20 connections, of those that are used.
                            messages=min(400, 5 * slots) * seconds * (4 if release and domains > 1 else 1),
                            domains=domains,
                            connections=100 if wait_ms and not release else 10,
                            release=None if release is None else functools.partial(release, server.pid),
                        )
                        rows.append(measure(server, f"{name}, {domains} domains, {wait_ms} ms", "msg/s", load, runs))
    return rows


_Start = Callable[[], contextlib.AbstractContextManager[Server]]


def _senders() -> list[tuple[str, _Start, Callable[[int], None] | None]]:
    """Return what is run, how, and how what it holds is released, where it holds."""
    port = end_to_end.PORT
    senders: list[tuple[str, _Start, Callable[[int], None] | None]] = [
        ("sent on", functools.partial(_outbound_ours, is_signed=False, is_held=False), None),
        ("sent on, RSA-2048", functools.partial(_outbound_ours, is_signed=True, is_held=False), None),
        ("sent on", functools.partial(other_servers.postfix, "relay", sink_port=port), None),
    ]
    if "HARAKA_DIR" in os.environ:
        senders.append(("sent on", functools.partial(other_servers.haraka, sink_port=port), None))
    held = functools.partial(other_servers.postfix, "held relay", sink_port=port)
    return [
        *senders,
        ("released", functools.partial(_outbound_ours, is_signed=False, is_held=True), release),
        ("released, RSA-2048", functools.partial(_outbound_ours, is_signed=True, is_held=True), release),
        ("released", held, other_servers.release_postfix),
    ]


@contextlib.contextmanager
def _outbound_ours(*, is_signed: bool, is_held: bool) -> Iterator[Server]:
    with mailcrane(deliver=not is_held, dkim=is_signed, transport="mx") as ours:
        yield ours.relay


def backlog(seconds: int) -> list[Measured]:
    """Deliveries for six times as long as a run from a queue of few entries, then from one of a million."""
    rows = []
    for entries in (20_000, 1_000_000):
        with end_to_end.sink(0) as hops, mailcrane(deliver=True, transport="mx", backlog=entries) as ours:
            started = time.monotonic()
            end_to_end.wait_for(hops, 1)
            first_seconds = time.monotonic() - started

            def run(hops: end_to_end.Sink = hops, entries: int = entries) -> dict[str, float]:
                first, began = hops.read()[0], time.monotonic()
                end_to_end.wait_for(hops, entries, 6.0 * seconds)
                took = time.monotonic() - began
                count = hops.read()[0] - first
                return {"rate": count / took, "count": count}

            row = measure(ours.relay, f"backlog of {entries:,}, 50 domains", "msg/s", run, 1)
            row.extra |= {"mib": round(resident_mib(ours.relay.pid)), "first_seconds": round(first_seconds, 1)}
            rows.append(row)
            print(f"  {row.extra}", flush=True)
    return rows


def webhooks(runs: int) -> list[Measured]:
    """Webhook calls to one fast receiver, beside one that hangs, and to 50: see `webhook_calls`."""
    rows = []
    script = str(Path(__file__).with_name("webhook_calls.py"))
    for scenario in ("one", "hanging", "many"):
        answers = []
        for _ in range(runs):
            command = [sys.executable, script, scenario, "--json"]
            done = subprocess.run(command, check=True, capture_output=True, timeout=300)
            answers.append(json.loads(done.stdout))
        rates, costs = [answer["rate"] for answer in answers], [answer["cpu_ms"] for answer in answers]
        rows.append(Measured("mailcrane", f"webhooks, {scenario}", "calls/s", rates, costs, {}))
        print(line_of(rows[-1]), flush=True)
    return rows


def memory(seconds: int) -> list[Measured]:
    """Resident memory, idle and after load."""
    with mailcrane() as ours:
        time.sleep(3)
        idle = resident_mib(ours.mx.pid)
        smtp_load(ours.mx, connections=50, octets=4096, per_connection=1, seconds=seconds)
        time.sleep(2)
        loaded = resident_mib(ours.mx.pid)
    print(f"resident: {idle:.1f} MiB idle, {loaded:.1f} MiB after load (PSS)", flush=True)
    return [Measured("mailcrane", "resident memory", "MiB", [idle], [0.0], {"after_load_mib": loaded})]


def main() -> None:
    """Run the benchmarks that are named, all when none is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "what", nargs="*", default=[], help="accept, submission, send, outbound, backlog, webhooks, memory"
    )
    parser.add_argument("--runs", type=int, default=3, help="runs of each load; the median counts (3)")
    parser.add_argument("--seconds", type=int, default=5, help="length of a run (5)")
    chosen = parser.parse_args()
    runs, seconds = chosen.runs, chosen.seconds
    benchmarks: dict[str, Callable[[], list[Measured]]] = {
        "accept": lambda: accept(runs, seconds),
        "submission": lambda: submission(runs, seconds),
        "send": lambda: send(runs, seconds),
        "outbound": lambda: outbound(runs, seconds),
        "backlog": lambda: backlog(seconds),
        "webhooks": lambda: webhooks(runs),
        "memory": lambda: memory(seconds),
    }
    if unknown := set(chosen.what) - set(benchmarks):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}")
    for name in chosen.what or benchmarks:
        rows = benchmarks[name]()
        print(f"kept in {save(rows, name)}", flush=True)
        if name == "accept":
            picture = RESULTS / "latency.svg"
            picture.write_text(latency_plot(rows, "4 KB", "1 msg/conn."))
            print(f"latency over connections: {picture}", flush=True)


if __name__ == "__main__":
    main()
