"""The client's end of an SMTP dialog (RFC 5321, RFC 2920), or of an LMTP one (RFC 2033).

A method of `ClientConnection` begins a step and `next_event` gives what came of it: one event per step, after all of
its replies. Replies that refuse are values; a server that breaks the protocol or goes away raises. Sockets, TLS and
deadlines are the driver's.
"""

from __future__ import annotations

import base64
import enum
from collections import deque
from collections.abc import Sequence

from msgspec import Struct

from mailcrane.model.address import Mailbox, ReversePath
from mailcrane.model.reply import Reply
from mailcrane.smtp.command import Body, decode_base64
from mailcrane.smtp.data import DotStuffer
from mailcrane.smtp.errors import ConnectionLost, LocalProtocolError, RemoteProtocolError
from mailcrane.smtp.extensions import Extensions
from mailcrane.smtp.reply_reader import ReplyReader

# Replies to EHLO after which HELO is tried: the server does not know it, whatever it calls that.
_HELO_CODES = frozenset({500, 501, 502, 503, 504})
# Commands under way at once. Their replies fit into the buffers between us, so that neither side blocks writing.
_WINDOW = 100


class Greeting(Struct, frozen=True):
    """The server's first reply; anything but 220 refuses the connection."""

    reply: Reply


class HelloDone(Struct, frozen=True):
    """EHLO was answered, or HELO where EHLO is not known."""

    reply: Reply
    extensions: Extensions


class StartTLSDone(Struct, frozen=True):
    """STARTTLS was answered; after a 220 do the handshake and call `ClientConnection.tls_started`."""

    reply: Reply


class AuthChallenge(Struct, frozen=True):
    """Answer with `ClientConnection.auth_response` or `ClientConnection.auth_abort`."""

    data: bytes


class AuthDone(Struct, frozen=True):
    """AUTH came to its end. A 235 counts only if the mechanism ``is_complete``."""

    reply: Reply


class EnvelopeDone(Struct, frozen=True):
    """MAIL, RCPT and DATA were answered.

    Attributes:
        mail: The reply to MAIL.
        recipients: Per forward-path, in order, the last word so far: the reply to RCPT, or the one to MAIL or DATA
            that refused all.
        may_send_content: The server waits for the content. Otherwise nobody gets the message; send RSET before another
            transaction.
    """

    mail: Reply
    recipients: tuple[Reply, ...]
    may_send_content: bool


class ContentDone(Struct, frozen=True):
    """What came after the final dot.

    Attributes:
        reply: For every recipient that was accepted; of LMTP's replies the last.
        recipients: LMTP: the reply for each recipient that was accepted, in order. SMTP: empty.
    """

    reply: Reply
    recipients: tuple[Reply, ...] = ()


class ResetDone(Struct, frozen=True):
    """RSET was answered."""

    reply: Reply


class QuitDone(Struct, frozen=True):
    """QUIT was answered: close."""

    reply: Reply


class ClientSignal(enum.Enum):
    """What `ClientConnection.next_event` gives when there is no event."""

    NEED_DATA = enum.auto()


NEED_DATA = ClientSignal.NEED_DATA

ClientEvent = (
    Greeting | HelloDone | StartTLSDone | AuthChallenge | AuthDone | EnvelopeDone | ContentDone | ResetDone | QuitDone
)


class _Step(enum.Enum):
    GREETING = enum.auto()
    IDLE = enum.auto()
    EHLO = enum.auto()
    HELO = enum.auto()
    STARTTLS = enum.auto()
    HANDSHAKE = enum.auto()
    AUTH = enum.auto()
    CHALLENGE = enum.auto()
    ENVELOPE = enum.auto()
    CONTENT = enum.auto()
    FINAL_REPLY = enum.auto()
    EMPTY_CONTENT = enum.auto()
    RSET = enum.auto()
    QUIT = enum.auto()
    CLOSED = enum.auto()


class ClientConnection:
    """The state of one connection.

    Attributes:
        extensions: From the last EHLO; those from before TLS are forgotten.
        is_closed: A 421, QUIT or a broken promise ended the dialog: close without another command.
        final_replies: LMTP: the replies after the final dot that have come so far, for when the connection is lost
            between them.
    """

    def __init__(self, *, is_lmtp: bool = False) -> None:
        """Begin a dialog; the greeting is yet to come.

        Args:
            is_lmtp: The server speaks LMTP: LHLO, and a reply for each recipient after the final dot.
        """
        self.extensions = Extensions()
        self.final_replies: tuple[Reply, ...] = ()
        self._is_lmtp = is_lmtp
        self._accepted_count = 0
        self._step = _Step.GREETING
        self._reader = ReplyReader()
        self._out: list[bytes] = []
        self._is_eof = False
        self._name = ""
        self._stuffer = DotStuffer()
        # The transaction: commands not sent yet, what is awaited, and the replies so far.
        self._unsent: deque[tuple[str, bytes]] = deque()
        self._awaited: deque[str] = deque()
        self._mail_reply: Reply | None = None
        self._rcpt_replies: list[Reply] = []
        self._data_reply: Reply | None = None
        self._recipient_count = 0

    @property
    def is_closed(self) -> bool:
        """Whether the dialog is over."""
        return self._step is _Step.CLOSED

    @property
    def is_after_content(self) -> bool:
        """Whether the final dot was sent and its reply is due: the server may have taken the message."""
        return self._step is _Step.FINAL_REPLY

    # --- bytes -----------------------------------------------------------------------------------------------------

    def receive(self, octets: bytes) -> None:
        """Take what was read from the server; nothing means that it closed its side.

        Raises:
            LocalProtocolError: STARTTLS waits for the handshake.
        """
        if self._step is _Step.HANDSHAKE:
            raise LocalProtocolError("received between STARTTLS and the TLS handshake")
        if octets:
            self._reader.receive(octets)
        else:
            self._is_eof = True

    def data_to_send(self) -> bytes:
        """Take what is to be sent to the server."""
        octets = b"".join(self._out)
        self._out.clear()
        return octets

    # --- steps -----------------------------------------------------------------------------------------------------

    def hello(self, name: str) -> None:
        """Send EHLO (LMTP: LHLO) with our name, an A-label domain or an address literal; ends with `HelloDone`."""
        self._begin(_Step.EHLO)
        self._name = name
        self._send_line(f"{'LHLO' if self._is_lmtp else 'EHLO'} {name}")

    def start_tls(self) -> None:
        """Send STARTTLS; ends with `StartTLSDone`."""
        self._begin(_Step.STARTTLS)
        self._send_line("STARTTLS")

    def tls_started(self) -> None:
        """The handshake succeeded: what was said in plaintext is forgotten, send EHLO again (RFC 3207 section 4.2)."""
        if self._step is not _Step.HANDSHAKE:
            raise LocalProtocolError("no TLS handshake was due")
        self._step = _Step.IDLE
        self.extensions = Extensions()

    def authenticate(self, mechanism: str, initial_response: bytes | None) -> None:
        """Send AUTH; goes on with `AuthChallenge` or ends with `AuthDone`."""
        self._begin(_Step.AUTH)
        if initial_response is None:
            self._send_line(f"AUTH {mechanism}")
        else:
            self._send_line(f"AUTH {mechanism} {base64.b64encode(initial_response).decode() or '='}")

    def auth_response(self, data: bytes) -> None:
        """Answer an `AuthChallenge`."""
        self._answer_challenge(base64.b64encode(data).decode())

    def auth_abort(self) -> None:
        """Cancel the exchange; ends with `AuthDone`, whose reply refuses."""
        self._answer_challenge("*")

    def begin_transaction(
        self,
        reverse_path: ReversePath,
        forward_paths: Sequence[Mailbox],
        *,
        size_octets: int | None = None,
        body: Body = "",
        smtputf8: bool = False,
        require_tls: bool = False,
    ) -> None:
        """Send MAIL, RCPT for each forward-path and DATA, pipelined if the server allows; ends with `EnvelopeDone`.

        SIZE and BODY are left out where the server does not know them. Split what exceeds
        ``extensions.max_recipients`` before.

        Raises:
            LocalProtocolError: there is no recipient, or the server lacks SMTPUTF8 or REQUIRETLS; ask
                `Extensions.refusal` first.
        """
        if not forward_paths:
            raise LocalProtocolError("a transaction needs a recipient")
        parameters = ""
        if size_octets is not None and "SIZE" in self.extensions:
            parameters += f" SIZE={size_octets}"
        if body and "8BITMIME" in self.extensions:
            parameters += f" BODY={body}"
        for keyword, is_wanted in (("SMTPUTF8", smtputf8), ("REQUIRETLS", require_tls)):
            if is_wanted:
                if keyword not in self.extensions:
                    raise LocalProtocolError(f"the server does not support {keyword}")
                parameters += f" {keyword}"
        commands = [("MAIL", _command(f"MAIL FROM:<{reverse_path}>{parameters}"))]
        commands.extend(("RCPT", _command(f"RCPT TO:<{path}>")) for path in forward_paths)
        commands.append(("DATA", b"DATA\r\n"))
        self._begin(_Step.ENVELOPE)
        self._mail_reply = self._data_reply = None
        self._rcpt_replies = []
        self._recipient_count = len(forward_paths)
        self._accepted_count = 0
        self.final_replies = ()
        self._unsent = deque(commands)
        self._pump()

    def send_content(self, octets: bytes) -> bytes:
        """Return the wire form of the next slice of content, to be sent by the driver at once.

        Content is expected with CRLF line ends.
        """
        if self._step is not _Step.CONTENT:
            raise LocalProtocolError("the server does not wait for content")
        return self._stuffer.stuff(octets)

    def end_content(self) -> None:
        """Send the final dot; ends with `ContentDone`."""
        if self._step is not _Step.CONTENT:
            raise LocalProtocolError("the server does not wait for content")
        self._out.append(self._stuffer.finish())
        self._step = _Step.FINAL_REPLY

    def reset(self) -> None:
        """Send RSET; ends with `ResetDone`."""
        self._begin(_Step.RSET)
        self._send_line("RSET")

    def quit(self) -> None:
        """Send QUIT; ends with `QuitDone`."""
        self._begin(_Step.QUIT)
        self._send_line("QUIT")

    # --- events ----------------------------------------------------------------------------------------------------

    def next_event(self) -> ClientEvent | ClientSignal:
        """Return what came of the step under way, or NEED_DATA: send what is there, then receive more.

        Raises:
            ConnectionLost: the server closed the connection before its reply.
            RemoteProtocolError: its reply cannot be understood. The dialog is over after either.
        """
        try:
            return self._next_event()
        except RemoteProtocolError:
            self._step = _Step.CLOSED
            raise

    def _next_event(self) -> ClientEvent | ClientSignal:
        while True:
            if self._step is _Step.CLOSED:
                raise LocalProtocolError("the dialog is over")
            if self._step in {_Step.IDLE, _Step.HANDSHAKE, _Step.CHALLENGE}:
                if self._step is _Step.IDLE and self._reader.has_more:
                    # Nothing was asked: a 421 before closing, or nonsense. Both end the dialog.
                    unasked = self._reader.next_reply()
                    if unasked is not None:
                        raise ConnectionLost(f"server said without being asked: {unasked}")
                if self._step is _Step.IDLE and self._is_eof:
                    raise ConnectionLost("server closed the connection")
                return NEED_DATA
            reply = self._reader.next_reply()
            if reply is None:
                if self._is_eof:
                    after = self._step is _Step.FINAL_REPLY
                    raise ConnectionLost("server closed the connection", is_after_content=after)
                return NEED_DATA
            event = self._take(reply)
            if event is not None:
                return event

    def _take(self, reply: Reply) -> ClientEvent | None:
        step = self._step
        # RFC 5321 section 3.8: 421 may answer any command, and the server closes after it.
        self._step = _Step.CLOSED if reply.code == 421 else _Step.IDLE
        if step is _Step.EHLO and reply.code in _HELO_CODES and not self._is_lmtp:
            self._step = _Step.HELO
            self._send_line(f"HELO {self._name}")
            return None
        if step in {_Step.EHLO, _Step.HELO}:
            is_extended = step is _Step.EHLO and reply.code == 250
            self.extensions = Extensions.from_reply(reply) if is_extended else Extensions()
            return HelloDone(reply, self.extensions)
        if step is _Step.STARTTLS:
            return self._take_starttls(reply)
        if step is _Step.AUTH:
            return self._take_auth(reply)
        if step in {_Step.ENVELOPE, _Step.EMPTY_CONTENT}:
            return self._take_envelope(step, reply)
        if step is _Step.CONTENT:
            # A reply before the final dot: the server gives up, and where the content stops is no longer agreed on.
            self._step = _Step.CLOSED
            return ContentDone(reply if not reply.is_positive else _not_final(reply))
        if step is _Step.FINAL_REPLY:
            return self._take_final(reply if reply.code >= 400 or reply.is_positive else _not_final(reply))
        if step is _Step.RSET:
            return ResetDone(reply)
        if step is _Step.QUIT:
            self._step = _Step.CLOSED
            return QuitDone(reply)
        return Greeting(reply)

    def _take_final(self, reply: Reply) -> ContentDone | None:
        if not self._is_lmtp:
            return ContentDone(reply)
        # RFC 2033 section 4.2: one reply for each RCPT that was accepted, in their order.
        self.final_replies = (*self.final_replies, reply)
        missing = self._accepted_count - len(self.final_replies)
        if missing and reply.code != 421:
            self._step = _Step.FINAL_REPLY
            return None
        return ContentDone(reply, self.final_replies + (reply,) * missing)

    def _take_starttls(self, reply: Reply) -> StartTLSDone:
        if reply.code == 220:
            if self._reader.has_more:
                # Plaintext behind the 220 was perhaps injected, to be taken for what comes through TLS later.
                raise RemoteProtocolError("server sent plaintext behind its reply to STARTTLS")
            self._step = _Step.HANDSHAKE
        return StartTLSDone(reply)

    def _take_auth(self, reply: Reply) -> AuthChallenge | AuthDone:
        if reply.code != 334:
            return AuthDone(reply)
        data = decode_base64(reply.lines[0].strip() if reply.lines else "")
        if data is None:
            raise RemoteProtocolError("challenge of the server is not base64")
        self._step = _Step.CHALLENGE
        return AuthChallenge(data)

    def _take_envelope(self, step: _Step, reply: Reply) -> EnvelopeDone | None:
        if step is _Step.EMPTY_CONTENT:
            # Its reply says nothing of recipients that were all refused before.
            return self._envelope_done(may_send_content=False)
        what = self._awaited.popleft()
        if what == "MAIL":
            self._mail_reply = reply
        elif what == "RCPT":
            self._rcpt_replies.append(reply)
        else:
            self._data_reply = reply
        if reply.code == 421:
            return self._envelope_closed(reply)
        self._step = _Step.ENVELOPE
        self._pump()
        if self._awaited:
            return None
        return self._envelope_end()

    def _envelope_end(self) -> EnvelopeDone | None:
        is_any_accepted = self._is_mail_accepted() and any(reply.is_positive for reply in self._rcpt_replies)
        data = self._data_reply
        if data is not None and data.code == 354:
            if self._reader.has_more:
                raise RemoteProtocolError("server answered content that it has not seen")
            self._stuffer = DotStuffer()
            if is_any_accepted:
                self._step = _Step.CONTENT
                self._accepted_count = sum(reply.is_positive for reply in self._rcpt_replies)
                return self._envelope_done(may_send_content=True)
            # RFC 2920 section 3.1: DATA was pipelined and the server asks for content that nobody is to get.
            self._out.append(self._stuffer.finish())
            if self._is_lmtp:  # There is a reply for each recipient that was accepted, so there is none.
                self._step = _Step.IDLE
                return self._envelope_done(may_send_content=False)
            self._step = _Step.EMPTY_CONTENT
            return None
        self._step = _Step.IDLE
        if data is not None and is_any_accepted:
            refusal = data if data.code >= 400 else _not_final(data)
            self._rcpt_replies = [refusal if reply.is_positive else reply for reply in self._rcpt_replies]
        return self._envelope_done(may_send_content=False)

    def _envelope_closed(self, reply: Reply) -> EnvelopeDone:
        """Nothing more comes after 421: it is the last word for whoever was not refused before."""
        self._mail_reply = self._mail_reply or reply
        replies = [reply if given.is_positive else given for given in self._rcpt_replies]
        self._rcpt_replies = replies + [reply] * (self._recipient_count - len(replies))
        self._awaited.clear()
        self._unsent.clear()
        return self._envelope_done(may_send_content=False)

    def _envelope_done(self, *, may_send_content: bool) -> EnvelopeDone:
        mail = self._mail_reply
        assert mail is not None
        if mail.is_positive or mail.code == 421:
            return EnvelopeDone(mail, tuple(self._rcpt_replies), may_send_content)
        return EnvelopeDone(mail, (mail,) * self._recipient_count, may_send_content)

    # --- what steps share ------------------------------------------------------------------------------------------

    def _is_mail_accepted(self) -> bool:
        return self._mail_reply is not None and self._mail_reply.is_positive

    def _pump(self) -> None:
        """Send as many commands of the envelope as may be under way."""
        window = _WINDOW if "PIPELINING" in self.extensions else 1
        if self._mail_reply is not None and not self._mail_reply.is_positive:
            self._unsent.clear()
        while self._unsent and len(self._awaited) < window:
            what, line = self._unsent.popleft()
            if what == "DATA" and self._is_every_recipient_refused():
                break
            self._awaited.append(what)
            self._out.append(line)

    def _is_every_recipient_refused(self) -> bool:
        return len(self._rcpt_replies) == self._recipient_count and not any(
            reply.is_positive for reply in self._rcpt_replies
        )

    def _begin(self, step: _Step) -> None:
        if self._step is not _Step.IDLE:
            raise LocalProtocolError(f"cannot begin {step.name} during {self._step.name}")
        self._step = step

    def _answer_challenge(self, line: str) -> None:
        if self._step is not _Step.CHALLENGE:
            raise LocalProtocolError("no challenge waits for an answer")
        self._step = _Step.AUTH
        self._send_line(line)

    def _send_line(self, line: str) -> None:
        self._out.append(_command(line))


def _command(line: str) -> bytes:
    if "\r" in line or "\n" in line:
        # Addresses that were parsed have none; one that comes by another way must not become a second command.
        raise LocalProtocolError("line end within a command")
    return f"{line}\r\n".encode()


def _not_final(reply: Reply) -> Reply:
    """What stands for a reply that makes no sense where it came: not accepted, worth another try."""
    return Reply.make(451, "4.5.0", f"Next hop answered out of place: {reply.code}")
