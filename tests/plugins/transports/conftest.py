"""A next hop on loopback that says what a test tells it to, with TLS and logins."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import trio

from mailcrane.sasl.credentials import make_credentials
from mailcrane.sasl.exchange import Challenge, NeedCredentials, Success
from mailcrane.sasl.mechanisms import make_server_mechanism
from mailcrane.testing import FakeResolver
from mailcrane.tls.certificate import CertificateAndKey, make_self_signed
from mailcrane.tls.context import ServerTLS
from mailcrane_transports.home import Home

PASSWORD = "correct horse battery"
CREDENTIALS = make_credentials(PASSWORD, version=1, legacy=False)


class Peer:
    """Answers each command with the next of its replies, and 250 where there is none.

    Attributes:
        extensions: Lines of the reply to EHLO.
        replies: By verb; ``greeting`` and ``.`` stand for the greeting and the reply to the final dot. A reply of None
            closes the connection.
        tls: Used when the client says STARTTLS.
        lines: What clients said, per connection.
        contents: Between DATA and the final dot, as on the wire.
        logins: Who proved to be whom.
        clients: Where connections came from.
        breaks_handshake: STARTTLS is answered 220, and what follows is no TLS.
        immediate_tls: Used from the start of a connection.
        gate: Waited for before the reply to the final dot.
    """

    def __init__(self) -> None:
        self.host, self.port = "127.0.0.1", 0
        self.extensions: tuple[str, ...] = ("PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 1000000")
        self.tls_extensions: tuple[str, ...] | None = None
        self.replies: dict[str, list[str | None]] = {}
        self.tls: ServerTLS | None = None
        self.lines: list[list[str]] = []
        self.contents: list[bytes] = []
        self.logins: list[str] = []
        self.clients: list[str] = []
        self.breaks_handshake = False
        self.immediate_tls: ServerTLS | None = None
        self.gate: trio.Event | None = None
        self.open_connections = 0
        self._closings = trio.lowlevel.ParkingLot()
        self._arrivals = trio.lowlevel.ParkingLot()
        self._scopes: set[trio.CancelScope] = set()

    async def wait_until_closed(self) -> None:
        with trio.fail_after(5):
            while self.open_connections:
                await self._closings.park()

    async def wait_for_contents(self, count: int) -> None:
        with trio.fail_after(5):
            while len(self.contents) < count:
                await self._arrivals.park()

    def took(self, content: bytes) -> None:
        self.contents.append(content)
        self._arrivals.unpark_all()

    def close_all(self) -> None:
        for scope in self._scopes:
            scope.cancel()

    def reply(self, verb: str, usual: str) -> str:
        replies = self.replies.get(verb)
        answer = replies.pop(0) if replies else usual
        if answer is None:
            raise EOFError
        return answer

    async def serve(self, stream: trio.SocketStream) -> None:
        self.clients.append(stream.socket.getpeername()[0])
        self.open_connections += 1
        scope = trio.CancelScope()
        self._scopes.add(scope)
        try:
            with scope:
                await _PeerDialog(self, stream).run()
        except (EOFError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self._scopes.discard(scope)
            self.open_connections -= 1
            self._closings.unpark_all()


class _PeerDialog:
    def __init__(self, peer: Peer, stream: trio.abc.Stream) -> None:
        self.peer, self.stream, self.buffer = peer, stream, b""
        self.is_tls = False
        self.lines: list[str] = []
        peer.lines.append(self.lines)

    async def run(self) -> None:
        try:
            if self.peer.immediate_tls is not None:
                tls = self.peer.immediate_tls.wrap(self.stream)
                await tls.do_handshake()
                self.stream, self.is_tls = tls, True
            await self.say(self.peer.reply("greeting", "220 peer.example"))
            while True:
                line = (await self.until(b"\r\n")).decode()
                self.lines.append(line)
                await self.command(line)
        finally:
            await trio.aclose_forcefully(self.stream)

    async def command(self, line: str) -> None:
        verb, _, argument = line.partition(" ")
        if verb == "EHLO":
            extensions = self.peer.extensions
            if self.is_tls and self.peer.tls_extensions is not None:
                extensions = self.peer.tls_extensions
            lines = ["peer.example", *extensions]
            usual = "\r\n".join([*(f"250-{text}" for text in lines[:-1]), f"250 {lines[-1]}"])
            await self.say(self.peer.reply(verb, usual))
        elif verb == "STARTTLS" and self.peer.tls is not None:
            answer = self.peer.reply(verb, "220 go")
            await self.say(answer)
            if answer.startswith("220") and self.peer.breaks_handshake:
                await self.stream.receive_some(65536)
                await self.say("this is no TLS record")
                raise EOFError
            if answer.startswith("220"):
                tls = self.peer.tls.wrap(self.stream)
                await tls.do_handshake()
                self.stream, self.is_tls = tls, True
        elif verb == "AUTH":
            await self.say(self.peer.reply(verb, await self.log_in(argument)))
        elif verb == "DATA":
            answer = self.peer.reply(verb, "354 go")
            await self.say(answer)
            if answer.startswith("354"):
                self.buffer = b"\r\n" + self.buffer  # the final dot may be all there is
                self.peer.took((await self.until(b"\r\n.\r\n")).removeprefix(b"\r\n"))
                if self.peer.gate is not None:
                    await self.peer.gate.wait()
                await self.say(self.peer.reply(".", "250 2.0.0 taken"))
        else:
            await self.say(self.peer.reply(verb, "250 ok"))

    async def log_in(self, argument: str) -> str:
        name, _, initial = argument.partition(" ")
        exporter: Any = getattr(self.stream, "tls_exporter", lambda: None)()
        is_plus_offered = any("-PLUS" in line for line in self.peer.tls_extensions or ())
        bindings = {"tls-exporter": exporter} if exporter is not None and is_plus_offered else {}
        mechanism = make_server_mechanism(name, hostname="peer", server_secret=b"s" * 32, channel_bindings=bindings)
        step = mechanism.step(base64.b64decode(initial) if initial else None)
        while True:
            if isinstance(step, NeedCredentials):
                step = mechanism.provide(CREDENTIALS)
            elif isinstance(step, Challenge):
                await self.say(f"334 {base64.b64encode(step.data).decode()}")
                step = mechanism.step(base64.b64decode(await self.until(b"\r\n")))
            else:
                break
        login = step.login if isinstance(step, Success) else getattr(step, "login", "")
        is_good = isinstance(step, Success) or getattr(step, "password", "") == PASSWORD
        if is_good:
            self.peer.logins.append(f"{name} {login}")
        return "235 2.7.0 welcome" if is_good else "535 5.7.8 no"

    async def say(self, text: str) -> None:
        await self.stream.send_all(text.encode() + b"\r\n")

    async def until(self, end: bytes) -> bytes:
        while end not in self.buffer:
            octets = await self.stream.receive_some(65536)
            if not octets:
                raise EOFError
            self.buffer += octets
        found, _, self.buffer = self.buffer.partition(end)
        return found


@pytest.fixture
def resolver() -> FakeResolver:
    """An empty DNS."""
    return FakeResolver()


@pytest.fixture
async def home(nursery: trio.Nursery, resolver: FakeResolver) -> Home:
    """The surroundings of transports: the server client.example, which takes mail for here.example."""
    return Home(nursery.start_soon, lambda: "client.example", resolver, lambda domain: domain == "here.example")


@pytest.fixture
async def opened() -> AsyncIterator[Callable[[Any], Any]]:
    """Closes transports at the end of the test; give it each."""
    transports: list[Any] = []

    def keep(transport: Any) -> Any:
        transports.append(transport)
        return transport

    yield keep
    for transport in transports:
        await transport.aclose()


PeerFactory = Callable[..., Awaitable[Peer]]


@pytest.fixture
async def make_peer(nursery: trio.Nursery) -> AsyncIterator[PeerFactory]:
    """Makes peers that listen on an address of loopback, on a free port when none is given."""
    with contextlib.ExitStack() as stack:

        async def make(host: str = "127.0.0.1", port: int = 0) -> Peer:
            peer = Peer()
            peer.host = host
            listeners = await trio.open_tcp_listeners(port, host=host)
            peer.port = listeners[0].socket.getsockname()[1]
            stack.enter_context(contextlib.closing(listeners[0].socket))
            nursery.start_soon(trio.serve_listeners, peer.serve, listeners)
            return peer

        yield make


@pytest.fixture
async def peer(make_peer: PeerFactory) -> Peer:
    """A peer on 127.0.0.1."""
    return await make_peer()


@pytest.fixture(scope="session")
def certificate() -> tuple[bytes, CertificateAndKey]:
    """A certificate for 127.0.0.1, in PEM form too."""
    pem, key = make_self_signed(("127.0.0.1",))
    return pem, CertificateAndKey.from_pem(pem, key)


@pytest.fixture(scope="session")
def other_certificate() -> CertificateAndKey:
    """A certificate for somebody else."""
    return CertificateAndKey.from_pem(*make_self_signed(("other.example",)))
