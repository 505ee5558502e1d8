"""Deliveries to one fixed host: a connection for each, and what the host says as results.

What the next hop refuses while the session is set up for reasons of our configuration (TLS, login) defers: an operator
can mend it, and nobody's mail bounces meanwhile.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

import trio
from msgspec import Struct

from mailcrane.api import Delivery, Outcome, RecipientResult, Reply
from mailcrane.api.sasl import ALL_MECHANISMS, CLEARTEXT_MECHANISMS, make_client_mechanism
from mailcrane.api.tls import ClientTLS, TLSStream
from mailcrane_transports.config import AuthConfig
from mailcrane_transports.dialog import Dialog, DialogFailed

_CONNECT_SECONDS = 30.0
# Unless the next hop says otherwise: what every server must take (RFC 5321 section 4.5.3.1.8).
_MAX_RECIPIENTS = 100
# RFC 5321 section 4.5.3.1.10: too many recipients, when it is not the first of them.
_TOO_MANY = frozenset({452, 552})

_NO_VERIFIED_TLS = Reply.make(554, "5.7.30", "REQUIRETLS needs a transport that verifies TLS")


class TLSMode(enum.Enum):
    """What a relay does about TLS."""

    NONE = enum.auto()  # plaintext, whatever is offered
    OPPORTUNISTIC = enum.auto()  # STARTTLS where it is offered
    REQUIRED = enum.auto()  # STARTTLS or nothing


class NextHop(Struct, frozen=True):
    """A host to deliver to.

    Attributes:
        tls: For `TLSMode.OPPORTUNISTIC` and `TLSMode.REQUIRED`.
        is_verified: Whether `tls` accepts only a certificate that is good for the host.
    """

    host: str
    port: int
    tls_mode: TLSMode
    tls: ClientTLS | None = None
    is_verified: bool = False
    auth: AuthConfig | None = None


class RelayTransport:
    """Delivers to a host; implements `mailcrane.api.Transport`.

    Args:
        next_hop: The host.
        hostname: Gives the name that we say in EHLO.
    """

    def __init__(self, next_hop: NextHop, hostname: Callable[[], str]) -> None:
        self._next_hop = next_hop
        self._hostname = hostname

    async def deliver(self, delivery: Delivery) -> tuple[RecipientResult, ...]:
        """Deliver over a connection of its own. Cancellation closes it."""
        progress = Progress(delivery)
        if delivery.require_tls and not self._next_hop.is_verified:
            return progress.all(_NO_VERIFIED_TLS)
        try:
            with trio.fail_after(_CONNECT_SECONDS):
                stream = await trio.open_tcp_stream(self._next_hop.host, self._next_hop.port)
        except (OSError, trio.TooSlowError) as error:
            why = "no answer" if isinstance(error, trio.TooSlowError) else error
            return progress.rest(f"cannot connect to {self._next_hop.host}:{self._next_hop.port}: {why}")
        progress.remote_mta = f"{self._next_hop.host} ({stream.socket.getpeername()[0]})"
        dialog = Dialog(stream)
        try:
            refusal = await self._set_up(dialog)
            if refusal is not None:
                results = progress.refused(refusal)
            else:
                results = await _deliver(dialog, progress)
            await dialog.quit()
            return results
        except DialogFailed as failure:
            return progress.rest(str(failure), is_after_content=failure.is_after_content)
        finally:
            await dialog.aclose()

    async def aclose(self) -> None:
        """Nothing is kept open between deliveries."""

    async def _set_up(self, dialog: Dialog) -> RecipientResult | None:
        """Bring the session to where mail can be sent; returns what a refusal means for all forward-paths."""
        reply = await dialog.greeting()
        if reply.is_positive:
            reply = await dialog.hello(self._hostname())
        if not reply.is_positive:
            return RecipientResult.from_reply(reply)
        return await self._secure(dialog) or await self._log_in(dialog)

    async def _secure(self, dialog: Dialog) -> RecipientResult | None:
        tls, mode = self._next_hop.tls, self._next_hop.tls_mode
        if tls is None or mode is TLSMode.NONE:
            return None
        if "STARTTLS" not in dialog.extensions:
            if mode is TLSMode.OPPORTUNISTIC:
                return None
            return _deferred("next hop does not offer STARTTLS, and no_starttls is not set")
        reply = await dialog.start_tls(tls, self._next_hop.host)
        if not reply.is_positive:
            return None if mode is TLSMode.OPPORTUNISTIC else _deferred(f"STARTTLS was refused: {reply}", reply)
        reply = await dialog.hello(self._hostname())
        return None if reply.is_positive else RecipientResult.from_reply(reply)

    async def _log_in(self, dialog: Dialog) -> RecipientResult | None:
        auth = self._next_hop.auth
        if auth is None:
            return None
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
            return _deferred(f"auth.username or auth.password cannot be used: {error}")
        if mechanism is None:
            return _deferred(f"no mechanism of auth.mechanisms is offered; next hop has {', '.join(offered) or 'none'}")
        reply = await dialog.authenticate(mechanism)
        return None if reply.is_positive else _deferred(f"login was refused: {reply}", reply)


class Progress:
    """The results of a delivery as they come in; nobody's result is lost when the connection is.

    Attributes:
        delivery: What is delivered.
        remote_mta: Named in the results.
        in_content: Positions of the forward-paths that the next hop has accepted and is being sent the content for.
    """

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery
        self.remote_mta = ""
        self.in_content: frozenset[int] = frozenset()
        self._results: dict[int, RecipientResult] = {}

    def set(self, position: int, reply: Reply, *, notes: tuple[str, ...] = ()) -> None:
        """Note what a reply means for a forward-path."""
        result = RecipientResult.from_reply(reply, remote_mta=self.remote_mta, notes=notes)
        self._results[position] = result

    def set_deferred(self, position: int, reply: Reply) -> None:
        """Note that a forward-path is to be tried again although its reply says 5yz."""
        self._results[position] = RecipientResult(Outcome.DEFERRED, reply, str(reply), self.remote_mta)

    def all(self, reply: Reply) -> tuple[RecipientResult, ...]:
        """Return the results when one reply stands for all."""
        return self.refused(RecipientResult.from_reply(reply))

    def refused(self, result: RecipientResult) -> tuple[RecipientResult, ...]:
        """Return the results when one stands for all."""
        one = RecipientResult(result.outcome, result.reply, result.error, self.remote_mta)
        return (one,) * len(self.delivery.entries)

    def rest(self, error: str, *, is_after_content: bool = False) -> tuple[RecipientResult, ...]:
        """Return the results there are, and defer the forward-paths that have none yet."""
        return tuple(
            self._results.get(position)
            or RecipientResult(
                Outcome.DEFERRED,
                error=error,
                remote_mta=self.remote_mta,
                is_maybe_delivered=is_after_content and position in self.in_content,
            )
            for position in range(len(self.delivery.entries))
        )


async def _deliver(dialog: Dialog, progress: Progress) -> tuple[RecipientResult, ...]:
    delivery = progress.delivery
    paths = delivery.forward_paths
    needs_smtputf8 = delivery.needs_smtputf8 or any(path.needs_smtputf8 for path in paths)
    sender = delivery.reverse_path.mailbox
    needs_smtputf8 = needs_smtputf8 or (sender is not None and sender.needs_smtputf8)
    refusal = dialog.extensions.refusal(
        size_octets=delivery.content.size_octets,
        needs_smtputf8=needs_smtputf8,
        require_tls=delivery.require_tls is True,
    )
    if refusal is not None:
        return progress.all(refusal)
    notes: tuple[str, ...] = ()
    if delivery.has_8bit and "8BITMIME" not in dialog.extensions:
        # Converting would break signatures, and what does not offer 8BITMIME takes 8-bit content all the same today.
        notes = ("8-bit content was sent as it is: the next hop does not offer 8BITMIME",)
    waiting = list(range(len(paths)))
    while waiting:
        size = min(dialog.extensions.max_recipients or _MAX_RECIPIENTS, _MAX_RECIPIENTS)
        batch, waiting = waiting[:size], waiting[size:]
        envelope = await dialog.envelope(
            delivery.reverse_path,
            [paths[position] for position in batch],
            size_octets=delivery.content.size_octets,
            has_8bit=delivery.has_8bit,
            smtputf8=needs_smtputf8,
            require_tls=delivery.require_tls is True,
        )
        accepted: list[int] = []
        for position, reply in zip(batch, envelope.recipients, strict=True):
            if reply.is_positive:
                accepted.append(position)
            elif reply.code in _TOO_MANY and envelope.may_send_content and position != batch[0]:
                waiting.append(position)
            elif reply.code == 552 and envelope.mail.is_positive:
                # To RCPT it is to be treated as 452 (RFC 5321 section 4.5.3.1.10).
                progress.set_deferred(position, reply)
            else:
                progress.set(position, reply)
        if envelope.may_send_content:
            progress.in_content = frozenset(accepted)
            final = await dialog.content(delivery.content)
            for position in accepted:
                progress.set(position, final, notes=notes if final.is_positive else ())
        if waiting and dialog.is_over:
            return progress.rest("next hop closed the connection before all forward-paths were tried")
        if waiting and not envelope.may_send_content:
            await dialog.reset()
    return progress.rest("")


def _deferred(error: str, reply: Reply | None = None) -> RecipientResult:
    return RecipientResult(Outcome.DEFERRED, reply, error)


def _allowed(auth: AuthConfig) -> tuple[str, ...]:
    listed = tuple(name.upper() for name in auth.mechanisms)
    return listed or tuple(name for name in ALL_MECHANISMS if name not in CLEARTEXT_MECHANISMS)
