"""One attempt for the entries that travel together, from the route to the last unit.

The lease and the start are committed before (`mailcrane.queue.scheduler`). What a transport reported is committed at
once and with nothing in between, so a crash delivers nothing twice; only then are hooks asked what it means. Where
everything was delivered and no plugin is to be asked, the first commit is also the last.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import trio
from msgspec import Struct
from msgspec.structs import replace

from mailcrane.config.directory import Directory
from mailcrane.config.static import QueueConfig
from mailcrane.model.delivery import Attempt, Delivery, Entry, Outcome, RecipientResult, RouteChoice
from mailcrane.model.event import EventKind
from mailcrane.model.transport import NotNow
from mailcrane.observe.log import get_log
from mailcrane.plugin.caller import Hooks
from mailcrane.plugin.errors import HookFailed
from mailcrane.queue.measures import entry_outcomes, observe_delivery, result_of, tls_of
from mailcrane.queue.schedule import is_exhausted, last_due_at
from mailcrane.result.classify import classify, failed_text, plan
from mailcrane.retire.bounce import DELAYED_AFTER, Bounce, delay_bounce, failure_bounce
from mailcrane.retire.ending import Ending, end_attempts
from mailcrane.retire.notice import Why
from mailcrane.retire.retention import retention
from mailcrane.retire.suppression import Step, find_suppression, plan_suppression
from mailcrane.route.select import select_transport
from mailcrane.store.content import Opening
from mailcrane.store.errors import UnknownContent
from mailcrane.store.persistence import write_persistently
from mailcrane.store.records import Leased
from mailcrane.store.store import Store
from mailcrane.store.transaction import Transaction
from mailcrane.transport.deadline import BoundedCalls, Interrupted
from mailcrane.transport.handover import hand_over
from mailcrane.transport.prepare import ContentPreparer, Prepared
from mailcrane.transport.registry import Transports

log = get_log(__name__)


class Outcomes(Struct, frozen=True):
    """What one try came to, before it is committed.

    Attributes:
        transport: Empty where there was no route.
        results: In the order of `members`.
        route: Which rule or plugin chose the transport.
        prepared: The content that was carried; None where it came to none.
    """

    members: tuple[Leased, ...]
    transport: str
    results: tuple[RecipientResult, ...]
    prepared: Prepared | None = None
    route: str = ""


class Attempter:
    """Makes attempts. It keeps no state between them.

    Args:
        directory: Gives the look-ups of the newest configuration.
        preparer: Makes the content that is carried.
        calls: Where transports run.
        leave_alone: Called with a recipient domain for which nothing can be tried now; returns until when it is so.
        handed_over: Called with the entries when no transport is at work for them any more, before that is committed.
        taken_back: Called with what `leave_alone` was called with, once the attempts were taken back.
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
        calls: BoundedCalls,
        leave_alone: Callable[[str, NotNow], datetime],
        handed_over: Callable[[Sequence[Leased]], None],
        taken_back: Callable[[str, NotNow], None],
    ) -> None:
        self._store = store
        self._hooks = hooks
        self._directory = directory
        self._transports = transports
        self._preparer = preparer
        self._config = config
        self._calls = calls
        self._leave_alone = leave_alone
        self._handed_over = handed_over
        self._taken_back = taken_back

    async def attempt(self, group: Sequence[Leased], opening: Opening | None = None) -> None:
        """Make one attempt for entries of one message and domain.

        When this returns, each entry is retired, or due again, or its attempt was taken back.

        Args:
            group: The entries.
            opening: Of their content, where it was read when the attempt began.

        Raises:
            Interrupted: the server stops; the entries that have no result yet are still leased.
            StoreFailed: the store is dead; the stored state tells after a restart.
        """
        routed = await self._routed(await self._end_suppressed(group))
        for number, (choice, members) in enumerate(routed.items(), 1):
            try:
                outcomes = await self._deliver(choice.transport, members, opening)
            except NotNow as why:
                await self._take_back(members, why)
            else:
                if number == len(routed):
                    self._handed_over(group)
                await self._settle(replace(outcomes, route=choice.reason or "a plugin"))

    async def resume(self, settling: Sequence[Leased]) -> None:
        """Go on at the hooks with attempts whose outcomes were committed before a crash; they are never made again."""
        await self._finish(settling)

    async def _end_suppressed(self, group: Sequence[Leased]) -> Sequence[Leased]:
        """End the entries whose recipients are suppressed; returns those that are to be attempted."""
        if not self._hooks.check_suppression.implementations and not any(leased.suppression for leased in group):
            return group
        remaining: list[Leased] = []
        endings: list[Ending] = []
        for leased in group:
            try:
                why = await find_suppression(self._hooks, leased.entry, leased.suppression)
            except HookFailed as failure:
                await self._settle(_all_deferred((leased,), "", failed_text(failure)))
                continue
            if why is None:
                remaining.append(leased)
            else:
                endings.append(await self._suppressed(leased, RecipientResult(Outcome.FAILED, error=why)))
        if endings:
            await self._end(endings)
        return remaining

    async def _suppressed(self, leased: Leased, result: RecipientResult) -> Ending:
        attempt = replace(leased.attempt, result=result, duration=timedelta(0))
        bounce = await failure_bounce(self._store, self._directory(), leased.entry, result, why=Why.SUPPRESSED)
        ending = Ending(replace(leased, attempt=attempt), result, bounce=bounce, is_suppressed=True)
        return await self._with_retention(ending)

    async def _routed(self, group: Sequence[Leased]) -> dict[RouteChoice, list[Leased]]:
        """Return the entries by their routes; the attempt of those without one is over."""
        routed: dict[RouteChoice, list[Leased]] = {}
        lost: list[Leased] = []
        results: list[RecipientResult] = []
        for leased in group:
            choice = await self._route(leased.entry)
            if isinstance(choice, RecipientResult):
                lost.append(leased)
                results.append(choice)
            else:
                routed.setdefault(choice, []).append(leased)
                if log.is_debug():
                    log.debug("routed", entry=leased.entry.id, transport=choice.transport, reason=choice.reason)
        if lost:
            await self._settle(Outcomes(tuple(lost), "", tuple(results)))
        return routed

    async def _route(self, entry: Entry) -> RouteChoice | RecipientResult:
        return await select_transport(
            self._hooks,
            self._directory(),
            entry,
            transports=self._transports,
            default_transport=self._config.default_transport,
        )

    async def _deliver(self, transport: str, members: Sequence[Leased], opening: Opening | None) -> Outcomes:
        entries = tuple(leased.entry for leased in members)
        first = entries[0]
        try:
            prepared = await self._preparer.prepare(first, transport, opening)
            delivery = Delivery(
                id=f"{first.id}-{first.attempts}",
                entries=entries,
                reverse_path=first.reverse_path,
                content=prepared.content,
                attempt=first.attempts,
                has_8bit=first.has_8bit,
                needs_smtputf8=first.needs_smtputf8,
                require_tls=first.require_tls,
                attempts_before=await self._attempts_before(first),
            )
            results = await self._hand_over(transport, delivery)
        except (Interrupted, NotNow):
            raise
        except HookFailed as failure:
            return _all_deferred(members, transport, failed_text(failure))
        except UnknownContent:
            # Whoever ends entries by hand does not wait for the attempts that have begun.
            log.warning("the content is gone, as when an entry was ended by hand", entry=first.id)
            return _all_deferred(members, transport, "the content is gone")
        except Exception as error:
            # The top of an attempt. The fault is ours, so nothing fails for good; after the hand-over nothing raises.
            log.exception("attempt could not be made", entry=first.id, transport=transport)
            return _all_deferred(members, transport, f"internal error: {type(error).__name__}")
        return Outcomes(tuple(members), transport, results, prepared)

    async def _attempts_before(self, entry: Entry) -> tuple[Attempt, ...]:
        """Return the attempts that an entry has had; nothing is read for its first."""
        if entry.attempts <= 1:
            return ()
        attempts = await self._store.read(lambda transaction: transaction.queue.attempts(entry.id))
        return tuple(attempt for attempt in attempts if attempt.number < entry.attempts)

    async def _hand_over(self, transport: str, delivery: Delivery) -> tuple[RecipientResult, ...]:
        began, tls, result = trio.current_time(), "unknown", "error"
        try:
            results = await hand_over(self._hooks, transport, self._transports[transport], delivery, calls=self._calls)
            tls, result = tls_of(results), result_of(results)
        except NotNow:
            result = "not_now"
            raise
        finally:
            observe_delivery(trio.current_time() - began, delivery.attempt, transport, tls, result)
        return results

    async def _take_back(self, members: Sequence[Leased], why: NotNow) -> None:
        """Undo the beginning of an attempt for which nothing was tried: not counted, due as before, no event."""
        domain = members[0].entry.forward_path.domain
        log.debug("not now", domain=domain, next_hop=why.next_hop, reason=why.reason, seconds=why.seconds)
        until = self._leave_alone(domain, why)

        def abandon(transaction: Transaction) -> None:
            for leased in members:
                transaction.queue.abandon(leased.entry.id, leased.token, due_at=leased.begun_due_at)
            transaction.queue.leave_alone(domain, until)

        await write_persistently(self._store, abandon, key="queue")
        self._taken_back(domain, why)

    async def _settle(self, outcomes: Outcomes) -> None:
        """Commit what the transport reported. No hook and no wait for anybody comes before this."""
        if self._is_plain(outcomes):
            await self._end_delivered(outcomes)
            return

        def settle(transaction: Transaction) -> list[Attempt | None]:
            attempts = [
                _settle_one(transaction, leased, result, outcomes)
                for leased, result in zip(outcomes.members, outcomes.results, strict=True)
            ]
            _note_tls(transaction, outcomes)
            if outcomes.prepared is not None and any(_is_deferred(attempt) for attempt in attempts):
                outcomes.prepared.store(transaction)
            return attempts

        attempts = await write_persistently(self._store, settle, key="queue")
        settled: list[Leased] = []
        for leased, attempt in zip(outcomes.members, attempts, strict=True):
            if attempt is None:
                log.warning("result came too late: the lease is another's, or the entry is gone", entry=leased.entry.id)
            else:
                settled.append(replace(leased, attempt=attempt))
        if settled:
            await self._finish(settled)

    def _is_plain(self, outcomes: Outcomes) -> bool:
        """Whether everything was delivered and there is nobody to be asked what comes of it."""
        return (
            not self._hooks.classify_result.implementations
            and not self._hooks.retain_retired.implementations
            and all(result.outcome is Outcome.DELIVERED for result in outcomes.results)
        )

    async def _end_delivered(self, outcomes: Outcomes) -> None:
        """Commit outcomes together with what comes of them: what is known at once needs no second commit."""
        keep_for = [
            await retention(self._hooks, self._directory(), leased.entry, EventKind.DELIVERED, ())
            for leased in outcomes.members
        ]

        def end(transaction: Transaction) -> tuple[list[Ending], frozenset[int]]:
            endings = [
                Ending(_settled(transaction, leased, result, outcomes), result, keep_for=period)
                for leased, result, period in zip(outcomes.members, outcomes.results, keep_for, strict=True)
            ]
            _note_tls(transaction, outcomes)
            return endings, end_attempts(transaction, endings)

        endings, lost = await write_persistently(self._store, end, key="queue")
        for ending in endings:
            _log_ending(ending, is_lost=ending.leased.entry.id in lost)

    async def _finish(self, settled: Sequence[Leased]) -> None:
        await self._end([await self._ending(leased) for leased in settled])

    async def _end(self, endings: Sequence[Ending]) -> None:
        unit = functools.partial(end_attempts, endings=endings)
        lost = await write_persistently(self._store, unit, key="queue")
        for ending in endings:
            _log_ending(ending, is_lost=ending.leased.entry.id in lost)

    async def _ending(self, leased: Leased) -> Ending:
        entry, reported = leased.entry, leased.attempt.result
        if reported is None:
            raise ValueError(f"entry {entry.id} is settling without a result")
        result = await classify(self._hooks, entry, reported)
        if result.outcome is Outcome.DEFERRED:
            result, due_at = await plan(
                self._hooks,
                entry,
                result,
                scheduled_at=entry.due_at,
                is_exhausted=is_exhausted(entry, self._config.max_attempts),
            )
            if due_at is not None:
                return Ending(leased, result, due_at, bounce=await self._delay_bounce(entry, result, due_at))
        if result.outcome is Outcome.FAILED:
            planned = await plan_suppression(self._hooks, entry, result)
            why, is_suppressing = Why(planned.cause), planned.step is Step.SUPPRESS
            bounce = await failure_bounce(
                self._store, self._directory(), entry, result, why=why, is_suppressing=is_suppressing
            )
            return await self._with_retention(Ending(leased, result, suppression=planned, bounce=bounce))
        return await self._with_retention(Ending(leased, result))

    async def _delay_bounce(self, entry: Entry, result: RecipientResult, due_at: datetime) -> Bounce | None:
        if entry.attempts < DELAYED_AFTER or await self._is_told_late(entry):
            return None
        most, interval = self._config.max_attempts, timedelta(seconds=self._config.retry_interval_seconds)
        return await delay_bounce(
            self._store,
            self._directory(),
            entry,
            result,
            give_up_at=last_due_at(entry, due_at, most, interval),
            attempts_left=(entry.max_attempts or most) - entry.attempts,
        )

    async def _is_told_late(self, entry: Entry) -> bool:
        """Whether an attempt before this one told the sender. One that a crash interrupted has told nobody."""
        if entry.attempts <= DELAYED_AFTER:
            return False
        before = await self._attempts_before(entry)
        return any(_is_deferred(attempt) and attempt.number >= DELAYED_AFTER for attempt in before)

    async def _with_retention(self, ending: Ending) -> Ending:
        entry = ending.leased.entry
        attempts: tuple[Attempt, ...] = (ending.attempt,)
        if self._hooks.retain_retired.implementations:
            attempts = (*await self._attempts_before(entry), ending.attempt)
        keep_for = await retention(self._hooks, self._directory(), entry, ending.event, attempts)
        return replace(ending, keep_for=keep_for)


def _is_deferred(attempt: Attempt | None) -> bool:
    return attempt is not None and attempt.result is not None and attempt.result.outcome is Outcome.DEFERRED


def _settle_one(
    transaction: Transaction, leased: Leased, result: RecipientResult, outcomes: Outcomes
) -> Attempt | None:
    attempt = _settled(transaction, leased, result, outcomes).attempt
    is_ours = transaction.queue.settle(
        leased.entry.id,
        leased.token,
        result,
        transport=attempt.transport,
        route=attempt.route,
        duration=attempt.duration,
    )
    return attempt if is_ours else None


def _settled(transaction: Transaction, leased: Leased, result: RecipientResult, outcomes: Outcomes) -> Leased:
    """Return a leased entry with its attempt as the transport reported it."""
    attempt = replace(
        leased.attempt,
        transport=outcomes.transport,
        route=outcomes.route,
        duration=transaction.now - leased.attempt.started_at,
        result=result,
    )
    return replace(leased, attempt=attempt)


def _note_tls(transaction: Transaction, outcomes: Outcomes) -> None:
    """Remember what the domain's hosts offer, for whoever writes there the next time; they share account and domain."""
    tls = next((result.tls for result in outcomes.results if result.tls is not None), None)
    if tls is not None and tls.is_of_domain:
        entry = outcomes.members[0].entry
        transaction.recipient_tls.note(
            entry.account,
            entry.forward_path.domain,
            has_starttls=tls.is_offered,
            has_requiretls=tls.has_requiretls,
        )


def _log_ending(ending: Ending, *, is_lost: bool) -> None:
    entry = ending.leased.entry
    if is_lost:
        log.warning("ending came too late: the lease is another's, or the entry is gone", entry=entry.id)
        return
    entry_outcomes.inc(ending.event.value)
    if not log.is_info():
        return
    log.info(
        "attempt finished",
        entry=entry.id,
        account=entry.account,
        forward_path=str(entry.forward_path),
        attempt=entry.attempts,
        transport=ending.attempt.transport,
        event=str(ending.event),
        reply=str(ending.result.reply or ""),
        error=ending.result.error,
    )


def _all_deferred(members: Sequence[Leased], transport: str, error: str) -> Outcomes:
    result = RecipientResult(Outcome.DEFERRED, error=error)
    return Outcomes(tuple(members), transport, (result,) * len(members))
