"""PLAIN (RFC 4616), LOGIN (draft-murchison-sasl-login) and CRAM-MD5 (RFC 2195), both sides."""

from __future__ import annotations

import hmac
import os
import time

from mailcrane.sasl import md5_state
from mailcrane.sasl.credentials import Credentials
from mailcrane.sasl.exchange import (
    AuthenticationFailed,
    Challenge,
    CheckPassword,
    Failure,
    FailureReason,
    NeedCredentials,
    Step,
    Success,
)
from mailcrane.sasl.prepare import NotPermitted, prepare_login, prepare_password


def _bad_message(explanation: str, login: str = "") -> Failure:
    return Failure(FailureReason.BAD_MESSAGE, login, explanation)


class PlainServer:
    """PLAIN: the password in one message."""

    name = "PLAIN"

    def step(self, response: bytes | None) -> Step:
        """Take ``[authzid] NUL login NUL password``."""
        if response is None:
            return Challenge(b"")
        try:
            parts = response.decode().split("\0")
        except UnicodeDecodeError:
            return _bad_message("not UTF-8")
        if len(parts) != 3 or not parts[1] or not parts[2]:
            return _bad_message("expected an identity, a login and a password")
        try:
            login = prepare_login(parts[1])
            if parts[0] and prepare_login(parts[0]) != login:
                return Failure(FailureReason.BAD_CREDENTIALS, login, "authorization for another identity")
        except NotPermitted as error:
            return Failure(FailureReason.BAD_CREDENTIALS, "", f"bad login: {error}")
        return CheckPassword(login, parts[2])

    def provide(self, credentials: Credentials | None) -> Step:
        """Never asked for."""
        return _bad_message("unexpected credentials")


class LoginServer:
    """LOGIN: two questions."""

    name = "LOGIN"

    def __init__(self) -> None:
        self._login: str | None = None
        self._was_asked = False

    def step(self, response: bytes | None) -> Step:
        """Take the login, perhaps as the initial response, then the password."""
        if response is None or (not response and not self._was_asked):
            if self._was_asked:
                return _bad_message("expected a response")
            self._was_asked = True
            return Challenge(b"Username:")
        self._was_asked = True
        try:
            text = response.decode()
        except UnicodeDecodeError:
            return _bad_message("not UTF-8")
        if "\0" in text:
            return _bad_message("NUL in a login or password")
        if self._login is not None:
            return CheckPassword(self._login, text)
        try:
            self._login = prepare_login(text)
        except NotPermitted as error:
            return Failure(FailureReason.BAD_CREDENTIALS, "", f"bad login: {error}")
        return Challenge(b"Password:")

    def provide(self, credentials: Credentials | None) -> Step:
        """Never asked for."""
        return _bad_message("unexpected credentials")


class CramMD5Server:
    """CRAM-MD5: a keyed digest of our challenge."""

    name = "CRAM-MD5"

    def __init__(self, hostname: str, *, challenge: bytes = b"") -> None:
        self._challenge = challenge or f"<{os.urandom(8).hex()}.{time.time_ns()}@{hostname}>".encode()
        self._state = "start"
        self._login = ""
        self._digest = ""

    def step(self, response: bytes | None) -> Step:
        """Take ``login SP digest``."""
        if self._state == "start" and not response:
            self._state = "asked"
            return Challenge(self._challenge)
        if self._state != "asked":
            return _bad_message("the server speaks first", self._login)
        self._state = "over"
        try:
            login, space, digest = (response or b"").decode().rpartition(" ")
        except UnicodeDecodeError:
            return _bad_message("not UTF-8")
        if not space or not login or len(digest) != 32 or not digest.isascii():
            return _bad_message("expected a login and a digest")
        try:
            self._login = prepare_login(login)
        except NotPermitted as error:
            return Failure(FailureReason.BAD_CREDENTIALS, "", f"bad login: {error}")
        self._digest = digest.lower()
        self._state = "credentials"
        return NeedCredentials(self._login)

    def provide(self, credentials: Credentials | None) -> Step:
        """Take the credentials of the login, or None."""
        if self._state != "credentials":
            return _bad_message("unexpected credentials", self._login)
        self._state = "over"
        secret = None if credentials is None else credentials.cram_md5
        inner, outer = (secret.inner, secret.outer) if secret is not None else (bytes(16), bytes(16))
        expected = md5_state.resume(outer, md5_state.resume(inner, self._challenge)).hex()
        if not hmac.compare_digest(expected, self._digest) or secret is None:
            why = "wrong password" if secret is not None else "unknown login, or no secret for this mechanism"
            return Failure(FailureReason.BAD_CREDENTIALS, self._login, why)
        return Success(self._login)


class PlainClient:
    """PLAIN: the password in one message."""

    name = "PLAIN"

    def __init__(self, login: str, password: str) -> None:
        self._message = f"\0{prepare_login(login)}\0{prepare_password(password)}".encode()
        self.is_complete = False

    def initial(self) -> bytes:
        """Return the message."""
        self.is_complete = True
        return self._message

    def respond(self, challenge: bytes) -> bytes:
        """There is nothing to answer.

        Raises:
            AuthenticationFailed: always.
        """
        raise AuthenticationFailed("unexpected challenge")


class LoginClient:
    """LOGIN: two questions."""

    name = "LOGIN"

    def __init__(self, login: str, password: str) -> None:
        self._answers = [prepare_password(password).encode(), prepare_login(login).encode()]
        self.is_complete = False

    def initial(self) -> None:
        """Return nothing: the server asks."""
        return

    def respond(self, challenge: bytes) -> bytes:
        """Answer the first question with the login and the second with the password, whatever their words are.

        Raises:
            AuthenticationFailed: the server asks a third time.
        """
        if not self._answers:
            raise AuthenticationFailed("unexpected challenge")
        answer = self._answers.pop()
        self.is_complete = not self._answers
        return answer


class CramMD5Client:
    """CRAM-MD5: a keyed digest of the server's challenge."""

    name = "CRAM-MD5"

    def __init__(self, login: str, password: str) -> None:
        self._login = prepare_login(login)
        self._password = prepare_password(password).encode()
        self.is_complete = False

    def initial(self) -> None:
        """Return nothing: the server speaks first."""
        return

    def respond(self, challenge: bytes) -> bytes:
        """Answer the challenge.

        Raises:
            AuthenticationFailed: there is a second one.
        """
        if self.is_complete:
            raise AuthenticationFailed("unexpected challenge")
        self.is_complete = True
        return f"{self._login} {hmac.digest(self._password, challenge, 'md5').hex()}".encode()
