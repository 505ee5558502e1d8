"""Outbound end to end: from injection over SMTP to the next hops, over many domains, quick and slow ones."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from harness import Server, compiled, cpu_seconds, process, resident_mib, scratch

HOSTS, PORT = 50, 2690
"""The next hops: 127.0.1.1 and up."""

# A next hop that takes no more for so long has got all that it will get.
_PATIENCE_SECONDS = 20.0


class Sink(msgspec.Struct, frozen=True):
    """The next hops, which run."""

    file: Path

    def read(self) -> tuple[int, float, int, int, int, float]:
        """Messages taken, time of the last, connections accepted and open, messages that wait, sum of the waits."""
        taken, last, accepted, open_now, waiting, waited = self.file.read_text().split()
        return int(taken), float(last), int(accepted), int(open_now), int(waiting), float(waited)


@contextlib.contextmanager
def sink(wait_ms: int, hosts: int = HOSTS) -> Iterator[Sink]:
    """Run the next hops; each message is answered after `wait_ms`."""
    with scratch("sink") as folder:
        file = folder / "report"
        command = [compiled("smtp_sink.c"), str(hosts), str(PORT), str(wait_ms), str(file)]
        with process(command, folder / "log"):
            end = time.monotonic() + 10
            while not file.exists() or not file.read_text().strip():
                if time.monotonic() > end:
                    raise TimeoutError("the sink does not start")
                time.sleep(0.02)
            yield Sink(file)


def send_through(
    server: Server,
    sink: Sink,
    *,
    messages: int,
    domains: int,
    octets: int = 4096,
    connections: int = 10,
    release: Callable[[], None] | None = None,
) -> dict[str, float]:
    """Inject messages and wait until all have arrived.

    The rate is from the first injection to the last arrival, or from the release on where the server holds them until
    then.

    Args:
        release: Has the server begin to deliver what it was given.
    """
    before = sink.read()
    began = time.monotonic()
    numbers = [connections, messages, 600, octets, 100]
    command = [compiled("smtp_load.c"), *map(str, numbers), "user@a*.example", server.host, str(server.port)]
    with _Watch(server.pid, sink) as watch:
        answer = json.loads(
            subprocess.run([*command, str(domains)], check=True, capture_output=True, timeout=700).stdout
        )
        used = 0.0
        if release is not None:
            used = cpu_seconds(server.pid) - watch.used_before
            began = time.monotonic()
            release()
        wait_for(sink, before[0] + answer["accepted"])
    after = sink.read()
    arrived = after[0] - before[0]
    if arrived != answer["accepted"] or answer["refused"] or answer["broken"]:
        print(f"  accepted {answer['accepted']}, arrived {arrived}, refused {answer['refused']}", flush=True)
    return {
        "rate": arrived / max(0.001, after[1] - began),
        "count": arrived,
        "used_before": used,
        "injected": round(answer["rate"]),
        "busy": round(watch.busy(), 1),
        "connections": after[2] - before[2],
        "mib": round(watch.mib),
    }


def wait_for(sink: Sink, taken: int, seconds: float = float("inf")) -> None:
    """Wait until next hops have taken so many messages, or take no more, or for so long."""
    began = moved_at = time.monotonic()
    last = sink.read()[0]
    while last < taken and time.monotonic() < min(moved_at + _PATIENCE_SECONDS, began + seconds):
        time.sleep(0.02)
        now = sink.read()[0]
        last, moved_at = now, time.monotonic() if now > last else moved_at


class _Watch:
    """Looks at the memory of a server, and at how many messages wait at its next hops."""

    def __init__(self, pid: int, sink: Sink) -> None:
        self._pid = pid
        self._sink = sink
        self._samples: list[tuple[float, int, float]] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.mib = 0.0
        self.used_before = cpu_seconds(pid)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def busy(self) -> float:
        """How many messages waited on average, from when a tenth was taken to when nine tenths were."""
        first, last = self._samples[0][1], self._samples[-1][1]
        low, high = first + (last - first) * 0.1, first + (last - first) * 0.9
        middle = [sample for sample in self._samples if low <= sample[1] <= high]
        if len(middle) < 2:
            return 0.0
        return (middle[-1][2] - middle[0][2]) / (middle[-1][0] - middle[0][0])

    def _watch(self) -> None:
        rounds = 0
        while True:
            is_last = self._is_over.wait(0.1)
            now = self._sink.read()
            self._samples.append((time.monotonic(), now[0], now[5]))
            rounds += 1
            if rounds % 10 == 0:
                self.mib = max(self.mib, resident_mib(self._pid))
            if is_last:
                return
