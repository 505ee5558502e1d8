"""Which entries an operation is for: the filter that all operations on the queue share."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from mailcrane.admin.errors import AdminError
from mailcrane.admin.time_filter import parse_time_filter
from mailcrane.store.records import QueueFilter

MAX_ID = 2**63 - 1
"""The largest id that there can be."""

_MAX_IDS = 10000


class EntryFilter(Struct, frozen=True, forbid_unknown_fields=True):
    """Entries that meet every condition that is given; `reverse_path` and `forward_path` together: either of them."""

    ids: Annotated[tuple[Annotated[int, Meta(ge=1, le=MAX_ID)], ...], Meta(description="Ids of entries.")] = ()
    account: Annotated[str, Meta(description="Name of the account that submitted; empty for all.")] = ""
    reverse_path: Annotated[str, Meta(description="Part of the reverse-path.")] = ""
    forward_path: Annotated[str, Meta(description="Part of the forward-path.")] = ""
    is_held: Annotated[bool | None, Meta(description="Only held ones, or only those that are not.")] = None
    submitted: Annotated[
        str, Meta(description="When it was queued: `<1h` before one hour from now, `>-2d` after two days ago.")
    ] = ""
    next_attempt: Annotated[str, Meta(description="When it is due, like `submitted`; `now` is the same as `<now`.")] = (
        ""
    )
    transport: Annotated[
        str | None, Meta(description="Name of the transport set for the entry; the empty name finds those without.")
    ] = None

    @property
    def is_empty(self) -> bool:
        """Whether it finds every entry."""
        return self == EntryFilter()

    def conditions(self, now: datetime) -> QueueFilter:
        """Return the conditions in the store's terms.

        Raises:
            AdminError: a time is not one, or there are too many ids.
        """
        if len(self.ids) > _MAX_IDS:
            raise AdminError("bad_value", f"{len(self.ids)} ids are too many at once: {_MAX_IDS} is the most")
        queued, due = parse_time_filter(self.submitted, now), parse_time_filter(self.next_attempt, now)
        return QueueFilter(
            ids=self.ids,
            account=self.account or None,
            reverse_path_contains=self.reverse_path,
            forward_path_contains=self.forward_path,
            is_held=self.is_held,
            queued_before=queued.before,
            queued_after=queued.after,
            due_before=due.before,
            due_after=due.after,
            transport=self.transport,
        )
