"""What an identity submits, over SMTP or an API, and what it is answered (RFC 6409)."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from msgspec import Struct

from mailcrane.model.address import Mailbox, ReversePath
from mailcrane.model.idempotency import Claim
from mailcrane.model.message import Content
from mailcrane.model.receive import Identity
from mailcrane.model.reply import Reply
from mailcrane.model.session import SessionInfo


class SentCopy(Struct, frozen=True):
    """A copy for the account's Sent folder, stored in the same commit where the folder exists.

    Attributes:
        prefix: Header fields that only the copy has, such as ``Bcc``.
    """

    prefix: bytes = b""


class Submission(Struct, frozen=True):
    """A message submitted by an authenticated identity, complete but for trace fields.

    Attributes:
        transaction: Number in the session, from 1; with the session's id it names the submission for ever, so that it
            is stored once.
        reverse_path: As given; a unique id per recipient is put into it by the receiver where the account wants one.
        release_at: The first attempt is not made before.
        future_release: As the submitter asked for it, ``until;...`` or ``for;...``; empty when not.
        sent_copy: None stores none.
        claim: Is completed in the same commit, with the `SubmissionAccepted` as JSON for its result.
    """

    session: SessionInfo
    transaction: int
    identity: Identity
    reverse_path: ReversePath
    forward_paths: tuple[Mailbox, ...]
    content: Content
    received_at: datetime
    extra: dict[str, str] = {}
    require_tls: bool | None = None
    release_at: datetime | None = None
    future_release: str = ""
    sent_copy: SentCopy | None = None
    claim: Claim | None = None


class SubmittedEntry(Struct, frozen=True):
    """A forward-path that was taken into the queue."""

    forward_path: Mailbox
    entry_id: int
    from_id: str = ""


class SubmissionAccepted(Struct, frozen=True):
    """What a submission became, after its commit.

    Attributes:
        message_id: With its angle brackets.
        entries: In the order of the forward-paths.
    """

    message_id: str
    entries: tuple[SubmittedEntry, ...]


class SubmissionRefused(Exception):
    """A submission that is not accepted; nothing was stored.

    Attributes:
        code: A word for programs: ``badFrom``, ``domainDisabled``, ``messageTooLarge``, ``messageLimitReached``,
            ``recipientLimitReached``, ``user``, ``server`` …
        reply: What an SMTP client is told. The text is safe to show.
    """

    def __init__(self, code: str, reply: Reply) -> None:
        super().__init__(f"{code}: {reply}")
        self.code = code
        self.reply = reply


class LoginRefused(Exception):
    """A login that is not accepted.

    Attributes:
        reason: ``badcreds``, ``logindisabled``, ``ratelimited`` or ``error``.
        reply: What an SMTP client is told. The text is safe to show.
    """

    def __init__(self, reason: str, reply: Reply) -> None:
        super().__init__(f"{reason}: {reply}")
        self.reason = reason
        self.reply = reply


class SubmissionService(Protocol):
    """Takes submissions into the queue; handed to plugins by the composition root."""

    async def submit(self, submission: Submission) -> SubmissionAccepted:
        """Store a submission and queue it; when this returns it survives a power cut.

        Raises:
            SubmissionRefused: nothing was stored.
            ClaimLost: nothing was stored, because the submission's claim is another's by now.
        """
        ...

    def check_author(self, identity: Identity, author: Mailbox) -> None:
        """Check that an identity may use an address as author.

        Raises:
            SubmissionRefused: with the code ``badFrom`` or ``domainDisabled``.
        """
        ...


class LoginService(Protocol):
    """Verifies passwords, with the limits on failures that hold over all protocols."""

    async def log_in(self, session: SessionInfo, login: str, password: str) -> Identity:
        """Verify a login.

        Raises:
            LoginRefused: the password is wrong, the login is disabled, or there were too many failures.
        """
        ...
