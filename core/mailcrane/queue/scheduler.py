"""The loop that finds what is due and has it attempted.

It waits until something is due or the topic ``queue`` is woken, leases what is due as far as there is room, and starts
one task per delivery: a message and the domain of some of its recipients. One unit begins a batch of attempts: when it
is committed, they are counted.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime, timedelta
from itertools import islice

import trio
from msgspec.structs import replace

from mailcrane.config.directory import Directory
from mailcrane.config.static import QueueConfig
from mailcrane.model.clock import Clock
from mailcrane.model.transport import NotNow
from mailcrane.observe.log import get_log, log_context
from mailcrane.plugin.caller import Hooks
from mailcrane.queue import measures
from mailcrane.queue.attempt import Attempter
from mailcrane.queue.blocked import Blocked, BlockedDomains
from mailcrane.queue.grouping import shares_delivery
from mailcrane.queue.places import Places
from mailcrane.queue.schedule import next_due_at
from mailcrane.store.content import Opening, read_opening
from mailcrane.store.errors import CommitFailed, DiskFull, StoreClosed, StoreError, StoreFailed
from mailcrane.store.records import Begun, Leased, Worker
from mailcrane.store.store import Store
from mailcrane.store.transaction import Transaction
from mailcrane.transport.deadline import BoundedCalls, Interrupted
from mailcrane.transport.prepare import ContentPreparer
from mailcrane.transport.registry import Transports

log = get_log(__name__)

TOPIC = "queue"

# Deliveries that begin in one unit, so that it does not hold up others.
_MOST_BEGUN = 100
# While a turn of the loop takes so long it has all that it can do, and deliveries that begin would only take longer
# and open more connections. So many are under way all the same.
_LONG_TURN_SECONDS = 0.01
_ALWAYS_UNDER_WAY = 64
# Content that is read when its attempt begins.
_SMALL_OCTETS = 32 * 1024
# Domains looked at that have as many deliveries under way as they may have, to find whose turn it is at a next hop.
_MOST_PASSED_OVER = 20
# Entries under way; deliveries of messages with very many recipients may go beyond it.
_MOST_HELD = 50_000
# Taken at once after a crash; the rest follows when these are done.
_RESUME_LIMIT = 100
# Between looks when the store does not take a unit, and when what is due cannot be leased.
_TROUBLE_SECONDS = 5.0
# For results that are there to be committed, once deliveries were interrupted.
_SETTLE_SECONDS = 10.0


class Scheduler:
    """Delivers what is in the queue, as one worker.

    Args:
        directory: Gives the look-ups of the newest configuration.
        transports: Open; they stay open when the scheduler ends.
        worker: Holds the leases.
        clock: The store's.
    """

    def __init__(
        self,
        *,
        store: Store,
        hooks: Hooks,
        directory: Callable[[], Directory],
        transports: Transports,
        preparer: ContentPreparer,
        config: QueueConfig,
        worker: Worker,
        clock: Clock,
    ) -> None:
        self._store = store
        self._hooks = hooks
        self._directory = directory
        self._transports = transports
        self._preparer = preparer
        self._config = config
        self._next_due_at = functools.partial(
            next_due_at, first_interval=timedelta(seconds=config.retry_interval_seconds)
        )
        self._worker = worker
        self._clock = clock
        self._stopping = trio.CancelScope()
        # What is under way, by entry id.
        self._held: dict[int, Leased] = {}
        # Of the first entry of each delivery that has a place.
        self._in_place: set[tuple[int, int]] = set()
        self._places = Places(config.concurrency, config.concurrency_per_domain)
        self._blocked = BlockedDomains(clock, self._free)
        # Domains with more that is due than there was room for when they were looked at, by what limits them and in
        # order, and those of them, and of the blocked ones, that are to be looked at again.
        self._waiting: dict[str, dict[str, None]] = {}
        self._again: set[str] = set()
        # Whether there was no room for any domain.
        self._is_full = False
        # Whether leases may have ended while the store took nothing: they are made longer before others are given.
        self._is_late = False

    @property
    def under_way(self) -> int:
        """How many entries are being attempted or settled."""
        return len(self._held)

    def under_way_to(self, domain: str) -> int:
        """Return how many deliveries to a recipient domain are under way."""
        return self._places.under_way_to(domain)

    def share_of(self, domain: str) -> int:
        """Return how many deliveries to a recipient domain may be under way as things are."""
        return self._places.share_of(domain)

    def blocked(self, domain: str) -> Blocked | None:
        """Return why a recipient domain is left alone; None when it is not."""
        return self._blocked.get(domain)

    def blocked_domains(self) -> tuple[str, ...]:
        """Return the recipient domains that are left alone, sorted."""
        return self._blocked.domains()

    async def count(self) -> None:
        """Bring the gauges up to date. The store keeps the counts of entries: nothing is scanned."""
        counts = await self._store.read(lambda transaction: transaction.queue.counts())
        measures.entries.set(counts.entries)
        measures.held_entries.set(counts.held)
        measures.deliveries.set(self._places.taken)
        measures.blocked_domains.set(len(self._blocked.domains()))

    def stop(self) -> None:
        """Begin no more attempts; `run` ends when those under way have ended or their time is up."""
        self._stopping.cancel()

    async def run(
        self, *, stop_seconds: float = 30.0, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Deliver until `stop` is called.

        Args:
            stop_seconds: How long deliveries under way may go on after `stop`. Then they are cancelled: their attempts
                stay counted, and the entries wait for their next due time.
            task_status: Started when the leases of earlier runs are freed.

        Raises:
            StoreFailed: the store is dead.
        """
        async with trio.open_nursery() as deliveries:
            calls = BoundedCalls(deliveries)

            def leave_alone(domain: str, why: NotNow) -> datetime:
                self._stop_waiting({domain})
                self._places.shrink(domain, why.next_hop, why.places)
                return self._blocked.add(domain, why, deliveries, calls)

            attempter = Attempter(
                store=self._store,
                hooks=self._hooks,
                directory=self._directory,
                transports=self._transports,
                preparer=self._preparer,
                config=self._config,
                calls=calls,
                leave_alone=leave_alone,
                handed_over=self._handed_over,
                taken_back=self._taken_back,
            )
            freed = await self._store.write(
                lambda transaction: transaction.queue.release_boots(self._worker), key=TOPIC
            )
            if freed:
                log.info("leases of an earlier run are free", count=freed)
            task_status.started()
            async with trio.open_nursery() as attempts:
                attempts.start_soon(self._renew_leases)
                with self._stopping:
                    await self._loop(attempts, attempter)
                with trio.move_on_after(stop_seconds):
                    await self._wait_until_idle()
                calls.interrupt()
                with trio.move_on_after(_SETTLE_SECONDS):
                    await self._wait_until_idle()
                if self._held:
                    log.warning("attempts were left unfinished", entries=sorted(self._held))
                attempts.cancel_scope.cancel()
            deliveries.cancel_scope.cancel()

    # --- the loop -----------------------------------------------------------------------------------------------

    async def _loop(self, attempts: trio.Nursery, attempter: Attempter) -> None:
        resume_at = trio.current_time()
        while True:
            seen = self._store.wakeups.version(TOPIC)
            try:
                if trio.current_time() >= resume_at:
                    await self._resume(attempts, attempter)
                    resume_at = trio.current_time() + self._config.lease_seconds
                wait_seconds = await self._start_due(attempts, attempter)
            except (StoreFailed, StoreClosed):
                raise
            except StoreError as error:
                self._is_late = True
                log.error("the queue cannot go on", problem=str(error), again_in_seconds=_TROUBLE_SECONDS)
                wait_seconds = _TROUBLE_SECONDS
                resume_at = max(resume_at, trio.current_time() + _TROUBLE_SECONDS)
            # What another worker left settling is found when its lease ends, of which nobody tells.
            with trio.move_on_after(min(wait_seconds, max(0.0, resume_at - trio.current_time()))):
                await self._store.wakeups.wait(TOPIC, seen=seen)

    async def _start_due(self, attempts: trio.Nursery, attempter: Attempter) -> float:
        """Start what is due and fits; returns the seconds until something may be due next."""
        while True:
            room = self._places.room if len(self._held) < _MOST_HELD else 0
            self._is_full = room <= 0
            if self._is_full:
                return float("inf")
            await self._until_quick()
            again, self._again = self._again, set()
            begun, due_at, openings = await self._lease(min(room, _MOST_BEGUN), again)
            for members in begun.deliveries:
                opening = openings.get(members[0].entry.content_id)
                attempts.start_soon(self._attempt, functools.partial(attempter.attempt, opening=opening), members)
            # Where room was made while the unit ran, nobody tells: it was not known then that somebody waits for it.
            self._again |= {domain for domain in begun.waiting if self._places.room_for(domain) > 0}
            for domain in begun.waiting - self._again:
                self._waiting.setdefault(self._places.limited_by(domain), {})[domain] = None
            # Whose turn it was may have had nothing that is due any more, or have left room for others.
            for key in {self._places.limited_by(domain) for domain in again - self._again}:
                self._next_in_turn(key)
            if not begun.is_more and not self._again:
                break
        if due_at is None:
            return float("inf")
        seconds = (due_at - self._clock.now()).total_seconds()
        # What is due and was not leased although there is room will not be so at once either.
        return max(0.0, seconds) if seconds > 0 or begun.deliveries else _TROUBLE_SECONDS

    async def _until_quick(self) -> None:
        """Wait while there is much under way and the loop has all that it can do."""
        while self._places.taken >= _ALWAYS_UNDER_WAY:
            began = trio.current_time()
            await trio.lowlevel.checkpoint()
            if trio.current_time() - began < _LONG_TURN_SECONDS:
                return

    async def _lease(
        self, most: int, again: Collection[str]
    ) -> tuple[Begun, datetime | None, dict[int, Opening | None]]:
        """Begin attempts; returns them, when something may be due next, and small content by its id."""
        self._stop_waiting(again)
        late = self._late_leases()

        def begin(transaction: Transaction) -> tuple[Begun, datetime | None, dict[int, Opening | None]]:
            _renew(transaction, leases=late, length=self._lease_length)
            begun = transaction.queue.begin_attempts(
                self._worker,
                transaction.now + self._lease_length,
                most,
                next_due_at=self._next_due_at,
                shares_delivery=shares_delivery,
                room_for=self._places.round(again),
                left_alone_until=self._blocked.until,
                look_again=again,
            )
            begun = replace(begun, deliveries=transaction.suppressions.marked(begun.deliveries))
            # Read here, where it costs two statements, rather than by each attempt in a thread of its own.
            small = {
                members[0].entry.content_id
                for members in begun.deliveries
                if members[0].entry.size_octets <= _SMALL_OCTETS
            }
            openings = {content_id: read_opening(transaction, content_id) for content_id in small}
            return begun, transaction.queue.next_due_at(), openings

        # Cancelling the wait would not undo the unit: what it leased is to be known here.
        with trio.CancelScope(shield=True):
            try:
                begun, due_at, openings = await self._store.write(begin, key=TOPIC)
            except StoreError:
                self._again |= set(again)
                raise
            self._is_late = False
            for members in begun.deliveries:
                self._hold(members)
        return begun, due_at, openings

    async def _resume(self, attempts: trio.Nursery, attempter: Attempter) -> None:
        late = self._late_leases()

        def resume(transaction: Transaction) -> list[Leased]:
            _renew(transaction, leases=late, length=self._lease_length)
            return transaction.queue.settling(self._worker, transaction.now + self._lease_length, _RESUME_LIMIT)

        with trio.CancelScope(shield=True):
            settling = await self._store.write(resume, key=TOPIC)
            for leased in settling:
                self._hold((leased,))
        for leased in settling:
            attempts.start_soon(self._attempt, attempter.resume, (leased,))

    # --- one attempt --------------------------------------------------------------------------------------------

    async def _attempt(self, attempt: Callable[[Sequence[Leased]], Awaitable[None]], members: Sequence[Leased]) -> None:
        try:
            with log_context(entry=members[0].entry.id):
                await attempt(members)
            if self._blocked.get(_domain(members)) is None:
                self._places.note_good(_domain(members))
        except Interrupted:
            await self._put_back(members)
        except (StoreFailed, StoreClosed):
            raise
        except Exception:
            # The top of an attempt. The entries are taken up again when their leases end.
            log.exception("attempt ended with an error", entries=[leased.entry.id for leased in members])
        finally:
            self._let_go(members)

    async def _put_back(self, members: Sequence[Leased]) -> None:
        """Free the leases of deliveries that were interrupted; those of the group that are done are not touched."""

        def put_back(transaction: Transaction) -> None:
            for leased in members:
                transaction.queue.reschedule(leased.entry.id, leased.token, leased.entry.due_at)

        try:
            await self._store.write(put_back, key=TOPIC)
        except (DiskFull, CommitFailed) as error:
            # The next start frees them, as after a crash.
            log.warning("leases are left to the next start", problem=str(error))

    def _hold(self, members: Sequence[Leased]) -> None:
        for leased in members:
            self._held[leased.entry.id] = leased
        self._in_place.add((members[0].entry.id, members[0].token))
        self._places.take(_domain(members))

    def _let_go(self, members: Sequence[Leased]) -> None:
        for leased in members:
            if self._held.get(leased.entry.id) is leased:
                del self._held[leased.entry.id]
        self._free_place(members)
        if self._stopping.cancel_called:
            self._store.wakeups.wake(TOPIC)

    def _taken_back(self, domain: str, why: NotNow) -> None:
        """Have a domain wait for its turn at a next hop whose places are known; its entries are due again."""
        if why.places:
            key = self._places.limited_by(domain)
            self._waiting.setdefault(key, {})[domain] = None
            self._next_in_turn(key)
            if self._again:
                self._store.wakeups.wake(TOPIC)

    def _handed_over(self, members: Sequence[Leased]) -> None:
        # Where others wait for turns at a next hop that is not known to be shared, they come first.
        if not self._places.has_own_limit(_domain(members)):
            self._free_place(members)

    def _free_place(self, members: Sequence[Leased]) -> None:
        """Give the place of a delivery to the next one; what it came to may still be on its way into the store."""
        key = members[0].entry.id, members[0].token
        if key not in self._in_place:
            return
        self._in_place.discard(key)
        domain = _domain(members)
        self._places.leave(domain)
        self._next_in_turn(self._places.limited_by(domain))
        if self._is_full or self._again:
            self._store.wakeups.wake(TOPIC)

    def _next_in_turn(self, key: str) -> None:
        """Have the domain looked at again that has waited longest for a place of a limit, where there is one."""
        waiting = self._waiting.get(key, {})
        first = (domain for domain in islice(waiting, _MOST_PASSED_OVER) if self._places.room_for(domain) > 0)
        domain = next(first, None)
        if domain is not None:
            del waiting[domain]
            if not waiting:
                del self._waiting[key]
            self._blocked.discard(domain)
            self._again.add(domain)

    def _stop_waiting(self, domains: Collection[str]) -> None:
        for domain in domains:
            key = self._places.limited_by(domain)
            waiting = self._waiting.get(key)
            if waiting is not None:
                waiting.pop(domain, None)
                if not waiting:
                    del self._waiting[key]

    def _free(self, domain: str) -> None:
        """Have a domain looked at again that was left alone."""
        self._again.add(domain)
        self._store.wakeups.wake(TOPIC)

    async def _wait_until_idle(self) -> None:
        while self._held:
            await self._store.wakeups.wait(TOPIC, seen=self._store.wakeups.version(TOPIC))

    # --- leases -------------------------------------------------------------------------------------------------

    @property
    def _lease_length(self) -> timedelta:
        return timedelta(seconds=self._config.lease_seconds)

    def _leases(self) -> list[tuple[int, int]]:
        return [(entry_id, leased.token) for entry_id, leased in self._held.items()]

    def _late_leases(self) -> list[tuple[int, int]]:
        """Return the leases that may have ended although we hold them, whose results are still to be stored.

        A disk that was full for longer than a lease must not make us deliver again what was delivered meanwhile.
        """
        return self._leases() if self._is_late else []

    async def _renew_leases(self) -> None:
        while True:
            await trio.sleep(self._config.lease_seconds / 3)
            leases = self._leases()
            if not leases:
                continue
            try:
                kept = await self._store.write(
                    functools.partial(_renew, leases=leases, length=self._lease_length), key=TOPIC
                )
            except (StoreFailed, StoreClosed):
                raise
            except StoreError as error:
                self._is_late = True
                log.error("leases could not be renewed", problem=str(error))
                continue
            lost = sorted(entry_id for entry_id, _ in leases if entry_id in self._held and entry_id not in kept)
            if lost:
                log.warning("leases are lost; what comes of these attempts changes nothing", entries=lost)


def _domain(members: Sequence[Leased]) -> str:
    return members[0].entry.forward_path.domain


def _renew(transaction: Transaction, *, leases: list[tuple[int, int]], length: timedelta) -> set[int]:
    return transaction.queue.renew(leases, transaction.now + length)
