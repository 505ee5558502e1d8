"""Drives one SMTP session: bytes between a stream and `mailcrane.smtp.server`, decisions from policy and receive.

One cancel scope serves the whole session: its deadline is moved before each wait for the client, and taken away while
we work. What is answered is sent when no complete command is left in the buffer (RFC 2920 section 3.2).
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import trio
from msgspec import Struct
from msgspec.structs import replace

from mailcrane.config.directory import Directory
from mailcrane.model.address import Mailbox
from mailcrane.model.clock import Clock
from mailcrane.model.receive import Identity, LocalDestination, ReceivedMessage, Recipient, RelayDestination
from mailcrane.model.reply import Reply
from mailcrane.model.session import SessionInfo
from mailcrane.model.submission import Submission, SubmissionRefused, SubmissionService
from mailcrane.observe.log import get_log
from mailcrane.plugin.caller import Hooks
from mailcrane.receive.content import ContentCollector
from mailcrane.sasl.mechanisms import offered_mechanisms
from mailcrane.session.auth import Authenticator
from mailcrane.session.login import Logins
from mailcrane.session.policy import NO_SUCH_USER, UNKNOWN, EnvelopePolicy
from mailcrane.session.settings import SessionSettings
from mailcrane.session.special import SpecialFailure, SpecialTries
from mailcrane.session.tarpit import READ_DELAY, send_slowly
from mailcrane.smtp import replies
from mailcrane.smtp.command import Auth, Data, Hello, Mail, Rcpt, StartTLS
from mailcrane.smtp.event import (
    NEED_DATA,
    AuthResponse,
    Closed,
    Content,
    ContentRefused,
    EndOfContent,
    Reset,
    Signal,
)
from mailcrane.smtp.server import ServerConfig, ServerConnection
from mailcrane.store.errors import DiskFull, StoreError
from mailcrane.store.store import Store
from mailcrane.tls.context import ServerTLS
from mailcrane.tls.stream import TLSStream

log = get_log(__name__)

# Shorter than RFC 5321 section 4.5.3.2 asks for: clients that work answer within a second, others hold a connection.
COMMAND_SECONDS = 30.0
# For a whole message, within which no silence may be longer than that of a command.
CONTENT_SECONDS = 30 * 60.0

# A deadline may be so much too early.
_DEADLINE_SLACK = 1.0

# So that guessing recipients costs time.
_UNKNOWN_DELAY = 5.0
_FAILED_LOGINS_BEFORE_TARPIT = 3
_GOODBYE_SECONDS = 2.0
_LINGER_OCTETS = 65536
_RECEIVE_OCTETS = 32768

# Replies that say that the mail system failed, not the client (RFC 3463 section 3.4): nobody is slowed down for those.
_OUR_FAULT = "4.3."

_FAILED = Reply.make(421, "4.3.0", "Local error, closing the connection")
_ONE_AT_A_TIME = Reply.make(452, "4.5.3", "One recipient at a time, please send this one separately")


class Incoming(Protocol):
    """Takes what servers hand over; `mailcrane.receive.incoming` implements it."""

    async def receive(self, message: ReceivedMessage, *, smtputf8: bool, require_tls: bool) -> Reply:
        """Say what becomes of a message; a positive reply means that it is stored."""
        ...


class SessionServices(Struct, frozen=True):
    """What the sessions of a listener need of the rest of the server.

    Attributes:
        directory: Returns the directory of the present version.
        tls: What TLS is set up with; None offers none.
    """

    clock: Clock
    hooks: Hooks
    directory: Callable[[], Directory]
    store: Store
    logins: Logins
    submissions: SubmissionService
    incoming: Incoming
    tls: ServerTLS | None = None


class SessionProfile(Struct, frozen=True):
    """What the sessions of one listener have in common.

    Attributes:
        special: Says which local parts fail; None where no local part is special.
    """

    services: SessionServices
    settings: SessionSettings
    config: ServerConfig
    policy: EnvelopePolicy
    special: SpecialTries | None = None

    @staticmethod
    def make(services: SessionServices, settings: SessionSettings) -> SessionProfile:
        """Put the profile of a listener together."""
        config = ServerConfig(
            hostname=settings.hostname,
            is_submission=settings.is_submission,
            offers_starttls=services.tls is not None and settings.protocol != "submissions",
            requires_starttls=settings.require_starttls,
            requires_tls_for_auth=settings.require_tls_for_auth,
            offers_require_tls=services.tls is not None,
            mechanisms=offered_mechanisms(legacy=settings.is_legacy_auth) if settings.is_submission else (),
            max_message_octets=settings.max_message_octets,
        )
        policy = EnvelopePolicy(settings, services.hooks, services.directory)
        special = SpecialTries() if settings.has_special_recipients else None
        return SessionProfile(services, settings, config, policy, special)


class _Transaction:
    """What was accepted since MAIL."""

    __slots__ = ("collector", "mail", "recipients", "unknown")

    def __init__(self, mail: Mail, store: Store) -> None:
        self.mail = mail
        self.recipients: list[Recipient] = []
        self.unknown: list[Mailbox] = []
        self.collector = ContentCollector(store)


class SMTPSession:
    """One session on a stream that it owns.

    Attributes:
        info: What is known of the session; replaced as more becomes known.
    """

    def __init__(self, profile: SessionProfile, stream: trio.abc.Stream, info: SessionInfo) -> None:
        """Make the session; `run` holds it.

        Args:
            profile: Of the listener.
            stream: With TLS already on it where the listener begins with TLS.
            info: Known so far.
        """
        self.info = info
        self._services = services = profile.services
        self._settings = settings = profile.settings
        self._policy = profile.policy
        self._special = profile.special
        self._stream = stream
        config = profile.config
        if settings.is_submission and settings.may_relay(info.remote_ip):
            config = replace(config, requires_auth=False)
        self._server = ServerConnection(config, session_id=info.id, clock=services.clock, is_tls=info.tls is not None)
        self._scope = trio.CancelScope()
        self._identity: Identity | None = None
        if settings.is_submission and not config.requires_auth:
            self._identity = Identity(settings.relay_account, "")
        self._transaction: _Transaction | None = None
        self._authenticator: Authenticator | None = None
        self._failed_logins = 0
        self._content_deadline = math.inf
        self._is_slow = False
        self._is_waiting = False
        self._is_stopping = False

    async def run(self) -> None:
        """Hold the dialog until it ends and close the stream. Raises nothing that the peer or a message caused."""
        goodbye: Reply | None = None
        try:
            with self._scope:
                await self._converse()
            if self._scope.cancelled_caught:
                goodbye = replies.SHUTTING_DOWN if self._is_stopping else replies.TIMEOUT
        except trio.Cancelled:
            # The listener's patience is at an end, perhaps in the middle of a message.
            goodbye = replies.SHUTTING_DOWN
            raise
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            log.debug("connection lost", session=self.info.id, error=error)
        except Exception:
            # The top of a session: a bug of ours ends this session, with a 4yz, and no other one.
            log.exception("session failed", session=self.info.id)
            goodbye = _FAILED
        finally:
            await self._end(goodbye)

    def stop(self) -> None:
        """Let the session end: at once when it waits for a command, otherwise after the message it is receiving."""
        self._is_stopping = True
        if self._is_waiting and not self._server.is_in_content:
            self._scope.cancel()

    # --- the dialog -------------------------------------------------------------------------------------------------

    async def _converse(self) -> None:
        server = self._server
        server.greet()
        next_event = server.next_event
        while True:
            event = next_event()
            if isinstance(event, Signal):
                await self._exchange(is_waiting=event is NEED_DATA)
                continue
            handler = _HANDLERS.get(type(event))
            if handler is not None:
                await handler(self, event)
            elif isinstance(event, Closed):
                await self._exchange(is_waiting=False)
                if event.reason in {"protocol", "refused"}:
                    await self._linger()
                return

    async def _exchange(self, *, is_waiting: bool) -> None:
        """Send what is to be sent and, unless there is more to do first, receive."""
        server = self._server
        if self._is_stopping and is_waiting and not server.is_in_content:
            server.close(replies.SHUTTING_DOWN)
            return
        deadline = self._wait_until(trio.current_time())
        octets = server.data_to_send()
        if octets:
            if self._is_slow:
                await send_slowly(self._stream, octets, deadline)
            else:
                await self._stream.send_all(octets)
        if is_waiting:
            self._is_waiting = True
            if self._is_slow:
                await trio.sleep(READ_DELAY)
            received = await self._stream.receive_some(_RECEIVE_OCTETS)
            self._is_waiting = False
            server.receive(bytes(received))

    def _wait_until(self, now: float) -> float:
        """Set the deadline for the client. trio sorts its deadlines, so one that is good enough is left as it is."""
        scope = self._scope
        latest = now + COMMAND_SECONDS
        if self._server.is_in_content:
            latest = min(latest, self._content_deadline)
        if not latest - _DEADLINE_SLACK <= scope.deadline <= latest:
            scope.deadline = latest
        return scope.deadline

    def _work(self) -> None:
        """Take the deadline away: from here it is we who take time."""
        self._scope.deadline = math.inf

    # --- commands ---------------------------------------------------------------------------------------------------

    async def _on_hello(self, event: Hello) -> None:
        await self._drop_transaction()
        self.info = replace(self.info, ehlo=event.name, is_extended=event.is_extended)
        self._server.accept()

    async def _on_starttls(self, event: StartTLS) -> None:
        await self._drop_transaction()
        await self._exchange(is_waiting=False)
        assert self._services.tls is not None, "STARTTLS is offered with TLS only"
        self._work()
        stream = self._services.tls.wrap(self._stream)
        self._stream = stream
        await stream.do_handshake()
        self._server.tls_started()
        self.info = replace(self.info, tls=stream.tls_info, ehlo="", is_extended=False)

    async def _on_auth(self, event: Auth | AuthResponse) -> None:
        self._work()
        if isinstance(event, Auth):
            stream = self._stream
            binding = stream.tls_exporter() if isinstance(stream, TLSStream) else None
            self._authenticator = Authenticator(self._services.logins, self.info, event.mechanism, binding)
            outcome = await self._authenticator.step(event.initial_response, self._failed_logins)
        else:
            assert self._authenticator is not None, "a response follows a challenge"
            outcome = await self._authenticator.step(event.data, self._failed_logins)
        if isinstance(outcome, bytes):
            self._server.challenge(outcome)
        elif isinstance(outcome, Identity):
            self._identity = outcome
            self.info = replace(self.info, account=outcome.account, login_address=outcome.login_address)
            self._failed_logins = 0
            self._is_slow = False
            self._server.accept()
        else:
            if outcome.is_permanent_failure:
                self._failed_logins += 1
                if self._failed_logins >= _FAILED_LOGINS_BEFORE_TARPIT:
                    self._slow_down()
            self._server.reply(outcome)

    async def _on_mail(self, event: Mail) -> None:
        await self._drop_transaction()
        reverse_path = event.reverse_path
        if self._special is not None and (failure := self._special.at_mail(reverse_path)):
            await self._fail_as_asked(failure)
            return
        if self._policy.asks_plugins:
            self._work()
        refusal = await self._policy.check_reverse_path(self.info, self._identity, reverse_path)
        if refusal is not None:
            self._server.reply(refusal)
            return
        self._transaction = _Transaction(event, self._services.store)
        self._server.accept()

    async def _on_rcpt(self, event: Rcpt) -> None:
        transaction = self._transaction
        assert transaction is not None, "RCPT is given after MAIL only"
        forward_path = event.forward_path
        if self._special is not None and (
            failure := self._special.at_rcpt(transaction.mail.reverse_path, forward_path)
        ):
            await self._fail_as_asked(failure)
            return
        is_stranger = self._policy.is_stranger(self.info, self._identity)
        if is_stranger and (transaction.recipients or transaction.unknown):
            # Known or not: otherwise the second reply would tell which of our addresses exist.
            self._server.reply(_ONE_AT_A_TIME)
            return
        if self._policy.asks_plugins:
            self._work()
        answer = await self._policy.resolve(self.info, self._identity, transaction.mail.reverse_path, forward_path)
        if isinstance(answer, LocalDestination | RelayDestination):
            transaction.recipients.append(Recipient(forward_path, answer))
        elif answer is UNKNOWN and is_stranger:
            transaction.unknown.append(forward_path)
        else:
            self._server.reply(NO_SUCH_USER if answer is UNKNOWN else answer)
            return
        self._server.accept()

    async def _on_data(self, event: Data) -> None:
        self._content_deadline = trio.current_time() + CONTENT_SECONDS
        self._server.accept()

    async def _on_content(self, event: Content) -> None:
        transaction = self._transaction
        if transaction is not None and transaction.collector.add(event.octets):
            self._work()
            try:
                await transaction.collector.flush()
            except DiskFull:
                self._server.refuse_content(replies.STORAGE_FULL)
            except StoreError:
                log.exception("content cannot be staged", session=self.info.id)
                self._server.refuse_content(replies.LOCAL_ERROR)

    async def _on_content_refused(self, event: ContentRefused) -> None:
        self._work()
        await self._drop_transaction()
        self._log_refusal(event.reply)

    async def _on_reset(self, event: Reset) -> None:
        await self._drop_transaction()

    async def _on_end_of_content(self, event: EndOfContent) -> None:
        self._work()
        transaction = self._transaction
        assert transaction is not None, "content is given after MAIL only"
        try:
            reply = await self._take(transaction)
        except SubmissionRefused as refused:
            reply = refused.reply
        except DiskFull:
            reply = replies.STORAGE_FULL
        except Exception:
            # Our own fault is a 4yz: the client keeps the message and tries again.
            log.exception("message not taken", session=self.info.id)
            reply = replies.LOCAL_ERROR
        if reply.is_positive:
            self._transaction = None
        else:
            self._log_refusal(reply)
            if not reply.enhanced_status_code.startswith(_OUR_FAULT):
                self._slow_down()
            await self._drop_transaction()
        self._server.reply(reply)

    async def _take(self, transaction: _Transaction) -> Reply:
        """Store the message and return a positive reply, or say why not."""
        now = self._services.clock.now()
        content = await transaction.collector.finish()
        mail, info, number = transaction.mail, self.info, self._server.transaction
        if self._identity is not None:
            await self._services.submissions.submit(
                Submission(
                    info,
                    number,
                    self._identity,
                    mail.reverse_path,
                    tuple(recipient.forward_path for recipient in transaction.recipients),
                    content,
                    now,
                    require_tls=True if mail.require_tls else None,
                    release_at=mail.release_at(now),
                    future_release=mail.future_release,
                )
            )
            return replies.CONTENT_OK
        if transaction.unknown:
            await trio.sleep(_UNKNOWN_DELAY)
            return NO_SUCH_USER
        if self._special is not None:
            forward_paths = [recipient.forward_path for recipient in transaction.recipients]
            failure = self._special.at_end_of_content(mail.reverse_path, forward_paths, content.header)
            if failure is not None:
                await trio.sleep(failure.delay)
                return failure.reply
        message = ReceivedMessage(info, number, mail.reverse_path, tuple(transaction.recipients), content, now)
        return await self._services.incoming.receive(message, smtputf8=mail.smtputf8, require_tls=mail.require_tls)

    # --- what commands share ----------------------------------------------------------------------------------------

    async def _fail_as_asked(self, failure: SpecialFailure) -> None:
        self._work()
        await trio.sleep(failure.delay)
        self._server.reply(failure.reply)

    async def _drop_transaction(self) -> None:
        transaction, self._transaction = self._transaction, None
        if transaction is not None:
            try:
                await transaction.collector.drop()
            except StoreError:
                # It is swept when it is old.
                log.exception("staged content not removed", session=self.info.id)

    def _slow_down(self) -> None:
        # A development server is there to be sent what fails.
        self._is_slow = self._special is None

    def _log_refusal(self, reply: Reply) -> None:
        log.info("message refused", session=self.info.id, remote_ip=self.info.remote_ip, reply=reply)

    async def _linger(self) -> None:
        """Let the client read our last reply: a close with unread input would reset the connection under it."""
        stream = self._stream
        if not isinstance(stream, trio.abc.HalfCloseableStream):
            return
        self._scope.deadline = trio.current_time() + _GOODBYE_SECONDS
        await stream.send_eof()
        passed = 0
        while passed < _LINGER_OCTETS and (octets := await stream.receive_some(_RECEIVE_OCTETS)):
            passed += len(octets)

    async def _end(self, goodbye: Reply | None) -> None:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + _GOODBYE_SECONDS):
            if goodbye is not None:
                self._server.close(goodbye)
                try:
                    await self._stream.send_all(self._server.data_to_send())
                except (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
                    pass
            await self._stream.aclose()
            if self._transaction is not None:
                await self._drop_transaction()


_HANDLERS: dict[type, Callable[[SMTPSession, Any], Awaitable[None]]] = {
    Hello: SMTPSession._on_hello,
    StartTLS: SMTPSession._on_starttls,
    Auth: SMTPSession._on_auth,
    AuthResponse: SMTPSession._on_auth,
    Mail: SMTPSession._on_mail,
    Rcpt: SMTPSession._on_rcpt,
    Data: SMTPSession._on_data,
    Content: SMTPSession._on_content,
    ContentRefused: SMTPSession._on_content_refused,
    EndOfContent: SMTPSession._on_end_of_content,
    Reset: SMTPSession._on_reset,
}
