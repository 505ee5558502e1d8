"""Every hook there is, in the order of a message's way. `docs/reference/hooks.md` is generated from this file.

An implementation is a method of a plugin, marked with ``@hookimpl``, with the name of the hook and any subset of its
arguments. It is ``async def``; a plain ``def`` is run in a thread. It returns None when it has nothing to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from mailcrane.http.app import HTTPApp
from mailcrane.model.address import Mailbox, ReversePath
from mailcrane.model.delivery import (
    Attempt,
    ContentEdit,
    Delivery,
    DeliveryPreparation,
    Entry,
    RecipientResult,
    RetryPlan,
    RouteChoice,
)
from mailcrane.model.event import Event, EventType, is_plugin_kind
from mailcrane.model.message import Content, HeaderField
from mailcrane.model.receive import (
    Assessment,
    Identity,
    Judgement,
    LocalDestination,
    Placement,
    ReceivedMessage,
    Recipient,
    RelayDestination,
    Verdict,
)
from mailcrane.model.reply import Reply
from mailcrane.model.retired import Retention, Retired
from mailcrane.model.session import SessionInfo
from mailcrane.model.suppression import FailureCause, Suppression, SuppressionCheck, SuppressionDecision
from mailcrane.model.transport import TransportType
from mailcrane.model.webhook import WebhookFields, WebhookTarget
from mailcrane.plugin.policy import Kind, OnFailure, hook

# What an answer must be beyond its type; each returns what is wrong, or an empty text.


def _refusal(answer: Any) -> str:
    if isinstance(answer, Reply) and not 400 <= answer.code < 600:
        return f"a reply that refuses is 4yz or 5yz, not {answer.code}"
    return ""


def _postponement(answer: DeliveryPreparation) -> str:
    if answer.defer is not None and not answer.defer.is_transient_failure:
        return f"a reply that puts off is 4yz, not {answer.defer.code}"
    return ""


def _judgement(answer: Judgement) -> str:
    wanted = {Verdict.DEFER: 4, Verdict.REFUSE: 5}.get(answer.verdict)
    if wanted is not None and answer.reply is not None and answer.reply.code // 100 != wanted:
        return f"the reply of {answer.verdict.name} is {wanted}yz, not {answer.reply.code}"
    return ""


def _event_type(answer: EventType) -> str:
    return "" if is_plugin_kind(answer.name) else f"{answer.name!r} is not <plugin>.<name>"


def _due_at(answer: RetryPlan) -> str:
    return "due_at has no time zone" if answer.due_at is not None and answer.due_at.tzinfo is None else ""


# --- at start ---------------------------------------------------------------------------------------------------


@hook(
    Kind.REGISTER,
    stage="start",
    unit="server start",
    on_failure=OnFailure.REFUSE_START,
    answers=(TransportType, list, tuple),
    named_by="name",
)
def register_transport_types() -> Sequence[TransportType] | None:
    """Return the transport types that ``[transports.NAME]`` may name in ``type``.

    A name that two plugins register is refused at start.
    """


@hook(
    Kind.REGISTER,
    stage="start",
    unit="server start",
    on_failure=OnFailure.REFUSE_START,
    answers=(HTTPApp, list, tuple),
    named_by="service",
)
def register_http_apps() -> Sequence[HTTPApp] | None:
    """Return ASGI applications, each with the service name that listeners enable and a default path.

    A service name that two plugins register is refused at start.
    """


@hook(
    Kind.REGISTER,
    stage="start",
    unit="server start",
    on_failure=OnFailure.REFUSE_START,
    answers=(EventType, list, tuple),
    named_by="name",
    check=_event_type,
)
def register_event_types() -> Sequence[EventType] | None:
    """Return the kinds of events that the plugin records with ``context.events``, each named ``<plugin>.<name>``.

    They are in the feeds and timelines that the events of the core are in, and are posted to the webhooks whose
    ``events`` name them. A name that does not begin with the plugin's own is refused at start.
    """


# --- listener and session ---------------------------------------------------------------------------------------


@hook(
    Kind.DECIDE,
    stage="listener",
    unit="connection",
    on_failure=OnFailure.DEFER,
    answers=(Reply,),
    timeout=10.0,
    check=_refusal,
)
async def accept_connection(session: SessionInfo) -> Reply | None:
    """Answer a reply to refuse a connection before the greeting; the connection is closed after it.

    Asked for SMTP and submission, after the connection limits and after TLS where a connection begins with it. A
    failing plugin means 421 4.3.0.
    """


@hook(
    Kind.DECIDE,
    stage="session",
    unit="AUTH or HTTP login",
    on_failure=OnFailure.DEFER,
    answers=(Identity, Reply),
    check=_refusal,
)
async def authenticate(session: SessionInfo, login: str, password: str) -> Identity | Reply | None:
    """Answer who logs in with a password, or a reply that refuses; None leaves it to the stored credentials.

    Asked for PLAIN, LOGIN and HTTP basic authentication, where a password is known; never for SCRAM and CRAM-MD5.
    The account must exist. A failing plugin means 454 4.7.0. To that, and to a 4yz reply, an API answers that the fault
    is ours, never that the password is wrong.
    """


@hook(
    Kind.DECIDE,
    stage="session",
    unit="MAIL",
    on_failure=OnFailure.DEFER,
    answers=(Reply,),
    timeout=20.0,
    check=_refusal,
)
async def accept_reverse_path(session: SessionInfo, reverse_path: ReversePath) -> Reply | None:
    """Answer a 4yz or 5yz reply to refuse a reverse-path.

    Asked after the core's own checks. A failing plugin means 451 4.3.0.
    """


@hook(
    Kind.DECIDE,
    stage="session",
    unit="RCPT",
    on_failure=OnFailure.DEFER,
    answers=(LocalDestination, RelayDestination, Reply),
    timeout=20.0,
    check=_refusal,
)
async def resolve_recipient(
    session: SessionInfo, reverse_path: ReversePath, forward_path: Mailbox
) -> LocalDestination | RelayDestination | Reply | None:
    """Answer what becomes of a forward-path: placed in an account, queued, or refused with a reply.

    Asked before the directory of domains, addresses and aliases. An answer of `RelayDestination` for a session that
    is not authenticated makes the entry one of the listener's ``relay_account``; without one it is refused. What an
    authenticated session submits is queued in either case. A failing plugin means 451 4.3.0.
    """


# --- receive ----------------------------------------------------------------------------------------------------


@hook(
    Kind.COLLECT,
    stage="receive",
    unit="message",
    on_failure=OnFailure.SKIP,
    answers=(Assessment, list, tuple),
    timeout=30.0,
    merged_by="mailcrane.receive.assessment.merge_assessments",
)
async def assess_message(message: ReceivedMessage) -> Assessment | Sequence[Assessment] | None:
    """Answer evidence on a message; nothing is decided here.

    All plugins are asked at once, within 30 s after the final dot; not for submissions. A failing plugin's evidence is
    missing.
    """


@hook(
    Kind.JUDGE,
    stage="receive",
    unit="message and forward-path",
    on_failure=OnFailure.DEFER,
    answers=(Judgement,),
    check=_judgement,
    timeout=45.0,
)
async def judge_message(
    message: ReceivedMessage, recipient: Recipient, assessments: Sequence[Assessment]
) -> Judgement | None:
    """Answer what is to be done with a message for one recipient.

    The strictest answer wins: refuse, defer, quarantine, accept. Asked for local recipients and for submissions, where
    quarantine holds the entries; for all recipients at once, until 45 s after the final dot. A failing plugin means
    451 4.3.0, unless another one refuses. There is one reply for all recipients, so a message that is put off for one
    of them is stored for none.
    """


@hook(
    Kind.COLLECT,
    stage="receive",
    unit="message",
    on_failure=OnFailure.SKIP,
    answers=(HeaderField, list, tuple),
    timeout=20.0,
    merged_by="mailcrane.receive.assessment.merge_header_fields",
)
async def add_header_fields(
    message: ReceivedMessage, assessments: Sequence[Assessment]
) -> HeaderField | Sequence[HeaderField] | None:
    """Answer header fields that are put in front of the message, below ``Received`` and ``Return-Path``.

    They stand in the order of the plugins. Not asked for submissions: `rewrite_content` changes what leaves. A failing
    plugin's fields are missing.
    """


@hook(
    Kind.DECIDE,
    stage="receive",
    unit="message and local recipient",
    on_failure=OnFailure.SKIP,
    answers=(Placement,),
    timeout=20.0,
)
async def place_message(message: ReceivedMessage, recipient: Recipient, judgement: Judgement) -> Placement | None:
    """Answer the folder, flags and keywords for a message that is accepted into an account.

    Without an answer it goes to the folder of its destination, or of the judgement when quarantined. A failing
    plugin counts as no answer.
    """


@hook(Kind.NOTIFY, stage="receive", unit="message placed in an account", on_failure=OnFailure.RETRY)
async def message_stored(event: Event) -> None:
    """Told after a message was stored in a folder: ``data`` has message_id, folder, uid, size_octets, reverse_path."""


# --- queue ------------------------------------------------------------------------------------------------------


@hook(Kind.NOTIFY, stage="queue", unit="queue entry", on_failure=OnFailure.RETRY)
async def message_queued(event: Event) -> None:
    """Told after an entry was added to the queue: ``data`` has message_id, reverse_path, forward_path, size_octets."""


@hook(Kind.DECIDE, stage="queue", unit="attempt", on_failure=OnFailure.DEFER, answers=(SuppressionCheck,))
async def check_suppression(entry: Entry, suppression: Suppression | None) -> SuppressionCheck | None:
    """Answer whether an entry is ended as suppressed instead of being attempted.

    Asked at the start of each attempt, before the route. ``suppression`` is what the account's list has for the
    recipient; without an answer that decides, and an answer may overrule it either way. A failing plugin defers the
    attempt.
    """


@hook(
    Kind.DECIDE, stage="queue", unit="deferred attempt", on_failure=OnFailure.SKIP, answers=(RetryPlan,), check=_due_at
)
async def plan_retry(entry: Entry, result: RecipientResult, due_at: datetime) -> RetryPlan | None:
    """Answer when an entry is tried again after a deferred attempt, or that it is given up.

    ``due_at`` is what the schedule says. Asked after the outcome is committed. A failing plugin counts as no answer.
    """


# --- route and transport ----------------------------------------------------------------------------------------


@hook(Kind.DECIDE, stage="route", unit="attempt", on_failure=OnFailure.DEFER, answers=(RouteChoice,))
async def select_route(entry: Entry) -> RouteChoice | None:
    """Answer the transport for the next attempt of an entry.

    Asked before the rules of the account, the domain and the server, unless the operator set a transport for the
    entry. A name that is not in ``[transports]`` counts as a failure. A failing plugin defers the attempt.
    """


@hook(
    Kind.COLLECT,
    stage="transport",
    unit="distinct content",
    on_failure=OnFailure.DEFER,
    answers=(ContentEdit,),
    merged_by="mailcrane.transport.content.merge_edits",
)
async def rewrite_content(entry: Entry, content: Content, transport: str) -> ContentEdit | None:
    """Answer a change of the header, made before signing.

    Asked at the first attempt and whenever the signature is renewed; the result is stored for the entries that share
    content and transport. Removals of all plugins come first, then their new fields in the order of the plugins. A
    failing plugin defers the attempt.
    """


@hook(
    Kind.COLLECT,
    stage="transport",
    unit="delivery",
    on_failure=OnFailure.DEFER,
    answers=(DeliveryPreparation,),
    check=_postponement,
    merged_by="mailcrane.transport.content.merge_preparations",
)
async def prepare_delivery(delivery: Delivery, transport: str) -> DeliveryPreparation | None:
    """Told right before a transport is called; may answer a 4yz reply that puts the attempt off, and notes.

    The first reply, in the order of the plugins, counts. A failing plugin defers the attempt.
    """


# --- result and retire ------------------------------------------------------------------------------------------


@hook(Kind.DECIDE, stage="result", unit="recipient result", on_failure=OnFailure.SKIP, answers=(RecipientResult,))
async def classify_result(entry: Entry, result: RecipientResult) -> RecipientResult | None:
    """Answer the result that an attempt's result is to be taken for.

    Asked after the outcome is committed as the transport reported it; a delivered message stays delivered. A failing
    plugin counts as no answer.
    """


@hook(Kind.NOTIFY, stage="result", unit="attempt of an entry", on_failure=OnFailure.RETRY)
async def attempt_finished(event: Event) -> None:
    """Told after an attempt: ``data`` has attempt, transport, outcome, code, error, remote_mta and more."""


@hook(Kind.DECIDE, stage="retire", unit="failed entry", on_failure=OnFailure.SKIP, answers=(SuppressionDecision,))
async def decide_suppression(entry: Entry, result: RecipientResult, cause: FailureCause) -> SuppressionDecision | None:
    """Answer whether the recipient of an entry that failed is put on the account's suppression list.

    ``cause`` is what the core takes the reply for. Without an answer ``address`` suppresses at once, ``unclear`` with
    the third failure in a row, and the others not at all. Not asked for entries that were ended by hand or were
    suppressed. A failing plugin counts as no answer.
    """


@hook(Kind.NOTIFY, stage="retire", unit="change of a suppression list", on_failure=OnFailure.RETRY)
async def suppression_changed(event: Event) -> None:
    """Told after an address was put on a list or taken off: ``data`` has change, address, reason, origin and more."""


@hook(Kind.DECIDE, stage="retire", unit="final entry", on_failure=OnFailure.SKIP, answers=(Retention,))
async def retain_retired(entry: Entry, event: str, attempts: Sequence[Attempt]) -> Retention | None:
    """Answer how long a retired entry is kept; without an answer the account's setting counts.

    A failing plugin counts as no answer.
    """


@hook(Kind.NOTIFY, stage="retire", unit="retired entry", on_failure=OnFailure.RETRY)
async def entry_retired(event: Event, retired: Retired | None) -> None:
    """Told after an entry left the queue. ``retired`` is None when the account keeps no retired entries."""


# --- events and webhooks ----------------------------------------------------------------------------------------


@hook(Kind.NOTIFY, stage="webhook", unit="event", on_failure=OnFailure.RETRY)
async def event_recorded(event: Event) -> None:
    """Told of every event of every kind, in the order of its account's feed."""


@hook(
    Kind.COLLECT,
    stage="webhook",
    unit="outgoing event",
    on_failure=OnFailure.SKIP,
    answers=(WebhookTarget, list, tuple),
    merged_by="mailcrane.webhook.payload.merge_targets",
)
async def select_webhooks(event: Event) -> WebhookTarget | Sequence[WebhookTarget] | None:
    """Answer further targets that an event is posted to, besides the account's own.

    A failing plugin's targets are missing.
    """


@hook(
    Kind.COLLECT,
    stage="webhook",
    unit="outgoing event",
    on_failure=OnFailure.SKIP,
    answers=(WebhookFields,),
    merged_by="mailcrane.webhook.payload.merge_fields",
)
async def add_webhook_fields(event: Event, payload: dict[str, Any]) -> WebhookFields | None:
    """Answer fields that are added at the top level of a webhook's payload.

    A name that the payload already has is refused and logged. A failing plugin's fields are missing.
    """


@hook(Kind.NOTIFY, stage="webhook", unit="webhook call", on_failure=OnFailure.RETRY)
async def webhook_retired(event: Event) -> None:
    """Told after a webhook call ended: ``data`` has call_id, url, event, is_success, code, attempts."""
