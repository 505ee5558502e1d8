"""The types of the JSON that travels.

A name is exactly as on the wire. What a request may leave out may be null as well. The descriptions here are what the
reference page and the OpenAPI document say.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta, Struct, field

Instant = Annotated[datetime, Meta(tz=True)]


class APIError(Exception):
    """A call that failed, as the application is told.

    Attributes:
        code: A word for programs; `mailcrane_webapi.methods` lists them all.
        message: For people; safe to show.
        status: Of the HTTP response.
        retry_after_seconds: When to try again; 0 says nothing of it.
    """

    def __init__(self, code: str, message: str, *, status: int = 400, retry_after_seconds: int = 0) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status
        self.retry_after_seconds = retry_after_seconds


class ErrorBody(Struct, frozen=True):
    """Why a call failed."""

    code: Annotated[str, Meta(description="A word for programs.")] = field(name="Code")
    message: Annotated[str, Meta(description="For people.")] = field(name="Message")


class NameAddress(Struct, frozen=True, forbid_unknown_fields=True):
    """An address with the name that is shown for it."""

    name: Annotated[str | None, Meta(description="Shown for the address.")] = field(name="Name", default=None)
    address: Annotated[str | None, Meta(description="An email address.")] = field(name="Address", default=None)


class File(Struct, frozen=True, forbid_unknown_fields=True):
    """A file in JSON. Larger ones travel better beside the request, in a multipart form."""

    name: Annotated[str | None, Meta(description="As people read it.")] = field(name="Name", default=None)
    content_type: Annotated[str | None, Meta(description="Found out from the octets when empty.")] = field(
        name="ContentType", default=None
    )
    content_id: Annotated[str | None, Meta(description="What HTML names an inline file by, after `cid:`.")] = field(
        name="ContentID", default=None
    )
    data: Annotated[str | None, Meta(description="Standard base64.")] = field(name="Data", default=None)


Addresses = list[NameAddress | None] | None
Files = list[File | None] | None


class SendRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A message to be composed, and how it is to be sent."""

    author: Annotated[
        Addresses, Meta(description="At most one, an address of the account. Empty: its name, and the login.")
    ] = field(name="From", default=None)
    to: Annotated[Addresses, Meta(description="Recipients.")] = field(name="To", default=None)
    cc: Annotated[Addresses, Meta(description="Recipients.")] = field(name="CC", default=None)
    bcc: Annotated[Addresses, Meta(description="Recipients that the message does not name.")] = field(
        name="BCC", default=None
    )
    reply_to: Annotated[Addresses, Meta(description="Where replies are to go.")] = field(name="ReplyTo", default=None)
    message_id: Annotated[
        str | None, Meta(description="With its angle brackets, and never used before. Empty: a new one is made.")
    ] = field(name="MessageID", default=None)
    references: Annotated[
        list[str | None] | None,
        Meta(description="Message ids with angle brackets, oldest first; the last is the one replied to."),
    ] = field(name="References", default=None)
    date: Annotated[Instant | None, Meta(description="Empty: now.")] = field(name="Date", default=None)
    subject: Annotated[str | None, Meta(description="The subject.")] = field(name="Subject", default=None)
    text: Annotated[str | None, Meta(description="Lines. This or `HTML` must be there.")] = field(
        name="Text", default=None
    )
    html: Annotated[str | None, Meta(description="Lines. With `Text` too, readers choose.")] = field(
        name="HTML", default=None
    )
    extra: Annotated[
        dict[str, str | None] | None,
        Meta(description="What the application wants to know again: it is repeated in every webhook."),
    ] = field(name="Extra", default=None)
    headers: Annotated[
        list[list[str | None] | None] | None,
        Meta(description="Further header fields, each a list of name and value."),
    ] = field(name="Headers", default=None)
    alternative_files: Annotated[Files, Meta(description="Other forms of the text, such as a calendar entry.")] = field(
        name="AlternativeFiles", default=None
    )
    inline_files: Annotated[Files, Meta(description="What the HTML shows.")] = field(name="InlineFiles", default=None)
    attached_files: Annotated[Files, Meta(description="Attachments.")] = field(name="AttachedFiles", default=None)
    require_tls: Annotated[
        bool | None,
        Meta(
            description="Null: as the domains of the recipients wish. True: only over verified TLS all the way "
            "(REQUIRETLS). False: also where TLS fails."
        ),
    ] = field(name="RequireTLS", default=None)
    future_release: Annotated[Instant | None, Meta(description="Nothing is sent before it; at most 60 days ahead.")] = (
        field(name="FutureRelease", default=None)
    )
    save_sent: Annotated[bool | None, Meta(description="Keep a copy in the folder for sent mail.")] = field(
        name="SaveSent", default=None
    )


class SubmissionAnswer(Struct, frozen=True):
    """What one recipient became."""

    address: Annotated[str, Meta(description="As it stood in the request.")] = field(name="Address")
    queue_message_id: Annotated[int, Meta(description="Webhooks name the entry of the queue by it.")] = field(
        name="QueueMsgID"
    )
    from_id: Annotated[
        str, Meta(description="In the reverse-path, where the account uses unique ones; else empty.")
    ] = field(name="FromID")


class SendResponse(Struct, frozen=True):
    """What was queued."""

    message_id: Annotated[str, Meta(description="With its angle brackets.")] = field(name="MessageID")
    submissions: Annotated[list[SubmissionAnswer], Meta(description="In the order To, CC, BCC.")] = field(
        name="Submissions"
    )


class SuppressionListRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Nothing has to be said."""


class SuppressedAddress(Struct, frozen=True):
    """An address that nothing is sent to."""

    id: Annotated[int, Meta(description="Of the row.")] = field(name="ID")
    created: Annotated[Instant, Meta(description="When it was put on the list.")] = field(name="Created")
    account: Annotated[str, Meta(description="Whose list it is.")] = field(name="Account")
    base_address: Annotated[
        str, Meta(description="What is compared: without tags and dots in the local part, in lower case.")
    ] = field(name="BaseAddress")
    original_address: Annotated[str, Meta(description="As it was when it was put on the list.")] = field(
        name="OriginalAddress"
    )
    manual: Annotated[bool, Meta(description="By a person or an application, rather than after a failure.")] = field(
        name="Manual"
    )
    reason: Annotated[str, Meta(description="In words.")] = field(name="Reason")


class SuppressionListResponse(Struct, frozen=True):
    """The whole list of the account."""

    suppressions: Annotated[list[SuppressedAddress], Meta(description="The oldest first.")] = field(name="Suppressions")


class SuppressionAddRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """An address to be put on the list."""

    email_address: Annotated[str | None, Meta(description="An email address.")] = field(
        name="EmailAddress", default=None
    )
    manual: Annotated[bool | None, Meta(description="Kept with it.")] = field(name="Manual", default=None)
    reason: Annotated[str | None, Meta(description="Kept with it.")] = field(name="Reason", default=None)


class SuppressionAddResponse(Struct, frozen=True):
    """Nothing has to be said."""


class SuppressionRemoveRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """An address to be taken off the list."""

    email_address: Annotated[str | None, Meta(description="An email address.")] = field(
        name="EmailAddress", default=None
    )


class SuppressionRemoveResponse(Struct, frozen=True):
    """Nothing has to be said."""


class SuppressionPresentRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """An address that is asked for."""

    email_address: Annotated[str | None, Meta(description="An email address.")] = field(
        name="EmailAddress", default=None
    )


class SuppressionPresentResponse(Struct, frozen=True):
    """Whether it is on the list."""

    present: Annotated[bool, Meta(description="Its base address is on the list.")] = field(name="Present")


_encoder = msgspec.json.Encoder()


def encode(value: Struct) -> bytes:
    """Encode a response: compact JSON and a line feed."""
    return _encoder.encode(value) + b"\n"
