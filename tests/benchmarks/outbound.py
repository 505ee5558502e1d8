"""Outbound end to end: from injection over SMTP to the next hops, over many domains, quick and slow ones."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from harness import Server, compiled, process, resident_mib, scratch

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
    server: Server, sink: Sink, *, messages: int, domains: int, octets: int = 4096, connections: int = 10
) -> dict[str, float]:
    """Inject messages and wait until all have arrived. The rate is from the first injection to the last arrival."""
    before = sink.read()
    began = time.monotonic()
    numbers = [connections, messages, 600, octets, 100]
    command = [compiled("smtp_load.c"), *map(str, numbers), "user@a*.example", server.host, str(server.port)]
    peak = _Peak(server.pid)
    with peak:
        answer = json.loads(
            subprocess.run([*command, str(domains)], check=True, capture_output=True, timeout=700).stdout
        )
        arrived, moved_at = 0, time.monotonic()
        while arrived < answer["accepted"] and time.monotonic() < moved_at + _PATIENCE_SECONDS:
            time.sleep(0.02)
            now = sink.read()[0] - before[0]
            arrived, moved_at = now, time.monotonic() if now > arrived else moved_at
    after = sink.read()
    if arrived != answer["accepted"] or answer["refused"] or answer["broken"]:
        print(f"  accepted {answer['accepted']}, arrived {arrived}, refused {answer['refused']}", flush=True)
    seconds = max(0.001, after[1] - began)
    return {
        "rate": arrived / seconds,
        "count": arrived,
        "injected": round(answer["rate"]),
        "waiting": round((after[5] - before[5]) / seconds, 1),
        "connections": after[2] - before[2],
        "mib": round(peak.mib),
    }


class _Peak:
    """The most resident memory of a server while a block runs, looked at twice a second."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.mib = 0.0

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._is_over.wait(0.5):
            self.mib = max(self.mib, resident_mib(self._pid))
