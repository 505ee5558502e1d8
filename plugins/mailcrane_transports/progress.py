"""The results of a delivery as they come in, over one host or several; nobody's result is lost when a connection is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio
from msgspec.structs import replace

from mailcrane.api import Delivery, Log, NotNow, Outcome, RecipientResult, Reply, TLSUse

_LACKING_CODES = frozenset({"5.6.7", "5.7.30"})


class Progress:
    """What became of each forward-path so far.

    Attributes:
        delivery: What is delivered.
        waiting: Positions of the forward-paths that another host may still be asked to take.
        hosts_tried: How many hosts were asked, or found unable.
        remote_mta: The host that is being asked, as named in results.
        tls: What was seen of its TLS.
        is_lenient: A refusal for reasons of policy (5.7.x) may be about our address: it defers.
    """

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery
        self.waiting = list(range(len(delivery.entries)))
        self.hosts_tried = 0
        self.remote_mta = ""
        self.tls: TLSUse | None = None
        self.is_lenient = False
        self._results: dict[int, RecipientResult] = {}
        self._dialed: list[tuple[str, str]] = []
        # What hosts could not do at all, with how many said so.
        self._lacking: dict[str, int] = {}

    def begin_host(self) -> None:
        """Another host is asked from here on."""
        self.hosts_tried += 1
        self.remote_mta, self.tls, self.is_lenient = "", None, False

    def dialed(self, host: str, ip: str) -> None:
        """Note a connection."""
        self._dialed.append((host, ip))

    def answered(self, position: int, reply: Reply, step: str, *, notes: tuple[str, ...] = ()) -> None:
        """Note what a reply means for a forward-path.

        Args:
            step: What was answered, such as ``RCPT``.
        """
        result = RecipientResult.from_reply(reply, notes=notes)
        if result.outcome is not Outcome.DELIVERED:
            result = replace(result, error=f"{step}: {reply}")
        self._set(position, result)

    def deferred(self, position: int, reply: Reply, step: str) -> None:
        """Note that a forward-path is to be tried again although its reply says 5yz."""
        self._set(position, RecipientResult(Outcome.DEFERRED, reply, f"{step}: {reply}"))

    def lost(self, error: str, in_content: frozenset[int] = frozenset()) -> None:
        """Note that the connection is gone.

        Args:
            in_content: Positions of those for whom the final dot was sent: no other host is asked for them.
        """
        for position in list(self.waiting):
            is_maybe = position in in_content
            self._set(position, RecipientResult(Outcome.DEFERRED, error=error, is_maybe_delivered=is_maybe))

    def refused(self, result: RecipientResult) -> None:
        """Note one result for all who are waiting."""
        for position in list(self.waiting):
            self._set(position, result)

    def lacks(self, reply: Reply) -> None:
        """Note that a host cannot do what the message needs; it fails when no host of its can.

        Args:
            reply: What stands for it: 5.6.7 (SMTPUTF8), 5.7.30 (REQUIRETLS).
        """
        self._lacking[reply.enhanced_status_code] = self._lacking.get(reply.enhanced_status_code, 0) + 1
        self.refused(RecipientResult(Outcome.DEFERRED, reply, str(reply)))

    def untried(self, host: str, error: str) -> None:
        """Note that a host was passed over."""
        self.begin_host()
        self.remote_mta = host
        self.refused(RecipientResult(Outcome.DEFERRED, error=error))

    @contextmanager
    def kept(self, log: Log) -> Iterator[None]:
        """Keep what is known when the block cannot go on, because of a fault of ours or because it is cancelled.

        Who has the message would get it again otherwise. While nothing is known, what is raised goes on.

        Args:
            log: Where a fault is told of.
        """
        try:
            yield
        except NotNow:
            raise
        except Exception as error:
            if not self._is_anything_known:
                raise
            log.exception("delivery was broken off; results so far are kept", delivery=self.delivery.id)
            self._break_off(f"internal error: {type(error).__name__}")
        except trio.Cancelled:
            # Nothing is waited for after this, so whoever cancels is held up no longer than by going on with it.
            if not self._is_anything_known:
                raise
            self._break_off("the delivery was interrupted before this forward-path was done")

    def results(self) -> tuple[RecipientResult, ...]:
        """Return one result per forward-path."""
        everywhere = {code for code, count in self._lacking.items() if count == self.hosts_tried}
        dialed = tuple(self._dialed)
        results = []
        for position in range(len(self.delivery.entries)):
            result = self._results[position]
            if result.reply is not None and result.reply.enhanced_status_code in everywhere & _LACKING_CODES:
                result = replace(result, outcome=Outcome.FAILED)
            results.append(replace(result, dialed=dialed))
        return tuple(results)

    @property
    def _is_anything_known(self) -> bool:
        return any(
            result.outcome is not Outcome.DEFERRED or result.is_maybe_delivered for result in self._results.values()
        )

    def _break_off(self, error: str) -> None:
        for position in list(self.waiting):
            self._set(position, RecipientResult(Outcome.DEFERRED, error=error))

    def _set(self, position: int, result: RecipientResult) -> None:
        if self.is_lenient and _is_about_policy(result):
            error = f"{result.error} (it may be about our address: the other address family is tried next)"
            result = replace(result, outcome=Outcome.DEFERRED, error=error)
        before = self._results.get(position)
        if before is not None:
            # What the host before said would be forgotten.
            said = ": ".join(part for part in (before.remote_mta, before.error) if part)
            result = replace(result, notes=(*before.notes, said, *result.notes))
        self._results[position] = replace(result, remote_mta=self.remote_mta, tls=self.tls)
        if result.outcome is not Outcome.DEFERRED or result.is_maybe_delivered:
            self.waiting.remove(position)


def _is_about_policy(result: RecipientResult) -> bool:
    reply = result.reply
    return result.outcome is Outcome.FAILED and reply is not None and reply.enhanced_status_code.startswith("5.7.")
