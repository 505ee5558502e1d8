"""What a plugin may import: the stable names. Everything here is versioned with the hook API (`HOOK_API`).

The submodules ``dns``, ``http``, ``message``, ``metrics``, ``sasl``, ``smtp``, ``tls`` and ``transport`` are
provisional: they may change in a minor version. All names are looked up when they are first used, so that importing
this package loads nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailcrane.api._lazy import lazy_names

if TYPE_CHECKING:
    from mailcrane.config.convert import ConfigError as ConfigError
    from mailcrane.http.app import HTTPApp as HTTPApp
    from mailcrane.model.address import NULL_REVERSE_PATH as NULL_REVERSE_PATH
    from mailcrane.model.address import AddressError as AddressError
    from mailcrane.model.address import Mailbox as Mailbox
    from mailcrane.model.address import ReversePath as ReversePath
    from mailcrane.model.address import domain_to_unicode as domain_to_unicode
    from mailcrane.model.address import parse_address_literal as parse_address_literal
    from mailcrane.model.address import parse_domain as parse_domain
    from mailcrane.model.clock import Clock as Clock
    from mailcrane.model.clock import SystemClock as SystemClock
    from mailcrane.model.delivery import Attempt as Attempt
    from mailcrane.model.delivery import ContentEdit as ContentEdit
    from mailcrane.model.delivery import Delivery as Delivery
    from mailcrane.model.delivery import DeliveryPreparation as DeliveryPreparation
    from mailcrane.model.delivery import Entry as Entry
    from mailcrane.model.delivery import Outcome as Outcome
    from mailcrane.model.delivery import OutgoingContent as OutgoingContent
    from mailcrane.model.delivery import RecipientResult as RecipientResult
    from mailcrane.model.delivery import RetryPlan as RetryPlan
    from mailcrane.model.delivery import RouteChoice as RouteChoice
    from mailcrane.model.delivery import TLSUse as TLSUse
    from mailcrane.model.event import OUTGOING_EVENT_KINDS as OUTGOING_EVENT_KINDS
    from mailcrane.model.event import Event as Event
    from mailcrane.model.event import EventKind as EventKind
    from mailcrane.model.event import EventType as EventType
    from mailcrane.model.event import NewEvent as NewEvent
    from mailcrane.model.idempotency import Claim as Claim
    from mailcrane.model.idempotency import ClaimLost as ClaimLost
    from mailcrane.model.idempotency import IdempotencyService as IdempotencyService
    from mailcrane.model.idempotency import KeyInUse as KeyInUse
    from mailcrane.model.idempotency import KeyReused as KeyReused
    from mailcrane.model.idempotency import Remembered as Remembered
    from mailcrane.model.message import Content as Content
    from mailcrane.model.message import ContentInfo as ContentInfo
    from mailcrane.model.message import HeaderField as HeaderField
    from mailcrane.model.receive import Assessment as Assessment
    from mailcrane.model.receive import Destination as Destination
    from mailcrane.model.receive import HeaderFields as HeaderFields
    from mailcrane.model.receive import Identity as Identity
    from mailcrane.model.receive import Judgement as Judgement
    from mailcrane.model.receive import LocalDestination as LocalDestination
    from mailcrane.model.receive import Placement as Placement
    from mailcrane.model.receive import ReceivedMessage as ReceivedMessage
    from mailcrane.model.receive import Recipient as Recipient
    from mailcrane.model.receive import RelayDestination as RelayDestination
    from mailcrane.model.receive import Verdict as Verdict
    from mailcrane.model.reply import Reply as Reply
    from mailcrane.model.retired import Retention as Retention
    from mailcrane.model.retired import Retired as Retired
    from mailcrane.model.session import SessionInfo as SessionInfo
    from mailcrane.model.session import TLSInfo as TLSInfo
    from mailcrane.model.submission import LoginRefused as LoginRefused
    from mailcrane.model.submission import LoginService as LoginService
    from mailcrane.model.submission import SentCopy as SentCopy
    from mailcrane.model.submission import Submission as Submission
    from mailcrane.model.submission import SubmissionAccepted as SubmissionAccepted
    from mailcrane.model.submission import SubmissionRefused as SubmissionRefused
    from mailcrane.model.submission import SubmissionService as SubmissionService
    from mailcrane.model.submission import SubmittedEntry as SubmittedEntry
    from mailcrane.model.suppression import AlreadySuppressed as AlreadySuppressed
    from mailcrane.model.suppression import FailureCause as FailureCause
    from mailcrane.model.suppression import NotSuppressed as NotSuppressed
    from mailcrane.model.suppression import Suppression as Suppression
    from mailcrane.model.suppression import SuppressionCheck as SuppressionCheck
    from mailcrane.model.suppression import SuppressionDecision as SuppressionDecision
    from mailcrane.model.suppression import SuppressionEvidence as SuppressionEvidence
    from mailcrane.model.suppression import SuppressionOrigin as SuppressionOrigin
    from mailcrane.model.suppression import SuppressionService as SuppressionService
    from mailcrane.model.suppression import base_address as base_address
    from mailcrane.model.transport import NotNow as NotNow
    from mailcrane.model.transport import Transport as Transport
    from mailcrane.model.transport import TransportType as TransportType
    from mailcrane.model.webhook import CallResult as CallResult
    from mailcrane.model.webhook import RetiredCall as RetiredCall
    from mailcrane.model.webhook import WebhookCall as WebhookCall
    from mailcrane.model.webhook import WebhookFields as WebhookFields
    from mailcrane.model.webhook import WebhookMode as WebhookMode
    from mailcrane.model.webhook import WebhookTarget as WebhookTarget
    from mailcrane.observe.log import Log as Log
    from mailcrane.observe.secret import Secret as Secret
    from mailcrane.plugin.base import NoConfig as NoConfig
    from mailcrane.plugin.base import Plugin as Plugin
    from mailcrane.plugin.context import PluginContext as PluginContext
    from mailcrane.plugin.data import PluginData as PluginData
    from mailcrane.plugin.errors import HookFailed as HookFailed
    from mailcrane.plugin.errors import PluginError as PluginError
    from mailcrane.plugin.policy import HOOK_API as HOOK_API
    from mailcrane.plugin.policy import hookimpl as hookimpl
else:
    # A type checker sees the names above, and no others.
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "mailcrane.config.convert": ("ConfigError",),
            "mailcrane.http.app": ("HTTPApp",),
            "mailcrane.model.address": (
                "AddressError",
                "Mailbox",
                "NULL_REVERSE_PATH",
                "ReversePath",
                "domain_to_unicode",
                "parse_address_literal",
                "parse_domain",
            ),
            "mailcrane.model.clock": ("Clock", "SystemClock"),
            "mailcrane.model.delivery": (
                "Attempt",
                "ContentEdit",
                "Delivery",
                "DeliveryPreparation",
                "Entry",
                "Outcome",
                "OutgoingContent",
                "RecipientResult",
                "RetryPlan",
                "RouteChoice",
                "TLSUse",
            ),
            "mailcrane.model.event": ("Event", "EventKind", "EventType", "NewEvent", "OUTGOING_EVENT_KINDS"),
            "mailcrane.model.idempotency": (
                "Claim",
                "ClaimLost",
                "IdempotencyService",
                "KeyInUse",
                "KeyReused",
                "Remembered",
            ),
            "mailcrane.model.message": ("Content", "ContentInfo", "HeaderField"),
            "mailcrane.model.receive": (
                "Assessment",
                "Destination",
                "HeaderFields",
                "Identity",
                "Judgement",
                "LocalDestination",
                "Placement",
                "ReceivedMessage",
                "Recipient",
                "RelayDestination",
                "Verdict",
            ),
            "mailcrane.model.reply": ("Reply",),
            "mailcrane.model.retired": ("Retention", "Retired"),
            "mailcrane.model.session": ("SessionInfo", "TLSInfo"),
            "mailcrane.model.submission": (
                "LoginRefused",
                "LoginService",
                "SentCopy",
                "Submission",
                "SubmissionAccepted",
                "SubmissionRefused",
                "SubmissionService",
                "SubmittedEntry",
            ),
            "mailcrane.model.suppression": (
                "AlreadySuppressed",
                "FailureCause",
                "NotSuppressed",
                "Suppression",
                "SuppressionCheck",
                "SuppressionDecision",
                "SuppressionEvidence",
                "SuppressionOrigin",
                "SuppressionService",
                "base_address",
            ),
            "mailcrane.model.transport": ("NotNow", "Transport", "TransportType"),
            "mailcrane.model.webhook": (
                "CallResult",
                "RetiredCall",
                "WebhookCall",
                "WebhookFields",
                "WebhookMode",
                "WebhookTarget",
            ),
            "mailcrane.observe.log": ("Log",),
            "mailcrane.observe.secret": ("Secret",),
            "mailcrane.plugin.base": ("NoConfig", "Plugin"),
            "mailcrane.plugin.context": ("PluginContext",),
            "mailcrane.plugin.data": ("PluginData",),
            "mailcrane.plugin.errors": ("HookFailed", "PluginError"),
            "mailcrane.plugin.policy": ("HOOK_API", "hookimpl"),
        },
    )
