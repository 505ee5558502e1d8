"""What is said of a message while it is received: recipients resolved, evidence, judgement, place."""

from __future__ import annotations

import enum
from datetime import datetime

from msgspec import Struct

from mailcrane.model.address import Mailbox, ReversePath
from mailcrane.model.message import Content, HeaderField
from mailcrane.model.reply import Reply
from mailcrane.model.session import SessionInfo


class LocalDestination(Struct, frozen=True):
    """The forward-path is a mailbox of ours.

    Attributes:
        account: Name of the account.
        folder: Where its messages are placed unless something else says so.
    """

    account: str
    folder: str = "Inbox"


class RelayDestination(Struct, frozen=True):
    """The forward-path is taken into the queue."""


# What becomes of a forward-path: placed, queued, or refused with this reply.
Destination = LocalDestination | RelayDestination | Reply


class Identity(Struct, frozen=True):
    """Who a session is authenticated as.

    Attributes:
        account: Name of the account.
        login_address: What the client logged in with.
        full_name: Of the account or of the address, for a message that names no author; may be empty.
    """

    account: str
    login_address: str
    full_name: str = ""


class Recipient(Struct, frozen=True):
    """One accepted forward-path with what becomes of it."""

    forward_path: Mailbox
    destination: LocalDestination | RelayDestination


class ReceivedMessage(Struct, frozen=True):
    """A message after its final dot, before anything is answered or stored.

    Attributes:
        session: The session that it came in.
        transaction: Its number in the session, from 1.
        received_at: When the final dot arrived.
    """

    session: SessionInfo
    transaction: int
    reverse_path: ReversePath
    recipients: tuple[Recipient, ...]
    content: Content
    received_at: datetime


class Assessment(Struct, frozen=True):
    """One piece of evidence on a message.

    Attributes:
        name: What was looked at, such as ``spf``.
        result: A word, such as ``pass``.
        explanation: For the operator, in words.
        facts: Details that a judge may use.
    """

    name: str
    result: str
    explanation: str = ""
    facts: dict[str, str] = {}


class Verdict(enum.IntEnum):
    """What a judge wants done. The strictest, the highest, wins."""

    ACCEPT = 0
    QUARANTINE = 1
    DEFER = 2
    REFUSE = 3


class Judgement(Struct, frozen=True):
    """A decision on one message for one recipient.

    Attributes:
        verdict: What is to be done.
        reason: A short word for logs and counters.
        reply: What the peer is told with `Verdict.DEFER` (4yz) and `Verdict.REFUSE` (5yz); a generic one when None.
        folder: Where the message goes with `Verdict.QUARANTINE`.
    """

    verdict: Verdict
    reason: str
    reply: Reply | None = None
    folder: str = "Junk"


class Placement(Struct, frozen=True):
    """Where a message goes in an account.

    Attributes:
        folder: Made where it does not exist.
        flags: System flags such as ``\\Seen``.
        keywords: Lower case.
    """

    folder: str
    flags: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()


HeaderFields = tuple[HeaderField, ...]
