"""What a development server shows to programs: where it is, delivered messages, caught webhooks, as its JSON has them.

`mailcrane.testing` reads the same types back, so that a test has attributes instead of dictionaries.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct


class Reached(Struct, frozen=True):
    """What `localserve --json` prints when the server is ready, on one line.

    Attributes:
        directory: With ``mailcrane.toml``, for ``mailcrane --config``.
        smtp: ``[host, port]`` that takes mail for every recipient.
        submission: ``[host, port]`` for `login`, with or without STARTTLS.
        submissions: ``[host, port]`` for `login`, with TLS from the start.
        webhook_secret: Signs the webhooks until another is set.
        certificate: File to trust for TLS.
    """

    directory: str
    smtp: tuple[str, int]
    submission: tuple[str, int]
    submissions: tuple[str, int]
    webapi_url: str
    messages_url: str
    hooks_url: str
    login: str
    password: str
    webhook_secret: str
    certificate: str


class ShownAddress(Struct, frozen=True):
    """An address of a header field.

    Attributes:
        name: The display name, decoded; may be empty.
        address: ``local@domain``.
    """

    name: str
    address: str

    def __str__(self) -> str:
        return f"{self.name} <{self.address}>" if self.name else self.address


class ShownPart(Struct, frozen=True):
    """A part of a message that is neither its text nor its HTML, such as an attachment or an image in the HTML.

    Attributes:
        number: Its place in the message; ``/messages/ID/parts/NUMBER`` gives its octets.
        content_type: Lower case, without parameters.
        file_name: Decoded; may be empty, and is not safe as a path.
        disposition: ``attachment``, ``inline`` or empty.
        content_id: Without angle brackets; what ``cid:`` in HTML refers to.
        size_octets: Before the transfer encoding is undone.
        url: Path of its octets on this server.
    """

    number: int
    content_type: str
    file_name: str
    disposition: str
    content_id: str
    size_octets: int
    url: str


class ShownMessage(Struct, frozen=True, rename={"from_": "from"}):
    """A message that was delivered here.

    Attributes:
        id: Rises with every message.
        account: Who got it.
        folder: Where it was placed.
        received_at: When it was taken.
        reverse_path: The envelope's; empty for the null reverse-path.
        forward_path: The recipient that this copy was for: one message to three recipients is three messages here.
        message_id: With angle brackets; may be empty.
        subject: Decoded.
        from_: The addresses of From; ``from`` in JSON.
        to: The addresses of To.
        cc: The addresses of Cc.
        reply_to: The addresses of Reply-To.
        text: The text/plain part; empty where there is none.
        html: The text/html part; empty where there is none.
        is_cut: Whether text or HTML were longer than is shown; the raw message has all of it.
        attachments: The other parts.
        headers: All fields with their decoded values, from the top.
        size_octets: Of the raw message.
        url: Path of this message on this server.
        raw_url: Path of its octets.
    """

    id: int
    account: str
    folder: str
    received_at: datetime
    reverse_path: str
    forward_path: str
    message_id: str
    subject: str
    from_: tuple[ShownAddress, ...]
    to: tuple[ShownAddress, ...]
    cc: tuple[ShownAddress, ...]
    reply_to: tuple[ShownAddress, ...]
    text: str
    html: str
    is_cut: bool
    attachments: tuple[ShownPart, ...]
    headers: tuple[tuple[str, str], ...]
    size_octets: int
    url: str
    raw_url: str

    def header(self, name: str) -> str | None:
        """Return the topmost header field of a name, in any case, decoded; None where there is none."""
        return next((value for field, value in self.headers if field.lower() == name.lower()), None)


class ShownMessages(Struct, frozen=True):
    """The answer to a search for messages.

    Attributes:
        messages: Newest first.
        last_id: The highest id that was looked at, matching or not: what ``after`` is given to see later ones only.
        more: Whether there are older ones that match; ``before`` with the last id of the list gives them.
    """

    messages: tuple[ShownMessage, ...]
    last_id: int
    more: bool


class ShownWebhook(Struct, frozen=True):
    """A webhook call as it arrived.

    Attributes:
        number: Rises with every call.
        at: When it arrived.
        event: Its field ``Event``; empty for the webhooks of incoming messages, and for what is not JSON.
        to: The recipient that it tells of, where that is known.
        message_id: Its field ``MessageID``.
        header: The fields that belong to webhooks; names in lower case.
        body: As text.
        payload: The body as JSON; None where it is not.
        path: That was posted to.
    """

    number: int
    at: datetime
    event: str
    to: str
    message_id: str
    header: dict[str, str]
    body: str
    payload: Any
    path: str


class ShownWebhooks(Struct, frozen=True):
    """The answer to a search for webhooks.

    Attributes:
        webhooks: Newest first.
        last_number: The highest number so far: what ``after`` is given to see later ones only.
    """

    webhooks: tuple[ShownWebhook, ...]
    last_number: int


class Deleted(Struct, frozen=True):
    """The answer to a request to delete.

    Attributes:
        deleted: How many there were.
    """

    deleted: int
