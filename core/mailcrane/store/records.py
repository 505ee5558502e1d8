"""The values that repositories take and give, besides those of `mailcrane.model`."""

from __future__ import annotations

import enum
from datetime import datetime

from msgspec import Struct

from mailcrane.model.address import Mailbox, ReversePath
from mailcrane.model.delivery import Attempt, Entry
from mailcrane.model.event import Event
from mailcrane.model.message import ContentInfo
from mailcrane.model.retired import Retired
from mailcrane.model.suppression import Suppression, SuppressionEvidence, SuppressionOrigin
from mailcrane.model.webhook import WebhookCall, WebhookTarget

CHUNK_OCTETS = 256 * 1024
"""The most that one chunk of content holds."""


class Worker(Struct, frozen=True):
    """Who holds leases.

    Attributes:
        machine: Name of the machine.
        boot: Of this run of the server on the machine; leases of other boots of the same machine are dead.
    """

    machine: str
    boot: str


# --- content ----------------------------------------------------------------------------------------------------


class ContentDraft(Struct, frozen=True):
    """What is known of content that is about to be stored; the fields mean what they mean in `ContentInfo`.

    Attributes:
        structure: The scanner's result in its own serialised form; stored, not read here.
    """

    body_offset: int
    message_id: str = ""
    subject: str = ""
    has_8bit: bool = False
    needs_smtputf8: bool = False
    structure: bytes = b""


class StoredContentRow(Struct, frozen=True):
    """What is stored of content beside its octets."""

    info: ContentInfo
    structure: bytes


class PreparedHeader(Struct, frozen=True):
    """The header section as it is delivered: rewritten and signed.

    What is delivered is `header`, then the stored content from `body_offset`.

    Attributes:
        header: Ends with the empty line where the stored header section ends with one.
        renew_at: When a signature is to be made anew; None for never.
        selectors: The DKIM selectors, as ``selector._domainkey.domain``, that signed it.
    """

    header: bytes
    body_offset: int
    renew_at: datetime | None = None
    selectors: tuple[str, ...] = ()


# --- folders ----------------------------------------------------------------------------------------------------

FLAGS = (
    "\\Seen",
    "\\Answered",
    "\\Flagged",
    "\\Deleted",
    "\\Draft",
    "$Forwarded",
    "$Junk",
    "$NotJunk",
    "$Phishing",
    "$MDNSent",
)
"""The flags that are no keywords, as IMAP spells them (RFC 9051 section 2.3.2, RFC 5788)."""

SPECIAL_USES = ("\\Archive", "\\Drafts", "\\Junk", "\\Sent", "\\Trash")
"""The roles that a folder may have, each held by at most one folder of an account (RFC 6154)."""


class Folder(Struct, frozen=True):
    """A folder of an account.

    Attributes:
        name: With ``/`` between levels; ``Inbox`` is spelled like this.
        modseq: Of the last change of the folder or a message in it.
        special_uses: Some of `SPECIAL_USES`.
        keywords: That its messages have or had; lower case, sorted.
        total: Messages without ``\\Deleted``.
        deleted: Messages with ``\\Deleted``.
        unread: Messages with neither ``\\Seen`` nor ``\\Deleted``.
        unseen: Messages without ``\\Seen``.
        size_octets: Of all its messages.
    """

    id: int
    name: str
    uid_validity: int
    uid_next: int
    modseq: int
    special_uses: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    total: int = 0
    deleted: int = 0
    unread: int = 0
    unseen: int = 0
    size_octets: int = 0


class StoredMessage(Struct, frozen=True):
    """A message in a folder.

    Attributes:
        flags: Some of `FLAGS`.
        keywords: Lower case, sorted.
        prefix: Header fields that only this copy has; they come before the stored content.
        size_octets: Of prefix and content.
    """

    id: int
    folder_id: int
    uid: int
    modseq: int
    created_modseq: int
    content_id: int
    flags: tuple[str, ...]
    keywords: tuple[str, ...]
    received_at: datetime
    saved_at: datetime
    size_octets: int
    prefix: bytes = b""


class PlacedMessage(Struct, frozen=True):
    """A message with where it is.

    Attributes:
        account: Name of the account.
        folder: Name of the folder.
        special_uses: Roles of the folder.
    """

    account: str
    folder: str
    special_uses: tuple[str, ...]
    message: StoredMessage


class ChangeKind(enum.StrEnum):
    """What a change row tells."""

    MESSAGE_ADDED = "message_added"
    FLAGS_CHANGED = "flags_changed"
    MESSAGE_EXPUNGED = "message_expunged"
    FOLDER_ADDED = "folder_added"
    FOLDER_CHANGED = "folder_changed"


class Change(Struct, frozen=True):
    """One change in an account.

    Attributes:
        modseq: Several changes that were made together share one.
        message_id: 0 for a change of a folder.
        uid: 0 for a change of a folder.
    """

    modseq: int
    kind: ChangeKind
    folder_id: int
    message_id: int = 0
    uid: int = 0


# --- queue ------------------------------------------------------------------------------------------------------


class NewEntry(Struct, frozen=True):
    """An entry to be added; the fields mean what they mean in `Entry`."""

    account: str
    reverse_path: ReversePath
    forward_path: Mailbox
    content_id: int
    size_octets: int
    due_at: datetime
    message_id: str = ""
    subject: str = ""
    from_id: str = ""
    is_held: bool = False
    max_attempts: int = 0
    has_8bit: bool = False
    needs_smtputf8: bool = False
    transport: str = ""
    require_tls: bool | None = None
    future_release: str = ""
    extra: dict[str, str] = {}


class QueueSort(enum.StrEnum):
    """What entries are listed by."""

    QUEUED = "queued"
    NEXT_ATTEMPT = "nextattempt"


class QueueFilter(Struct, frozen=True):
    """Which entries are listed: those that meet every condition that is given.

    Attributes:
        reverse_path_contains: Part of the address, in any case. With both parts given, either of them is enough.
        forward_path_contains: Part of the address, in any case.
        sender_domain: Of the reverse-path; this one exactly.
        recipient_domain: Of the forward-path; this one exactly.
        transport: Set for the entry; an empty string finds those without one.
        until_id: None newer than this entry.
        sort: By due time, entries with the same one by id; or by id, which is the order of queueing.
        after_id: The page after this entry; 0 for the first.
        after_due_at: The entry's due time; needed for pages that are sorted by it.
    """

    ids: tuple[int, ...] = ()
    account: str | None = None
    reverse_path_contains: str = ""
    forward_path_contains: str = ""
    is_held: bool | None = None
    queued_after: datetime | None = None
    queued_before: datetime | None = None
    due_after: datetime | None = None
    due_before: datetime | None = None
    transport: str | None = None
    content_id: int | None = None
    sender_domain: str | None = None
    recipient_domain: str | None = None
    until_id: int | None = None
    sort: QueueSort = QueueSort.QUEUED
    is_descending: bool = False
    after_id: int = 0
    after_due_at: datetime | None = None
    limit: int = 100


class Leased(Struct, frozen=True):
    """An entry that a worker holds.

    Attributes:
        token: To be given with every result; an old one changes nothing.
        attempt: The one under way or, for an entry that is taken up again after its outcome was stored, that one.
        begun_due_at: When the attempt that has begun was due; None where it had begun before.
        suppression: What the account's suppression list had for the forward-path when the attempt began.
    """

    entry: Entry
    token: int
    attempt: Attempt
    begun_due_at: datetime | None = None
    suppression: Suppression | None = None


class QueueCounts(Struct, frozen=True):
    """How many entries there are.

    Attributes:
        entries: In the queue, held ones included.
        held: Of these.
    """

    entries: int
    held: int


class Begun(Struct, frozen=True):
    """Attempts that begin.

    Attributes:
        deliveries: Entries that are leased, those together that share a delivery.
        waiting: Domains with more that is due, for which there was no room, or that are to be left alone.
        is_more: Whether more is due for which there was room, because no more were to begin.
    """

    deliveries: tuple[tuple[Leased, ...], ...]
    waiting: frozenset[str]
    is_more: bool

    @property
    def leased(self) -> tuple[Leased, ...]:
        """The entries of all deliveries."""
        return tuple(leased for members in self.deliveries for leased in members)


class HeldCount(Struct, frozen=True):
    """How many entries are held by one rule.

    Attributes:
        hold_rule: Id of the rule; 0 for those that no rule holds.
    """

    hold_rule: int
    count: int


class Sampled(Struct, frozen=True):
    """An entry that was looked at, with its last attempt that has a result."""

    entry: Entry
    last: Attempt | None


class DomainStanding(Struct, frozen=True):
    """How a recipient domain stands; counts go up to a bound.

    Attributes:
        due: Entries that may be attempted now.
        waiting: Entries whose next attempt is later.
        next_due_at: Of the first of those; None when there is none.
        held: By rule.
        under_way: Entries that a worker holds for an attempt.
        settling: Entries whose attempt has ended and that are about to leave the queue or to wait.
        sample: Some entries, of those that are not held.
        failed: Those that left the queue undelivered and are kept, the latest few, the latest first.
    """

    domain: str
    due: int
    waiting: int
    next_due_at: datetime | None
    held: tuple[HeldCount, ...]
    under_way: int
    settling: int
    sample: tuple[Sampled, ...]
    failed: tuple[Retired, ...] = ()


class RetiredFilter(Struct, frozen=True):
    """Which retired entries are listed: those that meet every condition that is given, the latest first.

    Attributes:
        forward_path: This one exactly.
        reverse_path_contains: Part of the address, in any case. With both parts given, either of them is enough.
        forward_path_contains: Part of the address, in any case.
        before_id: The page after this entry.
    """

    ids: tuple[int, ...] = ()
    account: str | None = None
    forward_path: Mailbox | None = None
    reverse_path_contains: str = ""
    forward_path_contains: str = ""
    is_success: bool | None = None
    event: str | None = None
    retired_after: datetime | None = None
    retired_before: datetime | None = None
    before_id: int = 0
    limit: int = 100


# --- suppression ------------------------------------------------------------------------------------------------


class NewSuppression(Struct, frozen=True):
    """An address to be put on a list; the fields mean what they mean in `Suppression`.

    Attributes:
        created_at: None for now.
    """

    account: str
    address: Mailbox
    reason: str
    origin: SuppressionOrigin
    is_manual: bool = False
    evidence: SuppressionEvidence = SuppressionEvidence()
    created_at: datetime | None = None


# --- events and webhooks ----------------------------------------------------------------------------------------


class DeadLetter(Struct, frozen=True):
    """An event that a plugin kept failing at and that was set aside."""

    plugin: str
    event: Event
    error: str
    at: datetime


class NewCall(Struct, frozen=True):
    """A webhook call to be queued.

    Attributes:
        supersedes: Whether queued calls of the same entry and URL are ended by this one.
    """

    account: str
    event_id: str
    event: str
    entry_id: int
    target: WebhookTarget
    payload: str
    due_at: datetime
    supersedes: bool = False


class LeasedCall(Struct, frozen=True):
    """A webhook call that a worker holds.

    Attributes:
        call: Its `attempts` count the one that begins now.
        token: To be given with the result; an old one changes nothing.
    """

    call: WebhookCall
    token: int


class CallFilter(Struct, frozen=True):
    """Which queued calls are listed: those that meet every condition that is given, by id or by due time.

    Attributes:
        is_by_due: Whether they are listed by due time; ids are in the order in which calls were queued.
        after_id: The page after this call.
        after_due_at: The due time of that call, where they are listed by it.
    """

    ids: tuple[int, ...] = ()
    account: str | None = None
    event: str | None = None
    entry_id: int | None = None
    submitted_after: datetime | None = None
    submitted_before: datetime | None = None
    due_after: datetime | None = None
    due_before: datetime | None = None
    is_by_due: bool = False
    is_descending: bool = False
    after_id: int = 0
    after_due_at: datetime | None = None
    limit: int = 100


class RetiredCallFilter(Struct, frozen=True):
    """Which retired calls are listed: those that meet every condition that is given, by id.

    Attributes:
        is_dead: Only those that were given up, or only others.
        after_id: The page after this call.
    """

    ids: tuple[int, ...] = ()
    account: str | None = None
    event: str | None = None
    entry_id: int | None = None
    is_success: bool | None = None
    is_dead: bool | None = None
    submitted_after: datetime | None = None
    submitted_before: datetime | None = None
    retired_after: datetime | None = None
    retired_before: datetime | None = None
    is_descending: bool = False
    after_id: int = 0
    limit: int = 100
