"""The server's own replies, and how any reply is put on the wire (RFC 5321 section 4.2, RFC 2034).

The texts are ours; codes and enhanced status codes are part of what is promised to clients.
"""

from __future__ import annotations

import re

from mailcrane.model.reply import Reply
from mailcrane.sasl.exchange import FailureReason

_make = Reply.make

OK = _make(250, "2.0.0", "OK")
MAIL_OK = _make(250, "2.1.0", "Reverse-path OK")
RCPT_OK = _make(250, "2.1.0", "Recipient OK")
CONTENT_OK = _make(250, "2.2.0", "Message accepted")
SEND_CONTENT = _make(354, "", "Send the message, end with a dot on a line of its own")
START_TLS = _make(220, "2.0.0", "Ready to start TLS")
CLOSING = _make(221, "2.0.0", "Goodbye")
HELP = _make(214, "2.0.0", "See RFC 5321")
CANNOT_VERIFY = _make(252, "2.7.0", "Cannot verify, but a message will be tried")
AUTHENTICATED = _make(235, "2.7.0", "Authenticated")

SHUTTING_DOWN = _make(421, "4.3.2", "Server is shutting down, try again later")
TOO_MANY_CONNECTIONS = _make(421, "4.7.0", "Too many connections, try again later")
TIMEOUT = _make(421, "4.4.2", "Timeout, closing the connection")
LOCAL_ERROR = _make(451, "4.3.0", "Local error, try again later")
STORAGE_FULL = _make(452, "4.3.1", "Not enough storage, try again later")
TOO_MANY_RECIPIENTS = _make(452, "4.5.3", "Too many recipients")
TOO_MANY_FOR_NULL = _make(452, "4.5.3", "One recipient at a time with the null reverse-path")

LINE_TOO_LONG = _make(500, "5.5.0", "Line is too long")
BAD_LINE = _make(500, "5.5.2", "Lines end with CRLF and have no control characters")
NOT_SMTP = _make(500, "5.5.2", "This is an SMTP server")
UNKNOWN_COMMAND = _make(500, "5.5.1", "Unknown command")
BARE_LINE_END = _make(500, "5.5.2", "Message has a bare CR or LF")
NO_ARGUMENT = _make(501, "5.5.4", "Command takes no argument")
BAD_BASE64 = _make(501, "5.5.2", "Bad base64")
AUTH_ABORTED = _make(501, "5.5.0", "Authentication was cancelled")
HELLO_FIRST = _make(503, "5.5.1", "Send EHLO or HELO first")
MAIL_FIRST = _make(503, "5.5.1", "Send MAIL first")
RCPT_FIRST = _make(503, "5.5.1", "No recipient was accepted")
NESTED_MAIL = _make(503, "5.5.1", "A transaction is under way")
NO_AUTH_HERE = _make(503, "5.5.1", "Authentication is not available here")
AUTH_TWICE = _make(503, "5.5.1", "Already authenticated")
AUTH_IN_TRANSACTION = _make(503, "5.5.1", "No authentication within a transaction")
TLS_TWICE = _make(503, "5.5.1", "TLS is already active")
TLS_AFTER_AUTH = _make(503, "5.5.1", "TLS cannot start after authentication")
NO_TLS_HERE = _make(502, "5.5.1", "TLS is not available here")
TEXT_BEFORE_TLS = _make(503, "5.5.1", "Nothing may be sent with STARTTLS before its reply")
UNKNOWN_MECHANISM = _make(504, "5.5.4", "Unknown authentication mechanism")
TLS_FOR_REQUIRETLS = _make(523, "5.7.10", "REQUIRETLS needs TLS")
AUTH_REQUIRED = _make(530, "5.7.0", "Authentication is required")
TLS_REQUIRED = _make(530, "5.7.0", "Send STARTTLS first")
LOGIN_DISABLED = _make(525, "5.7.13", "Login is disabled")
BAD_CREDENTIALS = _make(535, "5.7.8", "Authentication failed")
BAD_CHANNEL_BINDING = _make(535, "5.7.7", "Authentication failed: bad channel binding")
BAD_AUTH_MESSAGE = _make(501, "5.5.2", "Malformed authentication message")
TLS_FOR_AUTH = _make(538, "5.7.11", "Authentication needs TLS")
TOO_MANY_FAILURES = _make(550, "5.1.0", "Too many failed transactions")
NOT_ASCII_REVERSE_PATH = _make(550, "5.6.7", "A reverse-path that is not ASCII needs SMTPUTF8")
NOT_ASCII_FORWARD_PATH = _make(553, "5.6.7", "A forward-path that is not ASCII needs SMTPUTF8")
CONTENT_TOO_LARGE = _make(552, "5.3.4", "Message is too large")
SIZE_TOO_LARGE_FOR_US = _make(552, "5.2.3", "Message is too large")
FUTURE_RELEASE_RANGE = _make(554, "5.5.4", "Release time is in the past or too far away")
UNKNOWN_PARAMETER = _make(555, "5.3.3", "Unknown parameter")

# How a failed SASL exchange is told in SMTP (RFC 4954 section 6).
AUTH_FAILURES = {
    FailureReason.BAD_CREDENTIALS: BAD_CREDENTIALS,
    FailureReason.BAD_CHANNEL_BINDING: BAD_CHANNEL_BINDING,
    FailureReason.BAD_MESSAGE: BAD_AUTH_MESSAGE,
    FailureReason.TLS_REQUIRED: TLS_FOR_AUTH,
}

# RFC 5321 section 4.5.3.1.5: a reply line has at most 512 octets with its CRLF.
_MAX_LINE_OCTETS = 510
_NOT_TEXT = re.compile(r"[\x00-\x1f\x7f\x80-\x9f\u2028\u2029\ud800-\udfff]")


def encode_reply(reply: Reply, *, session_id: str = "", allow_utf8: bool = False) -> bytes:
    """Encode a reply, wrapping lines that are too long and ending an error with the session's id.

    Control characters become spaces. Text that is not ASCII becomes question marks, unless `allow_utf8` says that
    the transaction uses SMTPUTF8 (RFC 6531 section 3.7.4.2).
    """
    prefix = f"{reply.enhanced_status_code} " if reply.enhanced_status_code else ""
    text_lines = list(reply.lines) or [""]
    if reply.code >= 400 and session_id:
        text_lines[-1] = f"{text_lines[-1]} ({session_id})"
    room = _MAX_LINE_OCTETS - len("250-") - len(prefix)
    pieces: list[bytes] = []
    for line in text_lines:
        if line.isascii() and line.isprintable():
            octets = line.encode()
        else:
            clean = _NOT_TEXT.sub(" ", line)
            octets = clean.encode() if allow_utf8 else clean.encode("ascii", "replace")
        if len(octets) <= room:
            pieces.append(octets)
        else:
            pieces.extend(_wrap(octets, room))
    code, lead = str(reply.code).encode(), prefix.encode()
    last = pieces.pop()
    more = b"".join(b"%b-%b%b\r\n" % (code, lead, piece) for piece in pieces)
    return b"%b%b %b%b\r\n" % (more, code, lead, last)


def _wrap(octets: bytes, room: int) -> list[bytes]:
    """Cut into pieces of at most `room` octets, at a space where there is one, never inside a UTF-8 character."""
    pieces = []
    start = 0
    while len(octets) - start > room:
        end = octets.rfind(b" ", start + room // 2, start + room + 1)
        if end > 0:
            pieces.append(octets[start:end])
            start = end + 1
            continue
        end = start + room
        while octets[end] & 0xC0 == 0x80:
            end -= 1
        pieces.append(octets[start:end])
        start = end
    pieces.append(octets[start:])
    return pieces
