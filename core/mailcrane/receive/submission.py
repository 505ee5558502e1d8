"""Takes what identities submit, over SMTP or an API, into the queue (RFC 6409).

A submission is always queued, also for recipients of ours. One unit stores the content, the entries, a copy for the
Sent folder where one is wanted, and the events; when `SubmissionReceiver.submit` returns, all of it is committed.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec
import trio
from msgspec import Struct
from msgspec.structs import replace

from mailcrane.config.directory import Directory
from mailcrane.config.rows import Account
from mailcrane.message import trace
from mailcrane.message.addresses import parse_address_list
from mailcrane.message.content import BytesContent
from mailcrane.message.header import MAX_HEADER_OCTETS, Header, HeaderError, parse_header
from mailcrane.model.address import AddressError, Mailbox, ReversePath
from mailcrane.model.message import HeaderField
from mailcrane.model.receive import Identity, Judgement, ReceivedMessage, Recipient, RelayDestination, Verdict
from mailcrane.model.reply import Reply
from mailcrane.model.submission import (
    Submission,
    SubmissionAccepted,
    SubmissionRefused,
    SubmittedEntry,
)
from mailcrane.observe.log import get_log
from mailcrane.observe.metrics import Counter
from mailcrane.plugin.caller import Hooks
from mailcrane.plugin.errors import HookFailed
from mailcrane.receive.content import ContentCollector, LargeContent
from mailcrane.receive.incoming import BUDGET_SECONDS
from mailcrane.receive.queued import HOLD_NEW_ENTRIES, queued_events
from mailcrane.receive.storing import Storable, origin_of
from mailcrane.smtp import replies
from mailcrane.store.errors import AlreadyStored, DiskFull, FromIdTaken, SendingLimitReached
from mailcrane.store.records import NewEntry, QueueFilter
from mailcrane.store.store import Store
from mailcrane.store.transaction import Transaction

log = get_log(__name__)

EXTRA_PREFIX = "x-mox-extra-"
"""Header fields that begin so are what the application attaches; they are repeated in webhooks."""

_FROM_ID_OCTETS = 16
_MAX_LOCAL_PART_OCTETS = 64
_RELAY = RelayDestination()

_NO_SEPARATOR = Reply.make(554, "5.6.0", "The message has no empty line between its header and its body")
_TOO_LONG = Reply.make(554, "5.6.0", "The header is too long")
_BAD_FROM = Reply.make(550, "5.7.1", "The message must have one From field with one address")
_NOT_YOURS = Reply.make(550, "5.7.1", "The address in the From field does not belong to your account")
_DOMAIN_DISABLED = Reply.make(451, "4.3.0", "Mail from this domain is not taken at the moment")
_TWICE = Reply.make(554, "5.6.0", "An X-Mox-Extra field is there twice, or has no name")
_ONE_RECIPIENT = Reply.make(554, "5.5.3", "With an id in the reverse-path there can be one recipient only")
_ID_TAKEN = Reply.make(554, "5.1.7", "The id in the reverse-path was used before")
_TOO_MANY = Reply.make(451, "4.7.1", "The account has sent as many messages in 24 hours as it may, try again later")
_TOO_MANY_NEW = Reply.make(
    451, "4.7.1", "The account has sent to as many new recipients in 24 hours as it may, try again later"
)
_REFUSED = Reply.make(550, "5.7.1", "The message is refused")
_DEFERRED = Reply.make(451, "4.7.1", "The message is not taken now, try again later")
_FAILED = Judgement(
    Verdict.DEFER, "plugin failed", Reply.make(451, "4.3.0", "Local error in processing, try again later")
)

_submitted = Counter("mailcrane_submitted_total", "Submissions by protocol and result.", ("protocol", "result"))


class _Paths(Struct, frozen=True):
    """The reverse-path and unique id of one forward-path."""

    forward_path: Mailbox
    reverse_path: ReversePath
    from_id: str


class SubmissionReceiver:
    """Implements `mailcrane.model.submission.SubmissionService`.

    Args:
        directory: Returns the directory of the present version.
        hostname: For trace fields and message ids.
        is_held: Whether new entries are held until they are released.
    """

    def __init__(
        self,
        store: Store,
        hooks: Hooks,
        directory: Callable[[], Directory],
        *,
        hostname: str,
        is_held: bool = False,
    ) -> None:
        self._store = store
        self._hooks = hooks
        self._directory = directory
        self._hostname = hostname
        self._is_held = is_held

    def check_author(self, identity: Identity, author: Mailbox) -> None:
        """Check that an identity may use an address as author.

        Raises:
            SubmissionRefused: with the code ``badFrom`` or ``domainDisabled``.
        """
        directory = self._directory()
        if not directory.may_send_as(identity.account, author):
            raise SubmissionRefused("badFrom", _NOT_YOURS)
        domain = directory.domain(author.domain)
        if domain is not None and domain.is_disabled:
            raise SubmissionRefused("domainDisabled", _DOMAIN_DISABLED)

    async def submit(self, submission: Submission) -> SubmissionAccepted:
        """Store a submission and queue it; when this returns it survives a power cut.

        Raises:
            SubmissionRefused: nothing was stored.
            ClaimLost: nothing was stored, because the submission's claim is another's by now.
        """
        protocol = submission.session.protocol
        try:
            if isinstance(submission.content, BytesContent | LargeContent):
                accepted = await self._submit(submission)
            else:
                accepted = await self._stage_and_submit(submission)
        except SubmissionRefused as refused:
            _submitted.inc(protocol, refused.code)
            raise
        _submitted.inc(protocol, "ok")
        return accepted

    async def _stage_and_submit(self, submission: Submission) -> SubmissionAccepted:
        """Store content of another kind piece by piece first: no unit is as large as a message may be."""
        collector = ContentCollector(self._store)
        try:
            async for chunk in submission.content.chunks():
                if collector.add(chunk):
                    await collector.flush()
            return await self._submit(replace(submission, content=await collector.finish()))
        except DiskFull:
            raise SubmissionRefused("server", replies.STORAGE_FULL) from None
        finally:
            # What was adopted is not touched.
            await collector.drop()

    async def _submit(self, submission: Submission) -> SubmissionAccepted:
        header = _read_header(submission)
        self.check_author(submission.identity, _author(header))
        extra = {**_extra(header), **submission.extra}
        require_tls = submission.require_tls
        if require_tls is None and (header.get("TLS-Required") or "").lower() == "no":
            require_tls = False
        paths = self._paths(submission)
        held_by = HOLD_NEW_ENTRIES if self._is_held else ""
        if await self._judge(submission):
            held_by = "the judgement of a plugin"
        added, message_id = self._added_fields(submission, header)
        origin = origin_of(submission.session.id, submission.transaction)
        storable = await Storable.make(b"".join(map(bytes, added)), submission.content, origin=origin)
        account = self._directory().account(submission.identity.account)
        plan = _Plan(submission, paths, message_id, extra, require_tls, held_by, account)
        try:
            ids = await self._store.write(
                lambda transaction: plan.store(transaction, storable), key=f"account:{submission.identity.account}"
            )
        except AlreadyStored as stored:
            log.warning("message was stored before", session=submission.session.id, transaction=submission.transaction)
            ids = await self._ids_of(stored.info.id, len(paths))
        except FromIdTaken:
            raise SubmissionRefused("user", _ID_TAKEN) from None
        except SendingLimitReached as reached:
            log.warning("sending limit reached", account=reached.account, what=reached.what, limit=reached.limit)
            is_messages = reached.what == "messages"
            code, reply = (
                ("messageLimitReached", _TOO_MANY) if is_messages else ("recipientLimitReached", _TOO_MANY_NEW)
            )
            raise SubmissionRefused(code, reply) from None
        except DiskFull:
            raise SubmissionRefused("server", replies.STORAGE_FULL) from None
        log.info(
            "message submitted",
            session=submission.session.id,
            account=submission.identity.account,
            reverse_path=submission.reverse_path,
            recipients=len(paths),
            size_octets=storable.size_octets,
            message_id=message_id,
        )
        return plan.accepted(ids)

    async def _ids_of(self, content_id: int, count: int) -> list[int]:
        """The entries of a message that was stored before; 0 stands for one that has left the queue since."""
        entries = await self._store.read(
            lambda transaction: transaction.queue.list(QueueFilter(content_id=content_id, limit=count))
        )
        ids = [entry.id for entry in entries]
        return ids + [0] * (count - len(ids))

    def _paths(self, submission: Submission) -> list[_Paths]:
        """Say which reverse-path each forward-path travels with (unique ids: see `Account.from_id_login_addresses`)."""
        reverse_path = submission.reverse_path
        plain = [_Paths(path, reverse_path, "") for path in submission.forward_paths]
        mailbox = reverse_path.mailbox
        if mailbox is None or not self._wants_from_id(submission.identity):
            return plain
        domain = self._directory().domain(mailbox.domain)
        if domain is None or not domain.separators:
            return plain
        separator = domain.separators[0]
        base, _, from_id = mailbox.local_part.partition(separator)
        # Over SMTP a client may choose the id; what an application names is an author.
        if from_id and submission.session.protocol != "http":
            if len(plain) > 1:
                raise SubmissionRefused("user", _ONE_RECIPIENT)
            return [_Paths(plain[0].forward_path, reverse_path, from_id)]
        paths = []
        for path in submission.forward_paths:
            from_id = secrets.token_urlsafe(_FROM_ID_OCTETS)
            local_part = f"{base}{separator}{from_id}"
            if len(local_part.encode()) > _MAX_LOCAL_PART_OCTETS:
                log.warning("no unique id: the reverse-path would be too long", reverse_path=reverse_path)
                return plain
            paths.append(_Paths(path, ReversePath(Mailbox(local_part, mailbox.domain)), from_id))
        return paths

    def _wants_from_id(self, identity: Identity) -> bool:
        directory = self._directory()
        account = directory.account(identity.account)
        if account is None or not account.from_id_login_addresses:
            return False
        try:
            login = directory.canonical_address(Mailbox.parse(identity.login_address))
        except AddressError:
            return False
        return any(
            directory.canonical_address(Mailbox.parse(address)) == login for address in account.from_id_login_addresses
        )

    async def _judge(self, submission: Submission) -> bool:
        """Ask the plugins; returns whether the message is to be held, which is what quarantine means here.

        Raises:
            SubmissionRefused: the strictest judgement for any recipient.
        """
        hook = self._hooks.judge_message
        if not hook.implementations:
            return False
        recipients = tuple(Recipient(path, _RELAY) for path in submission.forward_paths)
        message = ReceivedMessage(
            submission.session,
            submission.transaction,
            submission.reverse_path,
            recipients,
            submission.content,
            submission.received_at,
        )
        judgements: list[Judgement | None] = [None] * len(recipients)

        async def judge(index: int, recipient: Recipient) -> None:
            try:
                judgements[index] = await hook(
                    message=message, recipient=recipient, assessments=(), _budget=BUDGET_SECONDS
                )
            except HookFailed:
                judgements[index] = _FAILED  # A refusal for another recipient is stricter.

        async with trio.open_nursery() as nursery:
            for index, recipient in enumerate(recipients):
                nursery.start_soon(judge, index, recipient)
        found = [judgement for judgement in judgements if judgement is not None]
        strictest = max(found, key=lambda judgement: judgement.verdict, default=None)
        if strictest is None:
            return False
        if strictest.verdict is Verdict.REFUSE:
            raise SubmissionRefused("user", strictest.reply or _REFUSED)
        if strictest.verdict is Verdict.DEFER:
            raise SubmissionRefused("server", strictest.reply or _DEFERRED)
        return strictest.verdict is Verdict.QUARANTINE

    def _added_fields(self, submission: Submission, header: Header) -> tuple[list[HeaderField], str]:
        """Return the fields that are put in front of the message, in order, and its message id."""
        session, at = submission.session, submission.received_at
        forward_path = submission.forward_paths[0] if len(submission.forward_paths) == 1 else None
        if session.protocol == "http":
            fields = [trace.received_http(session, hostname=self._hostname, at=at, forward_path=forward_path)]
        else:
            fields = [
                trace.received_submission(
                    session,
                    hostname=self._hostname,
                    at=at,
                    forward_path=forward_path,
                    is_smtputf8=_is_utf8(submission),
                    is_require_tls=submission.require_tls is True,
                )
            ]
        message_id = header.get("Message-Id") or ""
        if not message_id:
            message_id = trace.new_message_id(self._hostname)
            fields.append(HeaderField("Message-Id", message_id))
        if "Date" not in header:
            fields.append(trace.date(at))
        if session.is_submission:
            fields.append(
                trace.authentication_results_submission(hostname=self._hostname, reverse_path=submission.reverse_path)
            )
        return fields, message_id


class _Plan(Struct, frozen=True):
    """All that was decided, ready for the unit."""

    submission: Submission
    paths: list[_Paths]
    message_id: str
    extra: dict[str, str]
    require_tls: bool | None
    held_by: str
    account: Account | None

    def store(self, transaction: Transaction, storable: Storable) -> list[int]:
        """Store content, entries, copy and events; returns the ids of the entries."""
        submission = self.submission
        info = storable.store(transaction)
        # After the content: what was stored before is found there, and does not count twice.
        if self.account is not None:
            transaction.outgoing.count(
                self.account.name,
                submission.forward_paths,
                max_messages=self.account.max_outgoing_messages_per_day,
                max_first_time_recipients=self.account.max_first_time_recipients_per_day,
            )
        due_at: datetime = transaction.now
        if submission.release_at is not None and submission.release_at > due_at:
            due_at = submission.release_at
        sender = submission.reverse_path.mailbox
        is_utf8 = info.needs_smtputf8 or (sender is not None and sender.needs_smtputf8)
        entries = [
            NewEntry(
                submission.identity.account,
                one.reverse_path,
                one.forward_path,
                info.id,
                info.size_octets,
                due_at,
                message_id=info.message_id,
                subject=info.subject,
                from_id=one.from_id,
                is_held=bool(self.held_by),
                has_8bit=info.has_8bit,
                needs_smtputf8=is_utf8 or one.forward_path.needs_smtputf8,
                require_tls=self.require_tls,
                future_release=submission.future_release,
                extra=self.extra,
            )
            for one in self.paths
        ]
        ids = transaction.queue.add(entries)
        transaction.events.record(queued_events(transaction, entries, ids, submission.session, held_by=self.held_by))
        if submission.sent_copy is not None:
            sent = transaction.folders.with_special_use(submission.identity.account, "\\Sent")
            if sent is not None:
                transaction.folders.add_message(
                    submission.identity.account,
                    sent.name,
                    info.id,
                    size_octets=info.size_octets,
                    received_at=submission.received_at,
                    flags=("\\Seen", "$NotJunk"),
                    prefix=submission.sent_copy.prefix,
                )
        if submission.claim is not None:
            transaction.idempotency.complete(submission.claim, msgspec.json.encode(self.accepted(ids)))
        return ids

    def accepted(self, ids: Sequence[int]) -> SubmissionAccepted:
        """Return what the submission became, with the ids of its entries."""
        return SubmissionAccepted(
            self.message_id,
            tuple(
                SubmittedEntry(one.forward_path, entry_id, one.from_id)
                for one, entry_id in zip(self.paths, ids, strict=True)
            ),
        )


def canonical_name(name: str) -> str:
    """Return a field name in the usual casing: a capital at the start and behind each hyphen, the rest lower case."""
    return "-".join(word[:1].upper() + word[1:].lower() for word in name.split("-"))


def _read_header(submission: Submission) -> Header:
    content = submission.content
    octets = content.header
    if isinstance(content, BytesContent):
        is_terminated = content.octets.startswith(b"\r\n", len(octets))
    else:
        is_terminated = not isinstance(content, LargeContent) or content.inspection.is_terminated
    if not is_terminated:
        # A header past its limits is not read to its end, so that it counts as not terminated as well.
        is_too_long = len(octets) > MAX_HEADER_OCTETS or b"\r\n\r\n" in octets
        raise SubmissionRefused("malformedMessage", _TOO_LONG if is_too_long else _NO_SEPARATOR)
    try:
        return parse_header(octets)
    except HeaderError as error:
        raise SubmissionRefused("malformedMessage", Reply.make(554, "5.6.0", f"Bad message: {error}")) from None


def _author(header: Header) -> Mailbox:
    fields = header.all("From")
    try:
        (field,) = fields
        (author,) = parse_address_list(field.value)
    except (ValueError, HeaderError):
        raise SubmissionRefused("badFrom", _BAD_FROM) from None
    return author.mailbox


def _extra(header: Header) -> dict[str, str]:
    extra: dict[str, str] = {}
    for field in header:
        if field.name[: len(EXTRA_PREFIX)].lower() == EXTRA_PREFIX:
            key = canonical_name(field.name[len(EXTRA_PREFIX) :])
            if not key or key in extra:
                raise SubmissionRefused("malformedMessage", _TWICE)
            extra[key] = field.decoded
    return extra


def _is_utf8(submission: Submission) -> bool:
    sender = submission.reverse_path.mailbox
    return (sender is not None and sender.needs_smtputf8) or any(
        path.needs_smtputf8 for path in submission.forward_paths
    )
