"""One SMTP dialog over a stream: the protocol without I/O, driven by trio, with the time limits of RFC 5321.

It knows commands and replies, and nothing of deliveries: a reply that refuses is a value, and what broke is raised.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import TypeVar

import trio

from mailcrane.api import Mailbox, OutgoingContent, Reply, ReversePath
from mailcrane.api.sasl import AuthenticationFailed, ClientMechanism
from mailcrane.api.smtp import (
    AuthChallenge,
    AuthDone,
    ClientConnection,
    ClientEvent,
    ClientSignal,
    ContentDone,
    EnvelopeDone,
    Extensions,
    Greeting,
    HelloDone,
    QuitDone,
    RemoteProtocolError,
    ResetDone,
    StartTLSDone,
)
from mailcrane.api.tls import ClientTLS, HandshakeFailed, TLSStream

E = TypeVar("E", bound=ClientEvent)

# RFC 5321 section 4.5.3.2, in seconds. EHLO, STARTTLS, AUTH and RSET are not named there and get what MAIL gets.
_GREETING_SECONDS = 300.0
_COMMAND_SECONDS = 300.0
_BLOCK_SECONDS = 180.0
_FINAL_REPLY_SECONDS = 600.0
# What the reply to QUIT says changes nothing any more.
_QUIT_SECONDS = 5.0
# For what a peer said before it closed the connection on us.
_LAST_WORD_SECONDS = 5.0

_RECEIVE_OCTETS = 65536
# Content is sent in pieces of this size or more; what is left goes with the final dot.
_SEND_OCTETS = 65536
# A deadline may be so much too early: moving it costs.
_DEADLINE_SLACK = 1.0


class DialogFailed(Exception):
    """The connection broke, was closed, or the peer was too slow or spoke nonsense. The dialog is over.

    Attributes:
        is_after_content: The final dot was sent, so the peer may have taken the message.
    """

    def __init__(self, text: str, *, is_after_content: bool = False) -> None:
        super().__init__(text)
        self.is_after_content = is_after_content


class TLSFailed(DialogFailed):
    """The TLS handshake failed, or the certificate is not good for a peer that needs a good one."""


class Dialog:
    """A dialog on a connection that it owns.

    Attributes:
        stream: The connection, TLS or not.
        is_encrypted: Whether TLS was started.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.is_encrypted = False
        self._connection = ClientConnection()
        self._scope: trio.CancelScope | None = None
        self._seconds = math.inf
        self._is_broken = False

    @property
    def extensions(self) -> Extensions:
        """What the peer announced last."""
        return self._connection.extensions

    @property
    def is_over(self) -> bool:
        """Whether no command can be sent any more."""
        return self._is_broken or self._connection.is_closed

    @contextlib.contextmanager
    def patience(self) -> Iterator[None]:
        """Keep the time limits of the steps inside with one scope, whose deadline is moved, instead of one for each.

        Raises:
            DialogFailed: the peer was too slow.
        """
        scope = trio.CancelScope()
        self._scope = scope
        try:
            with scope:
                yield
        finally:
            self._scope = None
        if scope.cancelled_caught:
            raise self._failed(f"next hop did not answer in {self._seconds:g} s")

    @property
    def is_after_content(self) -> bool:
        """Whether the final dot was sent and nothing was said to it: the peer may have taken the message."""
        return self._connection.is_after_content

    async def greeting(self) -> Reply:
        """Wait for the peer's first reply; 220 lets it go on."""
        return (await self._expect(Greeting, _GREETING_SECONDS)).reply

    async def hello(self, name: str) -> Reply:
        """Say EHLO, or HELO where that is not known, with our name."""
        self._connection.hello(name)
        return (await self._expect(HelloDone, _COMMAND_SECONDS)).reply

    async def start_tls(self, tls: ClientTLS, server_name: str) -> Reply:
        """Ask for TLS and do the handshake if the peer agrees; say hello again after a 220.

        Raises:
            TLSFailed: the handshake failed, because the certificate is not good for one.
        """
        self._connection.start_tls()
        reply = (await self._expect(StartTLSDone, _COMMAND_SECONDS)).reply
        if reply.code == 220:
            await self.shake_hands(tls, server_name)
            self._connection.tls_started()
        return reply

    async def shake_hands(self, tls: ClientTLS, server_name: str) -> None:
        """Begin TLS on the connection as it is: before the greeting (RFC 8314).

        Raises:
            TLSFailed: the handshake failed.
        """
        stream: TLSStream = tls.wrap(self.stream, server_name)
        self.stream = stream
        try:
            await stream.do_handshake()
        except (HandshakeFailed, trio.BrokenResourceError, trio.TooSlowError) as error:
            raise TLSFailed(f"TLS handshake failed: {error}") from error
        self.is_encrypted = True

    async def authenticate(self, mechanism: ClientMechanism) -> Reply:
        """Log in. A 235 is only believed when the server has proven itself where the mechanism can.

        Raises:
            DialogFailed: the server did not prove itself.
        """
        self._connection.authenticate(mechanism.name, mechanism.initial())
        event = await self._next(_COMMAND_SECONDS)
        while isinstance(event, AuthChallenge):
            try:
                # SCRAM hashes the password for tens of milliseconds.
                self._connection.auth_response(await trio.to_thread.run_sync(mechanism.respond, event.data))
            except AuthenticationFailed as error:
                self._connection.auth_abort()
                await self._expect(AuthDone, _COMMAND_SECONDS)
                raise DialogFailed(f"{mechanism.name}: {error}") from error
            event = await self._next(_COMMAND_SECONDS)
        if not isinstance(event, AuthDone):
            raise DialogFailed(f"unexpected {type(event).__name__}")
        if event.reply.is_positive and not mechanism.is_complete:
            raise DialogFailed(f"{mechanism.name}: the server did not prove that it knows the password")
        return event.reply

    async def envelope(
        self,
        reverse_path: ReversePath,
        forward_paths: Sequence[Mailbox],
        *,
        size_octets: int,
        has_8bit: bool,
        smtputf8: bool,
        require_tls: bool,
    ) -> EnvelopeDone:
        """Begin a transaction: MAIL, RCPT for each forward-path, DATA."""
        self._connection.begin_transaction(
            reverse_path,
            forward_paths,
            size_octets=size_octets,
            body="8BITMIME" if has_8bit else "",
            smtputf8=smtputf8,
            require_tls=require_tls,
        )
        return await self._expect(EnvelopeDone, _COMMAND_SECONDS)

    async def content(self, content: OutgoingContent) -> Reply:
        """Send the content of the transaction and return the reply to its final dot."""
        chunks = content.chunks()
        piece: list[bytes] = []
        size = 0
        try:
            async for chunk in chunks:
                octets = self._connection.send_content(chunk)
                piece.append(octets)
                size += len(octets)
                if size >= _SEND_OCTETS:
                    await self._send_piece(piece)
                    piece, size = [], 0
        except DialogFailed as failure:
            # A peer that gives up may have said why before it closed.
            return await self._last_word(failure)
        finally:
            if isinstance(chunks, AsyncGenerator):
                await chunks.aclose()
        self._connection.end_content()
        piece.append(self._connection.data_to_send())
        try:
            await self._send_piece(piece, is_last=True)
        except DialogFailed as failure:
            # The peer cannot have seen the final dot: it is the last of what was not taken in whole.
            return await self._last_word(DialogFailed(str(failure)))
        return (await self._expect(ContentDone, _FINAL_REPLY_SECONDS)).reply

    async def reset(self) -> None:
        """End a transaction that did not come to its content, so that another can begin.

        Raises:
            DialogFailed: the peer ended the dialog instead (421).
        """
        self._connection.reset()
        reply = (await self._expect(ResetDone, _COMMAND_SECONDS)).reply
        if self.is_over:
            raise DialogFailed(f"RSET: {reply}")

    async def quit(self) -> None:
        """Say goodbye; whatever comes of it."""
        if self.is_over:
            return
        with trio.move_on_after(_QUIT_SECONDS):
            try:
                self._connection.quit()
                await self._expect(QuitDone, _QUIT_SECONDS)
            except DialogFailed:
                pass

    async def aclose(self) -> None:
        """Close the connection at once."""
        await trio.aclose_forcefully(self.stream)

    async def _expect(self, kind: type[E], seconds: float) -> E:
        event = await self._next(seconds)
        if not isinstance(event, kind):
            raise DialogFailed(f"expected {kind.__name__}, got {type(event).__name__}")
        return event

    async def _next(self, seconds: float) -> ClientEvent:
        """Send what is to be sent and return what comes of it; the peer has so long for each piece of its answer."""
        if self._scope is None:
            with self.patience():
                return await self._next(seconds)
        while True:
            is_after_content = self._connection.is_after_content
            try:
                event = self._connection.next_event()
            except RemoteProtocolError as error:
                raise DialogFailed(str(error), is_after_content=is_after_content) from error
            if not isinstance(event, ClientSignal):
                return event
            self._wait_at_most(seconds)
            octets = self._connection.data_to_send()
            try:
                if octets:
                    await self.stream.send_all(octets)
                self._connection.receive(bytes(await self.stream.receive_some(_RECEIVE_OCTETS)))
            except trio.BrokenResourceError as error:
                raise self._failed(f"connection lost: {error}") from error

    async def _send_piece(self, piece: Sequence[bytes], *, is_last: bool = False) -> None:
        octets = b"".join(piece)
        try:
            if is_last and len(octets) < _SEND_OCTETS and self._scope is not None:
                # The system takes so little at once, or nearly always.
                self._wait_at_most(_FINAL_REPLY_SECONDS)
                await self.stream.send_all(octets)
                return
            # A limit of its own: after it, the peer's last word is still heard.
            self._wait_at_most(math.inf)
            with trio.fail_after(_BLOCK_SECONDS):
                await self.stream.send_all(octets)
        except trio.TooSlowError as error:
            raise self._failed(f"next hop did not answer in {_BLOCK_SECONDS:g} s") from error
        except trio.BrokenResourceError as error:
            raise self._failed(f"connection lost: {error}") from error

    def _wait_at_most(self, seconds: float) -> None:
        """Set the deadline for the peer. trio sorts its deadlines, so one that is good enough is left as it is."""
        scope = self._scope
        if scope is None:
            return
        self._seconds = seconds
        latest = trio.current_time() + seconds
        if not latest - _DEADLINE_SLACK <= scope.deadline <= latest:
            scope.deadline = latest

    def _failed(self, text: str) -> DialogFailed:
        self._is_broken = True
        return DialogFailed(text, is_after_content=self._connection.is_after_content)

    async def _last_word(self, failure: DialogFailed) -> Reply:
        try:
            return (await self._expect(ContentDone, _LAST_WORD_SECONDS)).reply
        except DialogFailed:
            raise failure from None
