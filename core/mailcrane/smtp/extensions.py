"""The service extensions that a server announces in its reply to EHLO (RFC 5321 section 4.1.1.1)."""

from __future__ import annotations

from msgspec import Struct

from mailcrane.model.reply import Reply


class Extensions(Struct, frozen=True):
    """What the next hop can do. The default is what follows from HELO: nothing.

    Attributes:
        keywords: In upper case, with their parameters as one text.
        max_message_octets: From SIZE (RFC 1870); None where no limit is told.
        mechanisms: From AUTH (RFC 4954), in upper case.
        max_recipients: From LIMITS RCPTMAX (RFC 9422); None where no limit is told.
    """

    keywords: dict[str, str] = {}
    max_message_octets: int | None = None
    mechanisms: tuple[str, ...] = ()
    max_recipients: int | None = None

    @classmethod
    def from_reply(cls, reply: Reply) -> Extensions:
        """Read the lines after the first; what is malformed is passed over."""
        keywords: dict[str, str] = {}
        for line in reply.lines[1:]:
            keyword, _, parameters = line.strip().partition(" ")
            if keyword[:5].upper() == "AUTH=":
                # An old form that some servers write beside the right one.
                keyword, parameters = "AUTH", f"{keyword[5:]} {parameters}"
            keyword = keyword.upper()
            keywords[keyword] = f"{keywords[keyword]} {parameters}" if keyword in keywords else parameters.strip()
        mechanisms = tuple(dict.fromkeys(keywords.get("AUTH", "").upper().split()))
        max_recipients = None
        for limit in keywords.get("LIMITS", "").split():
            name, _, value = limit.partition("=")
            if name.upper() == "RCPTMAX":
                max_recipients = _positive(value) or max_recipients
        return cls(keywords, _positive(keywords.get("SIZE", "")), mechanisms, max_recipients)

    def __contains__(self, keyword: str) -> bool:
        return keyword in self.keywords

    def refusal(self, *, size_octets: int, needs_smtputf8: bool, require_tls: bool) -> Reply | None:
        """Return the reply that stands for what this server cannot be asked to take, or None.

        RFC 6531 section 3.6 for SMTPUTF8, RFC 8689 section 4.2.1 for REQUIRETLS, RFC 1870 section 6.1 for SIZE.
        """
        if require_tls and "REQUIRETLS" not in self:
            return Reply.make(554, "5.7.30", "Next hop does not support REQUIRETLS")
        if needs_smtputf8 and "SMTPUTF8" not in self:
            return Reply.make(554, "5.6.7", "Next hop does not support SMTPUTF8")
        if self.max_message_octets is not None and size_octets > self.max_message_octets:
            return Reply.make(552, "5.3.4", f"Next hop takes messages of at most {self.max_message_octets} octets")
        return None


def _positive(text: str) -> int | None:
    """A number above zero: RFC 1870 says that zero means no fixed limit."""
    if text.isascii() and text.isdigit() and len(text) <= 20:
        return int(text) or None
    return None
