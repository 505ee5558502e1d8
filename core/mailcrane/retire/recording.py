"""Records events of plugins, with the same data beside their own as the other events that become webhooks have."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from mailcrane.model.event import Event, EventKind, NewEvent
from mailcrane.retire.events import outgoing_data
from mailcrane.store.errors import UnknownAccount
from mailcrane.store.store import Store
from mailcrane.store.transaction import Transaction

_OF_NO_ENTRY = {
    "queue_msg_id": 0,
    "from_id": "",
    "message_id": "",
    "subject": "",
    "smtp_code": 0,
    "smtp_enhanced_code": "",
    "error": "",
    "extra": {},
    "dsn": False,
    "suppressing": False,
}


class PluginEventRecorder:
    """Implements `mailcrane.model.event.EventService` on the store.

    Args:
        kinds: The names that plugins registered.
    """

    def __init__(self, store: Store, kinds: Collection[str]) -> None:
        self._store = store
        self._kinds = kinds

    async def record(self, kind: str, *, account: str, entry_id: int, data: dict[str, Any]) -> Event:
        """Record an event; see `mailcrane.model.event.EventService.record`."""
        if kind not in self._kinds:
            raise LookupError(f"no plugin registers the event type {kind!r} with register_event_types")
        try:
            # What cannot be stored is the caller's fault, and not to be found out in the unit.
            data = msgspec.json.decode(msgspec.json.encode(data), type=dict[str, Any])
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"the data of {kind} is not JSON: {error}") from None
        try:
            return await self._store.write(
                lambda transaction: _record(transaction, kind, account, entry_id, data), key=f"account:{account}"
            )
        except UnknownAccount:
            raise LookupError(f"there is no account {account!r}") from None


def _record(transaction: Transaction, kind: str, account: str, entry_id: int, data: dict[str, Any]) -> Event:
    told = dict(_OF_NO_ENTRY)
    if entry_id:
        entry = transaction.queue.get(entry_id)
        if entry is None:
            retired = transaction.retired.get(entry_id)
            entry = None if retired is None else retired.entry
        if entry is None or account not in {"", entry.account}:
            raise LookupError(f"there is no entry {entry_id}{f' of account {account}' if account else ''}")
        account, told = entry.account, outgoing_data(entry, None)
    elif not account:
        raise LookupError("an event needs an account or an entry")
    (event,) = transaction.events.record([NewEvent(account, EventKind(kind), entry_id, {**told, "data": data})])
    return event
