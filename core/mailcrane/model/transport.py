"""What a transport is (docs/reference/hooks.md, ``register_transport_types``)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from msgspec import Struct

from mailcrane.model.delivery import Delivery, RecipientResult


class NotNow(Exception):
    """Raised by a transport that has tried nothing: a limit of ours, or a next hop's wish, says to wait.

    The attempt is not counted. The entries stay due, and their domain is left alone until the time is over or a place
    is free.

    Attributes:
        next_hop: What the limit belongs to, such as a host name.
        reason: In words, for ``mailcrane queue why``: which limit, or what the next hop said.
        seconds: When it is worth to look again at the latest.
        wait_for_place: Returns when a place may be free earlier; None where only time helps.
        places: How many deliveries may be under way at the next hop now, where that is the limit; 0 when it is not
            known. Domains that share a next hop then share its places, without being refused one by one.
    """

    def __init__(
        self,
        next_hop: str,
        reason: str,
        *,
        seconds: float,
        wait_for_place: Callable[[], Awaitable[None]] | None = None,
        places: int = 0,
    ) -> None:
        super().__init__(f"{next_hop}: {reason}")
        self.next_hop = next_hop
        self.reason = reason
        self.seconds = seconds
        self.wait_for_place = wait_for_place
        self.places = places


class Transport(Protocol):
    """Hands messages to a next hop. Called concurrently; a raise defers every recipient of the delivery."""

    async def deliver(self, delivery: Delivery) -> tuple[RecipientResult, ...]:
        """Try to deliver once and return one result per forward-path, in order.

        Octets are passed on unchanged. A connection lost after the final dot is deferred as *maybe delivered*.
        Cancellation closes the connection.

        Raises:
            NotNow: nothing was tried, because a limit says to wait.
        """
        ...

    async def aclose(self) -> None:
        """Close what is still open; no delivery is under way any more."""
        ...


class TransportType(Struct, frozen=True):
    """A kind of transport that a plugin registers.

    Attributes:
        name: The value of ``type`` in ``[transports.NAME]``.
        config: The typed configuration (a `msgspec.Struct` with ``forbid_unknown_fields``).
        open: Makes a transport of a configuration. It does no I/O that takes long.
    """

    name: str
    config: type[Struct]
    open: Callable[[Any], Awaitable[Transport]]
