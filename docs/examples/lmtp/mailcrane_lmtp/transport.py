"""The transport: a session for each delivery, and what the server says as results, recipient by recipient."""

import trio

from mailcrane.api import Delivery, Outcome, RecipientResult, Reply
from mailcrane_lmtp.session import Session, SessionFailed

_CONNECT_SECONDS = 30.0
# What every server must take in one transaction (RFC 5321 section 4.5.3.1.8).
_MAX_RECIPIENTS = 100
# RFC 5321 section 4.5.3.1.10: too many recipients, when it is not the first of them.
_TOO_MANY = frozenset({452, 552})


class LMTPTransport:
    """Hands messages to an LMTP server.

    Args:
        server: Path of a Unix socket, or host and port.
        hostname: What we say in LHLO.
    """

    def __init__(self, server: str | tuple[str, int], hostname: str) -> None:
        self._server = server
        self._name = server if isinstance(server, str) else f"{server[0]}:{server[1]}"
        self._hostname = hostname

    async def deliver(self, delivery: Delivery) -> tuple[RecipientResult, ...]:
        """Deliver over a connection of its own. Cancellation closes it."""
        attempt = _Attempt(delivery, self._name)
        try:
            with trio.fail_after(_CONNECT_SECONDS):
                stream = await self._connect()
        except (OSError, trio.TooSlowError) as error:
            return attempt.results(f"cannot connect to {self._name}: {error}")
        session = Session(stream)
        try:
            reply = await session.begin(self._hostname)
            if reply.is_positive:
                await attempt.run(session)
            else:
                attempt.refuse_all(reply)
            await session.quit()
            return attempt.results("")
        except SessionFailed as failure:
            attempt.lost(session.final_replies, is_after_content=failure.is_after_content)
            return attempt.results(str(failure))
        finally:
            await trio.aclose_forcefully(stream)

    async def aclose(self) -> None:
        """Nothing is kept open between deliveries."""

    async def _connect(self) -> trio.SocketStream:
        if isinstance(self._server, str):
            return await trio.open_unix_socket(self._server)
        return await trio.open_tcp_stream(*self._server)


class _Attempt:
    """A delivery under way: the results that are there, by position, and who is waiting for the reply to the dot."""

    def __init__(self, delivery: Delivery, server: str) -> None:
        self._delivery = delivery
        self._server = server
        self._results: dict[int, RecipientResult] = {}
        self._in_content: list[int] = []
        self._is_after_content = False

    async def run(self, session: Session) -> None:
        """Send the message, in as many transactions as the server wants."""
        delivery, paths = self._delivery, self._delivery.forward_paths
        sender = delivery.reverse_path.mailbox
        smtputf8 = delivery.needs_smtputf8 or any(one.needs_smtputf8 for one in (*paths, *([sender] if sender else [])))
        refusal = session.extensions.refusal(
            size_octets=delivery.content.size_octets,
            needs_smtputf8=smtputf8,
            # A local socket needs no TLS, but nothing says that this one is local: RFC 8689 is met or refused.
            require_tls=delivery.require_tls is True,
        )
        if refusal is not None:
            self.refuse_all(refusal)
            return
        notes: tuple[str, ...] = ()
        if delivery.has_8bit and "8BITMIME" not in session.extensions:
            notes = ("8-bit content was sent as it is: the server does not offer 8BITMIME",)
        waiting = list(range(len(paths)))
        size = min(session.extensions.max_recipients or _MAX_RECIPIENTS, _MAX_RECIPIENTS)
        while waiting and not session.is_over:
            batch, waiting = waiting[:size], waiting[size:]
            envelope = await session.envelope(delivery, [paths[at] for at in batch], smtputf8=smtputf8)
            accepted = []
            for at, reply in zip(batch, envelope.recipients, strict=True):
                if reply.is_positive:
                    accepted.append(at)
                elif reply.code in _TOO_MANY and envelope.may_send_content and at != batch[0]:
                    waiting.append(at)
                else:
                    self._set(at, reply)
            if envelope.may_send_content:
                self._in_content = accepted
                for at, reply in zip(accepted, await session.content(delivery), strict=True):
                    self._set(at, reply, notes)
            elif waiting and not session.is_over:
                await session.reset()

    def refuse_all(self, reply: Reply) -> None:
        """One reply stands for all."""
        for at in range(len(self._delivery.entries)):
            self._set(at, reply)

    def lost(self, replies: tuple[Reply, ...], *, is_after_content: bool) -> None:
        """The session is over; the replies to the final dot that came before count."""
        self._is_after_content = is_after_content
        for at, reply in zip(self._in_content, replies, strict=False):
            self._set(at, reply)

    def results(self, error: str) -> tuple[RecipientResult, ...]:
        """Return the results; those who have none are deferred."""
        return tuple(
            self._results.get(at)
            or RecipientResult(
                Outcome.DEFERRED,
                error=error or "the server closed the session",
                remote_mta=self._server,
                is_maybe_delivered=self._is_after_content and at in self._in_content,
            )
            for at in range(len(self._delivery.entries))
        )

    def _set(self, at: int, reply: Reply, notes: tuple[str, ...] = ()) -> None:
        result = RecipientResult.from_reply(reply, remote_mta=self._server, notes=notes if reply.is_positive else ())
        self._results[at] = result
