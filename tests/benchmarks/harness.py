"""What every benchmark needs: scratch folders, processes that are measured, results as rows.

All traffic stays on 127.0.0.0/8, every load is bounded in count and time, and every process that is started here is
ended here by its own process id.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

SOURCES = Path(__file__).resolve().parent
RESULTS = SOURCES.parents[1] / "bench-results"
_TICKS = os.sysconf("SC_CLK_TCK")


class Server(msgspec.Struct, frozen=True):
    """A server under load.

    Attributes:
        recipient: A forward-path that it accepts.
        pid: Its main process; children count as its own.
    """

    name: str
    host: str
    port: int
    recipient: str
    pid: int


class Measured(msgspec.Struct):
    """Several runs of one load on one server.

    Attributes:
        rate: Of each run, a second.
        cpu_ms: CPU milliseconds of the server for each unit, of each run.
        extra: Figures of the median run.
    """

    server: str
    load: str
    unit: str
    rate: list[float]
    cpu_ms: list[float]
    extra: dict[str, float]

    @property
    def median(self) -> float:
        """The median rate."""
        return statistics.median(self.rate)


@contextlib.contextmanager
def scratch(name: str) -> Iterator[Path]:
    """A folder of its own on a real disk, removed afterwards. ``BENCH_ROOT`` says where."""
    root = Path(os.environ.get("BENCH_ROOT", "/var/tmp"))
    folder = Path(tempfile.mkdtemp(prefix=f"mailcrane-bench-{name}-", dir=root))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def compiled(source: str) -> str:
    """Compile a C program of this folder and return its path."""
    made = Path(tempfile.gettempdir()) / f"mailcrane-{source.removesuffix('.c')}-{os.getuid()}"
    origin = SOURCES / source
    if not made.exists() or made.stat().st_mtime < origin.stat().st_mtime:
        subprocess.run(["cc", "-O2", "-pthread", "-o", str(made), str(origin)], check=True)
    return str(made)


@contextlib.contextmanager
def process(command: Sequence[str], log: Path, env: dict[str, str] | None = None) -> Iterator[int]:
    """Run a server for as long as the block lasts; SIGTERM ends it, after ten seconds SIGKILL."""
    with log.open("ab") as output:
        started = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, env=env
        )
    try:
        yield started.pid
    finally:
        family = process_tree(started.pid)
        started.terminate()
        try:
            started.wait(10)
        except subprocess.TimeoutExpired:
            for pid in family:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, 9)
            started.wait()


def wait_for_banner(host: str, port: int, seconds: float = 20.0) -> None:
    """Wait until a server greets.

    Raises:
        TimeoutError: it does not.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection((host, port), 1.0) as connection:
            connection.settimeout(5.0)
            if connection.recv(1):
                return
        time.sleep(0.05)
    raise TimeoutError(f"nothing greets on {host}:{port}")


def process_tree(pid: int) -> list[int]:
    """The process and all its descendants."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError, ValueError):
                stat = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
                children.setdefault(int(stat[1]), []).append(int(name))
    found, todo = [], [pid]
    while todo:
        one = todo.pop()
        found.append(one)
        todo += children.get(one, [])
    return found


def cpu_seconds(pid: int) -> float:
    """CPU seconds that a process tree has used, children that ended included."""
    ticks = 0
    for one in process_tree(pid):
        with contextlib.suppress(OSError):
            stat = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(int(value) for value in stat[11:15])
    return ticks / _TICKS


def resident_mib(pid: int) -> float:
    """Resident memory of a process tree in MiB, shared pages counted once (PSS)."""
    kib = 0
    for one in process_tree(pid):
        with contextlib.suppress(OSError, StopIteration):
            rollup = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
            kib += next(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))
    return kib / 1024


def measure(server: Server, load: str, unit: str, run: Callable[[], dict[str, float]], runs: int) -> Measured:
    """Run a load several times. ``run`` answers at least ``rate``, ``count``; its figures go into the row.

    CPU seconds that it calls ``used_before`` went into its preparations and do not count.
    """
    rates, costs, figures = [], [], []
    for _ in range(runs):
        before = cpu_seconds(server.pid)
        figure = run()
        spent = cpu_seconds(server.pid) - before - figure.pop("used_before", 0.0)
        rates.append(figure["rate"])
        costs.append(1000 * spent / max(1.0, figure["count"]))
        figures.append(figure)
    middle = sorted(range(runs), key=lambda index: rates[index])[runs // 2]
    extra = {key: value for key, value in figures[middle].items() if key not in {"rate", "count"}}
    measured = Measured(server.name, load, unit, rates, costs, extra)
    print(line_of(measured), flush=True)
    return measured


def line_of(measured: Measured) -> str:
    """One row of a report."""
    extra = " ".join(f"{key}={value:g}" for key, value in measured.extra.items())
    spread = f"[{min(measured.rate):.0f} .. {max(measured.rate):.0f}]"
    cpu = statistics.median(measured.cpu_ms)
    return (
        f"{measured.server:22} {measured.load:34} {measured.median:9.1f} {measured.unit:8} {spread}"
        f"  cpu {cpu:.2f} ms  {extra}"
    )


def smtp_load(
    server: Server, *, connections: int, octets: int, per_connection: int, seconds: int, messages: int = 100_000
) -> dict[str, float]:
    """Load a server over plain SMTP; a message counts when it was answered 250."""
    numbers = [connections, messages, seconds, octets, per_connection]
    command = [compiled("smtp_load.c"), *map(str, numbers), server.recipient, server.host, str(server.port)]
    answer = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=seconds * 4 + 120).stdout)
    if answer["refused"] or answer["broken"]:
        print(f"  {answer['refused']} refused, {answer['broken']} broken: {answer['last_refusal']}", flush=True)
    return {
        "rate": answer["rate"],
        "count": answer["accepted"],
        "p50_ms": answer["p50_ms"],
        "p99_ms": answer["p99_ms"],
        "bad": answer["refused"] + answer["broken"],
    }


def save(rows: Sequence[Measured], name: str) -> Path:
    """Keep the rows of a run as JSON lines."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{time.strftime('%Y%m%d-%H%M%S')}-{name}.jsonl"
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    return path
