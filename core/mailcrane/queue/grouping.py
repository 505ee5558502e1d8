"""Which entries travel together: one message, one domain, the same conditions."""

from __future__ import annotations

from collections.abc import Iterable

from mailcrane.model.delivery import Entry
from mailcrane.store.records import Leased


def group(leased: Iterable[Leased]) -> list[tuple[Leased, ...]]:
    """Put entries together that may share a transaction, in the order in which they came.

    The transport is not looked at: it is not known before each entry is routed.
    """
    groups: dict[object, list[Leased]] = {}
    for one in leased:
        groups.setdefault(_key(one.entry), []).append(one)
    return [tuple(members) for members in groups.values()]


def _key(entry: Entry) -> object:
    if not entry.base_id:
        return entry.id
    return (
        entry.base_id,
        entry.content_id,
        entry.reverse_path,
        entry.forward_path.domain,
        entry.attempts,
        entry.require_tls,
        entry.has_8bit,
        entry.needs_smtputf8,
        entry.forward_path.needs_smtputf8,
    )
