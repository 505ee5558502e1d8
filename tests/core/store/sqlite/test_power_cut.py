"""A power cut: whatever was answered is on the disk, and a disk that forgets what was not synced shows when it is not.

A child process stores pairs of values and tells each pair after it was answered. It is killed, its directory is
rebuilt with only what it had synced, and the pairs that it told of are looked for.
"""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from mailcrane.model.clock import SystemClock
from mailcrane.store.sqlite import open_sqlite


def load_forgetful() -> ModuleType:
    path = Path(__file__).parents[3] / "support_native" / "forgetful.py"
    spec = importlib.util.spec_from_file_location("forgetful", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["forgetful"] = module
    spec.loader.exec_module(module)
    return module


forgetful = load_forgetful()

pytestmark = pytest.mark.skipif(not forgetful.has_compiler(), reason="gcc is needed to build the forgetful library")

CHILD = """
import sys, trio
from mailcrane.model.clock import SystemClock
from mailcrane.store.sqlite import open_sqlite

async def main(path, synchronous):
    async with await open_sqlite(path, SystemClock()) as store:
        store._batches.connection.execute(f"PRAGMA synchronous = {synchronous}")

        async def client(number):
            for turn in range(100_000):
                key = f"{number}.{turn}"
                def unit(transaction):
                    transaction.plugin_data.set("first", key, b"x" * 700)
                    transaction.plugin_data.set("second", key, b"y" * 700)
                await store.write(unit, key="k")
                sys.stdout.write(f"stored {key}\\n")
                sys.stdout.flush()

        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(client, number)

trio.run(main, sys.argv[1], sys.argv[2])
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built: Path = forgetful.build(tmp_path_factory.mktemp("forgetful"))
    return built


def run_and_kill(library: Path, directory: Path, journal: Path, synchronous: str, after: int) -> set[str]:
    """Run the child until it told of some pairs, kill it, and return all that it told of."""
    directory.mkdir()
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(directory / "db"), synchronous],
        env=forgetful.environment(library, directory, journal),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    told = [line for line, _ in zip(child.stdout, range(after), strict=False)]
    child.send_signal(signal.SIGKILL)
    told += child.stdout
    child.stdout.close()
    child.wait()
    return {key_of(line) for line in told if line.endswith("\n")}


def key_of(answer: str) -> str:
    return answer.strip().removeprefix("stored ")


def answers(journal: Path) -> list[tuple[int, str]]:
    """Return the index of the mark of each answer, with the key that it tells of."""
    return [
        (index, key_of(octets.decode()))
        for index, octets in enumerate(forgetful.marks(journal))
        if octets.startswith(b"stored ")
    ]


async def pairs(path: Path) -> tuple[set[str], set[str]]:
    async with await open_sqlite(str(path), SystemClock(), inline=True) as store:
        first = await store.read(lambda tx: tx.plugin_data.list("first", limit=1_000_000))
        second = await store.read(lambda tx: tx.plugin_data.list("second", limit=1_000_000))
        return {key for key, _ in first}, {key for key, _ in second}


@pytest.mark.parametrize("after", [1, 800])
async def test_every_unit_that_was_answered_before_a_power_cut_is_there_and_whole(
    tmp_path: Path, library: Path, after: int
) -> None:
    told = run_and_kill(library, tmp_path / "run", tmp_path / "journal", "FULL", after)
    assert len(told) >= after
    # Nothing that was not synced survives, or some of it, in whatever order the disk wrote it.
    for seed in (None, 1, 2, 3):
        target = tmp_path / f"disk {seed}"
        forgetful.rebuild(tmp_path / "journal", tmp_path / "run", target, seed=seed)
        first, second = await pairs(target / "db")
        assert told <= first
        assert first == second


async def test_at_the_moment_of_each_answer_its_unit_is_already_safe(tmp_path: Path, library: Path) -> None:
    run_and_kill(library, tmp_path / "run", tmp_path / "journal", "FULL", 60)
    told = answers(tmp_path / "journal")
    for number in range(0, 60, 6):
        index, _ = told[number]
        target = tmp_path / f"disk {number}"
        forgetful.rebuild(tmp_path / "journal", tmp_path / "run", target, at_mark=index)
        first, _ = await pairs(target / "db")
        assert {key for _, key in told[: number + 1]} <= first


async def test_a_store_that_does_not_sync_is_found_out(tmp_path: Path, library: Path) -> None:
    told = run_and_kill(library, tmp_path / "run", tmp_path / "journal", "OFF", 300)
    counts = forgetful.rebuild(tmp_path / "journal", tmp_path / "run", tmp_path / "disk")
    assert counts.forgotten > 0
    first, _ = await pairs(tmp_path / "disk" / "db")
    assert told - first
    index, key = answers(tmp_path / "journal")[200]
    forgetful.rebuild(tmp_path / "journal", tmp_path / "run", tmp_path / "disk at mark", at_mark=index)
    first, _ = await pairs(tmp_path / "disk at mark" / "db")
    assert key not in first
