"""Makes a message that a program wrote fit for submission: line ends, author, recipients (RFC 5322, RFC 6409)."""

from __future__ import annotations

import re

from msgspec import Struct

from mailcrane.cli.sendmail.arguments import Arguments
from mailcrane.cli.sendmail.config import SendmailConfig
from mailcrane.message.addresses import parse_address_list
from mailcrane.message.header import FIELD, HeaderError, unfold
from mailcrane.model.address import AddressError, Mailbox

# What stands between commas, save those in quotes, comments and angle brackets.
_LIST_ITEM = re.compile(r"""(?:"(?:[^"\\]|\\.)*"|\([^)]*\)|<[^>]*>|[^,"(<])+""")
_IS_LIST = re.compile(r",|.<")
_LOCAL_NAME = re.compile(r"[A-Za-z0-9._+-]+\Z")
_RECIPIENT_FIELDS = ("to", "cc", "bcc")


class BadMessage(Exception):
    """There is nobody to send the message to, or a recipient is no address."""


class OutgoingMessage(Struct, frozen=True):
    """A message, ready to be submitted.

    Attributes:
        content: With CRLF line ends.
        forward_paths: Each once.
    """

    content: bytes
    reverse_path: Mailbox
    forward_paths: tuple[Mailbox, ...]

    @property
    def has_8bit(self) -> bool:
        """Whether an octet above 127 occurs."""
        return not self.content.isascii()

    @property
    def needs_smtputf8(self) -> bool:
        """Whether the envelope or the header is not ASCII (RFC 6531)."""
        header = self.content[: self.content.index(b"\r\n\r\n")]
        return not header.isascii() or any(path.needs_smtputf8 for path in (self.reverse_path, *self.forward_paths))


def make_message(octets: bytes, arguments: Arguments, config: SendmailConfig) -> OutgoingMessage:
    """Make the message of what came on standard input.

    From becomes the configured address unless it may be kept, Bcc goes, To is put in where it is missing.

    Raises:
        BadMessage: there is no recipient, or one is no address.
    """
    fields, body = _split(_lines_of(octets, ends_at_dot=arguments.ends_at_dot))
    author = _kept_author(fields) if config.keep_from else None
    reverse_path = (_kept_path(arguments.reverse_path) or author) if config.keep_from else None
    paths = _forward_paths(fields, arguments, config)
    kept = [
        (name, raw)
        for name, raw in fields
        if name != "bcc" and (name != "from" or author is not None)
        if name != "tls-required" or not config.require_tls
    ]
    header = b"".join(raw for _, raw in kept)
    names = {name for name, _ in kept}
    if author is None:
        header = f"From: <{config.author}>\r\n".encode() + header
    if not names & {"to", "cc"}:
        # With Bcc alone the recipients are nobody's business.
        is_hidden = any(name == "bcc" for name, _ in fields)
        to = "undisclosed-recipients:;" if is_hidden else ",\r\n\t".join(f"<{path}>" for path in paths)
        header += f"To: {to}\r\n".encode()
    if config.require_tls == "no":
        header += b"TLS-Required: No\r\n"
    return OutgoingMessage(header + b"\r\n" + body, reverse_path or config.author, paths)


def _lines_of(octets: bytes, *, ends_at_dot: bool) -> bytes:
    """Return the octets with CRLF line ends and one at the end, cut at a single dot where that ends the message."""
    # Without a list of lines, which takes several times the memory of a large message.
    content = octets.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if content and not content.endswith(b"\n"):
        content += b"\n"
    if ends_at_dot and (end := (b"\n" + content).find(b"\n.\n")) >= 0:
        content = content[:end]
    return content.replace(b"\n", b"\r\n")


def _split(octets: bytes) -> tuple[list[tuple[str, bytes]], bytes]:
    """Split into header fields, by name in lower case, and the body, which begins at what is no field."""
    if octets.startswith(b"From "):
        # The line that separates messages in a file.
        octets = octets.partition(b"\r\n")[2]
    fields: list[tuple[str, bytes]] = []
    position = 0
    while found := FIELD.match(octets, position):
        fields.append((found[1].decode("ascii").lower(), found[0]))
        position = found.end()
    body = octets[position:]
    return fields, body.removeprefix(b"\r\n")


def _addresses(name: str, raw: bytes) -> list[str]:
    value = unfold(raw.partition(b":")[2].rstrip(b"\r\n"))
    return _listed(value, BadMessage(f"the field {name.capitalize()} has no list of addresses: {value[:100]}"))


def _listed(value: str, wrong: BadMessage) -> list[str]:
    """Return the addresses and local names of a list, or raise what is given."""
    try:
        return [str(one.mailbox) for one in parse_address_list(value)]
    except HeaderError:
        pass
    # Local names, such as root, are no addresses to a parser of RFC 5322.
    found: list[str] = []
    if _LIST_ITEM.sub("", value).strip(","):
        raise wrong
    for part in filter(None, map(str.strip, _LIST_ITEM.findall(value))):
        if _LOCAL_NAME.match(part):
            found.append(part)
            continue
        try:
            found += [str(one.mailbox) for one in parse_address_list(part)]
        except HeaderError:
            raise wrong from None
    return found


def _forward_paths(
    fields: list[tuple[str, bytes]], arguments: Arguments, config: SendmailConfig
) -> tuple[Mailbox, ...]:
    given: list[str] = []
    for text in arguments.recipients:
        # One argument may be a list: 'ann@example.org, Bob <bob@example.org>'.
        given += _listed(text, BadMessage(f"{text!r} is not an address")) if _IS_LIST.search(text) else [text]
    if arguments.is_from_header:
        for name, raw in fields:
            if name in _RECIPIENT_FIELDS and raw.partition(b":")[2].strip():
                given += _addresses(name, raw)
    if not given:
        raise BadMessage("there are no recipients")
    return tuple(dict.fromkeys(_forward_path(text, config) for text in given))


def _forward_path(text: str, config: SendmailConfig) -> Mailbox:
    text = text.strip().removeprefix("<").removesuffix(">")
    if "@" not in text:
        if not config.default_destination:
            raise BadMessage(f"{text!r} has no domain, and default_destination is not set")
        return Mailbox.parse(config.default_destination)
    try:
        return Mailbox.parse(text)
    except AddressError as error:
        raise BadMessage(f"{text!r} is not an address: {error}") from None


def _kept_author(fields: list[tuple[str, bytes]]) -> Mailbox | None:
    found = [raw for name, raw in fields if name == "from"]
    if len(found) != 1:
        return None
    try:
        (author,) = parse_address_list(unfold(found[0].partition(b":")[2].rstrip(b"\r\n")))
    except (HeaderError, ValueError):
        return None
    return author.mailbox


def _kept_path(text: str) -> Mailbox | None:
    try:
        return Mailbox.parse(text.removeprefix("<").removesuffix(">")) if "@" in text else None
    except AddressError:
        return None
