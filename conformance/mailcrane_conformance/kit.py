"""What all kits share: behaviours with ids, run one by one, each with a result in words."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import trio

S = TypeVar("S")

_SECONDS_FOR_ONE_BEHAVIOUR = 30.0


class Violation(AssertionError):
    """What is tested does not behave as it must; the message says what was seen."""


def require(condition: bool, otherwise: str) -> None:
    """Go on only if a condition holds.

    Raises:
        Violation: with ``otherwise`` as its text.
    """
    if not condition:
        raise Violation(otherwise)


@dataclass(frozen=True)
class Behaviour(Generic[S]):
    """One thing that must be so.

    Attributes:
        id: Stable; never given to another behaviour.
        sentence: What must be so.
        check: Raises when it is not so.
    """

    id: str
    sentence: str
    check: Callable[[S], Awaitable[None]]


class Answer(enum.StrEnum):
    """How a behaviour came out."""

    PASSED = "passed"
    FAILED = "failed"


@dataclass(frozen=True)
class Result:
    """One behaviour after it was tried."""

    id: str
    sentence: str
    answer: Answer
    explanation: str = ""

    def __str__(self) -> str:
        why = f": {self.explanation}" if self.explanation else ""
        return f"{'ok  ' if self.answer is Answer.PASSED else 'FAIL'} {self.id} {self.sentence}{why}"


async def run_kit(behaviours: Iterable[Behaviour[S]], subject: S, only: Sequence[str] = ()) -> list[Result]:
    """Try behaviours one after another.

    Args:
        behaviours: Of a kit.
        subject: What the kit tests.
        only: Ids to try; empty tries all.

    Raises:
        ValueError: an id is not in the kit.
    """
    chosen = list(behaviours)
    if unknown := set(only) - {behaviour.id for behaviour in chosen}:
        raise ValueError(f"no behaviour has the id {', '.join(sorted(unknown))}")
    return [await _try(one, subject) for one in chosen if not only or one.id in only]


async def _try(behaviour: Behaviour[S], subject: S) -> Result:
    explanation = f"no end within {_SECONDS_FOR_ONE_BEHAVIOUR:g} s"
    with trio.move_on_after(_SECONDS_FOR_ONE_BEHAVIOUR) as limit:
        try:
            await behaviour.check(subject)
            explanation = ""
        except Exception as error:  # whatever a stranger's code raises is a finding, not the end of the run
            explanation = _in_words(error)
    if limit.cancelled_caught:
        explanation = f"no end within {_SECONDS_FOR_ONE_BEHAVIOUR:g} s"
    return Result(behaviour.id, behaviour.sentence, Answer.FAILED if explanation else Answer.PASSED, explanation)


def _in_words(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_in_words(one) for one in error.exceptions)
    return str(error) if isinstance(error, Violation) else f"raised {error!r}"
