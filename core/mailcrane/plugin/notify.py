"""Tells plugins of stored events: after the commit, in order per account, and again after a failure or a crash.

Each plugin has a stored position in the feed of each account. It is moved after the plugin was told, so that after a
crash a plugin may be told of an event again: `Event.id` stays the same. A plugin that is enabled for the first time
begins at the present. An event that keeps failing is set aside, so that it does not hold up the account for ever, and
can be replayed.

Events are kept for `mailcrane.store.housekeeping.EVENTS_KEPT`. What a plugin has not been told of by then, because it
was disabled or kept failing, it misses; how much that was is logged and counted when it goes on.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence

import trio
from msgspec import Struct

from mailcrane.model.event import Event, EventKind
from mailcrane.model.retired import Retired
from mailcrane.observe.log import get_log
from mailcrane.observe.metrics import Counter
from mailcrane.plugin.caller import Hooks, Notify
from mailcrane.plugin.errors import HookFailed
from mailcrane.plugin.implementation import Implementation
from mailcrane.store.errors import UnknownAccount
from mailcrane.store.persistence import write_persistently
from mailcrane.store.store import Store
from mailcrane.store.transaction import Transaction

log = get_log(__name__)

HOOK_OF_KIND: dict[EventKind, str] = {
    EventKind.MESSAGE_STORED: "message_stored",
    EventKind.MESSAGE_QUEUED: "message_queued",
    EventKind.ATTEMPT_FINISHED: "attempt_finished",
    EventKind.ENTRY_RETIRED: "entry_retired",
    EventKind.WEBHOOK_RETIRED: "webhook_retired",
    EventKind.SUPPRESSION_CHANGED: "suppression_changed",
}
"""The notify hook of each kind of event that has one of its own; ``event_recorded`` is told of every kind."""

RETRY_DELAYS = (1.0, 5.0, 30.0, 120.0, 600.0)
"""Seconds before each further try; after the last one an event is set aside."""

MISSED = Counter(
    "mailcrane_plugin_missed_events_total",
    "Events of all kinds that were removed, 30 days old, before a plugin had come to them.",
    ("plugin",),
)

_BATCH = 50  # Events of an account between two stored positions.
_ACCOUNTS_AT_ONCE = 64  # Of one plugin.
_PAUSE = 0.1  # Seconds between two looks, so that a busy server is looked at ten times a second and not more.


class Replayed(Struct, frozen=True):
    """What came of replaying the events that were set aside for a plugin."""

    told: int
    failed: int


class Notifier:
    """Feeds the notify hooks of all plugins. To be run while the plugins run."""

    def __init__(self, store: Store, hooks: Hooks, *, retry_delays: Sequence[float] = RETRY_DELAYS) -> None:
        self._feeds: dict[str, _Feed] = {}
        for caller in hooks.by_name.values():
            if isinstance(caller, Notify):
                for implementation in caller.implementations:
                    feed = self._feeds.setdefault(
                        implementation.plugin, _Feed(store, implementation.plugin, tuple(retry_delays))
                    )
                    feed.listeners[caller.spec.name] = (caller, implementation)

    @property
    def plugins(self) -> tuple[str, ...]:
        """The plugins that are told of events."""
        return tuple(self._feeds)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Tell the plugins until cancelled; returns at once when none wants to be told.

        As a task it counts as started when every plugin has its position: what is recorded from then on, they see.
        """
        for feed in self._feeds.values():
            await feed.begin()
        task_status.started()
        async with trio.open_nursery() as nursery:
            for feed in self._feeds.values():
                nursery.start_soon(feed.follow, name=f"events for {feed.plugin}")

    async def replay(self, plugin: str) -> Replayed:
        """Tell a plugin once more of the events that were set aside for it; those that succeed are forgotten.

        Raises:
            LookupError: the plugin is not enabled, or is not told of events.
        """
        if plugin not in self._feeds:
            raise LookupError(f"plugin {plugin!r} is not enabled, or has no notify hooks")
        return await self._feeds[plugin].replay()


class _Work(Struct):
    """Events of one account to be told of.

    Attributes:
        last: The number that the plugin is done with afterwards.
        missed: How many of the numbers up to it were removed before the plugin came to them.
    """

    account: str
    events: list[Event]
    retired: dict[int, Retired | None]
    last: int
    missed: int


class _Feed:
    """What one plugin is told."""

    def __init__(self, store: Store, plugin: str, retry_delays: tuple[float, ...]) -> None:
        self.plugin = plugin
        self.listeners: dict[str, tuple[Notify, Implementation]] = {}
        self._store = store
        self._key = f"plugin:{plugin}"
        self._retry_delays = retry_delays
        self._busy: set[str] = set()
        self._bell, self._bell_rings = trio.open_memory_channel[None](1)

    async def begin(self) -> None:
        """Take the present as position, if the plugin never had one."""
        await self._store.write(lambda tx: tx.events.start_position(self.plugin), key=self._key)

    async def follow(self) -> None:
        """Look for accounts that are ahead of the plugin, and serve each in a task of its own."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._ring_on_events, self._store.wakeups.version("events"))
            while True:
                busy = frozenset(self._busy)
                free = _ACCOUNTS_AT_ONCE - len(busy)
                found = await self._store.read(functools.partial(self._look, busy=busy, limit=free))
                await self._advance({work.account: work.last for work in found if not work.events})
                for work in found:
                    self._note_missed(work)
                    if work.events:
                        self._busy.add(work.account)
                        nursery.start_soon(self._serve, work)
                if not found or len(self._busy) >= _ACCOUNTS_AT_ONCE:
                    await self._bell_rings.receive()
                await trio.sleep(_PAUSE)

    async def replay(self) -> Replayed:
        """Tell once of each event that was set aside."""
        letters = await self._store.read(lambda tx: tx.events.dead(self.plugin, limit=1_000_000))
        told = 0
        for letter in letters:
            event = letter.event
            retired = await self._store.read(functools.partial(self._retired_of, events=[event]))
            if await self._tell_once(event, retired, dict(self._listeners_of(event))) is None:
                await self._store.write(functools.partial(self._bury, event=event), key=self._key)
                told += 1
        return Replayed(told, len(letters) - told)

    def _bury(self, tx: Transaction, event: Event) -> None:
        tx.events.bury(self.plugin, event)

    async def _ring_on_events(self, seen: int) -> None:
        while True:
            seen = await self._store.wakeups.wait("events", seen=seen)
            self._ring()

    def _ring(self) -> None:
        with contextlib.suppress(trio.WouldBlock):  # It rings already.
            self._bell.send_nowait(None)

    def _look(self, tx: Transaction, busy: frozenset[str], limit: int) -> list[_Work]:
        """Find what there is to tell. Runs as one read."""
        kinds = () if "event_recorded" in self.listeners else self._kinds()
        found: list[_Work] = []
        for account, position in tx.events.accounts_behind(self.plugin).items():
            if account in busy:
                continue
            if len(found) >= limit:
                break
            events = tx.events.feed(account, position, _BATCH, kinds=kinds)
            last = events[-1].number if len(events) == _BATCH else tx.events.last_number(account)
            missed = tx.events.count_removed(account, position, last)
            found.append(_Work(account, events, self._retired_of(tx, events), last, missed))
        return found

    def _note_missed(self, work: _Work) -> None:
        if work.missed:
            MISSED.inc(self.plugin, by=work.missed)
            log.error(
                "events were removed before a plugin was told of them",
                plugin=self.plugin,
                account=work.account,
                events=work.missed,
            )

    def _kinds(self) -> tuple[EventKind, ...]:
        return tuple(kind for kind, hook in HOOK_OF_KIND.items() if hook in self.listeners)

    def _retired_of(self, tx: Transaction, events: Sequence[Event]) -> dict[int, Retired | None]:
        if "entry_retired" not in self.listeners:
            return {}
        ids = {event.entry_id for event in events if event.kind is EventKind.ENTRY_RETIRED}
        return {entry_id: tx.retired.get(entry_id) for entry_id in ids}

    async def _serve(self, work: _Work) -> None:
        """Tell of the events of one account, in order."""
        done = 0
        for event in work.events:
            left = dict(self._listeners_of(event))
            for delay in (*self._retry_delays, None):
                failure = await self._tell_once(event, work.retired, left)
                if failure is None:
                    break
                if delay is None:
                    await self._set_aside(event, failure)
                    break
                if done:
                    # The pause may be long; what was done is not to be told again after a restart in it.
                    await self._advance({work.account: done})
                await trio.sleep(delay)
            done = event.number
        await self._advance({work.account: work.last})
        self._busy.discard(work.account)
        self._ring()

    def _listeners_of(self, event: Event) -> list[tuple[str, tuple[Notify, Implementation]]]:
        hooks = (HOOK_OF_KIND.get(event.kind, ""), "event_recorded")
        return [(hook, self.listeners[hook]) for hook in hooks if hook in self.listeners]

    async def _tell_once(
        self, event: Event, retired: dict[int, Retired | None], left: dict[str, tuple[Notify, Implementation]]
    ) -> HookFailed | None:
        """Tell the hooks in ``left``; those that succeed are taken out of it. Returns the first failure."""
        first: HookFailed | None = None
        for hook, (caller, implementation) in list(left.items()):
            try:
                if hook == "entry_retired":
                    await caller.tell(implementation, event=event, retired=retired.get(event.entry_id))
                else:
                    await caller.tell(implementation, event=event)
            except HookFailed as failure:
                first = first or failure
            else:
                del left[hook]
        return first

    async def _set_aside(self, event: Event, failure: HookFailed) -> None:
        log.error(
            "an event that a plugin keeps failing at is set aside",
            plugin=self.plugin,
            hook=failure.hook,
            event=event.id,
            reason=failure.reason,
        )

        def set_aside(tx: Transaction) -> None:
            with contextlib.suppress(UnknownAccount):  # Removed meanwhile, and its events with it.
                tx.events.dead_letter(self.plugin, event, f"{failure.hook}: {failure.reason}")

        await write_persistently(self._store, set_aside, key=self._key)

    async def _advance(self, positions: dict[str, int]) -> None:
        def advance(tx: Transaction) -> None:
            for account, number in positions.items():
                with contextlib.suppress(UnknownAccount):
                    tx.events.advance(self.plugin, account, number)

        if positions:
            await write_persistently(self._store, advance, key=self._key)
