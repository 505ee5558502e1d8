"""Verifies logins, for every protocol: passwords, what SASL needs of the store, and limits on failures.

Every attempt that is not answered from the cache is one line in the log at level info, for tools that block addresses:
``msg="login attempt" session=… protocol=… remote_ip=… login=… account=… mechanism=… result=…``, where the result is
``ok``, ``badcreds``, ``badchanbind``, ``badprotocol``, ``tlsrequired``, ``logindisabled``,
``ratelimited``, ``refused`` (by a plugin) or ``error``.

A verified password is remembered for some minutes, as a keyed hash, with the version of the account's credentials. A
disabled login and a password that was changed take effect with the next attempt: the store says when credentials
change, and once a second they are read all the same, should another process have changed them.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable

import trio
from msgspec import Struct
from msgspec.structs import replace

from mailcrane.config.directory import Directory
from mailcrane.model.receive import Identity
from mailcrane.model.reply import Reply
from mailcrane.model.session import SessionInfo
from mailcrane.model.submission import LoginRefused
from mailcrane.observe.limits import FAILED_LOGIN_WINDOWS, WindowLimiter
from mailcrane.observe.log import get_log
from mailcrane.observe.metrics import Counter
from mailcrane.plugin.caller import Hooks
from mailcrane.plugin.errors import HookFailed
from mailcrane.sasl.credentials import Credentials, verify_password
from mailcrane.sasl.prepare import NotPermitted, prepare_login
from mailcrane.smtp import replies
from mailcrane.store.store import Store

log = get_log(__name__)

PASSWORD = "password"
"""Stands for the mechanism where a protocol other than SMTP asks with a password."""

TOO_MANY_FAILED = Reply.make(421, "4.7.0", "Too many failed logins, try again later")
_PLUGIN_FAILED = Reply.make(454, "4.7.0", "Authentication is temporarily not possible")

_CACHE_SECONDS = 300.0
_MAX_CACHED = 10_000
# So long credentials of which the store says no change are taken as they were read.
_TRUSTED_SECONDS = 1.0
# Hashing holds a core each; what waits behind the same password finds it in the cache.
_MAX_HASHING = 2
_HOOK_BUDGET = 20.0

_attempts = Counter("mailcrane_login_attempts_total", "Logins by protocol and result.", ("protocol", "result"))


class LoginAttempt(Struct, frozen=True):
    """One attempt, with what is known of it so far."""

    session: SessionInfo
    login: str
    mechanism: str
    account: str = ""


class _Verified(Struct):
    """A password that was right.

    Attributes:
        version: Of the credentials that it was verified against.
        changes: How often credentials had changed when these were read last.
        read_at: When that was.
    """

    account: str
    version: int
    until: float
    changes: int
    read_at: float


class Logins:
    """Implements `mailcrane.model.submission.LoginService`, and what SASL mechanisms need besides.

    Args:
        hooks: Asked for `authenticate`.
        directory: Returns the directory of the present version.
        server_secret: Random, the same over restarts: salts for logins that do not exist come of it.
        hostname: In challenges.
        is_inline: Hash on the loop, not in a thread: for tests, where a wait for a thread would move a mock clock.
    """

    def __init__(
        self,
        hooks: Hooks,
        store: Store,
        directory: Callable[[], Directory],
        *,
        server_secret: bytes,
        hostname: str,
        is_inline: bool = False,
    ) -> None:
        self.server_secret = server_secret
        self.hostname = hostname
        self._hooks = hooks
        self._store = store
        self._directory = directory
        self._failures = WindowLimiter(FAILED_LOGIN_WINDOWS)
        self._is_inline = is_inline
        self._hashing = trio.CapacityLimiter(_MAX_HASHING)
        self._cache: dict[bytes, _Verified] = {}
        self._cache_key = os.urandom(32)

    def is_locked_out(self, remote_ip: str) -> bool:
        """Whether an address, or the network around it, has failed too often to be asked again now."""
        return not self._failures.may_add(remote_ip)

    async def log_in(self, session: SessionInfo, login: str, password: str, *, mechanism: str = PASSWORD) -> Identity:
        """Verify a password.

        Raises:
            LoginRefused: it is wrong, the login is disabled, there were too many failures, or a plugin refuses.
        """
        attempt = LoginAttempt(session, login, mechanism)
        if self.is_locked_out(session.remote_ip):
            raise _refused(attempt, "ratelimited", TOO_MANY_FAILED)
        try:
            login = prepare_login(login)
        except NotPermitted:
            raise self._failed(attempt) from None
        if self._hooks.authenticate.implementations:
            identity = await self._ask_plugins(attempt, password)
            if identity is not None:
                return identity
        account = self._directory().login(login) or ""
        attempt = LoginAttempt(session, login, mechanism, account)
        key = hmac.digest(self._cache_key, f"{login}\0{password}".encode("utf-8", "surrogatepass"), "sha256")
        now, changes = trio.current_time(), self._store.wakeups.version("credentials")
        if self._is_trusted(key, account, now, changes):
            return self._confirm(attempt, is_logged=False)
        credentials = await self._store.read(lambda transaction: transaction.credentials.get(account))
        version = 0 if credentials is None else credentials.version
        if self._is_cached(key, account, version):
            self._cache[key].changes, self._cache[key].read_at = changes, now
            return self._confirm(attempt, is_logged=False)
        if not await self._verify(key, account, credentials, password):
            raise self._failed(attempt)
        self._remember(key, _Verified(account, version, trio.current_time() + _CACHE_SECONDS, changes, now))
        return self._confirm(attempt)

    async def credentials(self, login: str) -> Credentials | None:
        """Return what a mechanism checks a login against; None for a login that does not exist."""
        account = self._directory().login(login)
        if account is None:
            return None
        return await self._store.read(lambda transaction: transaction.credentials.get(account))

    def confirm(self, session: SessionInfo, login: str, mechanism: str) -> Identity:
        """Take a login whose proof was right.

        Raises:
            LoginRefused: the login is disabled, or gone since.
        """
        return self._confirm(LoginAttempt(session, login, mechanism, self._directory().login(login) or ""))

    def fail(self, session: SessionInfo, login: str, mechanism: str, *, result: str, is_counted: bool) -> None:
        """Take note of an exchange that failed.

        Args:
            result: For the log.
            is_counted: Whether it was a wrong proof; what could not be tried is not held against the client.
        """
        if is_counted:
            self._failures.add(session.remote_ip)
        _note(LoginAttempt(session, login, mechanism), result)

    async def _verify(self, key: bytes, account: str, credentials: Credentials | None, password: str) -> bool:
        if self._is_inline:
            return verify_password(credentials, password)
        version = 0 if credentials is None else credentials.version
        async with self._hashing:
            return self._is_cached(key, account, version) or await trio.to_thread.run_sync(
                verify_password, credentials, password, abandon_on_cancel=True
            )

    async def _ask_plugins(self, attempt: LoginAttempt, password: str) -> Identity | None:
        try:
            answer = await self._hooks.authenticate(
                session=attempt.session, login=attempt.login, password=password, _budget=_HOOK_BUDGET
            )
        except HookFailed:
            raise _refused(attempt, "error", _PLUGIN_FAILED) from None
        if isinstance(answer, Reply):
            if answer.is_permanent_failure:
                self._failures.add(attempt.session.remote_ip)
            raise _refused(attempt, "refused", answer)
        if answer is None:
            return None
        attempt = replace(attempt, login=answer.login_address, account=answer.account)
        if self._directory().account(answer.account) is None:
            log.error("a plugin logs in an account that does not exist", account=answer.account)
            raise _refused(attempt, "error", _PLUGIN_FAILED)
        return self._confirm(attempt)

    def _confirm(self, attempt: LoginAttempt, *, is_logged: bool = True) -> Identity:
        owner = self._directory().account(attempt.account)
        if owner is None:
            raise self._failed(attempt)
        if owner.is_login_disabled:
            raise _refused(attempt, "logindisabled", Reply.make(525, "5.7.13", owner.login_disabled_message))
        self._failures.reset(attempt.session.remote_ip)
        if is_logged:
            _note(attempt, "ok")
        return Identity(attempt.account, attempt.login, self._directory().full_name(attempt.account, attempt.login))

    def _failed(self, attempt: LoginAttempt) -> LoginRefused:
        self._failures.add(attempt.session.remote_ip)
        return _refused(attempt, "badcreds", replies.BAD_CREDENTIALS)

    def _is_trusted(self, key: bytes, account: str, now: float, changes: int) -> bool:
        """Whether a password is known to be right without asking the store."""
        found = self._cache.get(key)
        return (
            found is not None
            and found.account == account
            and found.changes == changes
            and now < found.until
            and now - found.read_at < _TRUSTED_SECONDS
        )

    def _is_cached(self, key: bytes, account: str, version: int) -> bool:
        found = self._cache.get(key)
        if found is None:
            return False
        if found.until < trio.current_time() or (found.account, found.version) != (account, version):
            del self._cache[key]
            return False
        return True

    def _remember(self, key: bytes, verified: _Verified) -> None:
        while len(self._cache) >= _MAX_CACHED:
            del self._cache[next(iter(self._cache))]
        self._cache[key] = verified


def _refused(attempt: LoginAttempt, result: str, reply: Reply) -> LoginRefused:
    _note(attempt, result)
    return LoginRefused("badcreds" if result == "refused" else result, reply)


def _note(attempt: LoginAttempt, result: str) -> None:
    session = attempt.session
    _attempts.inc(session.protocol, result)
    log.info(
        "login attempt",
        session=session.id,
        protocol=session.protocol,
        remote_ip=session.remote_ip,
        login=attempt.login,
        account=attempt.account,
        mechanism=attempt.mechanism,
        result=result,
    )
