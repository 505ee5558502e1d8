"""Makes a message of a draft: header in a fixed order, text parts, files (RFC 5322, RFC 2045 to 2049, RFC 6532).

Nothing is signed here and no trace field is added.
"""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

from msgspec import Struct

import mailcrane
from mailcrane.message import fields_out
from mailcrane.message.addresses import NamedMailbox
from mailcrane.message.date import format_date
from mailcrane.message.draft import CompositionError, Draft, DraftFile
from mailcrane.message.encoding import base64_size, encode_base64, encode_quoted_printable, pieces_of
from mailcrane.message.header import HeaderError
from mailcrane.message.mime_fields import parse_media_type
from mailcrane.message.sniff import MAX_SNIFFED_OCTETS, sniff
from mailcrane.message.trace import new_message_id

_MAX_LINE_OCTETS = 76
# RFC 5322 section 2.1.1: a line must not be longer, without its CRLF. Servers cut such lines, which breaks signatures.
_MAX_HEADER_LINE_OCTETS = 998
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_FIELD_NAME = re.compile(r"[!-9;-~]+\Z")
_USER_AGENT_NAMES = frozenset({"user-agent", "x-mailer"})


class Composition(Struct, frozen=True):
    """A composed message, whose body is written when it is asked for.

    Attributes:
        header: Up to and with the empty line.
        write_body: Yields the octets of the body in order, cut anywhere; files are read while it does.
        message_id: With its angle brackets.
        size_octets: Length of header and body.
        needs_smtputf8: Whether header fields are not ASCII.
    """

    header: bytes
    write_body: Callable[[], Iterator[bytes]]
    message_id: str
    size_octets: int
    needs_smtputf8: bool

    def chunks(self, size: int) -> Iterator[bytes]:
        """Yield the whole message in chunks of at most so many octets; reads files, so it may block."""
        held = bytearray()
        for piece in itertools.chain((self.header,), self.write_body()):
            held += piece
            while len(held) >= size:
                yield bytes(held[:size])
                del held[:size]
        if held:
            yield bytes(held)

    @property
    def octets(self) -> bytes:
        """The whole message."""
        return b"".join((self.header, *self.write_body()))


class _Body(Struct, frozen=True):
    """One part: its header fields, and how its octets are made, and how many they are."""

    fields: tuple[tuple[str, str], ...]
    size_octets: int
    write: Callable[[], Iterator[bytes]]


def compose(draft: Draft, *, hostname: str, now: datetime) -> Composition:
    """Make a message of a draft.

    Args:
        hostname: Right side of a new message id.
        now: Date where the draft has none.

    Raises:
        CompositionError: the draft has neither text nor HTML, a control character where none may be, a message id
            without angle brackets, or a word in a header field that is longer than a line may be.
    """
    if not draft.text and not draft.html:
        raise CompositionError("missingBody", "body", "at least one of text and HTML must be there")
    _check(draft)
    people = (draft.author, *draft.to, *draft.cc, *draft.reply_to)
    is_utf8 = any(person.mailbox.needs_smtputf8 for person in people)
    message_id = draft.message_id or new_message_id(hostname)
    root = _root(draft, is_utf8)

    lines: list[tuple[str, str]] = list(_own_fields(draft, message_id, draft.date or now, is_utf8=is_utf8))
    for header in draft.headers:
        lines.append((header.name, fields_out.verbatim(header.name, header.value, is_utf8=is_utf8)))
    if not any(header.name.lower() in _USER_AGENT_NAMES for header in draft.headers):
        lines.append(("User-Agent", f"mailcrane/{mailcrane.__version__}"))
    header_octets = _header([*lines, *root.fields])
    size_octets = len(header_octets) + root.size_octets
    return Composition(header_octets, root.write, message_id, size_octets, not header_octets.isascii() or is_utf8)


def bcc_field(recipients: Sequence[NamedMailbox], *, is_utf8: bool = False) -> bytes:
    """Make the Bcc field that only the author's own copy has; empty without recipients.

    Raises:
        CompositionError: a name has a control character or is too long.
    """
    if not recipients:
        return b""
    for recipient in recipients:
        _check_text("display name in bcc", recipient.name)
    return _header([("Bcc", fields_out.address_list("Bcc", recipients, is_utf8=is_utf8))])[:-2]


def _own_fields(draft: Draft, message_id: str, date: datetime, *, is_utf8: bool) -> Iterator[tuple[str, str]]:
    yield "From", fields_out.address_list("From", (draft.author,), is_utf8=is_utf8)
    for name, addresses in (("Reply-To", draft.reply_to), ("To", draft.to), ("Cc", draft.cc)):
        if addresses:
            yield name, fields_out.address_list(name, addresses, is_utf8=is_utf8)
    if draft.subject:
        yield "Subject", fields_out.unstructured("Subject", draft.subject, is_utf8=is_utf8)
    yield "Date", format_date(date)
    yield "Message-Id", message_id
    if draft.references:
        yield "References", "\r\n\t".join(draft.references)
        yield "In-Reply-To", draft.references[-1]
    yield "MIME-Version", "1.0"


# --- parts ---


def _root(draft: Draft, is_utf8: bool) -> _Body:
    """Nest only as deep as needed: mixed around related around alternative."""
    texts = [_text("plain", draft.text, is_utf8=is_utf8)] if draft.text else []
    if draft.html:
        texts.append(_text("html", draft.html, is_utf8=is_utf8))
    texts += [_file("inline", file, is_utf8=is_utf8) for file in draft.alternative_files]
    body = texts[0] if len(texts) == 1 else _multipart("alternative", texts)
    if draft.inline_files:
        body = _multipart("related", [body, *(_file("inline", file, is_utf8=is_utf8) for file in draft.inline_files)])
    if draft.attached_files:
        files = [_file("attachment", file, is_utf8=is_utf8) for file in draft.attached_files]
        body = _multipart("mixed", [body, *files])
    return body


def _multipart(subtype: str, parts: Sequence[_Body]) -> _Body:
    # "=_" can stand neither in base64 nor in quoted-printable; the rest no one can guess.
    boundary = "=_" + secrets.token_hex(16)

    heads = [f"--{boundary}\r\n".encode() + _header(part.fields) for part in parts]
    end = f"--{boundary}--\r\n".encode()

    def write() -> Iterator[bytes]:
        for head, part in zip(heads, parts, strict=True):
            yield head
            yield from part.write()
            yield b"\r\n"
        yield end

    size_octets = sum(len(head) + part.size_octets + 2 for head, part in zip(heads, parts, strict=True)) + len(end)
    content_type = fields_out.parameters("Content-Type", f"multipart/{subtype}", (f'boundary="{boundary}"',))
    return _Body((("Content-Type", content_type),), size_octets, write)


def _text(subtype: str, text: str, *, is_utf8: bool) -> _Body:
    octets = text.encode().replace(b"\r\n", b"\n")
    if not octets.endswith(b"\n"):
        octets += b"\n"
    is_ascii = octets.isascii()
    is_quoted = b"\r" in octets or max(map(len, octets.split(b"\n"))) > _MAX_LINE_OCTETS
    octets = octets.replace(b"\n", b"\r\n")
    if is_quoted:
        encoding, octets = "quoted-printable", encode_quoted_printable(octets)
    else:
        encoding = "7bit" if is_ascii and not is_utf8 else "8bit"
    fields = (
        ("Content-Type", f"text/{subtype}; charset={'us-ascii' if is_ascii else 'utf-8'}"),
        ("Content-Transfer-Encoding", encoding),
    )
    return _Body(fields, len(octets), lambda: iter((octets,)))


def _file(disposition: str, file: DraftFile, *, is_utf8: bool) -> _Body:
    content_type = file.content_type or sniff(next(pieces_of(file.octets, MAX_SNIFFED_OCTETS), b""))
    # What is not recognised is written as application/octet-stream: without a type it would be read as text.
    fields = [("Content-Type", content_type), ("Content-Transfer-Encoding", "base64")]
    name = fields_out.parameter("filename", file.name, is_utf8=is_utf8)
    fields.append(("Content-Disposition", fields_out.parameters("Content-Disposition", disposition, (name,))))
    if file.content_id:
        has_brackets = file.content_id.startswith("<") and file.content_id.endswith(">")
        fields.append(("Content-ID", file.content_id if has_brackets else f"<{file.content_id}>"))
    size_octets = len(file.octets) if isinstance(file.octets, bytes) else file.octets.size_octets
    return _Body(tuple(fields), base64_size(size_octets), lambda: encode_base64(file.octets))


def _header(fields: Sequence[tuple[str, str]]) -> bytes:
    lines = [f"{name}: {value}\r\n".encode() for name, value in fields]
    for (name, _), line in zip(fields, lines, strict=True):
        if len(line) > _MAX_HEADER_LINE_OCTETS and max(map(len, line.split(b"\r\n"))) > _MAX_HEADER_LINE_OCTETS:
            raise CompositionError(
                "user", f"header {name}", f"does not fit on lines of {_MAX_HEADER_LINE_OCTETS} octets"
            )
    return b"".join(lines) + b"\r\n"


# --- checks ---


def _check(draft: Draft) -> None:
    for place, people in (
        ("from", (draft.author,)),
        ("to", draft.to),
        ("cc", draft.cc),
        ("reply-to", draft.reply_to),
    ):
        for person in people:
            _check_text(f"display name in {place}", person.name)
    _check_text("subject", draft.subject)
    _check_unicode("text", draft.text)
    _check_unicode("HTML", draft.html)
    if draft.message_id:
        _check_text("message id", draft.message_id)
        if not _is_bracketed(draft.message_id):
            raise CompositionError("malformedMessageID", "message id", "must stand between < and >")
    for reference in draft.references:
        _check_text("reference", reference)
    for header in draft.headers:
        _check_text("header name", header.name)
        if not _FIELD_NAME.match(header.name):
            raise CompositionError("user", "header name", "must be ASCII without spaces and colons")
        _check_text(f"header {header.name}", header.value)
    for file in (*draft.alternative_files, *draft.inline_files, *draft.attached_files):
        _check_text("file name", file.name)
        _check_text("content id", file.content_id)
        if not file.content_id.isascii():
            # RFC 2392 takes it into URLs, and a raw one would make SMTPUTF8 necessary for nothing.
            raise CompositionError("user", "content id", "must be ASCII")
        _check_text("content type", file.content_type)
        _check_content_type(file.content_type)


def _is_bracketed(message_id: str) -> bool:
    return len(message_id) > 2 and message_id.startswith("<") and message_id.endswith(">")


def _check_text(field: str, text: str) -> None:
    if _CONTROL.search(text):
        raise CompositionError("user", field, "control characters are not allowed")
    _check_unicode(field, text)


def _check_unicode(field: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise CompositionError("user", field, "is not valid Unicode text") from None


def _check_content_type(content_type: str) -> None:
    if not content_type:
        return
    try:
        major, _, _ = parse_media_type(content_type)
    except HeaderError:
        raise CompositionError("user", "content type", "is not a media type") from None
    if major == "multipart" or not content_type.isascii():
        raise CompositionError("user", "content type", "cannot be the type of a file")
