"""What the queue counts for monitoring. Connections are the transports' to count."""

from __future__ import annotations

from collections.abc import Sequence

from mailcrane.model.delivery import RecipientResult
from mailcrane.observe.metrics import Counter, Gauge, Histogram

# Attempts after this one share a label, so that there are never many.
_LAST_ATTEMPT_LABEL = 10

delivery_seconds = Histogram(
    "mailcrane_queue_delivery_duration_seconds",
    "Deliveries handed to a transport, by number of the attempt, transport, TLS that was asked for (immediate, "
    "verified, required, opportunistic, none; unknown without a session) and result: delivered, deferred, failed, "
    "partly (recipients differ), not_now (nothing was tried) or error (of ours or the transport's).",
    ("attempt", "transport", "tls", "result"),
)
entry_outcomes = Counter(
    "mailcrane_queue_entry_outcomes_total", "What attempts came to for entries, as the event is named.", ("event",)
)
entries = Gauge("mailcrane_queue_entries", "Entries in the queue, held ones included.")
held_entries = Gauge("mailcrane_queue_held_entries", "Entries that are held.")
deliveries = Gauge("mailcrane_queue_deliveries", "Deliveries under way in this process.")
blocked_domains = Gauge(
    "mailcrane_queue_blocked_domains", "Recipient domains left alone because a transport said to wait."
)


def observe_delivery(seconds: float, attempt: int, transport: str, tls: str, result: str) -> None:
    """Count a delivery.

    Args:
        seconds: How long the transport took.
        attempt: Its number.
        transport: Name of the transport.
        tls: See the metric.
        result: See the metric.
    """
    label = str(attempt) if attempt < _LAST_ATTEMPT_LABEL else f"{_LAST_ATTEMPT_LABEL}+"
    delivery_seconds.observe(seconds, label, transport, tls, result)


def result_of(results: Sequence[RecipientResult]) -> str:
    """Return the label for the results of a delivery."""
    outcomes = {result.outcome.value for result in results}
    return outcomes.pop() if len(outcomes) == 1 else "partly"


def tls_of(results: Sequence[RecipientResult]) -> str:
    """Return the label for the TLS that was asked for in a delivery."""
    return next((result.tls.asked for result in results if result.tls is not None and result.tls.asked), "unknown")
