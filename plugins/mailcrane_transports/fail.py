"""The transport type ``fail``: nothing is tried, and every delivery has the configured reply."""

from __future__ import annotations

from mailcrane.api import Delivery, RecipientResult, Reply
from mailcrane_transports.config import FailConfig
from mailcrane_transports.home import Home

_USUAL = "Delivery is switched off for this destination"


class FailTransport:
    """Fails or defers everything; implements `mailcrane.api.Transport`."""

    def __init__(self, reply: Reply) -> None:
        self._result = RecipientResult.from_reply(reply)

    async def deliver(self, delivery: Delivery) -> tuple[RecipientResult, ...]:
        """Return the reply for every forward-path."""
        return (self._result,) * len(delivery.entries)

    async def aclose(self) -> None:
        """Nothing is open."""


async def open_fail(config: FailConfig, home: Home) -> FailTransport:
    """Make the transport."""
    # RFC 3463 section 3.8: 7.0, other or undefined security status: it is our policy that says so.
    return FailTransport(Reply.make(config.smtp_code, f"{config.smtp_code // 100}.7.0", config.smtp_message or _USUAL))
