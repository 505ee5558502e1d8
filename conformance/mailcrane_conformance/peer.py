"""A scripted SMTP server on loopback that records what it was told. It imports nothing of Mailcrane.

It is a second opinion: what a transport says of a delivery is compared with what the peer saw. The peer is as lenient
as the script lets it be and parses only what it must; it is no mail server.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import trio

_DEFAULT_EXTENSIONS = ("PIPELINING", "SIZE 10485760", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")


@dataclass(frozen=True)
class Script:
    """What the peer does.

    Attributes:
        extensions: Lines of the EHLO reply after the first. ``STARTTLS`` is added when ``tls`` is set.
        greeting, mail, data, final: Replies, as they go on the wire without CRLF.
        recipients: Replies to RCPT by forward-path; others are accepted.
        lose_connection_at: ``greeting``, ``MAIL``, ``RCPT``, ``DATA``, ``content`` (after the first octets of the
            content), ``final`` (after the final dot was read, before a reply), or empty.
        stay_silent_at: Where the peer never answers, with the same names.
        tls: Offers STARTTLS with this context.
    """

    extensions: tuple[str, ...] = _DEFAULT_EXTENSIONS
    greeting: str = "220 peer.example ESMTP"
    mail: str = "250 2.1.0 ok"
    recipients: dict[str, str] = field(default_factory=dict)
    data: str = "354 go on"
    final: str = "250 2.0.0 taken"
    lose_connection_at: str = ""
    stay_silent_at: str = ""
    tls: ssl.SSLContext | None = None


@dataclass
class Transaction:
    """One MAIL and what followed.

    Attributes:
        parameters: Of MAIL, as they came.
        forward_paths: Those that were accepted.
        octets: The content after dot-unstuffing, with the final CRLF; None when no final dot came.
        is_tls: Whether it came over TLS.
    """

    reverse_path: str
    parameters: tuple[str, ...]
    forward_paths: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    octets: bytes | None = None
    is_tls: bool = False


class _ConnectionOver(Exception):
    pass


class ScriptedPeer:
    """Serves the script on every connection and remembers the transactions."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.transactions: list[Transaction] = []
        self.connections_open = 0
        self.connections_made = 0
        self.host = "127.0.0.1"
        self.port = 0
        self._changed = trio.Condition()

    @property
    def messages(self) -> list[Transaction]:
        """The transactions whose content was taken for someone."""
        return [one for one in self.transactions if one.octets is not None and one.forward_paths]

    async def wait_until_closed(self, seconds: float) -> bool:
        """Wait until every connection was closed by the client; False when time is up."""
        with trio.move_on_after(seconds):
            async with self._changed:
                while self.connections_open:
                    await self._changed.wait()
            return True
        return False

    async def wait_for_connection(self, seconds: float) -> bool:
        """Wait until a connection was made; False when time is up."""
        with trio.move_on_after(seconds):
            async with self._changed:
                while not self.connections_made:
                    await self._changed.wait()
            return True
        return False

    async def _serve(self, stream: trio.SocketStream) -> None:
        self.connections_open += 1
        self.connections_made += 1
        await self._tell()
        try:
            await _Dialog(self, stream).run()
        except (_ConnectionOver, trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError):
            pass
        finally:
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)
                self.connections_open -= 1
                await self._tell()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


@contextlib.asynccontextmanager
async def scripted_peer(script: Script | None = None) -> AsyncIterator[ScriptedPeer]:
    """Run a peer on a free loopback port for as long as the block lasts."""
    peer = ScriptedPeer(script or Script())
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host=peer.host)
        peer.port = listeners[0].socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, peer._serve, listeners)
        try:
            yield peer
        finally:
            nursery.cancel_scope.cancel()


class _Dialog:
    """One connection."""

    def __init__(self, peer: ScriptedPeer, stream: trio.SocketStream) -> None:
        self.peer = peer
        self.script = peer.script
        self.stream: trio.abc.Stream = stream
        self.buffer = b""
        self.transaction: Transaction | None = None
        self.is_tls = False

    async def run(self) -> None:
        await self._at("greeting", self.script.greeting)
        while True:
            line = (await self._line()).decode("utf-8", "replace")
            verb, _, argument = line.partition(" ")
            match verb.upper():
                case "EHLO":
                    await self._ehlo()
                case "HELO":
                    await self._say("250 peer.example")
                case "STARTTLS" if self.script.tls is not None:
                    await self._say("220 2.0.0 go ahead")
                    await self._start_tls(self.script.tls)
                case "MAIL":
                    await self._mail(argument)
                case "RCPT":
                    await self._recipient(argument)
                case "DATA":
                    await self._data()
                case "RSET":
                    self.transaction = None
                    await self._say("250 2.0.0 ok")
                case "NOOP":
                    await self._say("250 2.0.0 ok")
                case "QUIT":
                    await self._say("221 2.0.0 bye")
                    raise _ConnectionOver
                case _:
                    await self._say("500 5.5.1 what")

    async def _ehlo(self) -> None:
        offered = list(self.script.extensions)
        if self.script.tls is not None and not self.is_tls:
            offered.append("STARTTLS")
        lines = ["peer.example", *offered]
        await self._say("\r\n".join(f"250{'-' if line is not lines[-1] else ' '}{line}" for line in lines))

    async def _start_tls(self, context: ssl.SSLContext) -> None:
        tls = trio.SSLStream(self.stream, context, server_side=True, https_compatible=True)
        await tls.do_handshake()
        self.stream, self.buffer, self.transaction, self.is_tls = tls, b"", None, True

    async def _mail(self, argument: str) -> None:
        path, *parameters = argument.partition(":")[2].strip().split(" ")
        if self.script.mail.startswith("2"):
            self.transaction = Transaction(path.strip("<>"), tuple(filter(None, parameters)), is_tls=self.is_tls)
            self.peer.transactions.append(self.transaction)
        await self._at("MAIL", self.script.mail)

    async def _recipient(self, argument: str) -> None:
        path = argument.partition(":")[2].strip().split(" ")[0].strip("<>")
        reply = self.script.recipients.get(path, "250 2.1.5 ok")
        if self.transaction is None:
            reply = "503 5.5.1 MAIL first"
        elif reply.startswith("2"):
            self.transaction.forward_paths.append(path)
        else:
            self.transaction.refused.append(path)
        await self._at("RCPT", reply)

    async def _data(self) -> None:
        if self.transaction is None:
            await self._say("503 5.5.1 MAIL first")
            return
        # As some servers do (RFC 2920 section 3.1), DATA is answered 354 even when every recipient was refused.
        final = self.script.final if self.transaction.forward_paths else "554 5.5.1 no valid recipients"
        await self._at("DATA", self.script.data)
        if not self.script.data.startswith("3"):
            return
        if self.script.lose_connection_at == "content":
            await self._more()
            raise _ConnectionOver
        self.transaction.octets = await self._content()
        self.transaction = None
        await self._at("final", final)

    async def _content(self) -> bytes:
        gathered = bytearray(b"\r\n" + self.buffer)  # so that a lone final dot is found like any other
        searched = 0
        while (end := gathered.find(b"\r\n.\r\n", searched)) < 0:
            searched = max(0, len(gathered) - 4)
            self.buffer = b""
            await self._more()
            gathered += self.buffer
        self.buffer = bytes(gathered[end + 5 :])
        return bytes(gathered[: end + 2]).replace(b"\r\n.", b"\r\n")[2:]

    async def _at(self, point: str, reply: str) -> None:
        if self.script.lose_connection_at == point:
            raise _ConnectionOver
        if self.script.stay_silent_at == point:
            while True:
                await self._more()
        await self._say(reply)
        if reply.startswith("421") or (point == "greeting" and not reply.startswith("2")):
            raise _ConnectionOver

    async def _say(self, reply: str) -> None:
        await self.stream.send_all(reply.encode() + b"\r\n")

    async def _line(self) -> bytes:
        while b"\r\n" not in self.buffer:
            await self._more()
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line

    async def _more(self) -> None:
        got = await self.stream.receive_some(262144)
        if not got:
            raise _ConnectionOver
        self.buffer += bytes(got)
