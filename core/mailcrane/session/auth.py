"""One AUTH exchange (RFC 4954): steps of a SASL mechanism, answered from the store and the login service."""

from __future__ import annotations

import trio

from mailcrane.model.receive import Identity
from mailcrane.model.reply import Reply
from mailcrane.model.session import SessionInfo
from mailcrane.model.submission import LoginRefused
from mailcrane.sasl.exchange import Challenge, CheckPassword, Failure, FailureReason, NeedCredentials, Success
from mailcrane.sasl.mechanisms import make_server_mechanism
from mailcrane.session.login import TOO_MANY_FAILED, Logins
from mailcrane.smtp import replies

# What says that the client does not know the secret; the other reasons are not held against it.
_COUNTED = frozenset({FailureReason.BAD_CREDENTIALS, FailureReason.BAD_CHANNEL_BINDING})

# Failed attempts that are answered at once; each one after that waits a second longer than the one before.
_FREE_FAILURES = 3


class Authenticator:
    """Holds one exchange.

    Args:
        logins: The service that knows what is right.
        session: As it is now.
        mechanism: One that is offered.
        tls_exporter: The channel binding of the connection (RFC 9266), or None.
    """

    def __init__(self, logins: Logins, session: SessionInfo, mechanism: str, tls_exporter: bytes | None) -> None:
        self._logins = logins
        self._session = session
        self._name = mechanism
        self._mechanism = make_server_mechanism(
            mechanism,
            hostname=logins.hostname,
            server_secret=logins.server_secret,
            channel_bindings={} if tls_exporter is None else {"tls-exporter": tls_exporter},
        )

    async def step(self, response: bytes | None, failures: int) -> bytes | Identity | Reply:
        """Take what the client said and return a challenge, who it is, or the reply that refuses it.

        Args:
            response: Decoded; None when AUTH came without one.
            failures: Exchanges that failed on this connection; after some, answering takes longer and longer.
        """
        logins, session = self._logins, self._session
        if logins.is_locked_out(session.remote_ip):
            return TOO_MANY_FAILED
        step = self._mechanism.step(response)
        if not isinstance(step, Challenge) and failures >= _FREE_FAILURES:
            await trio.sleep(failures + 1 - _FREE_FAILURES)
        try:
            if isinstance(step, NeedCredentials):
                step = self._mechanism.provide(await logins.credentials(step.login))
            if isinstance(step, CheckPassword):
                return await logins.log_in(session, step.login, step.password, mechanism=self._name)
            if isinstance(step, Success):
                return logins.confirm(session, step.login, self._name)
        except LoginRefused as refused:
            return refused.reply
        if isinstance(step, Challenge):
            return step.data
        assert isinstance(step, Failure), "credentials are asked for once"
        logins.fail(session, step.login, self._name, result=step.reason.value, is_counted=step.reason in _COUNTED)
        return replies.AUTH_FAILURES[step.reason]
