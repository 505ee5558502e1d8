"""What a transport is (docs/reference/hooks.md, ``register_transport_types``)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from msgspec import Struct

from mailcrane.model.delivery import Delivery, RecipientResult


class Transport(Protocol):
    """Hands messages to a next hop. Called concurrently; a raise defers every recipient of the delivery."""

    async def deliver(self, delivery: Delivery) -> tuple[RecipientResult, ...]:
        """Try to deliver once and return one result per forward-path, in order.

        Octets are passed on unchanged. A connection lost after the final dot is deferred as *maybe delivered*.
        Cancellation closes the connection.
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
