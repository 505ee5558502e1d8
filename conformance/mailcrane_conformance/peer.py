"""A scripted SMTP or LMTP server on loopback that records what it was told. It imports nothing of Mailcrane.

It is a second opinion: what a transport says of a delivery is compared with what the peer saw. The peer is as lenient
as the script lets it be and parses only what it must; it is no mail server. What a client must not do at all, such as a
MAIL within a transaction or pipelining that was not offered, is noted in `ScriptedPeer.misdeeds`.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import trio

_DEFAULT_EXTENSIONS = ("PIPELINING", "SIZE 10485760", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")


@dataclass(frozen=True)
class Script:
    """What the peer does.

    Attributes:
        is_lmtp: Speaks LMTP (RFC 2033): LHLO, and a reply for each recipient after the final dot.
        extensions: Lines of the EHLO reply after the first. ``STARTTLS`` is added when ``tls`` is set.
        greeting, mail, data, final: Replies, as they go on the wire without CRLF.
        hello: A reply to EHLO in place of the list of extensions; HELO is answered well.
        recipients: Replies to RCPT by forward-path; others are accepted.
        max_recipients: How many a transaction takes; 0 for no limit. Those beyond get ``too_many``.
        finals: LMTP's replies after the final dot by forward-path; others get ``final``.
        lose_connection_at: ``greeting``, ``MAIL``, ``RCPT``, ``DATA``, ``content`` (after the first octets of the
            content), ``final`` (after the final dot was read, before a reply), ``finals`` (LMTP: after the first of
            the replies), ``idle`` (after a message was taken), or empty.
        stay_silent_at: Where the peer never answers, with the same names; at ``content`` it reads nothing either.
        lingers_after_421: Leaves closing to the client.
        seconds_per_octet: Time between two octets of a reply.
        seconds_before_final: Time that it takes to take a message.
        tls: Offers STARTTLS with this context.
    """

    is_lmtp: bool = False
    extensions: tuple[str, ...] = _DEFAULT_EXTENSIONS
    greeting: str = "220 peer.example ESMTP"
    hello: str = ""
    mail: str = "250 2.1.0 ok"
    recipients: dict[str, str] = field(default_factory=dict)
    max_recipients: int = 0
    too_many: str = "452 4.5.3 too many recipients"
    data: str = "354 go on"
    final: str = "250 2.0.0 taken"
    finals: dict[str, str] = field(default_factory=dict)
    lose_connection_at: str = ""
    stay_silent_at: str = ""
    lingers_after_421: bool = False
    seconds_per_octet: float = 0.0
    seconds_before_final: float = 0.0
    tls: ssl.SSLContext | None = None


@dataclass
class Transaction:
    """One MAIL and what followed.

    Attributes:
        parameters: Of MAIL, as they came.
        forward_paths: Those that were accepted.
        refused: Those that were not.
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
    """Serves the script on every connection and remembers the transactions.

    Attributes:
        transactions: Every MAIL that was accepted, in order.
        misdeeds: What clients did that no client may do, in words.
        verbs: Every command, in order.
    """

    def __init__(self, script: Script) -> None:
        self.script = script
        self.transactions: list[Transaction] = []
        self.misdeeds: list[str] = []
        self.verbs: list[str] = []
        self.connections_open = 0
        self.connections_made = 0
        self.host = "127.0.0.1"
        self.port = 0
        self._listening = trio.CancelScope()
        self._listeners: list[trio.SocketListener] = []
        self._changed = trio.Condition()

    @property
    def messages(self) -> list[Transaction]:
        """The transactions whose content was taken for someone."""
        return [one for one in self.transactions if one.octets is not None and one.forward_paths]

    async def stop_listening(self) -> None:
        """Refuse connections from now on; those that are open stay."""
        self._listening.cancel()
        for listener in self._listeners:
            await listener.aclose()

    async def wait_until_closed(self, seconds: float) -> bool:
        """Wait until every connection was closed by the client; False when time is up."""
        return await self._wait(lambda: not self.connections_open, seconds)

    async def wait_for_connection(self, seconds: float) -> bool:
        """Wait until a connection was made; False when time is up."""
        return await self._wait(lambda: self.connections_made > 0, seconds)

    async def wait_for_transaction(self, seconds: float) -> bool:
        """Wait until a MAIL was accepted; False when time is up."""
        return await self._wait(lambda: bool(self.transactions), seconds)

    async def _wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        with trio.move_on_after(seconds):
            async with self._changed:
                while not condition():
                    await self._changed.wait()
            return True
        return False

    async def _listen(self, *, task_status: trio.TaskStatus[None]) -> None:
        with self._listening:
            await trio.serve_listeners(self._serve, self._listeners, task_status=_Told(task_status))

    async def _serve(self, stream: trio.SocketStream) -> None:
        self.connections_open += 1
        self.connections_made += 1
        await self.tell()
        try:
            await _Dialog(self, stream).run()
        except (_ConnectionOver, trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError):
            pass
        finally:
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)
                self.connections_open -= 1
                await self.tell()

    async def tell(self) -> None:
        """Wake whoever waits for something of the peer's."""
        async with self._changed:
            self._changed.notify_all()


class _Told:
    """Passes on that a task has started, without what it started."""

    def __init__(self, task_status: trio.TaskStatus[None]) -> None:
        self._task_status = task_status

    def started(self, _: object = None) -> None:
        self._task_status.started()


@contextlib.asynccontextmanager
async def scripted_peer(script: Script | None = None) -> AsyncIterator[ScriptedPeer]:
    """Run a peer on a free loopback port for as long as the block lasts."""
    peer = ScriptedPeer(script or Script())
    async with trio.open_nursery() as nursery:
        peer._listeners = await trio.open_tcp_listeners(0, host=peer.host)
        peer.port = peer._listeners[0].socket.getsockname()[1]
        await nursery.start(peer._listen)
        try:
            yield peer
        finally:
            nursery.cancel_scope.cancel()


class _Dialog:
    """One connection."""

    def __init__(self, peer: ScriptedPeer, stream: trio.SocketStream) -> None:
        self.peer = peer
        self.stream: trio.abc.Stream = stream
        self.buffer = b""
        self.transaction: Transaction | None = None
        self.is_tls = False
        self.may_pipeline = False

    @property
    def script(self) -> Script:
        return self.peer.script

    async def run(self) -> None:
        await self._at("greeting", self.script.greeting)
        while True:
            line = (await self._line()).decode("utf-8", "replace")
            verb, _, argument = line.partition(" ")
            self.peer.verbs.append(verb.upper())
            if self.buffer and not self.may_pipeline:
                self.peer.misdeeds.append(
                    f"something came behind {verb} before its reply, and PIPELINING is not offered"
                )
            match verb.upper():
                case "EHLO" if not self.script.is_lmtp:
                    await self._hello()
                case "LHLO" if self.script.is_lmtp:
                    await self._hello()
                case "HELO" if not self.script.is_lmtp:
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

    async def _hello(self) -> None:
        self.transaction = None
        if self.script.hello:
            await self._say(self.script.hello)
            return
        offered = list(self.script.extensions)
        self.may_pipeline = "PIPELINING" in offered
        if self.script.tls is not None and not self.is_tls:
            offered.append("STARTTLS")
        lines = ["peer.example", *offered]
        last = len(lines) - 1
        await self._say("\r\n".join(f"250{' ' if at == last else '-'}{line}" for at, line in enumerate(lines)))

    async def _start_tls(self, context: ssl.SSLContext) -> None:
        tls = trio.SSLStream(self.stream, context, server_side=True, https_compatible=True)
        await tls.do_handshake()
        self.stream, self.buffer, self.transaction, self.is_tls = tls, b"", None, True

    async def _mail(self, argument: str) -> None:
        path, *parameters = argument.partition(":")[2].strip().split(" ")
        if self.transaction is not None:
            self.peer.misdeeds.append("MAIL came within a transaction")
            await self._say("503 5.5.1 nested MAIL")
            return
        if self.script.mail.startswith("2"):
            self.transaction = Transaction(path.strip("<>"), tuple(filter(None, parameters)), is_tls=self.is_tls)
            self.peer.transactions.append(self.transaction)
            await self.peer.tell()
        await self._at("MAIL", self.script.mail)

    async def _recipient(self, argument: str) -> None:
        path = argument.partition(":")[2].strip().split(" ")[0].strip("<>")
        reply = self.script.recipients.get(path, "250 2.1.5 ok")
        if self.transaction is None:
            reply = "503 5.5.1 MAIL first"
        elif self.script.max_recipients and len(self.transaction.forward_paths) >= self.script.max_recipients:
            reply = self.script.too_many
            self.transaction.refused.append(path)
        elif reply.startswith("2"):
            self.transaction.forward_paths.append(path)
        else:
            self.transaction.refused.append(path)
        await self._at("RCPT", reply)

    async def _data(self) -> None:
        taking = self.transaction
        if taking is None or (self.script.is_lmtp and not taking.forward_paths):
            # RFC 2033 section 4.2: without a recipient, LMTP's DATA is always 503.
            await self._say("503 5.5.1 no valid recipients")
            return
        script = self.script  # it may be another one as soon as a reply is out
        await self._at("DATA", script.data)
        if not script.data.startswith("3"):
            return
        if script.lose_connection_at == "content":
            await self._more()
            raise _ConnectionOver
        if script.stay_silent_at == "content":
            await trio.sleep_forever()
        taking.octets = await self._content()
        self.transaction = None
        await trio.sleep(self.script.seconds_before_final)
        if self.script.is_lmtp:
            await self._finals(taking)
        else:
            # As some servers do (RFC 2920 section 3.1), DATA is answered 354 even when every recipient was refused.
            await self._at("final", self.script.final if taking.forward_paths else "554 5.5.1 no valid recipients")
        if script.lose_connection_at == "idle":
            raise _ConnectionOver

    async def _finals(self, taken: Transaction) -> None:
        for at, path in enumerate(taken.forward_paths):
            if at and self.script.lose_connection_at == "finals":
                raise _ConnectionOver
            await self._at("final", self.script.finals.get(path, self.script.final))

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
        while reply.startswith("421") and self.script.lingers_after_421:
            await self._more()
        if reply.startswith("421") or (point == "greeting" and not reply.startswith("2")):
            raise _ConnectionOver

    async def _say(self, reply: str) -> None:
        octets = reply.encode() + b"\r\n"
        if not self.script.seconds_per_octet:
            await self.stream.send_all(octets)
            return
        for at in range(len(octets)):
            await self.stream.send_all(octets[at : at + 1])
            await trio.sleep(self.script.seconds_per_octet)

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
