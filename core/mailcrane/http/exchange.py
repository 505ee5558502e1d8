"""HTTP/1.1 as a client over one connection, one request after the other (RFC 9112). h11 reads and writes it.

No time limits, no policy: that is the client's. What arrives together with a response's header is read without a wait.
"""

from __future__ import annotations

from collections.abc import Sequence

import h11
import trio

from mailcrane.http.response import ResponseFailed, URLRefused, words_of

Fields = Sequence[tuple[bytes, bytes]]

_MAX_HEADER_OCTETS = 65536
_RECEIVE_OCTETS = 65536
_CLOSE_SECONDS = 2.0


def encode_request(method: str, target: bytes, fields: Fields) -> h11.Request:
    """Make the header of a request.

    Raises:
        URLRefused: the target or a field is not one.
    """
    try:
        return h11.Request(method=method, target=target, headers=list(fields))
    except h11.LocalProtocolError as error:
        raise URLRefused(f"not a valid request: {error}") from None


class ClientConnection:
    """A connection to a server.

    Attributes:
        has_answered: Whether anything has come in answer to the request that was sent last.
        is_idle: Whether another request may be sent.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEADER_OCTETS)
        self.has_answered = False
        self.is_idle = True

    async def exchange(self, request: h11.Request, body: bytes) -> h11.Response:
        """Send a request and return the header of its response.

        Raises:
            ResponseFailed: there is none. Nobody knows whether the server has got the request.
        """
        self.has_answered = self.is_idle = False
        # Header and body together are one packet, and half the work on both sides.
        octets = b"".join([self._http.send(event) or b"" for event in (request, h11.Data(body), h11.EndOfMessage())])
        lost = ""
        try:
            await self._stream.send_all(octets)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            # A server may refuse without reading everything; what it says then is to be read.
            lost = words_of(error)
        while True:
            event = self._next_event()
            if event is h11.NEED_DATA:
                await self._receive(lost)
            elif isinstance(event, h11.Response):
                return event
            # Others tell of the response that comes (RFC 9110 section 15.2).

    def take_body(self, into: bytearray, most: int) -> bool:
        """Take what has arrived of a response's body, until it is more than so many octets; True when it is whole.

        Raises:
            ResponseFailed: it breaks HTTP, or the connection was lost before its end.
        """
        while len(into) <= most:
            event = self._next_event()
            if isinstance(event, h11.Data):
                into += event.data
            elif isinstance(event, h11.EndOfMessage):
                self._end()
                return True
            else:
                return False
        return False

    async def receive_body(self, into: bytearray, most: int) -> bool:
        """Wait for the rest of a response's body, until it is more than so many octets; True when it is whole.

        Raises:
            ResponseFailed: it breaks HTTP, or the connection was lost before its end.
        """
        while len(into) <= most:
            await self._receive()
            if self.take_body(into, most):
                return True
        return False

    async def aclose(self) -> None:
        """Close the connection at once. To a server that answered, or that must not be waited for, nothing is said."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + _CLOSE_SECONDS):
            await trio.aclose_forcefully(self._stream)

    def _next_event(self) -> object:
        try:
            return self._http.next_event()
        except h11.RemoteProtocolError as error:
            raise ResponseFailed(words_of(error)) from None

    async def _receive(self, lost: str = "") -> None:
        try:
            data = await self._stream.receive_some(_RECEIVE_OCTETS)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise ResponseFailed(lost or words_of(error)) from None
        if data:
            self.has_answered = True
        elif not self.has_answered:
            raise ResponseFailed(lost or "the server closed the connection without a response")
        self._http.receive_data(bytes(data))

    def _end(self) -> None:
        # What comes behind a response answers nothing: it must not be taken for the answer to the next request.
        is_reusable = self._http.our_state is h11.DONE and self._http.their_state is h11.DONE
        if is_reusable and self._http.trailing_data == (b"", False):
            self._http.start_next_cycle()
            self.is_idle = True
