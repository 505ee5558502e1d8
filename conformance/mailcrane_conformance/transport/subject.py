"""What the transport suite tests: a transport, and the peer that it delivers to.

A transport that speaks SMTP or LMTP is shown with the kit's own scripted peer. For any other, a command or an HTTP API,
its author writes a `Peer`: how to see what was delivered, and how to make the delivery fail.
"""

from __future__ import annotations

import contextlib
import enum
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Protocol

import trio

from mailcrane.api import Delivery, NotNow, Outcome, RecipientResult, Transport
from mailcrane_conformance.kit import NotApplicable, require
from mailcrane_conformance.peer import Script, ScriptedPeer, scripted_peer

TransportFactory = Callable[[str, int], Awaitable[Transport]]
"""Makes a transport that speaks SMTP or LMTP to a host and port, set up to go on without TLS."""

WAIT_SECONDS = 2.0


class Condition(enum.Enum):
    """How a peer is."""

    WELL = "takes every message"
    TEMPORARY = "refuses for now: what SMTP says with 4yz"
    PERMANENT = "refuses for good: what SMTP says with 5yz"
    DOWN = "cannot be reached"
    STUCK = "can be reached, but takes no content"
    SILENT = "takes all of the content and never says what became of it"
    LOST_WITHIN = "goes away while content is handed over"
    LOST_AFTER = "goes away after it took all of the content, before it says what became of it"


@dataclass(frozen=True)
class Received:
    """One message as the peer got it.

    Attributes:
        reverse_path: Empty for the null one.
        forward_paths: Whom it came for.
        octets: The content.
    """

    reverse_path: str
    forward_paths: tuple[str, ...]
    octets: bytes


class Peer(Protocol):
    """What a transport delivers to, as the suite needs it. Write one for a transport that speaks neither SMTP nor LMTP.

    Where something cannot be, raise `NotApplicable` with the reason: the behaviour is skipped and the reason is shown.
    """

    async def become(self, condition: Condition, refused: Mapping[str, Condition]) -> None:
        """Be so from the next delivery on.

        Args:
            condition: For the message.
            refused: Forward-paths that are refused all the same, with `Condition.TEMPORARY` or `Condition.PERMANENT`.
        """
        ...

    async def received(self) -> Sequence[Received]:
        """Return the messages that were taken so far, oldest first."""
        ...

    async def wait_until_busy(self, seconds: float) -> bool:
        """Wait until a delivery has reached the peer; False when time is up."""
        ...

    async def wait_until_idle(self, seconds: float) -> bool:
        """Wait until nothing of a delivery is left: no connection, no process, no request. False when time is up."""
        ...


OpenPeer = Callable[[], AbstractAsyncContextManager[tuple[Peer, Transport]]]
"""Opens a peer with a transport that delivers to it, and closes both."""


@dataclass(frozen=True)
class Subject:
    """A transport to test; made by `smtp`, `lmtp` or `other`."""

    make: TransportFactory | None = None
    is_lmtp: bool = False
    open_other: OpenPeer | None = None

    @contextlib.asynccontextmanager
    async def opened(
        self, condition: Condition = Condition.WELL, refused: Mapping[str, Condition] | None = None
    ) -> AsyncIterator[tuple[Peer, Transport]]:
        """Open a peer of whatever kind, in a condition, and a transport to it."""
        if self.open_other is not None:
            async with self.open_other() as (peer, transport):
                await peer.become(condition, refused or {})
                yield peer, transport
        else:
            async with self.scripted(Script()) as (scripted, transport):
                view = _ScriptedView(scripted)
                await view.become(condition, refused or {})
                yield view, transport

    @contextlib.asynccontextmanager
    async def scripted(self, script: Script) -> AsyncIterator[tuple[ScriptedPeer, Transport]]:
        """Open the scripted peer and a transport to it.

        Raises:
            NotApplicable: the transport speaks neither SMTP nor LMTP.
        """
        if self.make is None:
            raise NotApplicable("the transport speaks neither SMTP nor LMTP")
        async with scripted_peer(replace(script, is_lmtp=self.is_lmtp)) as peer:
            transport = await self.make(peer.host, peer.port)
            try:
                yield peer, transport
            finally:
                with trio.move_on_after(WAIT_SECONDS, shield=True):
                    await transport.aclose()


def smtp(make: TransportFactory) -> Subject:
    """Test a transport that speaks SMTP."""
    return Subject(make=make)


def lmtp(make: TransportFactory) -> Subject:
    """Test a transport that speaks LMTP."""
    return Subject(make=make, is_lmtp=True)


def other(open_peer: OpenPeer) -> Subject:
    """Test a transport that speaks something else, with a peer of its author's."""
    return Subject(open_other=open_peer)


async def deliver(transport: Transport, delivery: Delivery) -> tuple[RecipientResult, ...]:
    """Deliver as the server does: a raise defers all recipients.

    Raises:
        Violation: there is not one result for each forward-path.
        NotNow: the transport has no place.
    """
    try:
        results = await transport.deliver(delivery)
    except NotNow:
        raise
    except Exception as error:
        return tuple(RecipientResult(Outcome.DEFERRED, error=repr(error)) for _ in delivery.entries)
    require(
        len(results) == len(delivery.entries),
        f"{len(results)} results came back for {len(delivery.entries)} forward-paths",
    )
    return tuple(results)


def require_outcomes(results: Sequence[RecipientResult], *wanted: Outcome) -> None:
    """Require outcomes, in order."""
    errors = "; ".join(dict.fromkeys(result.error for result in results if result.error)) or "no error"
    require(
        [result.outcome for result in results] == list(wanted),
        f"expected {_counted(wanted)}, got {_counted([result.outcome for result in results])} ({errors})",
    )


def _counted(outcomes: Sequence[Outcome]) -> str:
    """Say outcomes in words, those that are equal and follow each other as one."""
    groups = [(outcome, len(list(equal))) for outcome, equal in itertools.groupby(outcomes)]
    return ", ".join(f"{count} × {outcome}" if count > 1 else outcome.value for outcome, count in groups) or "nothing"


class _ScriptedView:
    """The scripted peer, as a `Peer`."""

    def __init__(self, scripted: ScriptedPeer) -> None:
        self._scripted = scripted

    async def become(self, condition: Condition, refused: Mapping[str, Condition]) -> None:
        replies = {Condition.TEMPORARY: "450 4.2.0 later", Condition.PERMANENT: "550 5.1.1 no"}
        script = Script(
            is_lmtp=self._scripted.script.is_lmtp,
            extensions=self._scripted.script.extensions,
            recipients={path: replies[how] for path, how in refused.items()},
        )
        match condition:
            case Condition.TEMPORARY:
                script = replace(script, final="452 4.3.1 full")
            case Condition.PERMANENT:
                script = replace(script, final="554 5.6.0 no")
            case Condition.DOWN:
                await self._scripted.stop_listening()
            case Condition.STUCK:
                script = replace(script, stay_silent_at="content", extensions=("PIPELINING", "8BITMIME"))
            case Condition.SILENT:
                script = replace(script, stay_silent_at="final")
            case Condition.LOST_WITHIN:
                script = replace(script, lose_connection_at="content")
            case Condition.LOST_AFTER:
                script = replace(script, lose_connection_at="final")
        self._scripted.script = script

    async def received(self) -> Sequence[Received]:
        return [
            Received(one.reverse_path, tuple(one.forward_paths), one.octets or b"") for one in self._scripted.messages
        ]

    async def wait_until_busy(self, seconds: float) -> bool:
        return await self._scripted.wait_for_transaction(seconds)

    async def wait_until_idle(self, seconds: float) -> bool:
        return await self._scripted.wait_until_closed(seconds)
