"""Makes webhook calls of recorded events: asks who is to be told, and queues a call for each in one unit.

What was not dispatched when the server stopped is found again by its state; an event becomes calls exactly once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

import msgspec
import trio
from msgspec import Struct

from mailcrane.model.clock import Clock
from mailcrane.model.event import Event, NewEvent
from mailcrane.model.webhook import WebhookTarget
from mailcrane.observe.log import get_log
from mailcrane.plugin.caller import Hooks
from mailcrane.store.errors import StoreClosed, StoreError, StoreFailed, UnknownAccount
from mailcrane.store.records import CallFilter, NewCall
from mailcrane.store.store import Store
from mailcrane.store.transaction import Transaction
from mailcrane.webhook.disabled import is_disabled
from mailcrane.webhook.ending import DirectorySource, is_repetition, retention, retired_event
from mailcrane.webhook.payload import encode_payload, is_wanted, make_payload, merge_fields, merge_targets
from mailcrane.webhook.targets import own_target

log = get_log(__name__)

TOPIC = "outgoing events"

_BATCH = 100
_TROUBLE_SECONDS = 5.0


class _Planned(Struct, frozen=True):
    """An event with who is told of it."""

    event: Event
    targets: tuple[WebhookTarget, ...]
    payload: str


class Dispatcher:
    """Turns events into calls, as long as it runs.

    Args:
        directory: Gives the look-ups of the newest configuration.
        clock: The store's.
    """

    def __init__(self, *, store: Store, hooks: Hooks, directory: DirectorySource, clock: Clock) -> None:
        self._store = store
        self._hooks = hooks
        self._directory = directory
        self._clock = clock

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Dispatch until cancelled; at any moment is right, because a unit is done whole or not.

        Raises:
            StoreFailed: the store is dead.
        """
        task_status.started()
        while True:
            seen = self._store.wakeups.version(TOPIC)
            try:
                while await self.dispatch_pending():
                    pass
            except (StoreFailed, StoreClosed):
                raise
            except StoreError as error:
                log.error("webhooks cannot be queued", problem=str(error), again_in_seconds=_TROUBLE_SECONDS)
                await trio.sleep(_TROUBLE_SECONDS)
                continue
            await self._store.wakeups.wait(TOPIC, seen=seen)

    async def dispatch_pending(self) -> int:
        """Dispatch one batch of pending events; returns how many it was."""
        events = await self._store.read(lambda transaction: transaction.events.outgoing_pending(_BATCH))
        if not events:
            return 0
        ready = await self._plan_all(events, {})
        try:
            await self._store.write(lambda transaction: self._queue(transaction, ready), key="webhooks")
        except UnknownAccount as error:
            # Its events are not pending any more once it is removed.
            log.info("an account was removed while its webhooks were queued", account=error.account)
        return len(events)

    async def replay(
        self, events: Sequence[Event], urls: Mapping[str, str] | None = None, *, calls: Collection[int] = ()
    ) -> int:
        """Queue new calls of recorded events, with the targets, fields and secrets of today.

        Calls of one entry are made in the order of its events, and end no others. Targets that are disabled, or do not
        want events of the kind, are left out.

        Args:
            events: At most a few hundred: they are one unit.
            urls: Of an event's id, the only URL to call; where nothing is posted to it any more, it is the account's.
            calls: Ids of calls that ended, which these take the place of: in the same unit they leave the list of those
                that were given up.

        Returns:
            How many calls were queued.

        Raises:
            UnknownAccount: the account of an event was removed meanwhile.
        """
        ready = await self._plan_all(events, urls or {})

        def unit(transaction: Transaction) -> int:
            transaction.webhooks.bury(calls)
            return sum(self._queue_replay(transaction, one) for one in ready)

        return await self._store.write(unit, key="webhooks")

    async def _plan_all(self, events: Sequence[Event], urls: Mapping[str, str]) -> list[_Planned]:
        planned: list[_Planned | None] = [None] * len(events)
        # One instant and one look-up of an account for all of them.
        at = self._clock.now()
        own = {name: own_target(self._directory(), name, at) for name in {event.account for event in events}}

        async def plan(index: int, event: Event) -> None:
            planned[index] = await self._plan(event, own[event.account], at, urls.get(event.id, ""))

        if self._hooks.select_webhooks.implementations or self._hooks.add_webhook_fields.implementations:
            async with trio.open_nursery() as nursery:
                for index, event in enumerate(events):
                    nursery.start_soon(plan, index, event)
        else:
            for index, event in enumerate(events):
                await plan(index, event)
        return [one for one in planned if one is not None]

    async def _plan(self, event: Event, own: WebhookTarget | None, at: datetime, only_url: str) -> _Planned:
        answers = [("", own)] if own is not None else []
        if self._hooks.select_webhooks.implementations:
            answers += await self._hooks.select_webhooks(event=event)
        targets = tuple(target for target in merge_targets(answers) if is_wanted(target, event))
        if only_url:
            targets = tuple(target for target in targets if target.url == only_url) or targets[:1]
        if not targets:
            return _Planned(event, (), "")
        payload = make_payload(event, queued_at=at)
        if self._hooks.add_webhook_fields.implementations:
            payload = merge_fields(payload, await self._hooks.add_webhook_fields(event=event, payload=payload))
        return _Planned(event, targets, encode_payload(payload))

    def _queue(self, transaction: Transaction, planned: Sequence[_Planned]) -> None:
        pending = {event.id for event in transaction.events.mark_dispatched([one.event for one in planned])}
        told = [one for one in planned if one.event.id in pending and one.targets]
        # Of nearly all entries nothing is queued: their calls end none and repeat none, and are added together.
        waited_for = transaction.webhooks.entries_waited_for([one.event.entry_id for one in told])
        first: list[NewCall] = []
        for one in told:
            calls = _calls(transaction, one)
            if one.event.entry_id not in waited_for and all(call.target.mode != "changes" for call in calls):
                first += [msgspec.structs.replace(call, supersedes=False) for call in calls]
                waited_for.add(one.event.entry_id)
                waited_for.discard(0)
                continue
            transaction.webhooks.add(first)
            first = []
            calls = [call for call in calls if not is_repetition(transaction, call)]
            ended = _superseded(transaction, calls)
            transaction.webhooks.add(calls, keep_superseded=retention(self._directory(), one.event.account))
            if ended:
                transaction.events.record(ended)
        transaction.webhooks.add(first)

    def _queue_replay(self, transaction: Transaction, one: _Planned) -> int:
        calls = [
            msgspec.structs.replace(
                call,
                target=msgspec.structs.replace(call.target, mode="all"),
                supersedes=False,
            )
            for call in _calls(transaction, one)
        ]
        transaction.webhooks.add(calls)
        return len(calls)


def _calls(transaction: Transaction, planned: _Planned) -> list[NewCall]:
    event = planned.event
    return [
        NewCall(
            event.account,
            event.id,
            event.kind.value,
            event.entry_id,
            target,
            planned.payload,
            transaction.now,
            supersedes=target.mode == "latest",
        )
        for target in planned.targets
        if not is_disabled(transaction, event.account, target)
    ]


def _superseded(transaction: Transaction, calls: Sequence[NewCall]) -> list[NewEvent]:
    """The events of the queued calls that end when these are added."""
    urls = {call.target.url for call in calls if call.supersedes and call.entry_id}
    if not urls:
        return []
    first = calls[0]
    queued = transaction.webhooks.list(CallFilter(account=first.account, entry_id=first.entry_id))
    return [
        retired_event(
            call,
            is_success=False,
            code=call.results[-1].code if call.results else 0,
            superseded_by_event=first.event_id,
        )
        for call in queued
        if call.target.url in urls
    ]
