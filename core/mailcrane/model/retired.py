"""Entries that left the queue, with what happened to them."""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec import Struct

from mailcrane.model.delivery import Attempt, Entry


class Retired(Struct, frozen=True):
    """An entry after its last attempt.

    Attributes:
        entry: As it was when it left the queue.
        event: ``delivered``, ``failed``, ``suppressed`` or ``canceled``.
        is_success: True only for ``delivered``.
        keep_until: When the row is removed.
    """

    entry: Entry
    event: str
    is_success: bool
    retired_at: datetime
    keep_until: datetime
    attempts: tuple[Attempt, ...] = ()


class Retention(Struct, frozen=True):
    """How long a retired entry is kept; a zero period keeps nothing."""

    period: timedelta
