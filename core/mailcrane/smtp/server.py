"""The server's end of an SMTP dialog (RFC 5321), for relaying servers (MX) and for submission (RFC 6409).

`ServerConnection` keeps the order of commands and everything that follows from the protocol alone. What needs policy
comes out as an event that the driver answers with `ServerConnection.accept` or `ServerConnection.reply`. Deadlines,
TLS, host name look-ups and slowing down are the driver's.
"""

from __future__ import annotations

import base64

from mailcrane.model.clock import Clock
from mailcrane.model.reply import Reply
from mailcrane.smtp import replies
from mailcrane.smtp.command import (
    Auth,
    Data,
    Hello,
    Mail,
    Rcpt,
    StartTLS,
    decode_base64,
    parse_auth,
    parse_hello,
    parse_mail,
    parse_rcpt,
)
from mailcrane.smtp.data import ContentFault, ContentReader
from mailcrane.smtp.errors import LocalProtocolError
from mailcrane.smtp.event import (
    FLUSH,
    NEED_DATA,
    PAUSED,
    AuthAborted,
    AuthResponse,
    Closed,
    Content,
    ContentRefused,
    EndOfContent,
    Event,
    Reset,
    Signal,
)
from mailcrane.smtp.offer import ServerConfig

__all__ = ["MAX_LINE_OCTETS", "ServerConfig", "ServerConnection"]

# RFC 5321 section 4.5.3.1.4 asks for 512 octets, RFC 4954 section 4 for more: a line of ours may have 2048.
MAX_LINE_OCTETS = 2048
# A message that is too large is read to its end so that the session can go on, but not without end.
_MAX_DISCARDED_FACTOR = 4
_MAX_DISCARDED_OCTETS = 1 << 20
_MAX_BAD_TRANSACTIONS = 10
# Output that piles up behind pipelined commands is handed over from this size on.
_FLUSH_OCTETS = 16_384


_Answered = Hello | Auth | AuthResponse | Mail | Rcpt | Data | EndOfContent


class ServerConnection:
    """The state of one connection.

    Attributes:
        hello: The last EHLO or HELO that was accepted; None before and after STARTTLS.
        mail: The MAIL of the transaction under way, or None.
        transaction: Number of the last transaction that began, from 1; 0 before.
        recipient_count: Accepted in the transaction under way.
        is_tls: TLS is active.
        is_authenticated: AUTH succeeded.
        is_in_content: Between the 354 and the final dot, for the driver's deadline.
        good_transactions: Messages that were accepted.
        bad_transactions: MAIL commands that did not lead to one.
    """

    def __init__(self, config: ServerConfig, *, session_id: str, clock: Clock, is_tls: bool = False) -> None:
        self.config = config
        self.session_id = session_id
        self.hello: Hello | None = None
        self.mail: Mail | None = None
        self.transaction = 0
        self.recipient_count = 0
        self.is_tls = is_tls
        self.is_authenticated = False
        self.is_in_content = False
        self.good_transactions = 0
        self.bad_transactions = 0
        self._clock = clock
        self._buffer = b""
        self._position = 0
        self._searched = 0
        self._out: list[bytes] = []
        self._out_octets = 0
        self._waiting: _Answered | None = None
        self._tls_pending = False
        self._in_auth = False
        self._is_first_command = True
        self._is_eof = False
        self._closed: Closed | None = None
        self._reader: ContentReader | None = None
        self._end: EndOfContent | ContentRefused | None = None
        self._refusal: Reply | None = None

    # --- bytes -----------------------------------------------------------------------------------------------------

    def receive(self, octets: bytes) -> None:
        """Take what was read from the peer; nothing means that it closed its side.

        Raises:
            LocalProtocolError: STARTTLS waits for the handshake, so that this would be plaintext taken for TLS.
        """
        if self._tls_pending:
            raise LocalProtocolError("received between STARTTLS and the TLS handshake")
        if not octets:
            self._is_eof = True
        elif self._position >= len(self._buffer):
            self._buffer = octets
            self._searched -= self._position
            self._position = 0
        else:
            self._buffer = self._buffer[self._position :] + octets
            self._searched -= self._position
            self._position = 0
        self._searched = max(self._searched, 0)

    def data_to_send(self) -> bytes:
        """Take what is to be sent to the peer."""
        octets = b"".join(self._out)
        self._out.clear()
        self._out_octets = 0
        return octets

    # --- what the driver decides -----------------------------------------------------------------------------------

    def greet(self) -> None:
        """Begin with the 220 greeting. To refuse the connection call `close` instead."""
        self._send(b"220 %b ESMTP Mailcrane\r\n" % self.config.hostname.encode())

    def accept(self) -> None:
        """Answer the event that waits with its usual positive reply."""
        waiting = self._waiting
        if isinstance(waiting, Rcpt):
            self.reply(replies.RCPT_OK)
        elif isinstance(waiting, Mail):
            self.reply(replies.MAIL_OK)
        elif isinstance(waiting, Data):
            self.reply(replies.SEND_CONTENT)
        elif isinstance(waiting, EndOfContent):
            self.reply(replies.CONTENT_OK)
        elif isinstance(waiting, Hello):
            self._waiting = None
            self._end_transaction()
            self.hello = waiting
            self._announce()
        elif isinstance(waiting, Auth | AuthResponse):
            self.reply(replies.AUTHENTICATED)
        else:
            raise LocalProtocolError("no event waits for an answer")

    def reply(self, reply: Reply) -> None:
        """Answer the event that waits; the reply's code decides what follows. A 421 ends the dialog."""
        waiting = self._waiting
        if waiting is None:
            raise LocalProtocolError("no event waits for an answer")
        self._waiting = None
        if isinstance(waiting, Rcpt):
            if reply.is_positive:
                self.recipient_count += 1
        elif isinstance(waiting, Mail):
            if reply.is_positive:
                self.mail = waiting
                self.transaction += 1
                self.recipient_count = 0
        elif isinstance(waiting, Data):
            if reply.code == 354:
                self._reader = ContentReader(self.config.max_message_octets)
                self._refusal = None
                self.is_in_content = True
        elif isinstance(waiting, EndOfContent):
            if reply.is_positive:
                self.good_transactions += 1
                self.bad_transactions -= 1
            self._end_transaction()
        elif isinstance(waiting, Auth | AuthResponse):
            self._in_auth = False
            self.is_authenticated = reply.is_positive
        elif reply.is_positive:
            self._waiting = waiting
            self.accept()
            return
        self._send_reply(reply)
        if reply.code == 421:
            self._closed = Closed("refused")

    def challenge(self, data: bytes) -> None:
        """Answer `Auth` or `AuthResponse` with a further challenge."""
        if not isinstance(self._waiting, Auth | AuthResponse):
            raise LocalProtocolError("no authentication is under way")
        self._waiting = None
        self._in_auth = True
        self._send(b"334 %b\r\n" % base64.b64encode(data))

    def refuse_content(self, reply: Reply) -> None:
        """Read the rest of the message without giving it out, and refuse it at its end with `ContentRefused`."""
        if self._reader is not None:
            self._refusal = reply
        elif isinstance(self._end, EndOfContent):
            # The last slice was given out a moment ago.
            self._refuse_content(reply)
        else:
            raise LocalProtocolError("no content is being received")

    def tls_started(self) -> None:
        """The handshake after `StartTLS` succeeded: forget all that was said in plaintext (RFC 3207 section 4.2)."""
        if not self._tls_pending:
            raise LocalProtocolError("STARTTLS was not asked for")
        self._tls_pending = False
        self.is_tls = True
        self.hello = None
        self.is_authenticated = False
        self._is_first_command = True
        self._end_transaction()

    def close(self, reply: Reply | None = None) -> None:
        """End the dialog from our side, with a last reply such as `replies.SHUTTING_DOWN`."""
        if self._closed is None:
            if reply is not None:
                self._send_reply(reply)
            self._closed = Closed("refused")

    # --- events ----------------------------------------------------------------------------------------------------

    def next_event(self) -> Event | Signal:
        """Return the next event, or what to do to get one. After `Closed` it is always that."""
        while True:
            if self._closed is not None:
                return self._closed
            if self._waiting is not None or self._tls_pending:
                return PAUSED
            if (end := self._end) is not None:
                self._end = None
                if isinstance(end, EndOfContent):
                    self._waiting = end
                return end
            if self._reader is not None:
                event: Event | Signal | None = self._read_content(self._reader)
            elif self._out_octets > _FLUSH_OCTETS:
                return FLUSH
            else:
                event = self._read_line()
            if event is NEED_DATA and self._is_eof:
                self._closed = Closed("eof")
            elif event is not None:
                return event

    def _read_content(self, reader: ContentReader) -> Event | Signal | None:
        if self._position >= len(self._buffer):
            return NEED_DATA
        octets, rest = reader.feed(self._buffer[self._position :] if self._position else self._buffer)
        self._buffer = rest or b""
        self._position = self._searched = 0
        refusal = self._refusal
        if refusal is None and reader.fault is not None:
            is_bare = reader.fault is ContentFault.BARE_LINE_END
            refusal = replies.BARE_LINE_END if is_bare else replies.CONTENT_TOO_LARGE
        if rest is None:
            limit = self.config.max_message_octets * _MAX_DISCARDED_FACTOR + _MAX_DISCARDED_OCTETS
            if reader.passed_octets > limit:
                self._send_reply(refusal or replies.CONTENT_TOO_LARGE)
                self._closed = Closed("protocol")
                return self._closed
            return Content(octets) if octets and refusal is None else None
        self._reader = None
        self.is_in_content = False
        if refusal is not None:
            self._refuse_content(refusal)
            return None
        self._end = EndOfContent(reader.size_octets, reader.has_8bit)
        return Content(octets) if octets else None

    def _refuse_content(self, reply: Reply) -> None:
        self._end_transaction()
        self._send_reply(reply)
        self._refusal = None
        self._end = ContentRefused(reply)

    def _read_line(self) -> Event | Signal | None:
        buffer, start = self._buffer, self._position
        end = buffer.find(b"\n", self._searched if self._searched > start else start)
        if (len(buffer) if end < 0 else end + 1) - start > MAX_LINE_OCTETS:
            return self._break(replies.LINE_TOO_LONG)
        if end < 0:
            self._searched = len(buffer)
            return NEED_DATA
        self._position = end + 1
        octets = buffer[start : end - 1]
        if self._in_auth:
            return self._auth_line(octets) if buffer[end - 1 : end] == b"\r" else self._bad_line()
        try:
            line = octets.decode()
        except UnicodeDecodeError:
            return self._bad_line()
        if end == start or buffer[end - 1] != 13 or not (line.isprintable() or _is_clean(line)):
            return self._bad_line()
        verb, _, argument = line.partition(" ")
        handler = _HANDLERS.get(verb) or _HANDLERS.get(verb.upper())
        if handler is None:
            if self._is_first_command:
                return self._break(replies.NOT_SMTP)
            self._send_reply(replies.UNKNOWN_COMMAND)
            return None
        self._is_first_command = False
        answer = handler(self, argument)
        if isinstance(answer, Reply):
            self._send_reply(answer)
            return None
        return answer

    def _bad_line(self) -> Event | None:
        if self._is_first_command:
            return self._break(replies.BAD_LINE)
        if self._in_auth:
            self._in_auth = False
            self._send_reply(replies.BAD_LINE)
            return AuthAborted()
        self._send_reply(replies.BAD_LINE)
        return None

    def _break(self, reply: Reply) -> Closed:
        self._send_reply(reply)
        self._closed = Closed("protocol")
        return self._closed

    # --- commands --------------------------------------------------------------------------------------------------

    def _ehlo(self, argument: str) -> Event | Reply:
        return self._hello(argument, is_extended=True)

    def _helo(self, argument: str) -> Event | Reply:
        return self._hello(argument, is_extended=False)

    def _hello(self, argument: str, *, is_extended: bool) -> Event | Reply:
        return self._await(
            parse_hello(argument, is_extended=is_extended, is_checked=not self.config.is_submission),
        )

    def _starttls(self, argument: str) -> Event | Reply:
        if argument.strip(" "):
            return replies.NO_ARGUMENT
        if self.is_tls:
            return replies.TLS_TWICE
        if not self.config.offers_starttls:
            return replies.NO_TLS_HERE
        if self.is_authenticated:
            return replies.TLS_AFTER_AUTH
        if self.hello is None:
            return replies.HELLO_FIRST
        if self._position < len(self._buffer):
            # What is behind STARTTLS in plaintext was perhaps injected, to be taken for the client's own later.
            return self._break(replies.TEXT_BEFORE_TLS)
        self._send_reply(replies.START_TLS)
        self._tls_pending = True
        return StartTLS()

    def _auth(self, argument: str) -> Event | Reply:
        config = self.config
        if not config.is_submission or not config.mechanisms:
            return replies.NO_AUTH_HERE
        if self.hello is None:
            return replies.HELLO_FIRST
        if self.is_authenticated:
            return replies.AUTH_TWICE
        if self.mail is not None:
            return replies.AUTH_IN_TRANSACTION
        command = parse_auth(argument)
        if isinstance(command, Auth):
            if command.mechanism not in config.mechanisms:
                command = replies.UNKNOWN_MECHANISM
            elif not self.is_tls and (config.requires_tls_for_auth or command.mechanism.endswith("-PLUS")):
                command = replies.TLS_FOR_AUTH
        return self._await(command)

    def _auth_line(self, octets: bytes) -> Event:
        if octets == b"*":
            reply = replies.AUTH_ABORTED
        elif (response := decode_base64(octets)) is not None:
            self._waiting = AuthResponse(response)
            return self._waiting
        else:
            reply = replies.BAD_BASE64
        self._in_auth = False
        self._send_reply(reply)
        return AuthAborted()

    def _mail(self, argument: str) -> Event | Reply:
        config = self.config
        if self.hello is None:
            return replies.HELLO_FIRST
        if self._lacks_auth():
            return replies.AUTH_REQUIRED
        if self.mail is not None:
            return replies.NESTED_MAIL
        if self.bad_transactions > _MAX_BAD_TRANSACTIONS and not self.good_transactions:
            return self._break(replies.TOO_MANY_FAILURES)
        # Held against the client until the message is accepted.
        self.bad_transactions += 1
        command = parse_mail(
            argument, allow_future_release=config.is_submission, allow_require_tls=config.offers_require_tls
        )
        return self._await(self._check(command) if isinstance(command, Mail) else command)

    def _rcpt(self, argument: str) -> Event | Reply:
        config, mail = self.config, self.mail
        if self.hello is None:
            return replies.HELLO_FIRST
        if self._lacks_auth():
            return replies.AUTH_REQUIRED
        if mail is None:
            return replies.MAIL_FIRST
        command = parse_rcpt(argument, hostname=config.hostname, allow_utf8=mail.smtputf8)
        if isinstance(command, Rcpt):
            if config.requires_starttls and not self.is_tls:
                command = replies.TLS_REQUIRED
            elif self.recipient_count >= config.max_recipients:
                command = replies.TOO_MANY_RECIPIENTS
            elif self.recipient_count and not config.is_submission and mail.reverse_path.is_null:
                # Bounces and the like have one recipient; several are a sign of backscatter.
                command = replies.TOO_MANY_FOR_NULL
        return self._await(command)

    def _data(self, argument: str) -> Event | Reply:
        if argument.strip(" "):
            return replies.NO_ARGUMENT
        if self.hello is None:
            return replies.HELLO_FIRST
        if self._lacks_auth():
            return replies.AUTH_REQUIRED
        if self.mail is None:
            return replies.MAIL_FIRST
        if not self.recipient_count:
            return replies.RCPT_FIRST
        self._waiting = Data()
        return self._waiting

    def _rset(self, argument: str) -> Event | Reply:
        if argument.strip(" "):
            return replies.NO_ARGUMENT
        was_under_way = self.mail is not None
        self._end_transaction()
        if not was_under_way:
            return replies.OK
        self._send_reply(replies.OK)
        return Reset()

    def _noop(self, argument: str) -> Reply:
        return replies.OK

    def _verify(self, argument: str) -> Reply:
        return replies.CANNOT_VERIFY

    def _help(self, argument: str) -> Reply:
        return replies.HELP

    def _quit(self, argument: str) -> Event | Reply:
        if argument.strip(" "):
            return replies.NO_ARGUMENT
        self._send_reply(replies.CLOSING)
        self._closed = Closed("quit")
        return self._closed

    # --- what commands share ---------------------------------------------------------------------------------------

    def _await(self, command: Hello | Auth | Mail | Rcpt | Reply) -> Event | Reply:
        if not isinstance(command, Reply):
            self._waiting = command
        return command

    def _lacks_auth(self) -> bool:
        return self.config.is_submission and self.config.requires_auth and not self.is_authenticated

    def _end_transaction(self) -> None:
        self.mail = None
        self.recipient_count = 0

    def _check(self, command: Mail) -> Mail | Reply:
        # The clock is read for those who ask for a later release only.
        now = self._clock.now() if command.hold_until is not None else None
        return self.config.check_mail(command, is_tls=self.is_tls, now=now) or command

    def _announce(self) -> None:
        lines = self.config.announcement(is_tls=self.is_tls, now=self._clock.now())
        self._send(("250-" + "\r\n250-".join(lines[:-1]) + f"\r\n250 {lines[-1]}\r\n").encode())

    def _send_reply(self, reply: Reply) -> None:
        fixed = _ENCODED.get(id(reply))
        if fixed is None:
            allow_utf8 = self.mail is not None and self.mail.smtputf8
            fixed = replies.encode_reply(reply, session_id=self.session_id, allow_utf8=allow_utf8)
        self._send(fixed)

    def _send(self, octets: bytes) -> None:
        self._out.append(octets)
        self._out_octets += len(octets)


def _is_clean(line: str) -> bool:
    """Whether a line has no control characters, for those with characters that are merely not printable."""
    return not any(character < " " or "\x7f" <= character < "\xa0" for character in line)


_HANDLERS = {
    "EHLO": ServerConnection._ehlo,
    "HELO": ServerConnection._helo,
    "STARTTLS": ServerConnection._starttls,
    "AUTH": ServerConnection._auth,
    "MAIL": ServerConnection._mail,
    "RCPT": ServerConnection._rcpt,
    "DATA": ServerConnection._data,
    "RSET": ServerConnection._rset,
    "NOOP": ServerConnection._noop,
    "VRFY": ServerConnection._verify,
    "EXPN": ServerConnection._verify,
    "HELP": ServerConnection._help,
    "QUIT": ServerConnection._quit,
}

# Positive replies of ours never vary: encoded once, found by identity.
_ENCODED = {
    id(reply): replies.encode_reply(reply)
    for reply in (
        replies.OK,
        replies.MAIL_OK,
        replies.RCPT_OK,
        replies.CONTENT_OK,
        replies.SEND_CONTENT,
        replies.CLOSING,
        replies.START_TLS,
    )
}
