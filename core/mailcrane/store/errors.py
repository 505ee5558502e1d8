"""What can go wrong in the store. A unit's own exception is not among these: it reaches its caller as it is."""

from __future__ import annotations

from mailcrane.model.message import ContentInfo


class StoreError(Exception):
    """The store did not do what it was asked to; nothing of the unit is stored."""


class DiskFull(StoreError):
    """There is no space for what was to be stored; the caller may try again later (452 4.3.1 to a peer)."""


class CommitFailed(StoreError):
    """The engine could not make a batch of units durable; none of them is stored."""


class StoreFailed(StoreError):
    """The engine is dead. Nothing can be written any more and the server has to stop.

    Whether a unit that was waiting is stored is not known; after a restart the stored state tells.
    """


class StoreClosed(StoreError):
    """The store was closed before the unit was queued."""


class SchemaTooNew(StoreError):
    """The database was written by a later release that this one cannot read."""


class UnknownAccount(StoreError):
    """No account has this name (any more).

    Attributes:
        account: The name.
    """

    def __init__(self, account: str) -> None:
        super().__init__(f"no account {account!r}")
        self.account = account


class UnknownContent(StoreError):
    """There is no stored content of this id (any more)."""


class AlreadyStored(StoreError):
    """The content of this origin is stored already: the same transaction was carried out before.

    Attributes:
        info: Of what is stored.
    """

    def __init__(self, info: ContentInfo) -> None:
        super().__init__(f"already stored as content {info.id}")
        self.info = info


class FromIdTaken(StoreError):
    """A queue entry or a retired one has this unique id in its reverse-path.

    Attributes:
        from_id: The id.
    """

    def __init__(self, from_id: str) -> None:
        super().__init__(f"the id {from_id!r} was used before")
        self.from_id = from_id


class SendingLimitReached(StoreError):
    """An account has sent as much in 24 hours as it may.

    Attributes:
        account: Its name.
        what: ``messages`` or ``first-time recipients``.
        limit: How many it may.
    """

    def __init__(self, account: str, what: str, limit: int) -> None:
        super().__init__(f"account {account!r} has reached its limit of {limit} {what} in 24 hours")
        self.account = account
        self.what = what
        self.limit = limit


class VersionChanged(StoreError):
    """The configuration was changed by somebody else in between.

    Attributes:
        expected: The version that the change was based on.
        actual: The version that is stored.
    """

    def __init__(self, expected: int, actual: int) -> None:
        super().__init__(f"the configuration is at version {actual}, not {expected}")
        self.expected = expected
        self.actual = actual


class ResyncNeeded(StoreError):
    """Changes this old are not kept any more; the reader has to read the present state instead.

    Attributes:
        oldest_modseq: A reader that has seen at least this one can still be told what changed since.
    """

    def __init__(self, oldest_modseq: int) -> None:
        super().__init__(f"changes are kept after modification sequence {oldest_modseq}")
        self.oldest_modseq = oldest_modseq
