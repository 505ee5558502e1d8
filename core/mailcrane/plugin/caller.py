"""Asks the implementations of a hook: in the operator's order, with time limits, and with what a failure means.

`Hooks` has one caller per hook of `mailcrane.plugin.hookspecs`; stages ask ``await hooks.select_route(entry=entry)``.
pluggy registers and validates, but is never called: with ``firstresult`` it stops at the first coroutine even if that
would answer None, and in a list one raise leaves the others un-awaited.

How one implementation is called and what becomes of late answers is in `mailcrane.plugin.call`, what is counted and
when a failing one is left out in `mailcrane.plugin.implementation`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

import trio

from mailcrane.http.app import HTTPApp
from mailcrane.model.delivery import (
    ContentEdit,
    DeliveryPreparation,
    RecipientResult,
    RetryPlan,
    RouteChoice,
)
from mailcrane.model.event import EventType
from mailcrane.model.message import HeaderField
from mailcrane.model.receive import (
    Assessment,
    Identity,
    Judgement,
    LocalDestination,
    Placement,
    RelayDestination,
    Verdict,
)
from mailcrane.model.reply import Reply
from mailcrane.model.retired import Retention
from mailcrane.model.suppression import SuppressionCheck, SuppressionDecision
from mailcrane.model.transport import TransportType
from mailcrane.model.webhook import WebhookFields, WebhookTarget
from mailcrane.plugin.errors import HookFailed, PluginError
from mailcrane.plugin.implementation import Implementation
from mailcrane.plugin.policy import Kind
from mailcrane.plugin.spec import HookSpec, hook_specs

T = TypeVar("T")


class HookCaller:
    """What the callers of all kinds have.

    Attributes:
        spec: Name, policy and arguments of the hook.
        implementations: In the order in which they are asked. Empty costs nothing: a stage may skip the preparation
            of arguments with ``if hooks.x.implementations``.
    """

    kind: Kind

    def __init__(self, spec: HookSpec, implementations: Sequence[Implementation] = ()) -> None:
        self.spec = spec
        self.implementations = tuple(implementations)

    def _check_arguments(self, arguments: dict[str, Any]) -> None:
        # Also without implementations: a wrong call is not to come out with the first plugin.
        if arguments.keys() != self.spec.argument_names:
            wanted = ", ".join(sorted(self.spec.argument_names))
            raise TypeError(f"{self.spec.name} is asked with {wanted}; got {', '.join(sorted(arguments))}")

    async def _ask_all(
        self, arguments: dict[str, Any], budget: float | None, failures: list[HookFailed] | None = None
    ) -> list[tuple[str, Any]]:
        """Ask all at once. The calls are tasks of the plugins, so that waiting for one after the other is enough.

        Args:
            failures: Where failures are put; when None, the first one is raised and ends the waiting for the others.
        """
        now = trio.current_time()
        deadline = now + (self.spec.policy.timeout if budget is None else min(budget, self.spec.policy.timeout))
        asked = [implementation for implementation in self.implementations if not implementation.is_left_out(now)]
        calls = [implementation.begin(arguments, deadline) for implementation in asked]
        answers: list[tuple[str, Any]] = []
        try:
            for implementation, call in zip(asked, calls, strict=True):
                try:
                    answer = await implementation.finish(call)
                except HookFailed as failure:
                    if failures is None:
                        raise
                    failures.append(failure)
                    continue
                if answer is not None:
                    answers.append((implementation.plugin, answer))
        finally:
            for call in calls:  # One that is done does not notice.
                call.cancel()
        return answers


class Register(HookCaller, Generic[T]):
    """Asked once at start, synchronously; the answers are put together."""

    kind = Kind.REGISTER

    def __call__(self, **arguments: Any) -> list[tuple[str, T]]:
        """Return (plugin, answer) in the order of the plugins.

        Raises:
            PluginError: a plugin raised, answered nonsense, or registered a name that another one has.
        """
        self._check_arguments(arguments)
        answers: list[tuple[str, T]] = []
        owners: dict[str, str] = {}
        for implementation in self.implementations:
            for one in implementation.ask_now(arguments):
                name = getattr(one, self.spec.policy.named_by)
                if name in owners:
                    raise PluginError(
                        implementation.plugin,
                        f"{self.spec.name}: {name!r} is registered by plugin {owners[name]!r} already",
                        "enable only one of the two",
                    )
                owners[name] = implementation.plugin
                answers.append((implementation.plugin, one))
        return answers


class Decide(HookCaller, Generic[T]):
    """Asked in order; the first answer that is not None wins."""

    kind = Kind.DECIDE

    async def __call__(self, *, _budget: float | None = None, **arguments: Any) -> T | None:
        """Return the answer, or None when no plugin has one. Without implementations this is no checkpoint.

        Args:
            _budget: Seconds that all implementations have together.

        Raises:
            HookFailed: an implementation failed and the hook's failure meaning is *defer*.
        """
        self._check_arguments(arguments)
        if not self.implementations:
            return None
        end = float("inf") if _budget is None else trio.current_time() + _budget
        for implementation in self.implementations:
            now = trio.current_time()
            if implementation.is_left_out(now):
                continue
            if now >= end:
                implementation.miss()
                continue
            call = implementation.begin(arguments, min(now + self.spec.policy.timeout, end))
            answer = await implementation.finish(call)
            if answer is not None:
                return answer  # type: ignore[no-any-return]
        return None


class Collect(HookCaller, Generic[T]):
    """Asked all at once; a function of the stage merges the answers."""

    kind = Kind.COLLECT

    async def __call__(self, *, _budget: float | None = None, **arguments: Any) -> list[tuple[str, T]]:
        """Return (plugin, answer) in the order of the plugins, not of arrival.

        A plugin that answers a list is in it once per element. Without implementations this is no checkpoint.

        Args:
            _budget: Seconds that the implementations have; the hook's timeout counts where it is shorter.

        Raises:
            HookFailed: an implementation failed and the hook's failure meaning is *defer*.
        """
        self._check_arguments(arguments)
        if not self.implementations:
            return []
        pairs: list[tuple[str, T]] = []
        for plugin, answer in await self._ask_all(arguments, _budget):
            if isinstance(answer, (list, tuple)):
                pairs.extend((plugin, one) for one in answer)
            else:
                pairs.append((plugin, answer))
        return pairs


class Judge(HookCaller):
    """Asked all at once; the strictest judgement wins."""

    kind = Kind.JUDGE

    async def __call__(self, *, _budget: float | None = None, **arguments: Any) -> Judgement | None:
        """Return the strictest judgement, of equally strict ones the first in the order of the plugins.

        None when no plugin has one. Without implementations this is no checkpoint. A plugin that fails counts as one
        that defers, so a refusal of another one stands beside it: the failed plugin could not have let the message in.

        Args:
            _budget: Seconds that the implementations have; the hook's timeout counts where it is shorter.

        Raises:
            HookFailed: an implementation failed, and no other one refuses.
        """
        self._check_arguments(arguments)
        if not self.implementations:
            return None
        failures: list[HookFailed] = []
        answers: list[Judgement] = [answer for _, answer in await self._ask_all(arguments, _budget, failures)]
        strictest = max(answers, key=lambda judgement: judgement.verdict, default=None)
        if failures and (strictest is None or strictest.verdict is not Verdict.REFUSE):
            raise failures[0]
        return strictest


class Notify(HookCaller):
    """Told one plugin at a time, by `mailcrane.plugin.notify`, from stored events."""

    kind = Kind.NOTIFY

    async def tell(self, implementation: Implementation, **arguments: Any) -> None:
        """Tell one implementation.

        Raises:
            HookFailed: it failed and is to be told again.
        """
        self._check_arguments(arguments)
        await implementation.finish(implementation.begin(arguments, trio.current_time() + self.spec.policy.timeout))


class Hooks:
    """One caller per hook. ``Hooks()`` has no plugins, for tests and tools."""

    register_transport_types: Register[TransportType]
    register_http_apps: Register[HTTPApp]
    register_event_types: Register[EventType]

    accept_connection: Decide[Reply]
    authenticate: Decide[Identity | Reply]
    accept_reverse_path: Decide[Reply]
    resolve_recipient: Decide[LocalDestination | RelayDestination | Reply]

    assess_message: Collect[Assessment]
    judge_message: Judge
    add_header_fields: Collect[HeaderField]
    place_message: Decide[Placement]
    message_stored: Notify

    message_queued: Notify
    check_suppression: Decide[SuppressionCheck]
    plan_retry: Decide[RetryPlan]

    select_route: Decide[RouteChoice]
    rewrite_content: Collect[ContentEdit]
    prepare_delivery: Collect[DeliveryPreparation]

    classify_result: Decide[RecipientResult]
    attempt_finished: Notify
    decide_suppression: Decide[SuppressionDecision]
    suppression_changed: Notify
    retain_retired: Decide[Retention]
    entry_retired: Notify

    event_recorded: Notify
    select_webhooks: Collect[WebhookTarget]
    add_webhook_fields: Collect[WebhookFields]
    webhook_retired: Notify

    def __init__(self, implementations: Mapping[str, Sequence[Implementation]] | None = None) -> None:
        self.by_name: dict[str, HookCaller] = {}
        for spec in hook_specs():
            caller = _CALLERS[spec.policy.kind](spec, (implementations or {}).get(spec.name, ()))
            self.by_name[spec.name] = caller
            setattr(self, spec.name, caller)


_CALLERS: dict[Kind, type[HookCaller]] = {caller.kind: caller for caller in (Register, Decide, Collect, Judge, Notify)}

__all__ = [
    "Collect",
    "Decide",
    "HookCaller",
    "HookFailed",
    "Hooks",
    "Judge",
    "Notify",
    "Register",
]
