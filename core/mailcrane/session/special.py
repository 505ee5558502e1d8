"""Local parts that ask for a failure, for those who test their own mail sending against a development server.

A local part that ends in ``temperror``, ``permerror``, ``timeout`` or three digits from 400 to 599 fails in that way:
a reverse-path that begins with ``mailfrom`` at MAIL, a forward-path that begins with ``rcptto`` at RCPT, any other
forward-path after the final dot. Listeners with ``special_recipients`` do this; no other listener does.
"""

from __future__ import annotations

from msgspec import Struct

from mailcrane.model.address import Mailbox
from mailcrane.model.reply import Reply


class SpecialFailure(Struct, frozen=True):
    """A failure that a local part asks for.

    Attributes:
        reply: What is answered.
        delay: Seconds of silence before it.
    """

    reply: Reply
    delay: float = 0.0


_TIMEOUT = 3600.0


def failure_at_mail(mailbox: Mailbox | None) -> SpecialFailure | None:
    """The failure that a reverse-path asks for at MAIL."""
    if mailbox is None or not mailbox.local_part.startswith("mailfrom"):
        return None
    return _failure(mailbox.local_part)


def failure_at_rcpt(mailbox: Mailbox) -> SpecialFailure | None:
    """The failure that a forward-path asks for at RCPT."""
    return _failure(mailbox.local_part) if mailbox.local_part.startswith("rcptto") else None


def failure_at_data(mailbox: Mailbox) -> SpecialFailure | None:
    """The failure that a forward-path asks for after the final dot."""
    return _failure(mailbox.local_part)


def _failure(local_part: str) -> SpecialFailure | None:
    if local_part.endswith("temperror"):
        return SpecialFailure(_reply(451))
    if local_part.endswith("permerror"):
        return SpecialFailure(_reply(550))
    if local_part.endswith("timeout"):
        return SpecialFailure(_reply(451), _TIMEOUT)
    digits = local_part[-3:]
    if len(digits) == 3 and digits.isascii() and digits.isdigit() and 400 <= int(digits) <= 599:
        return SpecialFailure(_reply(int(digits)))
    return None


def _reply(code: int) -> Reply:
    return Reply.make(code, f"{code // 100}.0.0", "the local part of the address asks for this failure")
