"""Which entries share a delivery: one message, one domain, the same conditions."""

from __future__ import annotations

from mailcrane.model.delivery import Entry


def shares_delivery(entry: Entry) -> object:
    """Return a value that is equal for entries of one domain that may travel together.

    Routes are not looked at: what they choose is not known before each entry is routed, and those that go different
    ways part then.
    """
    if not entry.base_id:
        return entry.id
    return (
        entry.base_id,
        entry.content_id,
        entry.reverse_path,
        entry.attempts,
        entry.require_tls,
        entry.transport,
        entry.has_8bit,
        entry.needs_smtputf8,
        entry.forward_path.needs_smtputf8,
    )
