"""Queue entries, attempts to deliver them, and what comes of an attempt."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Protocol

from msgspec import Struct

from mailcrane.model.address import Mailbox, ReversePath
from mailcrane.model.message import HeaderField
from mailcrane.model.reply import Reply


class Outcome(enum.StrEnum):
    """What became of one forward-path in one attempt."""

    DELIVERED = "delivered"
    DEFERRED = "deferred"
    FAILED = "failed"


class TLSUse(Struct, frozen=True):
    """What an attempt has shown of a next hop's TLS.

    Attributes:
        version: Such as ``TLSv1.3``; empty when the message went, or was to go, in plaintext.
        is_verified: The certificate is trusted and good for the host, whether that was required or not.
        is_offered: STARTTLS was offered, or TLS spoken from the start.
        has_requiretls: REQUIRETLS (RFC 8689) was offered.
        is_fallback: Plaintext was spoken because TLS did not work.
        problem: Why the certificate is not trusted, or why TLS did not work.
        is_of_domain: The next hop is one that the recipient's domain names; otherwise a relay.
        asked: What was asked for: ``immediate`` (TLS from the start), ``verified`` or ``required`` STARTTLS,
            ``opportunistic``, ``none``; empty when it is not known.
    """

    version: str = ""
    is_verified: bool = False
    is_offered: bool = False
    has_requiretls: bool = False
    is_fallback: bool = False
    problem: str = ""
    is_of_domain: bool = False
    asked: str = ""

    def __str__(self) -> str:
        """Say it in words, for a timeline."""
        if self.version:
            return f"{self.version}, {'verified' if self.is_verified else self.problem or 'any certificate taken'}"
        if self.is_fallback:
            return f"in plaintext after TLS did not work ({self.problem})"
        return "in plaintext" + (", although TLS was offered" if self.is_offered else "")


class RecipientResult(Struct, frozen=True):
    """The result of an attempt for one forward-path.

    Attributes:
        outcome: 2yz delivered, 4yz deferred, 5yz failed.
        reply: The next hop's last word, or what we say in its place; None when nothing was heard.
        error: In words, for people; empty when delivered.
        remote_mta: ``name (ip)`` of the next hop; empty when none was reached.
        is_maybe_delivered: The connection was lost after the final dot, so the next hop may have the message.
        notes: Remarks for the timeline, such as 8-bit content sent to a peer without 8BITMIME.
        tls: What was seen of the next hop's TLS; None when that was nothing.
        dialed: Host and IP address of each connection that was made in the attempt, in order.
    """

    outcome: Outcome
    reply: Reply | None = None
    error: str = ""
    remote_mta: str = ""
    is_maybe_delivered: bool = False
    notes: tuple[str, ...] = ()
    tls: TLSUse | None = None
    dialed: tuple[tuple[str, str], ...] = ()

    @classmethod
    def from_reply(cls, reply: Reply, *, remote_mta: str = "", notes: tuple[str, ...] = ()) -> RecipientResult:
        """Make the result that a next hop's reply stands for."""
        if reply.is_positive:
            return cls(Outcome.DELIVERED, reply, remote_mta=remote_mta, notes=notes)
        outcome = Outcome.FAILED if reply.is_permanent_failure else Outcome.DEFERRED
        return cls(outcome, reply, str(reply), remote_mta, notes=notes)


class Attempt(Struct, frozen=True):
    """One try to deliver an entry.

    Attributes:
        number: From 1.
        duration: None while the attempt is under way.
        result: None while the attempt is under way.
        route: Which rule or plugin chose the transport, in words; empty where there was no route.
    """

    number: int
    started_at: datetime
    transport: str
    duration: timedelta | None = None
    result: RecipientResult | None = None
    route: str = ""


class Entry(Struct, frozen=True):
    """One forward-path in the queue.

    Attributes:
        id: Also the id that the sending API answers and webhooks carry.
        base_id: Shared by the entries of one message that may travel together; 0 for a single one.
        account: Name of the account that submitted it.
        from_id: Unique id in the reverse-path, or empty.
        due_at: When the next attempt may begin.
        is_held: Not attempted until released.
        attempts: How many were begun.
        max_attempts: 0 stands for the queue's setting.
        transport: Set by the operator for this entry; empty leaves it to routes.
        require_tls: True as REQUIRETLS (RFC 8689), False as ``TLS-Required: No``, None for the usual policy.
        future_release: What the submitter asked for, ``until;...`` or ``for;...`` (RFC 4865); empty when nothing.
        extra: What the application attached; repeated in webhooks.
        hold_rule: Id of the hold rule by which it is held; 0 when it is not held, or for another reason.
    """

    id: int
    base_id: int
    account: str
    queued_at: datetime
    reverse_path: ReversePath
    forward_path: Mailbox
    content_id: int
    size_octets: int
    message_id: str
    subject: str
    due_at: datetime
    from_id: str = ""
    is_held: bool = False
    attempts: int = 0
    max_attempts: int = 0
    last_attempt_at: datetime | None = None
    has_8bit: bool = False
    needs_smtputf8: bool = False
    transport: str = ""
    require_tls: bool | None = None
    future_release: str = ""
    extra: dict[str, str] = {}
    hold_rule: int = 0


class OutgoingContent(Protocol):
    """The octets of one delivery, header fields and signatures of ours in front."""

    @property
    def size_octets(self) -> int:
        """Length in octets, with CRLF line ends, before dot-stuffing."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield all octets from the start. May be called again for another try."""
        ...


class Delivery(Struct, frozen=True):
    """What a transport is handed: one message for one or more forward-paths of one domain.

    Attributes:
        id: Of the attempt, for logs.
        entries: In the order of the results that are expected.
        reverse_path: For MAIL.
        content: To be read while sending.
        attempt: Number of this attempt, from 1.
        attempts_before: Those that the first of the entries has had, oldest first.
    """

    id: str
    entries: tuple[Entry, ...]
    reverse_path: ReversePath
    content: OutgoingContent
    attempt: int = 1
    has_8bit: bool = False
    needs_smtputf8: bool = False
    require_tls: bool | None = None
    attempts_before: tuple[Attempt, ...] = ()

    @property
    def forward_paths(self) -> tuple[Mailbox, ...]:
        """The forward-paths, in the order of `entries`."""
        return tuple(entry.forward_path for entry in self.entries)


class RouteChoice(Struct, frozen=True):
    """The transport that an attempt takes.

    Attributes:
        transport: A name of ``[transports]``.
        reason: Which rule or plugin chose it, for the timeline.
    """

    transport: str
    reason: str = ""


class ContentEdit(Struct, frozen=True):
    """A change of the header before signing: first fields are removed by name, then new ones are put in front."""

    prepend: tuple[HeaderField, ...] = ()
    remove: tuple[str, ...] = ()


class DeliveryPreparation(Struct, frozen=True):
    """What a plugin says of a delivery about to begin.

    Attributes:
        defer: A 4yz reply puts the attempt off; None lets it go on.
        notes: Remarks for the timeline.
    """

    defer: Reply | None = None
    notes: tuple[str, ...] = ()


class RetryPlan(Struct, frozen=True):
    """When the next attempt is due; None gives up now and fails the entry."""

    due_at: datetime | None
