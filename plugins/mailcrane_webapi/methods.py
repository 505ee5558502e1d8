"""The table of methods: what each takes, gives, and may be refused for.

Everything that lists methods reads it: the routes, the pages, the OpenAPI document, the command and the reference.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from mailcrane_webapi import wire

CODES: Final = {
    "protocol": "The form, its field `request`, the JSON in it or the key is not what the method takes.",
    "server": "A fault of the server's. Nothing was done; try again later.",
    "user": "Something in the request cannot be used; the message says what.",
    "error": "The state is not what the method needs, such as an address that is on the list already.",
    "badAddress": "An address cannot be parsed.",
    "missingBody": "Neither text nor HTML.",
    "multipleFrom": "More than one author.",
    "domainDisabled": "The author's domain is disabled for now.",
    "badFrom": "The author is not an address of the account.",
    "noRecipients": "No recipients.",
    "messageLimitReached": "The account has sent as many messages as it may in a day.",
    "recipientLimitReached": "The account has written to as many new recipients as it may in a day.",
    "messageTooLarge": "The composed message is larger than is accepted.",
    "malformedMessageID": "The message id has no angle brackets.",
    "sentOverQuota": "The message was queued and will be delivered; there was no room for the copy.",
    "idempotencyKeyReused": "The key was used for another request. Status 409.",
    "idempotencyKeyInUse": "A call with the same key and request is under way. Status 409, with `Retry-After`.",
}
"""Every code that an application can get, and what it means."""

_COMMON = ("protocol", "server")


class Method(Struct, frozen=True):
    """One method.

    Attributes:
        name: In the URL, and as people say it.
        summary: What it does, in one sentence.
        codes: What it may be refused for.
        takes_files: Whether files may come beside the request.
        is_reading: Whether it changes nothing, so that an idempotency key has no meaning for it.
    """

    name: str
    request: type[Struct]
    response: type[Struct]
    summary: str
    codes: tuple[str, ...]
    takes_files: bool = False
    is_reading: bool = False


METHODS: Final = {
    method.name: method
    for method in (
        Method(
            "Send",
            wire.SendRequest,
            wire.SendResponse,
            "Compose a message and queue it for all its recipients.",
            (
                *_COMMON,
                "user",
                "badAddress",
                "missingBody",
                "multipleFrom",
                "domainDisabled",
                "badFrom",
                "noRecipients",
                "messageLimitReached",
                "recipientLimitReached",
                "messageTooLarge",
                "malformedMessageID",
                "sentOverQuota",
            ),
            takes_files=True,
        ),
        Method(
            "SuppressionList",
            wire.SuppressionListRequest,
            wire.SuppressionListResponse,
            "Return the addresses that the account sends nothing to.",
            _COMMON,
            is_reading=True,
        ),
        Method(
            "SuppressionAdd",
            wire.SuppressionAddRequest,
            wire.SuppressionAddResponse,
            "Put an address on the list, so that nothing is sent to it any more.",
            (*_COMMON, "error", "badAddress"),
        ),
        Method(
            "SuppressionRemove",
            wire.SuppressionRemoveRequest,
            wire.SuppressionRemoveResponse,
            "Take an address off the list.",
            (*_COMMON, "error", "badAddress"),
        ),
        Method(
            "SuppressionPresent",
            wire.SuppressionPresentRequest,
            wire.SuppressionPresentResponse,
            "Say whether an address is on the list.",
            (*_COMMON, "badAddress"),
            is_reading=True,
        ),
    )
}
"""By name, in the order in which they are listed."""
