"""One small plugin per hook, as `docs/reference/hooks.md` shows them. A test runs each.

A plugin of a package of its own imports the same names from ``mailcrane.api``.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct

from mailcrane.http.app import HTTPApp, Receive, Scope, Send, respond
from mailcrane.model.address import Mailbox, ReversePath
from mailcrane.model.delivery import (
    Attempt,
    ContentEdit,
    Delivery,
    DeliveryPreparation,
    Entry,
    Outcome,
    RecipientResult,
    RetryPlan,
    RouteChoice,
)
from mailcrane.model.event import Event, EventType
from mailcrane.model.message import Content, HeaderField
from mailcrane.model.receive import (
    Assessment,
    Identity,
    Judgement,
    LocalDestination,
    Placement,
    ReceivedMessage,
    Recipient,
    Verdict,
)
from mailcrane.model.reply import Reply
from mailcrane.model.retired import Retention, Retired
from mailcrane.model.session import SessionInfo
from mailcrane.model.suppression import FailureCause, SuppressionCheck, SuppressionDecision
from mailcrane.model.transport import TransportType
from mailcrane.model.webhook import WebhookFields, WebhookTarget
from mailcrane.plugin.base import Plugin
from mailcrane.plugin.policy import hookimpl


class SinkConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """``[transports.NAME]`` with ``type = "sink"``: nothing to say."""


class Sink:
    """A transport that takes everything and keeps nothing."""

    async def deliver(self, delivery: Delivery) -> tuple[RecipientResult, ...]:
        taken = RecipientResult.from_reply(Reply(250, "2.0.0", ("Into the sink",)))
        return tuple(taken for _ in delivery.entries)

    async def aclose(self) -> None:
        pass


async def open_sink(config: SinkConfig) -> Sink:
    return Sink()


class SinkTransport(Plugin):
    name = "sink"

    @hookimpl
    def register_transport_types(self) -> Sequence[TransportType]:
        return [TransportType("sink", SinkConfig, open_sink)]


async def status(scope: Scope, receive: Receive, send: Send) -> None:
    """An ASGI application; Quart and others work as well."""
    await respond(send, 200, "all is well")


class StatusPage(Plugin):
    name = "status-page"

    @hookimpl
    def register_http_apps(self) -> Sequence[HTTPApp]:
        return [HTTPApp("status", "/status/", lambda: status)]


class TellsOfLargeMessages(Plugin):
    name = "large"

    @hookimpl
    def register_event_types(self) -> Sequence[EventType]:
        return [EventType("large.queued", "A message of more than 10 MB was queued.")]

    @hookimpl
    async def message_queued(self, event: Event) -> None:
        size = event.data.get("size_octets", 0)
        if size > 10_000_000:
            await self.context.events.record("queued", entry_id=event.entry_id, data={"size_octets": size})


class NoSundays(Plugin):
    name = "no-sundays"

    @hookimpl
    async def accept_connection(self, session: SessionInfo) -> Reply | None:
        if session.protocol == "smtp" and self.context.clock.now().isoweekday() == 7:
            return Reply(421, "4.3.2", ("We rest on Sundays",))
        return None


class OneTimePasswords(Plugin):
    name = "one-time-passwords"

    @hookimpl
    async def authenticate(self, session: SessionInfo, login: str, password: str) -> Identity | Reply | None:
        account = await self.context.data.get(f"password {password}")
        if account is None:
            return None  # An ordinary password, perhaps.
        await self.context.data.delete(f"password {password}")
        return Identity(account.decode(), login)


class RefuseOwnName(Plugin):
    name = "refuse-own-name"

    @hookimpl
    async def accept_reverse_path(self, session: SessionInfo, reverse_path: ReversePath) -> Reply | None:
        if not session.account and reverse_path.domain == self.context.hostname:
            return Reply(550, "5.7.1", ("That is our own name",))
        return None


class Tickets(Plugin):
    name = "tickets"

    @hookimpl
    async def resolve_recipient(self, forward_path: Mailbox) -> LocalDestination | Reply | None:
        kind, _, number = forward_path.local_part.partition("-")
        if kind != "ticket":
            return None
        if not number.isdigit():
            return Reply(550, "5.1.1", ("No such ticket",))
        return LocalDestination("support", folder=f"Tickets/{number}")


class LooksAtSize(Plugin):
    name = "looks-at-size"

    @hookimpl
    async def assess_message(self, message: ReceivedMessage) -> Assessment:
        octets = message.content.size_octets
        return Assessment("size", "large" if octets > 10_000_000 else "usual", facts={"octets": str(octets)})


class LargeGoesAside(Plugin):
    name = "large-goes-aside"

    @hookimpl
    async def judge_message(self, recipient: Recipient, assessments: Sequence[Assessment]) -> Judgement | None:
        if any(found.name == "size" and found.result == "large" for found in assessments):
            return Judgement(Verdict.QUARANTINE, "large", folder="Large")
        return None


class MarksOutside(Plugin):
    name = "marks-outside"

    @hookimpl
    async def add_header_fields(self, message: ReceivedMessage) -> HeaderField | None:
        return None if message.session.account else HeaderField("X-Outside", "yes")


class ListsGetFolders(Plugin):
    name = "lists-get-folders"

    @hookimpl
    async def place_message(self, message: ReceivedMessage, judgement: Judgement) -> Placement | None:
        if judgement.verdict is Verdict.ACCEPT and b"\r\nlist-id:" in message.content.header.lower():
            return Placement("Lists")
        return None


class CountsStored(Plugin):
    name = "counts-stored"

    @hookimpl
    async def message_stored(self, event: Event) -> None:
        self.context.log.info("one more", account=event.account, octets=event.data.get("size_octets"))


class CountsQueued(Plugin):
    name = "counts-queued"

    @hookimpl
    async def message_queued(self, event: Event) -> None:
        self.context.log.info("queued", entry=event.entry_id, forward_path=event.data.get("forward_path"))


class OnlyWhoAgreed(Plugin):
    name = "only-who-agreed"

    @hookimpl
    async def check_suppression(self, entry: Entry) -> SuppressionCheck | None:
        if entry.extra.get("stream") != "newsletter":
            return None  # The account's list decides.
        has_agreed = await self.context.data.get(f"agreed {entry.forward_path}")
        return SuppressionCheck(is_suppressed=has_agreed is None, reason="never agreed to newsletters")


class PatientWithGreylisting(Plugin):
    name = "patient-with-greylisting"

    @hookimpl
    async def plan_retry(self, entry: Entry, result: RecipientResult, due_at: datetime) -> RetryPlan | None:
        if entry.attempts == 1 and "greylist" in result.error.lower():
            return RetryPlan(self.context.clock.now() + timedelta(minutes=5))
        return None


class NewslettersElsewhere(Plugin):
    name = "newsletters-elsewhere"

    @hookimpl
    async def select_route(self, entry: Entry) -> RouteChoice | None:
        if entry.extra.get("stream") == "newsletter":
            return RouteChoice("bulk", reason="newsletters leave by another address")
        return None


class HidesClient(Plugin):
    name = "hides-client"

    @hookimpl
    async def rewrite_content(self, entry: Entry, content: Content, transport: str) -> ContentEdit:
        return ContentEdit(prepend=(HeaderField("X-Transport", transport),), remove=("X-Mailer", "User-Agent"))


class OfficeHours(Plugin):
    name = "office-hours"

    @hookimpl
    async def prepare_delivery(self, delivery: Delivery, transport: str) -> DeliveryPreparation | None:
        if transport == "fax" and not 8 <= self.context.clock.now().hour < 18:
            return DeliveryPreparation(defer=Reply(450, "4.3.2", ("Out of office hours",)))
        return None


class FullMailboxIsFinal(Plugin):
    name = "full-mailbox-is-final"

    @hookimpl
    async def classify_result(self, entry: Entry, result: RecipientResult) -> RecipientResult | None:
        is_full = result.reply is not None and result.reply.enhanced_status_code == "4.2.2"
        if is_full and entry.attempts >= 3:
            return RecipientResult(Outcome.FAILED, result.reply, "mailbox full for too long")
        return None


class WatchesAttempts(Plugin):
    name = "watches-attempts"

    @hookimpl
    async def attempt_finished(self, event: Event) -> None:
        if event.data.get("outcome") == Outcome.DEFERRED:
            self.context.log.info("deferred", entry=event.entry_id, error=event.data.get("error"))


class PatientWithPartners(Plugin):
    name = "patient-with-partners"

    @hookimpl
    async def decide_suppression(self, entry: Entry, cause: FailureCause) -> SuppressionDecision | None:
        if entry.forward_path.domain == "partner.example" and cause is not FailureCause.ADDRESS:
            return SuppressionDecision(is_suppressed=False)
        return None


class TellsWhoIsSuppressed(Plugin):
    name = "tells-who-is-suppressed"

    @hookimpl
    async def suppression_changed(self, event: Event) -> None:
        data = event.data
        self.context.log.info("list changed", address=data.get("address"), change=data.get("change"))


class KeepsFailures(Plugin):
    name = "keeps-failures"

    @hookimpl
    async def retain_retired(self, entry: Entry, event: str, attempts: Sequence[Attempt]) -> Retention | None:
        return Retention(timedelta(days=30)) if event == "failed" else None


class LogsRetired(Plugin):
    name = "logs-retired"

    @hookimpl
    async def entry_retired(self, event: Event, retired: Retired | None) -> None:
        kept = "no" if retired is None else retired.keep_until.isoformat()
        self.context.log.info("retired", entry=event.entry_id, kept_until=kept)


class Journal(Plugin):
    name = "journal"

    @hookimpl
    def event_recorded(self, event: Event) -> None:  # A plain def runs in a thread, so it may block.
        self.context.log.info("event", id=event.id, kind=str(event.kind))


class TellsOperations(Plugin):
    name = "tells-operations"

    @hookimpl
    async def select_webhooks(self, event: Event) -> WebhookTarget | None:
        return WebhookTarget("https://ops.example/mail-failed") if event.kind == "failed" else None


class AddsHostname(Plugin):
    name = "adds-hostname"

    @hookimpl
    async def add_webhook_fields(self, event: Event, payload: dict[str, Any]) -> WebhookFields:
        return WebhookFields({"server": self.context.hostname})


class WatchesWebhooks(Plugin):
    name = "watches-webhooks"

    @hookimpl
    async def webhook_retired(self, event: Event) -> None:
        if not event.data.get("is_success"):
            self.context.log.warning("a webhook was given up", url=event.data.get("url"))
