"""Delivery status notifications for those who submitted: composed before the unit that ends an attempt, placed in it.

They are put into the Inbox of the account whose entry it is, or where postmaster's mail goes when that account is gone,
and are never sent. Nobody is told of a message with the null reverse-path (RFC 5321 section 6.1).
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from mailcrane.config.directory import POSTMASTER, Directory
from mailcrane.message import trace
from mailcrane.message.dsn import Action, DeliveryStatus, compose_dsn, status_code
from mailcrane.message.inspection import inspect
from mailcrane.model.address import Mailbox, ReversePath
from mailcrane.model.delivery import Entry, RecipientResult
from mailcrane.model.event import EventKind, NewEvent
from mailcrane.model.receive import LocalDestination
from mailcrane.observe.log import get_log
from mailcrane.observe.metrics import Counter
from mailcrane.retire.notice import Why, delay_words, failure_words
from mailcrane.store.content import StoredContent
from mailcrane.store.errors import StoreClosed, StoreFailed, UnknownAccount, UnknownContent
from mailcrane.store.records import ContentDraft
from mailcrane.store.store import Store
from mailcrane.store.transaction import Transaction

log = get_log(__name__)

DELAYED_AFTER = 5
"""The failed attempt after which a sender is told, once, that a message is late: about two hours with the defaults."""

KEYWORD = "$dsn"
"""Of the notifications that are placed."""

COMPOSED = Counter(
    "mailcrane_bounces_total", "Delivery status notifications that were composed, by what they tell.", ("action",)
)

_INBOX = "Inbox"


class Bounce(Struct, frozen=True):
    """A notification that is ready to be placed.

    Attributes:
        account: Name of the account that gets it.
        prefix: Delivered-To and Return-Path.
        draft: What the store is to know of it.
        reverse_path: As in Return-Path.
        at: When it was composed.
        entry_id: Of the entry that it tells of.
    """

    account: str
    folder: str
    octets: bytes
    prefix: bytes
    draft: ContentDraft
    reverse_path: str
    at: datetime
    entry_id: int


async def failure_bounce(
    store: Store,
    directory: Directory,
    entry: Entry,
    result: RecipientResult,
    *,
    why: Why,
    is_suppressing: bool = False,
) -> Bounce | None:
    """Compose the notification of an entry that fails; None when nobody is told.

    Args:
        store: Where the original is.
        directory: Tells whose it is.
        entry: Which fails.
        result: Its last one.
        why: What made it fail.
        is_suppressing: Whether its recipient is put on the suppression list at once.
    """
    if entry.reverse_path.mailbox is None:
        return None
    # RFC 3463: delivery time expired; delivery not authorised.
    default = {Why.NO_REPLY: "4.7", Why.SUPPRESSED: "7.1"}.get(why, "0.0")
    status = DeliveryStatus(
        Action.FAILED,
        status_code(Action.FAILED, result.reply, default),
        entry.reverse_path.mailbox,
        entry.forward_path,
        failure_words(entry, result, why, is_suppressing=is_suppressing),
        entry.queued_at,
    )
    return await _bounce(store, directory, entry, result, status)


async def delay_bounce(
    store: Store,
    directory: Directory,
    entry: Entry,
    result: RecipientResult,
    *,
    give_up_at: datetime,
    attempts_left: int,
) -> Bounce | None:
    """Compose the notification of an entry that is late; None when nobody is told.

    Args:
        store: Where the original is.
        directory: Tells whose it is.
        entry: Which is tried again.
        result: Of the attempt that failed last.
        give_up_at: When the last attempt is made, as the schedule has it now.
        attempts_left: How many there are to be.
    """
    if entry.reverse_path.mailbox is None:
        return None
    status = DeliveryStatus(
        Action.DELAYED,
        status_code(Action.DELAYED, result.reply, "0.0"),
        entry.reverse_path.mailbox,
        entry.forward_path,
        delay_words(entry, result, give_up_at=give_up_at, attempts_left=attempts_left),
        entry.queued_at,
        will_retry_until=give_up_at,
    )
    return await _bounce(store, directory, entry, result, status)


def place(transaction: Transaction, bounce: Bounce) -> list[NewEvent]:
    """Place a notification, in the unit that it tells of.

    Returns:
        The event that tells of it; none when its account has gone meanwhile, which must not undo the unit.
    """
    try:
        transaction.folders.modseq(bounce.account)
    except UnknownAccount:
        return []
    info = transaction.content.add(bounce.octets, bounce.draft)
    stored = transaction.folders.add_message(
        bounce.account,
        bounce.folder,
        info.id,
        size_octets=info.size_octets,
        received_at=bounce.at,
        keywords=(KEYWORD,),
        prefix=bounce.prefix,
    )
    data = {
        "message_id": info.message_id,
        "folder": bounce.folder,
        "uid": stored.uid,
        "size_octets": stored.size_octets,
        "reverse_path": bounce.reverse_path,
    }
    return [NewEvent(bounce.account, EventKind.MESSAGE_STORED, bounce.entry_id, data)]


async def _bounce(
    store: Store, directory: Directory, entry: Entry, result: RecipientResult, status: DeliveryStatus
) -> Bounce | None:
    destination = _destination(directory, entry)
    if destination is None:
        log.warning("nobody can be told of an entry: its account is gone, and nobody is postmaster", entry=entry.id)
        return None
    try:
        header, now = await _header_of(store, entry)
        return _composed(
            replace(
                status,
                reply=result.reply,
                error=result.error,
                remote_mta=result.remote_mta,
                last_attempt_at=entry.last_attempt_at,
                future_release=entry.future_release,
                message_id=entry.message_id,
                header=header,
            ),
            destination,
            directory.hostname,
            now,
            entry.id,
        )
    except (StoreFailed, StoreClosed):
        raise
    except Exception:
        # What cannot be told of must end all the same: the entry would stay for ever, and with it the fault.
        log.exception("a notification could not be composed", entry=entry.id)
        return None


def _composed(
    status: DeliveryStatus, destination: LocalDestination, hostname: str, now: datetime, entry_id: int
) -> Bounce:
    octets = compose_dsn(status, hostname=hostname, now=now)
    found = inspect(octets)
    author = ReversePath(Mailbox(POSTMASTER, hostname))
    prefix = bytes(trace.delivered_to(status.reverse_path)) + bytes(trace.return_path(author))
    draft = ContentDraft(
        found.body_offset,
        found.message_id,
        found.subject,
        found.has_8bit,
        found.needs_smtputf8,
        found.structure.pack(),
    )
    COMPOSED.inc(str(status.action))
    return Bounce(destination.account, destination.folder, octets, prefix, draft, str(author), now, entry_id)


async def _header_of(store: Store, entry: Entry) -> tuple[bytes, datetime]:
    """Return the original's header, empty when the original is gone, and the time."""
    now = await store.read(lambda transaction: transaction.now)
    try:
        content = await StoredContent.open(store, entry.content_id)
    except UnknownContent:
        return b"", now
    return content.header, now


def _destination(directory: Directory, entry: Entry) -> LocalDestination | None:
    if directory.account(entry.account) is not None:
        return LocalDestination(entry.account, _INBOX)
    return directory.postmaster
