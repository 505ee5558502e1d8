"""The suppression list: addresses of an account that nothing is sent to, and why.

An address is compared by its base: what differs only in a tag, in dots or in case reaches the same person.
"""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Protocol

from msgspec import Struct

from mailcrane.model.address import Mailbox, domain_to_unicode


class SuppressionOrigin(enum.StrEnum):
    """Who put an address on the list."""

    QUEUE = "queue"  # a next hop's reply
    DSN = "dsn"  # a delivery status notification that came in
    MANUAL = "manual"  # a person or an application
    IMPORT = "import"
    PLUGIN = "plugin"


class SuppressionEvidence(Struct, frozen=True):
    """What an address was put on the list for.

    Attributes:
        entry_id: Of the queue entry that failed; 0 for none.
        code: Of the reply; 0 for none.
        enhanced_status_code: Such as ``5.1.1``; empty for none.
        text: The reply or the notification, in its own words.
        remote_mta: Who said it.
    """

    entry_id: int = 0
    code: int = 0
    enhanced_status_code: str = ""
    text: str = ""
    remote_mta: str = ""


class Suppression(Struct, frozen=True):
    """An address on an account's list.

    Attributes:
        base_address: What is compared; at most one per account.
        original_address: As it was when it was put on the list.
        is_manual: What the sending API calls ``Manual``.
        reason: In words.
    """

    id: int
    account: str
    base_address: str
    original_address: str
    created_at: datetime
    is_manual: bool = False
    reason: str = ""
    origin: SuppressionOrigin = SuppressionOrigin.MANUAL
    evidence: SuppressionEvidence = SuppressionEvidence()


class FailureCause(enum.StrEnum):
    """What the last reply of a failed entry says of the address."""

    ADDRESS = "address"  # it takes no mail: suppressed at once
    UNCLEAR = "unclear"  # suppressed with the third failure in a row
    SENDER = "sender"  # content, policy or configuration on our side: says nothing of the address
    NO_REPLY = "no_reply"  # nothing was heard: counted as a failure, suppresses nothing by itself


class SuppressionCheck(Struct, frozen=True):
    """Whether an entry is not to be attempted, whatever the list says.

    Attributes:
        reason: In words, for the sender; used only with a yes.
    """

    is_suppressed: bool
    reason: str = ""


class SuppressionDecision(Struct, frozen=True):
    """Whether the recipient of a failed entry is put on the account's list.

    Attributes:
        is_suppressed: False also keeps the failure from being counted.
        reason: In words; used only with a yes.
    """

    is_suppressed: bool
    reason: str = ""


class AlreadySuppressed(Exception):
    """The base address is on the account's list."""


class NotSuppressed(Exception):
    """The base address is not on the account's list."""


class SuppressionService(Protocol):
    """An account's suppression list; handed to plugins by the composition root."""

    async def list(self, account: str) -> tuple[Suppression, ...]:
        """Return the whole list, the oldest first."""
        ...

    async def add(self, account: str, address: Mailbox, *, is_manual: bool, reason: str) -> Suppression:
        """Put an address on the list.

        Raises:
            AlreadySuppressed: its base is on it.
        """
        ...

    async def remove(self, account: str, address: Mailbox) -> None:
        """Take an address off the list.

        Raises:
            NotSuppressed: its base is not on it.
        """
        ...

    async def is_suppressed(self, account: str, address: Mailbox) -> bool:
        """Return whether the base of an address is on the list."""
        ...


def base_address(mailbox: Mailbox) -> str:
    """Return what an address is compared by: cut at the first ``+``, then at the first ``-``, dots removed, lower case.

    The separators of the domain do not count: it is not ours.
    """
    local_part = mailbox.local_part.partition("+")[0].partition("-")[0].replace(".", "").lower()
    return f"{local_part}@{domain_to_unicode(mailbox.domain)}"
