"""One LMTP session: Mailcrane's protocol without I/O, driven over a stream, with the time limits of RFC 5321."""

from collections.abc import AsyncGenerator, Sequence
from typing import TypeVar

import trio

from mailcrane.api import Delivery, Mailbox, Reply
from mailcrane.api.smtp import (
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
)

E = TypeVar("E", bound=ClientEvent)

# RFC 5321 section 4.5.3.2, in seconds.
_COMMAND_SECONDS = 300.0
_BLOCK_SECONDS = 180.0
_FINAL_REPLY_SECONDS = 600.0
_QUIT_SECONDS = 5.0


class SessionFailed(Exception):
    """The connection broke, or the server was too slow or spoke nonsense. The session is over.

    Attributes:
        is_after_content: The final dot was sent, and not everybody has a reply to it.
    """

    def __init__(self, text: str, *, is_after_content: bool = False) -> None:
        super().__init__(text)
        self.is_after_content = is_after_content


class Session:
    """A session on a stream that it owns."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._connection = ClientConnection(is_lmtp=True)

    @property
    def extensions(self) -> Extensions:
        """What the server offers."""
        return self._connection.extensions

    @property
    def is_over(self) -> bool:
        """Whether no command can be sent any more."""
        return self._connection.is_closed

    @property
    def final_replies(self) -> tuple[Reply, ...]:
        """The replies to the final dot that have come so far."""
        return self._connection.final_replies

    async def begin(self, hostname: str) -> Reply:
        """Wait for the greeting and say LHLO; returns the reply that refuses, or the one to LHLO."""
        greeting = (await self._expect(Greeting, _COMMAND_SECONDS)).reply
        if not greeting.is_positive:
            return greeting
        self._connection.hello(hostname)
        return (await self._expect(HelloDone, _COMMAND_SECONDS)).reply

    async def envelope(self, delivery: Delivery, paths: Sequence[Mailbox], *, smtputf8: bool) -> EnvelopeDone:
        """Send MAIL, RCPT for each path, and DATA."""
        self._connection.begin_transaction(
            delivery.reverse_path,
            paths,
            size_octets=delivery.content.size_octets,
            body="8BITMIME" if delivery.has_8bit else "",
            smtputf8=smtputf8,
        )
        return await self._expect(EnvelopeDone, _COMMAND_SECONDS)

    async def content(self, delivery: Delivery) -> tuple[Reply, ...]:
        """Send the content; returns the reply for each path that was accepted."""
        chunks = delivery.content.chunks()
        try:
            async for chunk in chunks:
                await self._send(self._connection.send_content(chunk), _BLOCK_SECONDS)
        finally:
            if isinstance(chunks, AsyncGenerator):
                await chunks.aclose()
        self._connection.end_content()
        done = await self._expect(ContentDone, _FINAL_REPLY_SECONDS)
        return done.recipients

    async def reset(self) -> None:
        """End a transaction that did not come to its content."""
        self._connection.reset()
        await self._expect(ResetDone, _COMMAND_SECONDS)

    async def quit(self) -> None:
        """Say goodbye, whatever comes of it."""
        if not self._connection.is_closed:
            with trio.move_on_after(_QUIT_SECONDS):
                try:
                    self._connection.quit()
                    await self._expect(QuitDone, _QUIT_SECONDS)
                except SessionFailed:
                    pass

    async def _expect(self, kind: type[E], seconds: float) -> E:
        is_after_content = self._connection.is_after_content
        try:
            while isinstance(event := self._connection.next_event(), ClientSignal):
                await self._send(self._connection.data_to_send(), seconds)
                self._connection.receive(await self._receive(seconds))
            # A lone dot, where the server wanted content for nobody.
            await self._send(self._connection.data_to_send(), seconds)
        except RemoteProtocolError as error:
            raise SessionFailed(str(error), is_after_content=is_after_content) from error
        if not isinstance(event, kind):
            raise SessionFailed(f"expected {kind.__name__}, got {type(event).__name__}")
        return event

    async def _send(self, octets: bytes, seconds: float) -> None:
        try:
            with trio.fail_after(seconds):
                await self._stream.send_all(octets)
        except (trio.BrokenResourceError, trio.TooSlowError) as error:
            raise self._failed(f"nothing can be sent: {error!r}") from error

    async def _receive(self, seconds: float) -> bytes:
        try:
            with trio.fail_after(seconds):
                return bytes(await self._stream.receive_some(65536))
        except trio.BrokenResourceError as error:
            raise self._failed(f"connection lost: {error}") from error
        except trio.TooSlowError as error:
            raise self._failed(f"no reply in {seconds:g} s") from error

    def _failed(self, text: str) -> SessionFailed:
        return SessionFailed(text, is_after_content=self._connection.is_after_content)
