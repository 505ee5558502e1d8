"""Calls that an application may repeat: the same key gets the same answer, and the work is done once.

The semantics are those of the IETF draft on the ``Idempotency-Key`` header field.
"""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct


class Claim(Struct, frozen=True):
    """The right to carry out the call of a key. It ends with an answer, with a release, or when its lease is over.

    Attributes:
        token: Of this claim alone.
        is_again: An earlier call with this key and fingerprint was begun and came to no end, because its process
            died. What a unit commits together with the answer is not there; any other effect may be.
    """

    account: str
    key: str
    token: str
    is_again: bool = False


class Remembered(Struct, frozen=True):
    """The call was carried out before.

    Attributes:
        result: What was stored with it, for the answer to be made from.
    """

    result: bytes


class KeyReused(Exception):
    """The key was used for a call that is not this one."""


class KeyInUse(Exception):
    """The call with this key and fingerprint is under way and took too long to wait for.

    Attributes:
        retry_after_seconds: When asking again may help.
    """

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__(f"try again after {retry_after_seconds} s")
        self.retry_after_seconds = retry_after_seconds


class ClaimLost(Exception):
    """The claim's lease was over and another call has it; nothing was stored."""


class IdempotencyService(Protocol):
    """Keys of calls, per account; handed to plugins by the composition root."""

    async def claim(self, account: str, key: str, fingerprint: bytes) -> Claim | Remembered:
        """Claim a key, or return what is remembered. Waits up to 30 s for a call that is under way.

        Args:
            account: Whose key it is.
            key: As the application chose it.
            fingerprint: Equal for equal calls only.

        Raises:
            KeyReused: the key has another fingerprint.
            KeyInUse: the call under way did not end in time.
        """
        ...

    async def complete(self, claim: Claim, result: bytes) -> None:
        """Remember a result for 24 hours. A `Submission` with the claim does it in its own commit.

        Raises:
            ClaimLost: it is another's by now.
        """
        ...

    async def release(self, claim: Claim) -> None:
        """Forget a claim whose call failed, so that it can be tried again; a result that is stored stays."""
        ...
