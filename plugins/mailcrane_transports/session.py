"""A session with a next hop, from the connection to where mail can be sent: greeting, EHLO, TLS, login.

What the next hop refuses here for reasons of our configuration (TLS, login) defers: an operator can mend it, and
nobody's mail bounces meanwhile.
"""

from __future__ import annotations

import functools

from msgspec import Struct
from msgspec.structs import replace

from mailcrane.api import Outcome, RecipientResult, Reply, TLSUse
from mailcrane.api.sasl import ALL_MECHANISMS, CLEARTEXT_MECHANISMS, make_client_mechanism
from mailcrane.api.tls import ClientTLS, TCPStream, TLSMode, TLSPolicy, TLSStream, Verification
from mailcrane_transports import metrics
from mailcrane_transports.config import AuthConfig
from mailcrane_transports.dialog import Dialog

# Unless the next hop says otherwise: what every server must take (RFC 5321 section 4.5.3.1.8).
_MAX_RECIPIENTS = 100


class Target(Struct, frozen=True):
    """What a session is for. A session serves every message for an equal target.

    Attributes:
        host: The name that the certificate must be for, or an IP address.
        may_be_ourselves: Whether a host that says our own name in EHLO is meant.
        is_of_domain: The recipient's domain names it; otherwise it is a relay.
        max_recipients: Of one transaction, where the next hop does not say less.
    """

    host: str
    port: int
    policy: TLSPolicy
    may_be_ourselves: bool = True
    is_of_domain: bool = False
    max_recipients: int = _MAX_RECIPIENTS


class SetUpRefused(Exception):
    """The session did not come to where mail can be sent; the result is what that means for all forward-paths."""

    def __init__(self, result: RecipientResult) -> None:
        super().__init__(result.error)
        self.result = result


class Session:
    """A session in which mail can be sent.

    Attributes:
        remote_mta: ``name (ip)`` of the next hop.
        is_dual_stack: The host has addresses of both families.
        messages: How many transactions it has had.
        needs_reset: The last one did not come to its content.
        is_broken: The connection is gone.
        used_at: When it was put aside, by trio's clock.
    """

    def __init__(self, target: Target, dialog: Dialog, remote_mta: str, tls: TLSUse, *, is_dual_stack: bool) -> None:
        self.target = target
        self.dialog = dialog
        self.remote_mta = remote_mta
        self.tls = tls
        self.is_dual_stack = is_dual_stack
        self.messages = 0
        self.needs_reset = False
        self.is_broken = False
        self.used_at = 0.0

    @property
    def is_usable(self) -> bool:
        """Whether another transaction can begin: the peer has neither closed nor said anything unasked."""
        if self.is_broken or self.dialog.is_over:
            return False
        stream = self.dialog.stream
        while isinstance(stream, TLSStream):
            stream = stream.transport_stream
        return not (isinstance(stream, TCPStream) and stream.has_something_to_read)

    async def aclose(self) -> None:
        """Say goodbye, if there is somebody to say it to, and close."""
        try:
            if not self.is_broken:
                await self.dialog.quit()
        finally:
            await self.dialog.aclose()


class SetUp:
    """How one transport brings sessions to where mail can be sent.

    Args:
        auth: The login; None for none.
        ca_pem: Trusted CA certificates; None for the system's.
    """

    def __init__(self, *, auth: AuthConfig | None = None, ca_pem: bytes | None = None) -> None:
        self._auth = auth
        self._ca_pem = ca_pem

    def check(self, mode: TLSMode) -> None:
        """Look at the CA certificates now rather than at the first delivery.

        Raises:
            CertificateError: there are none in `ca_pem`.
        """
        if self._ca_pem is not None:
            self._tls(mode)

    async def run(self, dialog: Dialog, target: Target, ehlo: str, *, is_plaintext: bool = False) -> TLSUse:
        """Set a session up.

        Args:
            ehlo: Our name.
            is_plaintext: TLS has failed, and is not tried again.

        Returns:
            What was seen of TLS.

        Raises:
            SetUpRefused: the next hop refuses, or does not do what is required.
            TLSFailed: TLS does not work.
            DialogFailed: the connection is lost.
        """
        mode = target.policy.mode
        if target.policy.is_immediate:
            await dialog.shake_hands(self._tls(mode), target.host)
        reply = await dialog.greeting()
        if not reply.is_positive:
            raise SetUpRefused(_refused("greeting", reply))
        await self._hello(dialog, target, ehlo)
        is_offered = target.policy.is_immediate or "STARTTLS" in dialog.extensions
        if not target.policy.is_immediate and mode is not TLSMode.NONE and not is_plaintext:
            await self._start_tls(dialog, target, ehlo)
        if self._auth is not None:
            await _log_in(dialog, self._auth)
        tls = TLSUse(
            is_offered=is_offered,
            has_requiretls="REQUIRETLS" in dialog.extensions,
            is_of_domain=target.is_of_domain,
            asked="immediate" if target.policy.is_immediate else mode.value,
        )
        if isinstance(dialog.stream, TLSStream):
            problem = dialog.stream.verify_error
            # Nobody has looked at the certificate where any will do.
            is_verified = mode is not TLSMode.REQUIRED and not problem
            version = dialog.stream.tls_info.version
            tls = replace(tls, version=version, is_verified=is_verified, problem=problem)
        metrics.tls.inc("verified" if tls.is_verified else "unverified" if tls.version else "plaintext")
        return tls

    async def _hello(self, dialog: Dialog, target: Target, ehlo: str) -> None:
        reply = await dialog.hello(ehlo)
        if not reply.is_positive:
            raise SetUpRefused(_refused("EHLO", reply))
        name = (reply.lines[0].split() or [""])[0] if reply.lines else ""
        if not target.may_be_ourselves and name.lower().rstrip(".") == ehlo:
            loop = Reply.make(554, "5.4.6", f"Mail loops: {target.host} is this server, and the domain is not its own")
            raise SetUpRefused(RecipientResult.from_reply(loop))

    async def _start_tls(self, dialog: Dialog, target: Target, ehlo: str) -> None:
        is_optional = not target.policy.is_required
        if "STARTTLS" not in dialog.extensions:
            if is_optional:
                return
            raise SetUpRefused(
                _deferred(f"next hop does not offer STARTTLS, which is required by {target.policy.source}")
            )
        reply = await dialog.start_tls(self._tls(target.policy.mode), target.host)
        if reply.is_positive:
            await self._hello(dialog, target, ehlo)
        elif not is_optional or dialog.is_over:
            raise SetUpRefused(_deferred(f"STARTTLS was refused: {reply}", reply))

    def _tls(self, mode: TLSMode) -> ClientTLS:
        # Made when it is needed: loading the system's certificates takes tens of milliseconds.
        return self._verifying if mode is TLSMode.VERIFIED else self._any if mode is TLSMode.REQUIRED else self._looking

    @functools.cached_property
    def _verifying(self) -> ClientTLS:
        return ClientTLS(verification=Verification.REQUIRED, ca_pem=self._ca_pem)

    @functools.cached_property
    def _looking(self) -> ClientTLS:
        return ClientTLS(verification=Verification.REPORTED, ca_pem=self._ca_pem)

    @functools.cached_property
    def _any(self) -> ClientTLS:
        return ClientTLS(verification=Verification.NONE)


async def _log_in(dialog: Dialog, auth: AuthConfig) -> None:
    exporter = dialog.stream.tls_exporter() if isinstance(dialog.stream, TLSStream) else None
    offered = dialog.extensions.mechanisms
    try:
        mechanism = make_client_mechanism(
            offered,
            auth.username,
            auth.password.reveal(),
            allowed=_allowed(auth),
            channel_binding=None if exporter is None else ("tls-exporter", exporter),
            is_encrypted=dialog.is_encrypted,
        )
    except ValueError as error:
        raise SetUpRefused(_deferred(f"auth.username or auth.password cannot be used: {error}")) from error
    if mechanism is None:
        names = ", ".join(offered) or "none"
        raise SetUpRefused(_deferred(f"no mechanism of auth.mechanisms is offered; next hop has {names}"))
    reply = await dialog.authenticate(mechanism)
    if not reply.is_positive:
        raise SetUpRefused(_deferred(f"login was refused: {reply}", reply))


def _refused(step: str, reply: Reply) -> RecipientResult:
    outcome = Outcome.FAILED if reply.is_permanent_failure else Outcome.DEFERRED
    return RecipientResult(outcome, reply, f"{step}: {reply}")


def _deferred(error: str, reply: Reply | None = None) -> RecipientResult:
    return RecipientResult(Outcome.DEFERRED, reply, error)


def _allowed(auth: AuthConfig) -> tuple[str, ...]:
    listed = tuple(name.upper() for name in auth.mechanisms)
    return listed or tuple(name for name in ALL_MECHANISMS if name not in CLEARTEXT_MECHANISMS)
