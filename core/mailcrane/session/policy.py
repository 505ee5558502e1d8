"""Decides on the envelope: who may be a reverse-path, and what becomes of a forward-path.

Local parts of our own domains that do not exist are not disclosed to servers at RCPT: they are `UNKNOWN`, and the
message is refused after its final dot. What is known and what is unknown do not share a transaction (the later one
gets 452 and is tried again by itself), so that every reply after a final dot is true for all its recipients.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Final

from mailcrane.config.directory import Directory
from mailcrane.model.address import Mailbox, ReversePath
from mailcrane.model.receive import Identity, LocalDestination, RelayDestination
from mailcrane.model.reply import Reply
from mailcrane.model.session import SessionInfo
from mailcrane.plugin.caller import Hooks
from mailcrane.plugin.errors import HookFailed
from mailcrane.session.settings import SessionSettings


class Unknown(enum.Enum):
    """A forward-path at a domain of ours that nobody has."""

    UNKNOWN = "unknown"


UNKNOWN: Final = Unknown.UNKNOWN

# RFC 5321 section 4.5.3.2.3 gives a client five minutes; the stage's own budget is far below.
_BUDGET = 20.0

RELAY = RelayDestination()

PLUGIN_FAILED = Reply.make(451, "4.3.0", "local error in processing, try again later")
NO_SUCH_USER = Reply.make(550, "5.1.1", "no such user")
RELAY_DENIED = Reply.make(550, "5.1.1", "mail for this address is not taken here")
DOMAIN_DISABLED = Reply.make(450, "4.2.1", "mail for this domain is not taken at the moment")
NOT_YOURS = Reply.make(550, "5.7.1", "this reverse-path does not belong to your account")
SENDER_DOMAIN_DISABLED = Reply.make(451, "4.3.0", "mail from this domain is not taken at the moment")

_ADDRESS_LITERAL_REFUSED = Reply.make(550, "5.7.0", "a reverse-path with an address literal is not taken here")


class EnvelopePolicy:
    """The decisions on MAIL and RCPT for the sessions of one listener."""

    def __init__(self, settings: SessionSettings, hooks: Hooks, directory: Callable[[], Directory]) -> None:
        self._settings = settings
        self._hooks = hooks
        self._directory = directory

    @property
    def asks_plugins(self) -> bool:
        """Whether a decision may take time."""
        hooks = self._hooks
        return bool(hooks.accept_reverse_path.implementations or hooks.resolve_recipient.implementations)

    async def check_reverse_path(
        self, session: SessionInfo, identity: Identity | None, reverse_path: ReversePath
    ) -> Reply | None:
        """Return the reply that refuses a reverse-path; None takes it."""
        mailbox = reverse_path.mailbox
        if identity is not None:
            if mailbox is not None:
                directory = self._directory()
                if not directory.may_send_as(identity.account, mailbox):
                    return NOT_YOURS
                domain = directory.domain(mailbox.domain)
                if domain is not None and domain.is_disabled:
                    return SENDER_DOMAIN_DISABLED
        elif mailbox is not None and mailbox.is_address_literal:
            return _ADDRESS_LITERAL_REFUSED
        hook = self._hooks.accept_reverse_path
        if hook.implementations:
            try:
                return await hook(session=session, reverse_path=reverse_path, _budget=_BUDGET)
            except HookFailed:
                return PLUGIN_FAILED
        return None

    def is_stranger(self, session: SessionInfo, identity: Identity | None) -> bool:
        """Whether a client is not to learn which addresses of ours exist.

        It is told after the content only, and has one recipient in a transaction. A listener that takes mail for every
        address has nothing to tell.
        """
        settings = self._settings
        return identity is None and not settings.catch_all_account and not settings.may_relay(session.remote_ip)

    async def resolve(
        self, session: SessionInfo, identity: Identity | None, reverse_path: ReversePath, forward_path: Mailbox
    ) -> LocalDestination | RelayDestination | Reply | Unknown:
        """Say what becomes of a forward-path: placed, queued, refused with a reply, or unknown to us.

        A forward-path of an identity is always queued, also one that is local: it is placed when the queue delivers
        it.
        """
        answer = None
        hook = self._hooks.resolve_recipient
        if hook.implementations:
            try:
                answer = await hook(
                    session=session, reverse_path=reverse_path, forward_path=forward_path, _budget=_BUDGET
                )
            except HookFailed:
                return PLUGIN_FAILED
        if identity is not None:
            return answer if isinstance(answer, Reply) else self._resolve_submitted(forward_path, answer)
        if isinstance(answer, RelayDestination) and not self._settings.relay_account:
            return RELAY_DENIED
        return answer if answer is not None else self._resolve_received(session, forward_path)

    def _resolve_submitted(
        self, forward_path: Mailbox, answer: LocalDestination | RelayDestination | None
    ) -> RelayDestination | Reply:
        if answer is None:
            directory = self._directory()
            domain = directory.domain(forward_path.domain)
            if domain is not None:
                if domain.is_disabled:
                    return DOMAIN_DISABLED
                if directory.lookup(forward_path) is None:
                    return NO_SUCH_USER
        return RELAY

    def _resolve_received(
        self, session: SessionInfo, forward_path: Mailbox
    ) -> LocalDestination | RelayDestination | Reply | Unknown:
        directory = self._directory()
        domain = directory.domain(forward_path.domain)
        if domain is not None and domain.is_disabled:
            return DOMAIN_DISABLED
        # postmaster at our hostname is ours too, though the hostname need not be one of our domains.
        destination = directory.lookup(forward_path)
        if destination is not None:
            return destination
        if self._settings.catch_all_account:
            return LocalDestination(self._settings.catch_all_account)
        if domain is not None:
            return UNKNOWN
        return RELAY if self._settings.may_relay(session.remote_ip) else RELAY_DENIED
