"""The steps of an authentication exchange, as values.

A server mechanism answers each message of the client with one `Step`. `NeedCredentials` and `CheckPassword` hand the
part that waits (the store, hooks, password hashing) to the driver.
"""

from __future__ import annotations

import enum
from typing import Protocol

from msgspec import Struct

from mailcrane.sasl.credentials import Credentials


class FailureReason(enum.Enum):
    """Why an exchange failed."""

    BAD_CREDENTIALS = "badcreds"
    BAD_CHANNEL_BINDING = "badchanbind"
    BAD_MESSAGE = "badprotocol"
    TLS_REQUIRED = "tlsrequired"


class Challenge(Struct, frozen=True):
    """Send this to the client and pass its answer to `ServerMechanism.step`."""

    data: bytes


class NeedCredentials(Struct, frozen=True):
    """Look up the credentials of a login and pass them to `ServerMechanism.provide`."""

    login: str


class CheckPassword(Struct, frozen=True):
    """Check this password; what comes of it is the driver's to tell. The exchange is over.

    Attributes:
        login: Prepared, otherwise as the client sent it.
        password: As the client sent it, not yet prepared.
    """

    login: str
    password: str

    def __repr__(self) -> str:
        return f"CheckPassword(login={self.login!r})"


class Success(Struct, frozen=True):
    """The client proved to be `login`. The exchange is over."""

    login: str


class Failure(Struct, frozen=True):
    """The exchange failed and is over.

    Attributes:
        reason: What the client is told.
        login: Who the client wanted to be, where that is known.
        explanation: For the log.
    """

    reason: FailureReason
    login: str = ""
    explanation: str = ""


Step = Challenge | NeedCredentials | CheckPassword | Success | Failure


class ServerMechanism(Protocol):
    """The server's side of one exchange."""

    @property
    def name(self) -> str:
        """As announced."""
        ...

    def step(self, response: bytes | None) -> Step:
        """Take the initial response (None when the client sent none) or the answer to a challenge. Never raises."""
        ...

    def provide(self, credentials: Credentials | None) -> Step:
        """Answer `NeedCredentials`; None for an unknown login, which goes on as if there were one and then fails."""
        ...


class AuthenticationFailed(Exception):
    """The server's part of an exchange is not what it must be; a client must not go on."""


class ClientMechanism(Protocol):
    """The client's side of one exchange."""

    @property
    def name(self) -> str:
        """As announced by the server."""
        ...

    @property
    def is_complete(self) -> bool:
        """Whether the server has done its part, proving itself where the mechanism can; success before is a lie."""
        ...

    def initial(self) -> bytes | None:
        """The initial response; None where the server speaks first."""
        ...

    def respond(self, challenge: bytes) -> bytes:
        """Answer a challenge. SCRAM hashes the password here, for tens of milliseconds: call it in a thread.

        Raises:
            AuthenticationFailed: the challenge is malformed, weak, or the server did not prove itself.
        """
        ...
