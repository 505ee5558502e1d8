"""Operations on what plugins could not take: events that were set aside for them, and telling them once more."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from mailcrane.admin.administration import Administration
from mailcrane.admin.errors import AdminError, not_running


class ListDeadEvents(Struct, frozen=True, forbid_unknown_fields=True):
    """Ask for events that were set aside because a plugin kept failing at them."""

    plugin: Annotated[str, Meta(description="Name of the plugin.")]
    limit: Annotated[int, Meta(ge=1, le=10_000, description="How many at most.")] = 100


class DeadEvent(Struct, frozen=True):
    """An event that was set aside.

    Attributes:
        at: When it was set aside.
        error: What the plugin failed with last.
    """

    id: str
    kind: str
    account: str
    entry_id: int
    at: datetime
    error: str


class DeadEvents(Struct, frozen=True):
    """The events, the oldest first, and how many there are in all."""

    count: int
    events: tuple[DeadEvent, ...]


class ReplayEvents(Struct, frozen=True, forbid_unknown_fields=True):
    """Tell a plugin once more of every event that was set aside for it."""

    plugin: Annotated[str, Meta(description="Name of the plugin.")]


class EventsReplayed(Struct, frozen=True):
    """How many events the plugin took, and at how many it failed again."""

    told: int
    failed: int


async def list_dead_events(administration: Administration, request: ListDeadEvents) -> DeadEvents:
    """Return the events that were set aside for a plugin."""
    count, letters = await administration.store.read(
        lambda transaction: (
            transaction.events.count_dead(request.plugin),
            transaction.events.dead(request.plugin, limit=request.limit),
        )
    )
    return DeadEvents(
        count,
        tuple(
            DeadEvent(
                letter.event.id,
                letter.event.kind.value,
                letter.event.account,
                letter.event.entry_id,
                letter.at,
                letter.error,
            )
            for letter in letters
        ),
    )


async def replay_events(administration: Administration, request: ReplayEvents) -> EventsReplayed:
    """Tell a plugin once more; what it takes is forgotten, the rest stays set aside."""
    if administration.notifier is None:
        raise not_running()
    try:
        replayed = await administration.notifier.replay(request.plugin)
    except LookupError as error:
        raise AdminError("not_found", str(error)) from None
    return EventsReplayed(replayed.told, replayed.failed)
