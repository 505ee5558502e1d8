"""Why nothing moves to a recipient domain: what is due, what waits, what is held, and what stands in the way.

Costs the same however much is queued: counts go up to a bound, and errors and routes are those of a sample.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import replace

from mailcrane.admin.administration import Administration
from mailcrane.admin.errors import AdminError
from mailcrane.config.directory import Directory
from mailcrane.model.address import AddressError, Mailbox, domain_to_unicode
from mailcrane.model.delivery import Outcome, RecipientResult
from mailcrane.model.hold_rule import HoldRule
from mailcrane.model.suppression import base_address
from mailcrane.plugin.caller import Hooks
from mailcrane.queue.scheduler import Scheduler
from mailcrane.route.select import select_transport
from mailcrane.store.records import DomainStanding
from mailcrane.store.repository.standing import COUNT_LIMIT
from mailcrane.store.transaction import Transaction


class WhyDomain(Struct, frozen=True, forbid_unknown_fields=True):
    """Ask how a recipient domain stands."""

    domain: Annotated[str, Meta(description="The domain, as A-labels or Unicode, or an address literal.")]


class HeldBy(Struct, frozen=True):
    """How many entries one rule holds; `hold_rule` 0 and `by` in words where no rule does."""

    hold_rule: int
    by: str
    count: int


class LastAnswer(Struct, frozen=True):
    """What the last attempts of entries in the sample ended with.

    Attributes:
        count: In how many entries of the sample.
        latest_at: When the latest of these attempts began.
    """

    error: str
    remote_mta: str
    transport: str
    count: int
    latest_at: datetime


class LastEnd(Struct, frozen=True):
    """How entries ended of late that left the queue undelivered and are kept.

    Attributes:
        event: ``failed``, ``suppressed`` or ``canceled``.
        count: How many of those that were looked at.
        latest_at: When the latest of them left the queue.
    """

    event: str
    error: str
    remote_mta: str
    count: int
    latest_at: datetime


class NextRoute(Struct, frozen=True):
    """Where the next attempt of entries in the sample would go.

    Attributes:
        transport: Empty where it would go nowhere; `reason` says why.
    """

    transport: str
    reason: str
    count: int


class DomainBlocked(Struct, frozen=True):
    """Why the running server leaves the domain alone."""

    next_hop: str
    reason: str
    until: datetime


class DomainReport(Struct, frozen=True):
    """How a domain stands. Counts stop at one more than 10,000.

    Attributes:
        is_running: Whether a server runs; without one, `blocked` and `deliveries` are not known.
        blocked: Null when the domain is not left alone.
        deliveries: Connections' worth of work under way to the domain; null when not known.
        sampled: Entries that `answers`, `routes` and `suppressed` are about.
        suppressed: Entries of the sample whose recipient is on the suppression list.
        ended: How entries ended that were not delivered, of the latest 25 that are kept.
        rules: Hold rules that may hold what comes for the domain.
        reasons: All of it in words, what stands in the way first.
    """

    domain: str
    is_running: bool
    due: int
    waiting: int
    next_due_at: datetime | None
    under_way: int
    settling: int
    held: tuple[HeldBy, ...]
    rules: tuple[str, ...]
    blocked: DomainBlocked | None
    deliveries: int | None
    sampled: int
    answers: tuple[LastAnswer, ...]
    routes: tuple[NextRoute, ...]
    suppressed: int
    reasons: tuple[str, ...]
    ended: tuple[LastEnd, ...] = ()


async def why_domain(administration: Administration, request: WhyDomain) -> DomainReport:
    """Say how a recipient domain stands, and why nothing moves there."""
    domain = _domain(request.domain)

    def read(transaction: Transaction) -> tuple[DomainStanding, list[HoldRule], datetime, int]:
        standing = transaction.standing.of(domain)
        suppressed = sum(
            transaction.suppressions.get(one.entry.account, base_address(one.entry.forward_path)) is not None
            for one in standing.sample
        )
        return standing, transaction.hold_rules.list(), transaction.now, suppressed

    standing, rules, now, suppressed = await administration.store.read(read)
    scheduler = administration.scheduler
    blocked = None if scheduler is None else scheduler.blocked(domain)
    by_id = {rule.id: rule for rule in rules}
    report = DomainReport(
        domain=domain_to_unicode(domain),
        is_running=scheduler is not None,
        due=standing.due,
        waiting=standing.waiting,
        next_due_at=standing.next_due_at,
        under_way=standing.under_way,
        settling=standing.settling,
        held=tuple(HeldBy(held.hold_rule, _holder(held.hold_rule, by_id), held.count) for held in standing.held),
        rules=tuple(str(rule) for rule in rules if rule.recipient_domain in ("", domain)),
        blocked=None if blocked is None else DomainBlocked(blocked.next_hop, blocked.reason, blocked.until),
        deliveries=None if scheduler is None else scheduler.under_way_to(domain),
        sampled=len(standing.sample),
        answers=_answers(standing),
        routes=await _routes(administration, await administration.directory(), standing),
        suppressed=suppressed,
        reasons=(),
        ended=_ends(standing),
    )
    return replace(report, reasons=tuple(_reasons(report, administration, domain, now)))


def _domain(text: str) -> str:
    try:
        return Mailbox.parse(f"postmaster@{text}").domain
    except AddressError as error:
        raise AdminError("bad_value", f'"{text}" is not a domain: {error}') from None


def _holder(rule_id: int, rules: dict[int, HoldRule]) -> str:
    if not rule_id:
        return "an operator, a plugin or the configuration"
    rule = rules.get(rule_id)
    return f"hold rule {rule_id}, which is removed" if rule is None else str(rule)


def _answers(standing: DomainStanding) -> tuple[LastAnswer, ...]:
    """Group the last attempts by what they ended with, the most frequent first."""
    groups: dict[tuple[str, str, str], list[datetime]] = {}
    for one in standing.sample:
        if one.last is not None and one.last.result is not None and one.last.result.outcome is not Outcome.DELIVERED:
            result = one.last.result
            error = result.error or str(result.reply or "no reason was given")
            groups.setdefault((error, result.remote_mta, one.last.transport), []).append(one.last.started_at)
    answers = [LastAnswer(*key, len(times), max(times)) for key, times in groups.items()]
    return tuple(sorted(answers, key=lambda answer: (-answer.count, answer.error)))


def _ends(standing: DomainStanding) -> tuple[LastEnd, ...]:
    """Group what left the queue undelivered by why, the latest first."""
    groups: dict[tuple[str, str, str], list[datetime]] = {}
    for retired in standing.failed:
        # What suppressed or canceled an entry is not what its last attempt came to.
        result = retired.attempts[-1].result if retired.attempts and retired.event == "failed" else None
        error, remote_mta = ("", "") if result is None else (result.error, result.remote_mta)
        groups.setdefault((retired.event, error, remote_mta), []).append(retired.retired_at)
    return tuple(LastEnd(*key, len(times), max(times)) for key, times in groups.items())


async def _routes(
    administration: Administration, directory: Directory, standing: DomainStanding
) -> tuple[NextRoute, ...]:
    """Say where rules would send the next attempts. Plugins are not asked: nothing is being sent."""
    counts: dict[tuple[str, str], int] = {}
    for one in standing.sample:
        choice = await select_transport(
            Hooks(),
            directory,
            replace(one.entry, attempts=one.entry.attempts + 1),
            transports=administration.static.transports,
            default_transport=administration.static.queue.default_transport,
        )
        key = ("", choice.error) if isinstance(choice, RecipientResult) else (choice.transport, choice.reason)
        counts[key] = counts.get(key, 0) + 1
    routes = [NextRoute(transport, reason, count) for (transport, reason), count in counts.items()]
    return tuple(sorted(routes, key=lambda route: (-route.count, route.transport)))


def _reasons(report: DomainReport, administration: Administration, domain: str, now: datetime) -> list[str]:
    scheduler = administration.scheduler
    reasons = []
    if scheduler is None:
        reasons.append(
            "no server runs, so nothing is attempted; whether the domain would be throttled is known only to one"
        )
    held = sum(one.count for one in report.held)
    if not (report.due or report.waiting or held or report.under_way or report.settling):
        reasons.append(f"nothing is queued to {report.domain}")
    if report.blocked is not None:
        blocked = report.blocked
        reasons.append(
            f"left alone until {_at(blocked.until)} at the latest, because of {blocked.next_hop}: {blocked.reason}"
        )
    if scheduler is not None and report.blocked is None and report.due:
        reasons += _places(scheduler, domain)
    reasons += [
        f"{_many(one.count)} {_are(one.count)} held by {one.by}: `mailcrane queue unhold` releases"
        for one in report.held
    ]
    reasons += [f"{rule} holds what fits it and comes from now on" for rule in report.rules]
    has_plugin = administration.hooks is not None and bool(administration.hooks.select_route.implementations)
    for route in report.routes:
        if not route.transport:
            unless = " (unless a plugin chooses one)" if has_plugin else ""
            reasons.append(f"{route.count} of {report.sampled} looked at would go nowhere{unless}: {route.reason}")
    if report.due:
        reasons.append(f"{_many(report.due)} {_are(report.due)} due")
    if report.under_way:
        deliveries = "" if report.deliveries is None else f", in {report.deliveries} deliveries"
        reasons.append(f"{_many(report.under_way)} {_are(report.under_way)} under way{deliveries}")
    if report.settling:
        reasons.append(f"{_many(report.settling)} {_are(report.settling)} being settled after an attempt")
    if report.waiting:
        due = "" if report.next_due_at is None else f", the first until {_at(report.next_due_at)}"
        if report.next_due_at is not None:
            due += f" ({_seconds((report.next_due_at - now).total_seconds())} from now)"
        reasons.append(f"{_many(report.waiting)} {_are(report.waiting, 'waits', 'wait')} for the next attempt{due}")
    reasons += [
        f"{answer.count} of {report.sampled} looked at ended last in: {answer.error}"
        + (f", from {answer.remote_mta}" if answer.remote_mta else "")
        + (f", over transport {answer.transport}" if answer.transport else "")
        + f" (the latest at {_at(answer.latest_at)})"
        for answer in report.answers
    ]
    reasons += [
        f"{route.count} of {report.sampled} looked at would take transport {route.transport} ({route.reason})"
        + (", unless a plugin chooses another" if has_plugin else "")
        for route in report.routes
        if route.transport
    ]
    looked_at = sum(end.count for end in report.ended)
    reasons += [
        f"{end.count} of the last {looked_at} that left the queue undelivered "
        + ("failed" if end.event == "failed" else f"{_are(end.count)} {end.event}")
        + (f": {end.error}" if end.error else "")
        + (f", from {end.remote_mta}" if end.remote_mta else "")
        + f" (the latest at {_at(end.latest_at)})"
        for end in report.ended
    ]
    if report.suppressed:
        reasons.append(
            f"{report.suppressed} of {report.sampled} looked at {_are(report.suppressed)} for a recipient on the "
            "suppression list, and will end at the next attempt"
        )
    return reasons


def _places(scheduler: Scheduler, domain: str) -> list[str]:
    share, taken = scheduler.share_of(domain), scheduler.under_way_to(domain)
    if taken < share:
        return []
    if not share:
        return ["every place is taken by deliveries that are under way ([queue] concurrency)"]
    return [
        f"no place is free: {taken} deliveries are under way, and the domain may have {share} now"
        " ([queue] concurrency_per_domain, its share of what is free, and what the next hop has taken before)"
    ]


def _many(count: int) -> str:
    return f"more than {COUNT_LIMIT:,}" if count > COUNT_LIMIT else f"{count:,}"


def _are(count: int, one: str = "is", many: str = "are") -> str:
    return one if count == 1 else many


def _at(at: datetime) -> str:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")


def _seconds(seconds: float) -> str:
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [f"{count} {unit}" for count, unit in ((days, "d"), (hours, "h"), (minutes, "min")) if count]
    return " ".join(parts[:2]) or f"{rest} s"
