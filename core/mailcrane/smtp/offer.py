"""What a listener offers, how it is announced (RFC 5321 section 4.1.1.1), and what follows from it for MAIL."""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec import Struct

from mailcrane.model.reply import Reply
from mailcrane.smtp import replies
from mailcrane.smtp.command import Mail

# RFC 4865: how far away a release may be asked for.
MAX_FUTURE_RELEASE = timedelta(days=60)
DEFAULT_MAX_MESSAGE_OCTETS = 104_857_600


class ServerConfig(Struct, frozen=True):
    """What a listener offers.

    Attributes:
        hostname: In the greeting, in EHLO, and the domain of ``<postmaster>``.
        is_submission: Commands need authentication, and AUTH and FUTURERELEASE are offered.
        offers_starttls: A TLS context is there.
        requires_starttls: RCPT is refused in plaintext.
        requires_tls_for_auth: AUTH is refused in plaintext.
        offers_require_tls: REQUIRETLS (RFC 8689), once there is TLS or when TLS is not offered.
        mechanisms: SASL mechanisms in the order of preference, announced on submission listeners.
        requires_auth: False for submission from networks that are trusted.
    """

    hostname: str
    is_submission: bool = False
    offers_starttls: bool = False
    requires_starttls: bool = False
    requires_tls_for_auth: bool = True
    offers_require_tls: bool = True
    mechanisms: tuple[str, ...] = ()
    requires_auth: bool = True
    max_message_octets: int = DEFAULT_MAX_MESSAGE_OCTETS
    max_recipients: int = 1000

    def announcement(self, *, is_tls: bool, now: datetime) -> list[str]:
        """Return the lines of the reply to EHLO, without codes."""
        lines = [self.hostname, "PIPELINING", f"SIZE {self.max_message_octets}"]
        if self.offers_starttls and not is_tls:
            lines.append("STARTTLS")
        elif self.offers_require_tls:
            lines.append("REQUIRETLS")
        if self.is_submission:
            may_log_in = is_tls or not self.requires_tls_for_auth
            # An empty list tells that there will be mechanisms once there is TLS.
            lines.append("AUTH " + (" ".join(self.mechanisms) if may_log_in else ""))
            latest = now + MAX_FUTURE_RELEASE
            lines.append(f"FUTURERELEASE {int(MAX_FUTURE_RELEASE.total_seconds())} {latest:%Y-%m-%dT%H:%M:%SZ}")
        lines += ["ENHANCEDSTATUSCODES", "8BITMIME", f"LIMITS RCPTMAX={self.max_recipients}", "SMTPUTF8"]
        return lines

    def check_mail(self, command: Mail, *, is_tls: bool, now: datetime | None) -> Reply | None:
        """Return the reply that refuses the parameters of MAIL, or None; `now` is needed with HOLDUNTIL only."""
        if command.require_tls and not is_tls:
            return replies.TLS_FOR_REQUIRETLS
        size = command.size_octets
        if size is not None and size > self.max_message_octets:
            # X.2.3 where others would take the message, X.3.4 where hardly any server would.
            return replies.SIZE_TOO_LARGE_FOR_US if size < DEFAULT_MAX_MESSAGE_OCTETS else replies.CONTENT_TOO_LARGE
        if command.hold_for_seconds is not None and command.hold_for_seconds > MAX_FUTURE_RELEASE.total_seconds():
            return replies.FUTURE_RELEASE_RANGE
        if command.hold_until is not None and now is not None:
            return None if now <= command.hold_until <= now + MAX_FUTURE_RELEASE else replies.FUTURE_RELEASE_RANGE
        return None
