"""Mailboxes and reverse-paths (RFC 5321 sections 4.1.2 and 4.1.3, RFC 6531 section 3.3).

Parsed once, at the edge: inside Mailcrane an address is never a ``str``. Source routes, comments and folding white
space are not part of these values; `mailcrane.smtp.grammar` and `mailcrane.message.header` deal with them.
"""

from __future__ import annotations

import functools
import ipaddress
import re
import unicodedata

import idna
from msgspec import Struct


class AddressError(ValueError):
    """The text is not an address; the message says what is wrong and is safe to show to a peer."""


_ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\u0080-\U0010ffff"
_DOT_STRING = re.compile(rf"[{_ATEXT}]+(?:\.[{_ATEXT}]+)*\Z")
_QUOTED_STRING = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e\u0080-\U0010ffff]|\\[\x20-\x7e])*)"\Z')
_QUOTED_PAIR = re.compile(r"\\(.)")
_LDH_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\Z")

# RFC 5321 section 4.5.3.1.1 and 4.5.3.1.2. A local part counts octets as it travels.
_MAX_LOCAL_PART_OCTETS = 64
_MAX_DOMAIN_OCTETS = 255


@functools.lru_cache(maxsize=16384)
def parse_domain(text: str) -> str:
    """Return the A-label form of a domain name, lower case and without a final dot.

    Underscores are allowed in labels: they occur in names that exist.

    Raises:
        AddressError: the text is not a domain name.
    """
    name = text.removesuffix(".")
    if name.isascii():
        name = name.lower()
    else:
        try:
            name = idna.encode(name, uts46=True).decode("ascii")
        except idna.IDNAError as error:
            raise AddressError(f"bad domain name: {error}") from None
    if not name or len(name) > _MAX_DOMAIN_OCTETS:
        raise AddressError("bad domain name: empty or too long")
    if not all(_LDH_LABEL.match(label) for label in name.split(".")):
        raise AddressError("bad domain name: a label has a character or length that is not allowed")
    return name


@functools.lru_cache(maxsize=16384)
def domain_to_unicode(domain: str) -> str:
    """Return the U-label form of a domain for people to read; what does not decode is returned as it is."""
    if "xn--" not in domain:
        return domain
    try:
        return idna.decode(domain)
    except idna.IDNAError:
        return domain


def parse_address_literal(text: str) -> str:
    """Return the canonical form of an address literal such as ``[192.0.2.1]`` (RFC 5321 section 4.1.3).

    Raises:
        AddressError: the text is not an IPv4 or IPv6 address literal.
    """
    if not (text.startswith("[") and text.endswith("]")):
        raise AddressError("bad address literal: brackets are missing")
    inside = text[1:-1]
    try:
        if inside[:5].lower() == "ipv6:":
            return f"[IPv6:{ipaddress.IPv6Address(inside[5:])}]"
        return f"[{ipaddress.IPv4Address(inside)}]"
    except ValueError:
        raise AddressError("bad address literal") from None


class Mailbox(Struct, frozen=True, order=True):
    """A mailbox: a local part and a domain (RFC 5321 section 2.3.11).

    Attributes:
        local_part: Without quotes and in Unicode normalisation form C; its case is kept.
        domain: The A-label form in lower case, or an address literal with its brackets.
    """

    local_part: str
    domain: str

    @classmethod
    def parse(cls, text: str) -> Mailbox:
        """Parse ``local-part@domain`` as it stands in an SMTP path, without angle brackets.

        Raises:
            AddressError: the text is not a mailbox.
        """
        local, at, domain = text.rpartition("@")
        if not at:
            raise AddressError("bad address: no @")
        return cls(_parse_local_part(local), _parse_host(domain))

    @property
    def is_address_literal(self) -> bool:
        """Whether the domain is an address literal, which has no DNS records."""
        return self.domain.startswith("[")

    @property
    def needs_smtputf8(self) -> bool:
        """Whether the mailbox can only travel with SMTPUTF8 (RFC 6531): its local part is not ASCII."""
        return not self.local_part.isascii()

    @property
    def unicode(self) -> str:
        """The address as a person reads it, with U-labels."""
        return f"{_quote_local_part(self.local_part)}@{domain_to_unicode(self.domain)}"

    def __str__(self) -> str:
        return f"{_quote_local_part(self.local_part)}@{self.domain}"


class ReversePath(Struct, frozen=True):
    """The argument of MAIL: a mailbox, or null for messages that must never be answered (RFC 5321 section 4.5.5)."""

    mailbox: Mailbox | None = None

    @property
    def is_null(self) -> bool:
        """Whether this is the null reverse-path ``<>``."""
        return self.mailbox is None

    @property
    def domain(self) -> str:
        """The domain of the mailbox; empty for the null reverse-path."""
        return "" if self.mailbox is None else self.mailbox.domain

    def __str__(self) -> str:
        return "" if self.mailbox is None else str(self.mailbox)


NULL_REVERSE_PATH = ReversePath()


@functools.lru_cache(maxsize=16384)
def _parse_host(text: str) -> str:
    return parse_address_literal(text) if text.startswith("[") else parse_domain(text)


def _parse_local_part(text: str) -> str:
    if _DOT_STRING.match(text):
        local = text
    elif (quoted := _QUOTED_STRING.match(text)) is not None:
        local = _QUOTED_PAIR.sub(r"\1", quoted.group(1))
    else:
        raise AddressError("bad address: local part is neither a dot-string nor a quoted string")
    if not local.isascii():
        local = unicodedata.normalize("NFC", local)
    if len(local) > _MAX_LOCAL_PART_OCTETS or len(local.encode("utf-8", "surrogatepass")) > _MAX_LOCAL_PART_OCTETS:
        raise AddressError("bad address: local part is longer than 64 octets")
    if any("\ud800" <= character <= "\udfff" for character in local):
        raise AddressError("bad address: local part is not valid UTF-8")
    return local


def _quote_local_part(local: str) -> str:
    if _DOT_STRING.match(local):
        return local
    return '"' + local.replace("\\", "\\\\").replace('"', '\\"') + '"'
