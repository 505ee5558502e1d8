"""The policy of a hook: its kind, its time limit, and what a failing plugin means."""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import pluggy
from msgspec import Struct

PROJECT = "mailcrane"

HOOK_API = "1.0"
"""Version of the hook API: the minor number grows with a new hook or argument, the major one with a broken promise."""

hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a method of a plugin as the implementation of the hook of the same name."""

_mark_spec = pluggy.HookspecMarker(PROJECT)

F = TypeVar("F", bound=Callable[..., Any])


class Kind(enum.StrEnum):
    """How the implementations of a hook are asked."""

    REGISTER = "register"  # synchronous, once at start; the answers are put together
    DECIDE = "decide"  # in order; the first answer that is not None wins, then the core's default
    COLLECT = "collect"  # all at once; the answers are merged by one named function
    JUDGE = "judge"  # all at once; the strictest answer wins
    NOTIFY = "notify"  # after the commit, in order, from stored events, retried


class OnFailure(enum.StrEnum):
    """What it means that a plugin raises, is late or answers nonsense. Never a 5yz."""

    DEFER = "defer"  # a 4yz reply, or a later retry
    SKIP = "skip"  # counted and logged, as if it had answered None
    RETRY = "retry"  # notify only: asked again later, set aside as dead in the end
    REFUSE_START = "refuse start"  # register only: the server does not start


class Policy(Struct, frozen=True):
    """What `mailcrane.plugin.caller` knows of a hook.

    Attributes:
        stage: Where in the flow it is asked.
        unit: What it is asked once per.
        since: The hook API version that brought it.
        is_provisional: May change in a minor version: fewer than two plugins of different purpose use it.
        timeout: Seconds that one implementation has. The stage's budget may end it sooner.
        answers: Types that an answer may have, besides None.
        merged_by: Name of the function that merges the answers of a collect hook.
        named_by: Of a register hook: the attribute of an answer that no two may have in common.
        check: Returns what is wrong with an answer of the right type, or an empty text.
    """

    kind: Kind
    stage: str
    unit: str
    since: str
    timeout: float
    on_failure: OnFailure
    answers: tuple[type, ...]
    is_provisional: bool
    merged_by: str
    named_by: str
    check: Callable[[Any], str] | None

    @property
    def elements(self) -> tuple[type, ...]:
        """Types that the elements of an answer may have, when it is a list or tuple."""
        return tuple(answer for answer in self.answers if answer not in {list, tuple}) or (object,)


def hook(
    kind: Kind,
    *,
    stage: str,
    unit: str,
    on_failure: OnFailure,
    answers: tuple[type, ...] = (),
    timeout: float = 30.0,
    since: str = "1.0",
    provisional: bool = True,
    merged_by: str = "",
    named_by: str = "",
    check: Callable[[Any], str] | None = None,
) -> Callable[[F], F]:
    """Declare a hook: a function of `mailcrane.plugin.hookspecs` whose docstring is its manual."""

    def mark(function: F) -> F:
        if (kind is Kind.REGISTER) == inspect.iscoroutinefunction(function):
            raise TypeError(f"{function.__name__}: register hooks are def, all others async def")
        policy = Policy(kind, stage, unit, since, timeout, on_failure, answers, provisional, merged_by, named_by, check)
        function.hook_policy = policy  # type: ignore[attr-defined]
        return _mark_spec(function)

    return mark
