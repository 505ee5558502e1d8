"""What all suites share: behaviours with ids, tried one by one, each with a result in words."""

from __future__ import annotations

import enum
import importlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import trio

S = TypeVar("S")

_SECONDS_FOR_ONE_BEHAVIOUR = 30.0


class Violation(AssertionError):
    """What is tested does not behave as it must; the message says what was seen."""


class NotApplicable(Exception):
    """A behaviour that what is tested cannot show; the message says why. It is skipped, and the report says so."""


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
        id: ``suite/name``; stable, and never given to another behaviour.
        sentence: What must be so.
        reference: Where that is written: an RFC's section, or the place in Mailcrane's manual.
        check: Raises when it is not so.
    """

    id: str
    sentence: str
    reference: str
    check: Callable[[S], Awaitable[None]]


class Answer(enum.StrEnum):
    """How a behaviour came out."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


_MARKS = {Answer.PASSED: "ok  ", Answer.FAILED: "FAIL", Answer.SKIPPED: "skip"}


@dataclass(frozen=True)
class Result:
    """One behaviour after it was tried.

    Attributes:
        explanation: What was seen when it failed, why it was skipped; else empty.
    """

    id: str
    sentence: str
    reference: str
    answer: Answer
    explanation: str = ""

    def __str__(self) -> str:
        why = f": {self.explanation}" if self.explanation else ""
        where = f" [{self.reference}]" if self.answer is Answer.FAILED else ""
        return f"{_MARKS[self.answer]} {self.id} {self.sentence}{why}{where}"


def choose(behaviours: Iterable[Behaviour[S]], only: Sequence[str]) -> list[Behaviour[S]]:
    """Return the behaviours with some ids; the part before the slash may be left out. No id at all chooses all.

    Raises:
        ValueError: an id is not among them.
    """
    every = list(behaviours)
    known = {name: one for one in every for name in (one.id, one.id.partition("/")[2])}
    if unknown := set(only) - set(known):
        raise ValueError(f"no behaviour has the id {', '.join(sorted(unknown))}")
    wanted = {known[name].id for name in only}
    return [one for one in every if not only or one.id in wanted]


async def run_kit(behaviours: Iterable[Behaviour[S]], subject: S, only: Sequence[str] = ()) -> list[Result]:
    """Try behaviours one after another.

    Args:
        behaviours: Of a suite.
        subject: What is tested.
        only: Ids to try; empty tries all.

    Raises:
        ValueError: an id is not in the suite.
    """
    return [await _try(one, subject) for one in choose(behaviours, only)]


def make_test(behaviours: Iterable[Behaviour[S]], subject: Callable[[], S]) -> Callable[..., None]:
    """Make a test function for pytest that has a case for each behaviour, with its id.

    It is a plain function that runs trio itself, so that no plugin of pytest is needed.

    Args:
        behaviours: Of a suite.
        subject: Makes what is tested, anew for each case.
    """
    # The kit itself goes without it, so it is no dependency of the package's.
    pytest: Any = importlib.import_module("pytest")
    every = list(behaviours)

    def test(behaviour: Behaviour[S]) -> None:
        result = trio.run(_try, behaviour, subject())
        if result.answer is Answer.SKIPPED:
            pytest.skip(result.explanation)
        if result.answer is Answer.FAILED:
            pytest.fail(str(result), pytrace=False)

    marked: Callable[..., None] = pytest.mark.parametrize("behaviour", every, ids=[one.id for one in every])(test)
    return marked


def as_data(result: Result) -> dict[str, Any]:
    """Return a result as JSON has it."""
    return {
        "id": result.id,
        "answer": result.answer.value,
        "explanation": result.explanation,
        "sentence": result.sentence,
        "reference": result.reference,
    }


async def _try(behaviour: Behaviour[S], subject: S) -> Result:
    answer, explanation = Answer.PASSED, ""
    with trio.move_on_after(_SECONDS_FOR_ONE_BEHAVIOUR) as limit:
        try:
            await behaviour.check(subject)
        except Exception as error:  # whatever a stranger's code raises is a finding, not the end of the run
            reason = _not_applicable(error)
            answer = Answer.FAILED if reason is None else Answer.SKIPPED
            explanation = _in_words(error) if reason is None else reason
    if limit.cancelled_caught:
        answer, explanation = Answer.FAILED, f"no end within {_SECONDS_FOR_ONE_BEHAVIOUR:g} s"
    return Result(behaviour.id, behaviour.sentence, behaviour.reference, answer, explanation)


def _not_applicable(error: BaseException) -> str | None:
    """Return why a behaviour does not apply, when that is all that an error says."""
    if isinstance(error, BaseExceptionGroup):
        reasons = [_not_applicable(one) for one in error.exceptions]
        return reasons[0] if len(reasons) == 1 else None
    return str(error) if isinstance(error, NotApplicable) else None


def _in_words(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(dict.fromkeys(_in_words(one) for one in error.exceptions))
    return str(error) if isinstance(error, Violation) else f"raised {error!r}"
