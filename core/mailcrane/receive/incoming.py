"""Takes messages that servers hand over: into the folders of accounts, and into the queue for clients that may relay.

All decisions are made before anything is stored; then one unit stores the content once, with a message for each local
recipient, an entry for each relayed one, and the events. A positive reply follows its commit.
"""

from __future__ import annotations

from collections.abc import Sequence

import trio
from msgspec import Struct

from mailcrane.message import trace
from mailcrane.model.event import EventKind, NewEvent
from mailcrane.model.message import HeaderField
from mailcrane.model.receive import (
    Assessment,
    Judgement,
    LocalDestination,
    Placement,
    ReceivedMessage,
    Recipient,
    Verdict,
)
from mailcrane.model.reply import Reply
from mailcrane.observe.log import get_log
from mailcrane.observe.metrics import Counter
from mailcrane.plugin.caller import Hooks
from mailcrane.plugin.errors import HookFailed
from mailcrane.receive.assessment import merge_assessments, merge_header_fields
from mailcrane.receive.queued import HOLD_NEW_ENTRIES, queued_events
from mailcrane.receive.replies import merge_refusals
from mailcrane.receive.storing import Storable, origin_of
from mailcrane.smtp import replies
from mailcrane.store.errors import AlreadyStored, DiskFull
from mailcrane.store.records import NewEntry
from mailcrane.store.store import Store
from mailcrane.store.transaction import Transaction

log = get_log(__name__)

# RFC 5321 section 6.3 wants at least 100 before a loop is assumed.
MAX_RECEIVED_FIELDS = 100

# For all plugins together after the final dot, where a client waits ten minutes (RFC 5321 section 4.5.3.2.6). Each step
# ends at its own share: evidence that does not come must not use up the time of the judges, who would seem to fail.
BUDGET_SECONDS = 60.0
_ASSESSED_AT = 30.0
_JUDGED_AT = 45.0
_ADDED_AT = 52.0

_LOOP = Reply.make(550, "5.4.6", "The message is in a loop: it passed too many servers")
_REFUSED = Reply.make(550, "5.7.1", "The message is refused")
_DEFERRED = Reply.make(451, "4.7.1", "The message is not taken now, try again later")
_PLUGIN_FAILED = Reply.make(451, "4.3.0", "Local error in processing, try again later")

_ACCEPTED = Judgement(Verdict.ACCEPT, "no objection")

_received = Counter("mailcrane_received_total", "Messages taken from servers, by what was answered.", ("code",))


class _Place(Struct, frozen=True):
    """A message for one local recipient."""

    account: str
    placement: Placement
    prefix: bytes


class IncomingReceiver:
    """Receives for one listener.

    Args:
        hostname: For trace fields.
        relay_account: Owns the entries of what clients relay; empty where none may.
        is_held: Whether new entries are held until they are released.
    """

    def __init__(
        self, store: Store, hooks: Hooks, *, hostname: str, relay_account: str = "", is_held: bool = False
    ) -> None:
        self._store = store
        self._hooks = hooks
        self._hostname = hostname
        self._relay_account = relay_account
        self._is_held = is_held

    async def receive(self, message: ReceivedMessage, *, smtputf8: bool = False, require_tls: bool = False) -> Reply:
        """Say what becomes of a message; a positive reply means that it is stored for all its recipients.

        A reply of another kind means that it is stored for none (`mailcrane.receive.replies` says why).

        Args:
            message: With recipients that were accepted.
            smtputf8: SMTPUTF8 was asked for.
            require_tls: REQUIRETLS was asked for.
        """
        reply = await self._decide_and_store(message, smtputf8, require_tls)
        _received.inc(str(reply.code))
        return reply

    async def _decide_and_store(self, message: ReceivedMessage, smtputf8: bool, require_tls: bool) -> Reply:
        if count_received(message.content.header) > MAX_RECEIVED_FIELDS:
            return _LOOP
        begun_at = trio.current_time()
        assessments = await self._assess(message)
        judgements = await self._judge(message, assessments, begun_at + _JUDGED_AT)
        refusals = [
            (recipient.forward_path, outcome)
            for recipient, outcome in zip(message.recipients, judgements, strict=True)
            if isinstance(outcome, Reply)
        ]
        if refusals:
            return merge_refusals(refusals, len(judgements) - len(refusals))
        fields = await self._added_fields(message, assessments, begun_at + _ADDED_AT)
        places = await self._place(message, judgements, begun_at + BUDGET_SECONDS)
        received = trace.received(
            message.session,
            hostname=self._hostname,
            at=message.received_at,
            forward_path=message.recipients[0].forward_path if len(message.recipients) == 1 else None,
            is_smtputf8=smtputf8,
            is_require_tls=require_tls,
        )
        prefix = bytes(received)
        if fields:
            prefix += b"".join(map(bytes, fields))
        origin = origin_of(message.session.id, message.transaction)
        storable = await Storable.make(prefix, message.content, origin=origin)
        key = f"account:{places[0].account}" if len(places) == 1 else "queue"
        try:
            await self._store.write(
                lambda transaction: self._store_all(transaction, message, storable, places, require_tls), key=key
            )
        except AlreadyStored:
            log.warning("message was stored before", session=message.session.id, transaction=message.transaction)
        except DiskFull:
            return replies.STORAGE_FULL
        log.info(
            "message received",
            session=message.session.id,
            remote_ip=message.session.remote_ip,
            reverse_path=message.reverse_path,
            recipients=len(message.recipients),
            size_octets=storable.size_octets,
            message_id=storable.draft.message_id,
        )
        return replies.CONTENT_OK

    # --- what plugins say ---------------------------------------------------------------------------------------

    async def _assess(self, message: ReceivedMessage) -> tuple[Assessment, ...]:
        hook = self._hooks.assess_message
        if not hook.implementations:
            return ()
        return merge_assessments(await hook(message=message, _budget=_ASSESSED_AT))

    async def _judge(
        self, message: ReceivedMessage, assessments: Sequence[Assessment], deadline: float
    ) -> list[Judgement | Reply]:
        """Return for each recipient the judgement that lets the message in, or the reply that does not."""
        outcomes: list[Judgement | Reply] = [_ACCEPTED] * len(message.recipients)
        if not self._hooks.judge_message.implementations:
            return outcomes

        async def judge(index: int, recipient: Recipient) -> None:
            outcomes[index] = await self._judge_one(message, recipient, assessments, deadline)

        async with trio.open_nursery() as nursery:
            for index, recipient in enumerate(message.recipients):
                if isinstance(recipient.destination, LocalDestination):
                    nursery.start_soon(judge, index, recipient)
        return outcomes

    async def _judge_one(
        self, message: ReceivedMessage, recipient: Recipient, assessments: Sequence[Assessment], deadline: float
    ) -> Judgement | Reply:
        try:
            judgement = await self._hooks.judge_message(
                message=message, recipient=recipient, assessments=assessments, _budget=_remaining(deadline)
            )
        except HookFailed:
            return _PLUGIN_FAILED
        if judgement is None:
            return _ACCEPTED
        if judgement.verdict is Verdict.REFUSE:
            return judgement.reply or _REFUSED
        if judgement.verdict is Verdict.DEFER:
            return judgement.reply or _DEFERRED
        return judgement

    async def _added_fields(
        self, message: ReceivedMessage, assessments: Sequence[Assessment], deadline: float
    ) -> tuple[HeaderField, ...]:
        hook = self._hooks.add_header_fields
        if not hook.implementations:
            return ()
        return merge_header_fields(await hook(message=message, assessments=assessments, _budget=_remaining(deadline)))

    async def _place(
        self, message: ReceivedMessage, judgements: Sequence[Judgement | Reply], deadline: float
    ) -> list[_Place]:
        hook = self._hooks.place_message
        places = []
        for recipient, judgement in zip(message.recipients, judgements, strict=True):
            destination = recipient.destination
            if not isinstance(destination, LocalDestination) or isinstance(judgement, Reply):
                continue
            placement = None
            if hook.implementations:
                placement = await hook(
                    message=message, recipient=recipient, judgement=judgement, _budget=_remaining(deadline)
                )
            if placement is None:
                is_quarantined = judgement.verdict is Verdict.QUARANTINE
                placement = Placement(judgement.folder if is_quarantined else destination.folder)
            prefix = bytes(trace.delivered_to(recipient.forward_path)) + bytes(trace.return_path(message.reverse_path))
            places.append(_Place(destination.account, placement, prefix))
        return places

    # --- the unit -------------------------------------------------------------------------------------------------

    def _store_all(
        self,
        transaction: Transaction,
        message: ReceivedMessage,
        storable: Storable,
        places: Sequence[_Place],
        require_tls: bool,
    ) -> None:
        info = storable.store(transaction)
        events: list[NewEvent] = []
        reverse_path = str(message.reverse_path)
        for place in places:
            placement = place.placement
            stored = transaction.folders.add_message(
                place.account,
                placement.folder,
                info.id,
                size_octets=info.size_octets,
                received_at=message.received_at,
                flags=placement.flags,
                keywords=placement.keywords,
                prefix=place.prefix,
            )
            data = {
                "message_id": info.message_id,
                "folder": placement.folder,
                "uid": stored.uid,
                "size_octets": stored.size_octets,
                "reverse_path": reverse_path,
            }
            events.append(NewEvent(place.account, EventKind.MESSAGE_STORED, 0, data))
        entries = [
            NewEntry(
                self._relay_account,
                message.reverse_path,
                recipient.forward_path,
                info.id,
                info.size_octets,
                transaction.now,
                message_id=info.message_id,
                subject=info.subject,
                is_held=self._is_held,
                has_8bit=info.has_8bit,
                needs_smtputf8=info.needs_smtputf8 or needs_smtputf8(message, recipient),
                require_tls=True if require_tls else None,
            )
            for recipient in message.recipients
            if not isinstance(recipient.destination, LocalDestination)
        ]
        if entries:
            ids = transaction.queue.add(entries)
            held_by = HOLD_NEW_ENTRIES if self._is_held else ""
            events += queued_events(transaction, entries, ids, message.session, held_by=held_by)
        transaction.events.record(events)


def needs_smtputf8(message: ReceivedMessage, recipient: Recipient) -> bool:
    """Whether the envelope can only travel with SMTPUTF8."""
    sender = message.reverse_path.mailbox
    return recipient.forward_path.needs_smtputf8 or (sender is not None and sender.needs_smtputf8)


def count_received(header: bytes) -> int:
    """Count the Received fields of a header."""
    lower = header.lower()
    return lower.count(b"\nreceived:") + lower.startswith(b"received:")


def _remaining(deadline: float) -> float:
    return max(0.0, deadline - trio.current_time())
