"""A power cut under the running server: what was promised by a 250 or a 200 had reached the disk before.

The server runs on a disk that forgets what was not synced (`forgetful`), and everything that it sends is written down
beside what it writes. So the disk can be looked at as it was right before each promise left the process.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import trio

from campaign import LIFE_SECONDS, Campaign, campaigning, until
from faulty_server import Orders
from lines import Lines
from load import Message, call_send, greet, send_message
from state import State, read_state

pytestmark = pytest.mark.slow

_SERVER = Path(__file__).with_name("faulty_server.py")
_MESSAGES = 12  # of each connection
_LARGE_AT = 5  # The how many-th message of a connection is staged.
_CUTS = 12


def load_forgetful() -> ModuleType:
    path = Path(__file__).parents[1] / "support_native" / "forgetful.py"
    spec = importlib.util.spec_from_file_location("forgetful", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["forgetful"] = module
    spec.loader.exec_module(module)
    return module


forgetful = load_forgetful()


class Connection:
    """A client whose messages are known in the order in which they were answered."""

    def __init__(self, campaign: Campaign, way: str, stream: trio.SocketStream) -> None:
        self.way = way
        self.answered: list[Message] = []
        self._ledger = campaign.ledger
        self.stream = stream
        self._lines = Lines(stream)

    async def open(self) -> None:
        """Have the server send something, so that its connections are known by their order."""
        if self.way == "send":
            await self.send()
        else:
            self._lines = await greet(self.stream)

    async def send(self) -> None:
        """Send a message, which must be taken."""
        message = self._ledger.begin(self.way, is_large=self.way != "send" and len(self.answered) == _LARGE_AT)
        if self.way == "send":
            await call_send(self.stream, self._lines, self._ledger, message)
        else:
            await send_message(self.stream, self._lines, self._ledger, message)
        assert message.is_answered, self._ledger.refusals
        self.answered.append(message)

    async def send_all(self) -> None:
        """Send many, one after another."""
        for _ in range(_MESSAGES):
            await self.send()


class Recording:
    """What a server did to its disk, and what it said, until it was killed."""

    def __init__(self, campaign: Campaign, journal: Path, base: Path, connections: list[Connection]) -> None:
        self._campaign = campaign
        self._journal = journal
        self._base = base
        self._connections = connections

    def promises(self) -> list[tuple[int, Message]]:
        """Return the index of the mark of each 250 and 200 that took a message, with the message, in order."""
        sessions: list[int] = []  # descriptors, in the order in which connections were opened
        pages: list[int] = []
        said: dict[int, list[int]] = {}
        for index, (octets, source) in enumerate(
            zip(forgetful.marks(self._journal), forgetful.sources(self._journal), strict=True)
        ):
            if octets.startswith(b"220 "):
                sessions.append(source)
            elif octets.startswith(b"250 2.2.0 Message accepted"):
                said.setdefault(source, []).append(index)
            elif octets.startswith(b"HTTP/1.1 200 "):
                if source not in pages:
                    pages.append(source)
                said.setdefault(source, []).append(index)
        assert len(set(sessions)) == len(sessions)
        found: list[tuple[int, Message]] = []
        for connections, sources in (
            ([one for one in self._connections if one.way != "send"], sessions),
            ([one for one in self._connections if one.way == "send"], pages),
        ):
            for connection, source in zip(connections, sources, strict=True):
                found += zip(said[source], connection.answered, strict=True)
        return sorted(found, key=lambda promise: promise[0])

    async def disk(self, name: str, *, at_mark: int | None = None, seed: int | None = None) -> State:
        """Return what is stored on the disk after a power cut right before a mark, or at the end."""
        target = self._campaign.directory / name
        forgetful.rebuild(self._journal, self._campaign.data_dir, target, base=self._base, at_mark=at_mark, seed=seed)
        return await read_state(target, self._campaign.directory / f"{name} read")


async def record(campaign: Campaign, library: Path, orders: Orders) -> Recording:
    """Run a server on the forgetful disk under load, and cut the power."""
    journal, base = campaign.directory / "journal", campaign.directory / "base"
    shutil.copytree(campaign.data_dir, base)
    environment = forgetful.environment(library, campaign.data_dir, journal) | orders.environment()
    connections: list[Connection] = []
    process = start(campaign, environment)
    try:
        with trio.fail_after(LIFE_SECONDS):
            # Not by connecting: every connection counts.
            await until(lambda: "msg=ready" in campaign.log() or process.poll() is not None)
            assert process.poll() is None, campaign.log()
            for way, port in (("folder", "mx"), ("relay", "relay"), ("send", "web")):
                for _ in range(3):
                    stream = await trio.open_tcp_stream("127.0.0.1", campaign.ports[port])
                    connection = Connection(campaign, way, stream)
                    connections.append(connection)
                    await connection.open()
            async with trio.open_nursery() as nursery:
                for connection in connections:
                    nursery.start_soon(connection.send_all)
    finally:
        process.kill()
        process.wait()
        for connection in connections:
            await trio.aclose_forcefully(connection.stream)
    return Recording(campaign, journal, base, connections)


def start(campaign: Campaign, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    with open(campaign.directory / "log", "ab") as log:
        return subprocess.Popen([sys.executable, _SERVER, campaign.config], env=environment, stderr=log)


def lost(state: State, promised: list[Message]) -> list[str]:
    """Return the tokens of the messages that were promised and are not stored."""
    return [message.token for message in promised if not is_stored(state, message)]


def is_stored(state: State, message: Message) -> bool:
    if message.way == "folder":
        return state.copies[message.token] == 1
    return all(path in state.entries or path in state.retired for path in message.paths)


def cuts(promises: list[tuple[int, Message]]) -> list[int]:
    """Return the positions of the promises that the power is cut at."""
    return sorted({position * (len(promises) - 1) // (_CUTS - 1) for position in range(_CUTS)})


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert forgetful.has_compiler(), "gcc is needed to build the forgetful library"
    built: Path = forgetful.build(tmp_path_factory.mktemp("forgetful"))
    return built


async def test_nothing_is_promised_before_it_is_on_the_disk(tmp_path: Path, library: Path) -> None:
    async with campaigning(tmp_path, seed="power cut", has_witness=False, log_level="info") as campaign:
        recording = await record(campaign, library, Orders())
        promises = recording.promises()
        assert len(promises) > 9 * _MESSAGES
        for position in cuts(promises):
            mark, _ = promises[position]
            # The promise itself counts: it is about to be sent.
            promised = [message for _, message in promises[: position + 1]]
            for seed in (None, position):
                state = await recording.disk(f"disk {position} {seed}", at_mark=mark, seed=seed)
                assert not lost(state, promised)
                assert not state.spoiled
        state = await recording.disk("disk at the end")
        assert not lost(state, [message for _, message in promises])


async def test_a_server_that_does_not_sync_is_found_out(tmp_path: Path, library: Path) -> None:
    async with campaigning(tmp_path, seed="no sync", has_witness=False, log_level="info") as campaign:
        recording = await record(campaign, library, Orders(synchronous="OFF"))
        promises = recording.promises()
        position = cuts(promises)[_CUTS // 2]
        mark, message = promises[position]
        assert message.token in lost(await recording.disk("disk", at_mark=mark), [message])
