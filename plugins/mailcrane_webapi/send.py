"""The method Send: from a request to a submission.

Errors come in a fixed order, which applications see: body, number of authors, addresses, permission of the author,
recipients, Reply-To, then what composing finds.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta

from mailcrane.api import (
    AddressError,
    Claim,
    HeaderField,
    Identity,
    Mailbox,
    PluginContext,
    ReversePath,
    SentCopy,
    SessionInfo,
    Submission,
    SubmissionAccepted,
    SubmissionRefused,
)
from mailcrane.api.message import (
    BytesContent,
    Composition,
    CompositionError,
    Draft,
    DraftFile,
    NamedMailbox,
    bcc_field,
    compose,
)
from mailcrane_webapi.form import Form
from mailcrane_webapi.metrics import ERRORS, SUBMISSION_RESULTS, SUBMISSIONS
from mailcrane_webapi.wire import (
    Addresses,
    APIError,
    Files,
    SendRequest,
    SendResponse,
    SubmissionAnswer,
)

_MAX_FUTURE_RELEASE = timedelta(days=60)
_CHUNK_OCTETS = 256 * 1024

# What a submission may be refused for, as the API says it too.
_CODES = frozenset(
    {
        "badAddress",
        "badFrom",
        "domainDisabled",
        "malformedMessageID",
        "messageLimitReached",
        "messageTooLarge",
        "noRecipients",
        "recipientLimitReached",
        "sentOverQuota",
        "server",
        "user",
    }
)


class Sender:
    """Carries out Send."""

    def __init__(self, context: PluginContext, *, max_message_octets: int) -> None:
        self._context = context
        self._max_message_octets = max_message_octets

    async def send(
        self, session: SessionInfo, identity: Identity, request: SendRequest, form: Form, claim: Claim | None = None
    ) -> SendResponse:
        """Compose a message and submit it.

        Args:
            claim: Is completed in the same commit.

        Raises:
            APIError: nothing was queued, save with the code ``sentOverQuota``.
            ClaimLost: nothing was queued.
        """
        try:
            response = await self._send(session, identity, request, form, claim)
        except APIError as error:
            SUBMISSIONS.inc(SUBMISSION_RESULTS.get(error.code, "queueerror"))
            raise
        SUBMISSIONS.inc("ok")
        return response

    async def _send(
        self, session: SessionInfo, identity: Identity, request: SendRequest, form: Form, claim: Claim | None
    ) -> SendResponse:
        is_large = form.is_large
        envelope = self._envelope(identity, request)
        now = self._context.clock.now()
        if is_large:
            composition = await self._context.run_in_thread(self._compose, request, envelope, form, now)
        else:
            composition = self._compose(request, envelope, form, now)
        _check_future_release(request.future_release, now)
        submission = Submission(
            session=session,
            transaction=1,
            identity=identity,
            reverse_path=ReversePath(envelope.author.mailbox),
            forward_paths=tuple(recipient.mailbox for recipient in envelope.recipients),
            content=(
                BytesContent(composition.octets)
                if composition.size_octets <= _CHUNK_OCTETS
                else _ComposedContent(composition, self._context)
            ),
            received_at=now,
            extra={name: value or "" for name, value in (request.extra or {}).items()},
            require_tls=request.require_tls,
            release_at=request.future_release,
            future_release=_until(request.future_release),
            sent_copy=_sent_copy(request, envelope, composition),
            claim=claim,
        )
        try:
            accepted = await self._context.submissions.submit(submission)
        except SubmissionRefused as refused:
            error = _error(refused)
            if error.code == "server":
                ERRORS.inc("submit")
            raise error from None
        return send_response(request, accepted)

    def _envelope(self, identity: Identity, request: SendRequest) -> _Envelope:
        if not request.text and not request.html:
            raise APIError("missingBody", "at least text or html body required")
        authors = request.author or []
        if len(authors) > 1:
            raise APIError("multipleFrom", "multiple from-addresses not allowed")
        if authors:
            author = _parse(authors, "From")[0]
        else:
            author = NamedMailbox(identity.full_name, _parse_mailbox(identity.login_address, "From"))
        to, cc, bcc = _parse(request.to, "To"), _parse(request.cc, "CC"), _parse(request.bcc, "BCC")
        try:
            self._context.submissions.check_author(identity, author.mailbox)
        except SubmissionRefused as refused:
            raise _error(refused) from None
        if not (to or cc or bcc):
            raise APIError("noRecipients", "no recipients")
        return _Envelope(author, to, cc, bcc, _parse(request.reply_to, "ReplyTo"))

    def _compose(self, request: SendRequest, envelope: _Envelope, form: Form, now: datetime) -> Composition:
        draft = Draft(
            author=envelope.author,
            to=envelope.to,
            cc=envelope.cc,
            reply_to=envelope.reply_to,
            message_id=request.message_id or "",
            references=tuple(reference or "" for reference in request.references or ()),
            date=request.date,
            subject=request.subject or "",
            text=request.text or "",
            html=request.html or "",
            headers=_headers(request),
            alternative_files=_files(request.alternative_files, form, "alternativefile"),
            inline_files=_files(request.inline_files, form, "inlinefile"),
            attached_files=_files(request.attached_files, form, "attachedfile"),
        )
        try:
            composition = compose(draft, hostname=self._context.hostname, now=now)
        except CompositionError as error:
            raise APIError(error.code, str(error)) from None
        if composition.size_octets > self._max_message_octets:
            raise APIError(
                "messageTooLarge",
                f"composed message is {composition.size_octets} bytes, at most {self._max_message_octets} are accepted",
            )
        return composition


class _Envelope:
    """Who a message is from and to."""

    def __init__(
        self,
        author: NamedMailbox,
        to: tuple[NamedMailbox, ...],
        cc: tuple[NamedMailbox, ...],
        bcc: tuple[NamedMailbox, ...],
        reply_to: tuple[NamedMailbox, ...],
    ) -> None:
        self.author = author
        self.to = to
        self.cc = cc
        self.bcc = bcc
        self.reply_to = reply_to
        self.recipients = (*to, *cc, *bcc)


class _ComposedContent:
    """A large message, composed while it is read; its files are never held whole."""

    def __init__(self, composition: Composition, context: PluginContext) -> None:
        self._composition = composition
        self._context = context

    @property
    def size_octets(self) -> int:
        return self._composition.size_octets

    @property
    def header(self) -> bytes:
        return self._composition.header[:-2]

    async def chunks(self) -> AsyncIterator[bytes]:
        chunks = self._composition.chunks(_CHUNK_OCTETS)
        while chunk := await self._context.run_in_thread(next, chunks, b""):
            yield chunk


def _parse(addresses: Addresses, place: str) -> tuple[NamedMailbox, ...]:
    return tuple(
        NamedMailbox((address and address.name) or "", _parse_mailbox((address and address.address) or "", place))
        for address in addresses or ()
    )


def _parse_mailbox(text: str, place: str) -> Mailbox:
    try:
        return Mailbox.parse(text)
    except AddressError as error:
        raise APIError("badAddress", f"parsing {place} address: {error}") from None


def _headers(request: SendRequest) -> tuple[HeaderField, ...]:
    fields = []
    for pair in request.headers or ():
        # An array of two: what is missing is empty, what is more is dropped.
        padded: list[str | None] = [*(pair or []), None, None]
        name, value = padded[:2]
        fields.append(HeaderField(name or "", value or ""))
    return tuple(fields)


def _files(files: Files, form: Form, field: str) -> tuple[DraftFile, ...]:
    from_json = [
        DraftFile(_decode(file.data or ""), file.name or "", file.content_type or "", file.content_id or "")
        for file in files or ()
        if file is not None
    ]
    from_form = [DraftFile(file, file.name, file.content_type, file.content_id) for file in form.files_of(field)]
    return (*from_json, *from_form)


def _decode(data: str) -> bytes:
    try:
        octets = data.encode("ascii")
        if b"\n" in octets or b"\r" in octets:
            octets = octets.translate(None, b"\r\n")
        return base64.b64decode(octets, validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise APIError("user", "file data is not valid base64") from None


def _check_future_release(release_at: datetime | None, now: datetime) -> None:
    if release_at is not None and release_at > now + _MAX_FUTURE_RELEASE:
        raise APIError("user", "future release is more than 60 days ahead")


def _until(release_at: datetime | None) -> str:
    return "" if release_at is None else f"until;{release_at.isoformat().replace('+00:00', 'Z')}"


def _sent_copy(request: SendRequest, envelope: _Envelope, composition: Composition) -> SentCopy | None:
    try:
        prefix = bcc_field(envelope.bcc, is_utf8=composition.needs_smtputf8)
    except CompositionError as error:
        raise APIError(error.code, str(error)) from None
    return SentCopy(prefix) if request.save_sent else None


def _error(refused: SubmissionRefused) -> APIError:
    if refused.code in _CODES:
        return APIError(refused.code, refused.reply.text)
    return APIError("user" if refused.reply.is_permanent_failure else "server", refused.reply.text)


def send_response(request: SendRequest, accepted: SubmissionAccepted) -> SendResponse:
    """Return what a request is answered, made of it and of what it became alone."""
    given: Sequence[str] = [
        (address and address.address) or ""
        for addresses in (request.to, request.cc, request.bcc)
        for address in addresses or ()
    ]
    return SendResponse(
        accepted.message_id,
        [
            SubmissionAnswer(address, entry.entry_id, entry.from_id)
            for address, entry in zip(given, accepted.entries, strict=True)
        ],
    )
