"""Delivery status notifications as we make them: one recipient, the original's header (RFC 3464, RFC 6522, RFC 6533).

What a next hop said can hold anything. It is written without control characters, folded, and in ASCII where the
notification is. Requests of RFC 3461 (NOTIFY, RET, ORCPT, ENVID) are not known here.
"""

from __future__ import annotations

import enum
import re
import secrets
from collections.abc import Iterator
from datetime import datetime

from msgspec import Struct

from mailcrane.message import fields_out
from mailcrane.message.addresses import NamedMailbox
from mailcrane.message.date import format_date
from mailcrane.message.encoding import encode_base64, encode_quoted_printable
from mailcrane.message.trace import new_message_id
from mailcrane.model.address import Mailbox
from mailcrane.model.reply import Reply

_WIDTH = 76
# RFC 5322 section 2.1.1, without the CRLF.
_MAX_LINE_OCTETS = 998
# Longer words are cut, so that they can be folded; a character has up to four octets.
_MAX_WORD = 900
_MAX_WIDE_WORD = 240
# What a next hop says is quoted as far as it helps; a comment says less than the field of its own.
_MAX_DIAGNOSTIC = 4000
_MAX_COMMENT = 300
# Of the original's header; a longer one is cut after a whole field.
_MAX_HEADER_OCTETS = 64 * 1024

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
_UNSAFE_IN_COMMENT = re.compile(r"[()\\]")
_MESSAGE_ID = re.compile(r"<[!-~]{1,900}>\Z")
_STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}\Z")


class Action(enum.StrEnum):
    """What became of the message for the recipient (RFC 3464 section 2.3.3), as far as we tell of it."""

    FAILED = "failed"
    DELAYED = "delayed"


class DeliveryStatus(Struct, frozen=True):
    """What a notification tells.

    Attributes:
        action: What became of the message.
        status: The enhanced status code; see `status_code`.
        reverse_path: Who is told.
        forward_path: Whom it is about.
        words: For a person to read: paragraphs, with LF between lines.
        arrived_at: When the message was queued.
        reply: The next hop's own; None when nothing was heard.
        error: In words, where there is no reply.
        remote_mta: ``name (ip)`` of the next hop; empty when none was reached.
        last_attempt_at: None when there was none.
        will_retry_until: When the last attempt is made; of a delayed message only.
        future_release: As the submitter asked for it (RFC 4865); empty when not.
        message_id: Of the original, with its angle brackets; empty when it has none.
        header: Of the original, with the CRLF of its last field; empty when it is not known.
    """

    action: Action
    status: str
    reverse_path: Mailbox
    forward_path: Mailbox
    words: str
    arrived_at: datetime
    reply: Reply | None = None
    error: str = ""
    remote_mta: str = ""
    last_attempt_at: datetime | None = None
    will_retry_until: datetime | None = None
    future_release: str = ""
    message_id: str = ""
    header: bytes = b""

    @property
    def is_utf8(self) -> bool:
        """Whether an address can only be written with SMTPUTF8."""
        return self.reverse_path.needs_smtputf8 or self.forward_path.needs_smtputf8


def status_code(action: Action, reply: Reply | None, default: str) -> str:
    """Return the enhanced status code of a notification: its class is that of the action (RFC 3463 section 2).

    Args:
        action: What became of the message.
        reply: Whose detail is taken, where it has one.
        default: Subject and detail such as ``4.7``, where there is no reply.
    """
    detail = default
    if reply is not None:
        detail = reply.enhanced_status_code.partition(".")[2] or "0.0"
    code = f"{5 if action is Action.FAILED else 4}.{detail}"
    return code if _STATUS.match(code) else f"{code[0]}.0.0"


def compose_dsn(status: DeliveryStatus, *, hostname: str, now: datetime) -> bytes:
    """Make the notification, in time that grows with what it is made of.

    Args:
        status: What it tells.
        hostname: Who tells it; postmaster there is the author.
        now: Its date.
    """
    boundary = "=_" + secrets.token_hex(16)
    kind = "global-delivery-status" if status.is_utf8 else "delivery-status"
    text = status.words.rstrip().replace("\n", "\r\n").encode("utf-8", "replace") + b"\r\n"
    parts = [
        _part(f"text/plain; charset={'us-ascii' if text.isascii() else 'utf-8'}", text, is_text=True),
        _part(f"message/{kind}", _report(status, hostname), is_text=False),
    ]
    if status.header:
        parts.append(_original(status.header))
    is_8bit = not all(part.isascii() for part in parts)
    out = [_header(status, hostname, now, boundary, is_8bit=is_8bit)]
    for part in parts:
        out += [f"--{boundary}\r\n".encode(), part, b"\r\n"]
    out.append(f"--{boundary}--\r\n".encode())
    return b"".join(out)


# --- the message ------------------------------------------------------------------------------------------------


def _header(status: DeliveryStatus, hostname: str, now: datetime, boundary: str, *, is_8bit: bool) -> bytes:
    is_utf8 = status.is_utf8
    author = NamedMailbox("Mail Delivery System", Mailbox("postmaster", hostname))
    what = "Not delivered to" if status.action is Action.FAILED else "Not delivered yet to"
    fields = [
        ("From", fields_out.address_list("From", (author,), is_utf8=is_utf8)),
        ("To", fields_out.address_list("To", (NamedMailbox("", status.reverse_path),), is_utf8=is_utf8)),
        ("Subject", fields_out.unstructured("Subject", f"{what} {status.forward_path.unicode}", is_utf8=is_utf8)),
        ("Date", format_date(now)),
        ("Message-Id", new_message_id(hostname)),
        ("Auto-Submitted", "auto-replied"),
        ("MIME-Version", "1.0"),
        (
            "Content-Type",
            fields_out.parameters(
                "Content-Type", "multipart/report", ("report-type=delivery-status", f'boundary="{boundary}"')
            ),
        ),
    ]
    if is_8bit:
        fields.append(("Content-Transfer-Encoding", "8bit"))
    if _MESSAGE_ID.match(status.message_id):
        fields.insert(5, ("References", status.message_id))
    return "".join([f"{name}: {value}\r\n" for name, value in fields]).encode() + b"\r\n"


def _part(content_type: str, octets: bytes, *, is_text: bool) -> bytes:
    if octets.isascii() and _is_short(octets):
        encoding = b"7bit"
    elif _is_short(octets):
        encoding = b"8bit"
    elif is_text:
        encoding, octets = b"quoted-printable", encode_quoted_printable(octets)
    else:
        encoding, octets = b"base64", b"".join(encode_base64(octets))
    return (
        b"Content-Type: " + content_type.encode() + b"\r\nContent-Transfer-Encoding: " + encoding + b"\r\n\r\n" + octets
    )


def _original(header: bytes) -> bytes:
    header = _cut(header)
    if header.isascii():
        return _part("text/rfc822-headers; charset=us-ascii", header, is_text=False)
    try:
        header.decode()
    except UnicodeDecodeError:
        # Raw 8-bit octets of an unnamed charset; RFC 1428 has a name for that. Nothing is to guess at them on the way.
        encoded = b"".join(encode_base64(header))
        return (
            b"Content-Type: text/rfc822-headers; charset=unknown-8bit\r\nContent-Transfer-Encoding: base64\r\n\r\n"
            + encoded
        )
    return _part("message/global-headers", header, is_text=False)


def _cut(header: bytes) -> bytes:
    """Return a header that is not too long, cut after a whole field where it was."""
    if len(header) <= _MAX_HEADER_OCTETS:
        return header
    end = _MAX_HEADER_OCTETS
    while True:
        end = header.rfind(b"\r\n", 0, end)
        if end < 0:
            return b""
        if header[end + 2 : end + 3] not in {b" ", b"\t"}:
            return header[: end + 2]


def _is_short(octets: bytes) -> bool:
    """Whether octets may travel as they are: no long line, no NUL, no bare CR or LF."""
    lines = octets.split(b"\r\n")
    return max(map(len, lines)) <= _MAX_LINE_OCTETS and not any(
        octet in octets.replace(b"\r\n", b"") for octet in (b"\r", b"\n", b"\0")
    )


# --- the report -------------------------------------------------------------------------------------------------


def _report(status: DeliveryStatus, hostname: str) -> bytes:
    """Make the machine's part: fields of the message, an empty line, fields of the recipient."""
    blocks = (_message_fields(status, hostname), _recipient_fields(status))
    return b"\r\n".join(
        b"".join([_field(name, value, is_utf8=status.is_utf8) for name, value in block if value]) for block in blocks
    )


def _message_fields(status: DeliveryStatus, hostname: str) -> Iterator[tuple[str, str]]:
    yield "Reporting-MTA", f"dns; {hostname}"
    yield "Arrival-Date", format_date(status.arrived_at)
    yield "Future-Release-Request", status.future_release


def _recipient_fields(status: DeliveryStatus) -> Iterator[tuple[str, str]]:
    path = status.forward_path
    yield "Final-Recipient", f"utf-8; {path.unicode}" if path.needs_smtputf8 else f"rfc822; {path}"
    yield "Action", str(status.action)
    said = status.error if status.reply is None else status.reply.text
    comment = _UNSAFE_IN_COMMENT.sub("", _clean(said[: 2 * _MAX_COMMENT]))[:_MAX_COMMENT].strip()
    yield "Status", f"{status.status} ({comment})" if comment else status.status
    if status.remote_mta:
        yield "Remote-MTA", f"dns; {status.remote_mta}"
    if status.reply is not None:
        # RFC 3464 section 2.3.6: what no remote server has said is of a type of our own.
        yield "Diagnostic-Code", f"{'smtp' if status.remote_mta else 'x-mailcrane'}; {status.reply}"
    if status.last_attempt_at is not None:
        yield "Last-Attempt-Date", format_date(status.last_attempt_at)
    if status.will_retry_until is not None:
        yield "Will-Retry-Until", format_date(status.will_retry_until)


def _field(name: str, value: str, *, is_utf8: bool) -> bytes:
    text = _clean(value[: 2 * _MAX_DIAGNOSTIC])[:_MAX_DIAGNOSTIC]
    if not is_utf8:
        text = _in_ascii(text)
    return f"{name}:{_folded(len(name) + 1, text)}\r\n".encode()


def _clean(text: str) -> str:
    """Return a text on one line: no control characters, single spaces."""
    return " ".join(_CONTROL.sub(" ", text).split())


def _in_ascii(text: str) -> str:
    """Write what is not ASCII as its code point, in the way of RFC 6533 section 3."""
    if text.isascii():
        return text
    return "".join([letter if letter.isascii() else f"\\x{{{ord(letter):X}}}" for letter in text])


def _folded(column: int, text: str) -> str:
    """Return words with a space in front of each, and CRLF in front of that where a line would be too long."""
    out: list[str] = []
    for word in text.split(" "):
        most = _MAX_WORD if word.isascii() else _MAX_WIDE_WORD
        for start in range(0, len(word), most):
            piece = word[start : start + most]
            if column + 1 + len(piece) > _WIDTH and out:
                out.append("\r\n")
                column = 0
            out.append(" " + piece)
            column += 1 + len(piece)
    return "".join(out)
