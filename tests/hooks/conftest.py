"""Plugins that do one odd thing in one hook."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from mailcrane.model.delivery import (
    ContentEdit,
    DeliveryPreparation,
    Outcome,
    RecipientResult,
    RetryPlan,
    RouteChoice,
)
from mailcrane.model.message import HeaderField
from mailcrane.model.receive import Assessment, Identity, Judgement, LocalDestination, Placement, Verdict
from mailcrane.model.reply import Reply
from mailcrane.model.retired import Retention
from mailcrane.model.suppression import SuppressionCheck, SuppressionDecision
from mailcrane.model.webhook import WebhookFields, WebhookTarget
from mailcrane.plugin.base import Plugin
from mailcrane.plugin.policy import hookimpl
from mailcrane.testing.clock import START

PluginMaker = Callable[..., type[Plugin]]


@pytest.fixture
def plugin_with() -> PluginMaker:
    """Make a plugin class of hook implementations: ``plugin_with("name", select_route=function)``."""

    def make(name: str = "odd", /, **members: Any) -> type[Plugin]:
        body = {key: hookimpl(member) if callable(member) else member for key, member in members.items()}
        return type("OddPlugin", (Plugin,), {"name": name, **body})

    return make


@pytest.fixture
def good_answers() -> dict[str, Any]:
    """Return an answer that each hook takes; None for those that are only told."""
    refusal = Reply(451, "4.7.0", ("Not now",))
    return {
        "accept_connection": refusal,
        "authenticate": Identity("me", "me@localhost"),
        "accept_reverse_path": refusal,
        "resolve_recipient": LocalDestination("me"),
        "assess_message": [Assessment("made", "pass")],
        "judge_message": Judgement(Verdict.QUARANTINE, "made"),
        "add_header_fields": HeaderField("X-Made", "up"),
        "place_message": Placement("Made"),
        "message_stored": None,
        "message_queued": None,
        "check_suppression": SuppressionCheck(is_suppressed=True, reason="made"),
        "plan_retry": RetryPlan(START + timedelta(hours=1)),
        "select_route": RouteChoice("made"),
        "rewrite_content": ContentEdit(remove=("X-Made",)),
        "prepare_delivery": DeliveryPreparation(notes=("made",)),
        "classify_result": RecipientResult(Outcome.FAILED),
        "attempt_finished": None,
        "decide_suppression": SuppressionDecision(is_suppressed=True, reason="made"),
        "suppression_changed": None,
        "retain_retired": Retention(timedelta(days=1)),
        "entry_retired": None,
        "event_recorded": None,
        "select_webhooks": WebhookTarget("https://made.example/"),
        "add_webhook_fields": WebhookFields({"made": 1}),
        "webhook_retired": None,
    }
