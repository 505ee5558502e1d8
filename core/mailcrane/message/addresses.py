"""Address lists of header fields: mailboxes with display names, groups, comments, obsolete routes.

RFC 5322 sections 3.4 and 4.4 with the UTF-8 of RFC 6532. Group names are dropped, their members kept. What is written
by hand wrong but clear is read: empty list elements, dots in display names, a comment in the place of a name.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from msgspec import Struct

from mailcrane.message import encoded_word
from mailcrane.message.header import HeaderError
from mailcrane.model.address import AddressError, Mailbox, domain_to_unicode

MAX_ADDRESSES = 10_000
_MAX_COMMENT_DEPTH = 50

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+)
    | (?P<atom>[^\x00-\x20\x7f()<>\[\]:;@\\,."]+)
    | (?P<quoted>"(?:[^"\\]|\\.)*")
    | (?P<literal>\[[^\[\]\\]*\])
    | (?P<special>[<>@,;:.])
    | (?P<comment>\()""",
    re.VERBOSE | re.DOTALL,
)
_COMMENT_STEP = re.compile(r"[^()\\]+|\\.|[()]", re.DOTALL)
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)
_WHITE_SPACE = re.compile(r"[ \t\r\n]+")
_ATOM_PHRASE = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*\Z")


class AddressListError(HeaderError):
    """The value is not an address list; the message says what is wrong and is safe to show to a peer."""


class NamedMailbox(Struct, frozen=True):
    """A mailbox with the display name it was written with.

    Attributes:
        name: Decoded; empty where there is none.
    """

    name: str
    mailbox: Mailbox


def parse_address_list(value: str, *, max_addresses: int = MAX_ADDRESSES) -> tuple[NamedMailbox, ...]:
    """Parse the unfolded value of From, To, Cc, Bcc, Reply-To or Sender.

    Raises:
        AddressListError: something is not an address, or there are more than the limit.
    """
    reader = _Reader(value, max_addresses)
    reader.read()
    return tuple(reader.addresses)


def quote_phrase(text: str) -> str:
    """Return a display name as a phrase: as it is where its words are atoms, else as a quoted string."""
    if _ATOM_PHRASE.match(text) and not encoded_word.needs_encoding(text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def format_address(address: Mailbox, *, is_utf8: bool = False) -> str:
    """Return a mailbox as it stands in a header field: with U-labels in a SMTPUTF8 message, else with A-labels."""
    if is_utf8 and not address.is_address_literal:
        return str(address)[: -len(address.domain)] + domain_to_unicode(address.domain)
    return str(address)


class _Reader:
    """Reads one address after another; each token is looked at once."""

    def __init__(self, text: str, max_addresses: int) -> None:
        self.addresses: list[NamedMailbox] = []
        self._text = text
        self._max_addresses = max_addresses
        self._tokens = self._tokenize(text)
        self._index = 0

    def read(self) -> None:
        in_group = False
        phrase: list[tuple[str, str]] = []
        comment = ""
        while self._index < len(self._tokens):
            kind, text = self._tokens[self._index]
            self._index += 1
            if kind == "comment":
                comment = text
            elif kind != "special" or text == ".":
                phrase.append((kind, text))
            elif text == "<":
                mailbox = self._angle_address()
                self._add(_phrase_text(phrase) or comment, mailbox)
                phrase, comment = [], ""
                self._expect_separator(in_group)
            elif text == "@":
                domain, trailing = self._domain()
                self._add(trailing or comment, self._mailbox(_local_part(phrase), domain))
                phrase, comment = [], ""
                self._expect_separator(in_group)
            elif text == ":":
                if in_group or not _phrase_text(phrase):
                    raise AddressListError("bad address list: a colon out of place")
                in_group, phrase, comment = True, [], ""
            elif text in ",;":
                if _phrase_text(phrase):
                    raise AddressListError("bad address: no @")
                if text == ";":
                    if not in_group:
                        raise AddressListError("bad address list: a semicolon outside a group")
                    in_group = False
                phrase, comment = [], ""
            else:
                raise AddressListError("bad address list: > without <")
        if _phrase_text(phrase):
            raise AddressListError("bad address: no @")

    def _add(self, name: str, mailbox: Mailbox) -> None:
        if len(self.addresses) >= self._max_addresses:
            raise AddressListError("bad address list: too many addresses")
        self.addresses.append(NamedMailbox(name, mailbox))

    def _next(self) -> tuple[str, str]:
        """The next token that is neither white space nor a comment; ('end', '') after the last."""
        while self._index < len(self._tokens):
            kind, text = self._tokens[self._index]
            self._index += 1
            if kind not in {"space", "comment"}:
                return kind, text
        return "end", ""

    def _angle_address(self) -> Mailbox:
        local: list[tuple[str, str]] = []
        while True:
            kind, text = self._next()
            if kind == "end":
                raise AddressListError("bad address: < without >")
            if kind == "special" and text == "@" and not local:
                self._skip_route()
            elif kind == "special" and text == "@":
                domain, _ = self._domain()
                if self._next() != ("special", ">"):
                    raise AddressListError("bad address: > is missing after the domain")
                return self._mailbox(_local_part(local), domain)
            elif kind == "special" and text != ".":
                raise AddressListError("bad address: no @")
            else:
                local.append((kind, text))

    def _skip_route(self) -> None:
        """Pass over an obsolete route such as ``@a,@b:`` (RFC 5322 section 4.4), its first @ already read."""
        while True:
            kind, text = self._next()
            if (kind, text) == ("special", ":"):
                return
            if kind == "end" or (kind == "special" and text not in "@,."):
                raise AddressListError("bad address: a route without its colon")

    def _domain(self) -> tuple[str, str]:
        """Read a domain or literal; returns it and a comment that follows directly."""
        parts: list[str] = []
        comment = ""
        while self._index < len(self._tokens):
            kind, text = self._tokens[self._index]
            if kind == "comment":
                comment = text
            elif kind in {"literal", "atom"}:
                if parts and parts[-1] != ".":
                    break
                parts.append(text)
            elif (kind, text) == ("special", "."):
                parts.append(text)
            elif kind != "space":
                break
            self._index += 1
        if not parts:
            raise AddressListError("bad address: no domain")
        return "".join(parts), comment

    def _mailbox(self, local: str, domain: str) -> Mailbox:
        try:
            return Mailbox.parse(f"{local}@{domain}")
        except AddressError as error:
            raise AddressListError(str(error)) from None

    def _expect_separator(self, in_group: bool) -> None:
        kind, text = self._next()
        if kind == "end":
            return
        if (kind, text) == ("special", ",") or (in_group and (kind, text) == ("special", ";")):
            self._index -= 1  # the main loop ends the group
            return
        raise AddressListError("bad address list: no comma between addresses")

    @staticmethod
    def _tokenize(text: str) -> list[tuple[str, str]]:
        tokens: list[tuple[str, str]] = []
        position, length = 0, len(text)
        match_token = _TOKEN.match
        while position < length:
            match = match_token(text, position)
            if match is None:
                raise AddressListError("bad address list: a character that is not allowed, or an open quote")
            kind = match.lastgroup or ""
            position = match.end()
            if kind == "comment":
                inside, position = _read_comment(text, position)
                tokens.append((kind, inside))
            else:
                tokens.append((kind, match.group()))
        return tokens


def _read_comment(text: str, position: int) -> tuple[str, int]:
    depth, start = 1, position
    while depth:
        match = _COMMENT_STEP.match(text, position)
        if match is None:
            raise AddressListError("bad address list: an open comment")
        step = match.group()
        depth += (step == "(") - (step == ")")
        if depth > _MAX_COMMENT_DEPTH:
            raise AddressListError("bad address list: comments are nested too deeply")
        position = match.end()
    inside = _QUOTED_PAIR.sub(r"\1", text[start : position - 1])
    return encoded_word.decode(_WHITE_SPACE.sub(" ", inside).strip()), position


def _phrase_text(tokens: Sequence[tuple[str, str]]) -> str:
    if not tokens:
        return ""
    words = [
        _QUOTED_PAIR.sub(r"\1", text[1:-1]) if kind == "quoted" else " " if kind == "space" else text
        for kind, text in tokens
    ]
    return encoded_word.decode("".join(words).strip())


def _local_part(tokens: Sequence[tuple[str, str]]) -> str:
    """The local part as it stands in an SMTP path; white space between its parts is obsolete and dropped."""
    parts = [(kind, text) for kind, text in tokens if kind != "space"]
    for (kind, text), (next_kind, next_text) in itertools.pairwise(parts):
        if text != "." and next_text != "." and kind != "special" and next_kind != "special":
            raise AddressListError("bad address: two words before the @")
    if len(parts) > 1 and any(kind == "quoted" for kind, _ in parts):
        # RFC 5322 section 4.4, obs-local-part: one quoted string says the same.
        inside = "".join(_QUOTED_PAIR.sub(r"\1", text[1:-1]) if kind == "quoted" else text for kind, text in parts)
        return '"' + inside.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return "".join(text for _, text in parts)
