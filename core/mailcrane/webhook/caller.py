"""The loop that finds webhook calls that are due and makes them.

It waits until something is due or the topic ``webhooks`` is woken, leases what is due as far as there are slots, and
starts one task per call. A lease counts the attempt and sets the next due time, so that a crash is a failed attempt.
"""

from __future__ import annotations

import functools
import math
from datetime import datetime, timedelta

import msgspec
import trio

from mailcrane.config.static import WebhooksConfig
from mailcrane.http.client import HTTPClientError
from mailcrane.model.clock import Clock
from mailcrane.model.event import NewEvent
from mailcrane.model.webhook import CallResult
from mailcrane.observe import metrics
from mailcrane.observe.log import get_log
from mailcrane.store.errors import StoreClosed, StoreError, StoreFailed, UnknownAccount
from mailcrane.store.records import LeasedCall, Worker
from mailcrane.store.store import Store
from mailcrane.store.transaction import Transaction
from mailcrane.webhook.attempt import (
    RESPONSE_OCTETS,
    RESPONSE_SECONDS,
    TIMEOUT_SECONDS,
    Ending,
    HTTPPoster,
    ending_of,
    metric_label,
    request_headers,
    result_of,
)
from mailcrane.webhook.ending import DirectorySource, earlier_calls, end_call, retention
from mailcrane.webhook.schedule import next_due_at
from mailcrane.webhook.settling import Settler
from mailcrane.webhook.slots import Slots, most_calls
from mailcrane.webhook.targets import with_present_secrets

log = get_log(__name__)

TOPIC = "webhooks"
# A call takes a minute, and may wait another for its predecessor: leases need not be renewed while the store works.
LEASE_SECONDS = 300.0
INTERRUPTED = "the server was stopped"

STOP_SECONDS = 3.0
"""How long calls under way may go on once the server stops; those that are broken off are due at the next start."""

_TROUBLE_SECONDS = 5.0
# While calls are under way, those that are due are looked for so often at most: a look finds several then.
_PAUSE_SECONDS = 0.003
# For results that are there to be committed, once calls were interrupted.
_SETTLE_SECONDS = 10.0

Held = tuple[int, int]

_results_total = metrics.Counter("mailcrane_webhook_results_total", "Attempts of webhook calls by result.", ("code",))
_seconds = metrics.Histogram("mailcrane_webhook_request_duration_seconds", "Duration of webhook requests.")


class WebhookCaller:
    """Makes the calls that are due, as one worker.

    Args:
        directory: Gives the look-ups of the newest configuration.
        client: Posts; it stays open when the caller ends.
        worker: Holds the leases.
        clock: The store's.
    """

    def __init__(
        self,
        *,
        store: Store,
        directory: DirectorySource,
        client: HTTPPoster,
        config: WebhooksConfig,
        worker: Worker,
        clock: Clock,
    ) -> None:
        self._store = store
        self._directory = directory
        self._client = client
        self._config = config
        self._worker = worker
        self._clock = clock
        self._stopping = trio.CancelScope()
        self._is_interrupted = False
        self._requests: set[trio.CancelScope] = set()
        # What is under way, by call id and token: a call may be due again before its end was noted here.
        self._held: dict[Held, LeasedCall] = {}
        # Whether leases may have ended while the store took nothing: they are made longer before others are given.
        self._is_late = False
        self._slots = Slots(config.concurrency, config.concurrency_per_url)
        self._settler = Settler(store, key=TOPIC)
        self._in_slots: set[Held] = set()
        # Those in both lanes, and as many whose results are being committed.
        self._most_held = 2 * most_calls(config.concurrency)
        # The last call that was begun for an entry and URL, until it is done: a newer one waits for it.
        self._last: dict[tuple[int, str], trio.Event] = {}

    @property
    def under_way(self) -> int:
        """How many calls are being made."""
        return len(self._held)

    def stop(self) -> None:
        """Begin no more calls; `run` ends when those under way have ended or their time is up."""
        self._stopping.cancel()

    async def run(
        self, *, stop_seconds: float = STOP_SECONDS, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Make calls until `stop` is called.

        Args:
            stop_seconds: How long calls under way may go on after `stop`. Then they are broken off: the attempts stay
                counted, and the calls are due at once, which is after the next start.
            task_status: Started when the leases of earlier runs are freed.

        Raises:
            StoreFailed: the store is dead.
        """
        await self._store.write(lambda transaction: transaction.webhooks.release_boots(self._worker), key=TOPIC)
        task_status.started()
        async with trio.open_nursery() as calls:
            calls.start_soon(self._settler.run)
            with self._stopping:
                await self._loop(calls)
            with trio.move_on_after(stop_seconds):
                await self._wait_until_idle()
            self._is_interrupted = True
            for request in self._requests:
                request.cancel()
            with trio.move_on_after(_SETTLE_SECONDS):
                await self._wait_until_idle()
            calls.cancel_scope.cancel()

    # --- the loop ---

    async def _loop(self, calls: trio.Nursery) -> None:
        while True:
            seen = self._store.wakeups.version(TOPIC)
            try:
                wait_seconds = await self._start_due(calls)
            except (StoreFailed, StoreClosed):
                raise
            except StoreError as error:
                self._is_late = True
                log.error("webhooks cannot go on", problem=str(error), again_in_seconds=_TROUBLE_SECONDS)
                wait_seconds = _TROUBLE_SECONDS
            with trio.move_on_after(min(wait_seconds, LEASE_SECONDS)):
                await self._store.wakeups.wait(TOPIC, seen=seen)
            if self._held:
                await trio.sleep(_PAUSE_SECONDS)

    async def _start_due(self, calls: trio.Nursery) -> float:
        """Start what is due and fits; returns the seconds until something may be due next."""
        while (free := self._slots.free(trio.current_time())) > 0 and len(self._held) < self._most_held:
            count, started, due_at = await self._start_some(calls, free)
            if count < free and started == count:
                # All that is due and has room is under way; whatever ends makes room, and wakes.
                return min(self._seconds_until(due_at), self._until_slots_change())
        return self._until_slots_change()

    def _seconds_until(self, at: datetime | None) -> float:
        return math.inf if at is None else max(0.0, (at - self._clock.now()).total_seconds())

    def _until_slots_change(self) -> float:
        return max(0.0, self._slots.next_change_at() - trio.current_time())

    async def _start_some(self, calls: trio.Nursery, most: int) -> tuple[int, int, datetime | None]:
        """Lease calls and start them; returns how many were due, how many were started, and when the next are due."""
        slots = self._slots
        closed = slots.closed()
        # A call whose result could not be stored for longer than a lease is not to be made again.
        late = list(self._held) if self._is_late else []

        def lease(transaction: Transaction) -> tuple[int, list[LeasedCall], datetime | None]:
            transaction.webhooks.renew(late, transaction.now + timedelta(seconds=LEASE_SECONDS))
            leased = transaction.webhooks.lease_due(
                self._worker,
                transaction.now + timedelta(seconds=LEASE_SECONDS),
                most,
                next_due_at=functools.partial(
                    next_due_at,
                    now=transaction.now,
                    first_interval=timedelta(seconds=self._config.retry_interval_seconds),
                ),
                room=slots.room,
                exclude_urls=closed,
            )
            ready = []
            for one in leased:
                earlier = earlier_calls(transaction, one.call)
                if earlier:
                    # It is made due when the earlier one ends; this is for a crash in between.
                    due_at = max(transaction.now, *(call.due_at for call in earlier)) + timedelta(seconds=1)
                    transaction.webhooks.postpone(one.call.id, one.token, due_at)
                else:
                    ready.append(one)
            return len(leased), ready, transaction.webhooks.next_due_at()

        # Cancelling the wait would not undo the unit: what it leased is to be known here.
        with trio.CancelScope(shield=True):
            count, ready, due_at = await self._store.write(lease, key=TOPIC)
            self._is_late = False
            for leased in ready:
                predecessor, done = self._hold(leased)
                calls.start_soon(self._call, leased, predecessor, done)
        return count, len(ready), due_at

    # --- one call ---

    async def _call(self, leased: LeasedCall, predecessor: trio.Event | None, done: trio.Event) -> None:
        call = with_present_secrets(leased.call, self._directory(), self._clock.now())
        leased = msgspec.structs.replace(leased, call=call)
        try:
            if predecessor is not None:
                # A call of the same message that was superseded may still be under way.
                await predecessor.wait()
                if await self._store.read(lambda transaction: transaction.webhooks.get(call.id)) is None:
                    return
            result = await self._attempt(leased)
            # Its slot is free while the result is committed.
            self._end_slot(leased, is_answered=bool(result.code))
            await self._settle(leased, result)
        except (StoreFailed, StoreClosed):
            raise
        except Exception:
            # The top of an attempt. The call is made again when its lease ends.
            log.exception("a webhook call ended with an error", call=call.id)
        finally:
            self._let_go(leased, done)

    async def _attempt(self, leased: LeasedCall) -> CallResult:
        call = leased.call
        started_at, begun = self._clock.now(), trio.current_time()
        body = call.payload.encode()
        response, error = None, ""
        with trio.move_on_after(TIMEOUT_SECONDS) as request:
            self._requests.add(request)
            if self._is_interrupted:
                request.cancel()
            try:
                response = await self._client.post(
                    call.target.url,
                    headers=request_headers(call, body, at=started_at),
                    body=body,
                    # The scope around it is the time limit; a second one would cost as much as the request's header.
                    timeout=math.inf,
                    max_response_octets=RESPONSE_OCTETS,
                    body_seconds=RESPONSE_SECONDS,
                )
            except HTTPClientError as failure:
                error = str(failure)
            finally:
                self._requests.discard(request)
        duration = timedelta(seconds=trio.current_time() - begun)
        if response is not None:
            result = result_of(call, response, started_at=started_at, duration=duration)
        else:
            if not error:
                error = INTERRUPTED if self._is_interrupted else f"no response within {TIMEOUT_SECONDS:g} s"
            result = CallResult(started_at, duration, False, error=error)
        _results_total.inc(metric_label(result))
        _seconds.observe(duration.total_seconds())
        return result

    async def _settle(self, leased: LeasedCall, result: CallResult) -> None:
        call = leased.call
        is_interrupted = result.error == INTERRUPTED
        ending = Ending.RETRY if is_interrupted else ending_of(call, result)
        keep = retention(self._directory(), call.account)

        def settle(transaction: Transaction, ended: list[NewEvent]) -> bool:
            if ending is Ending.RETRY:
                due_at = transaction.now if is_interrupted else None
                return transaction.webhooks.finish(call.id, leased.token, result, due_at)
            return end_call(transaction, leased, result, ended, keep=keep, is_gone=ending is Ending.GONE)

        try:
            is_settled = await self._settler.settle(settle)
        except UnknownAccount:
            log.info("an account was removed while its webhook was called", call=call.id)
            return
        fields = {"call": call.id, "account": call.account, "url": call.target.url, "attempt": call.attempts}
        if not is_settled:
            log.info("a webhook call was superseded, canceled or lost its lease", **fields)
        elif ending is Ending.GONE:
            log.warning("a webhook is disabled: its receiver answered 410", **fields)
        elif ending is Ending.FAILED:
            log.warning("a webhook call is given up", error=result.error, **fields)
        else:
            log.debug("a webhook was called", ending=ending.value, code=result.code, error=result.error, **fields)

    # --- what is under way ---

    def _hold(self, leased: LeasedCall) -> tuple[trio.Event | None, trio.Event]:
        """Note a call that begins; returns the end of the call it has to wait for, and its own end."""
        call = leased.call
        held = _held(leased)
        self._held[held] = leased
        self._in_slots.add(held)
        self._slots.begin(held, call.target.url, trio.current_time())
        done = trio.Event()
        if not call.entry_id:
            return None, done
        key = (call.entry_id, call.target.url)
        predecessor = self._last.get(key)
        self._last[key] = done
        return predecessor, done

    def _end_slot(self, leased: LeasedCall, *, is_answered: bool) -> None:
        held = _held(leased)
        if held in self._in_slots:
            self._in_slots.remove(held)
            self._slots.end(held, trio.current_time(), is_answered=is_answered)
            self._store.wakeups.wake(TOPIC)

    def _let_go(self, leased: LeasedCall, done: trio.Event) -> None:
        call = leased.call
        del self._held[_held(leased)]
        self._end_slot(leased, is_answered=False)
        done.set()
        key = (call.entry_id, call.target.url)
        if self._last.get(key) is done:
            del self._last[key]
        # There is room now for what is due, and `run` may be waiting for the last one.
        self._store.wakeups.wake(TOPIC)

    async def _wait_until_idle(self) -> None:
        while self._held:
            await self._store.wakeups.wait(TOPIC, seen=self._store.wakeups.version(TOPIC))


def _held(leased: LeasedCall) -> Held:
    return leased.call.id, leased.token
