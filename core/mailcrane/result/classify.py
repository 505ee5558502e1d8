"""What an attempt's result is taken for: the core's reading, then the plugins', then the limits on attempts.

Everything here is asked after the outcome is committed as the transport reported it, so a crash in between asks again
and never delivers again.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from mailcrane.model.delivery import Entry, Outcome, RecipientResult
from mailcrane.observe.log import get_log
from mailcrane.plugin.caller import Hooks
from mailcrane.plugin.errors import HookFailed

log = get_log(__name__)


def failed_text(failure: HookFailed) -> str:
    """Return what the result says of a plugin that failed; the details are for the log, and are there already."""
    return f"plugin {failure.plugin} failed in {failure.hook}"


async def classify(hooks: Hooks, entry: Entry, result: RecipientResult) -> RecipientResult:
    """Ask the plugins what a result is to be taken for; a delivered message stays delivered."""
    answer = await hooks.classify_result(entry=entry, result=result)
    if answer is None:
        return result
    if result.outcome is Outcome.DELIVERED and answer.outcome is not Outcome.DELIVERED:
        log.warning(
            "a plugin took a delivered message for another outcome; it stays delivered",
            entry=entry.id,
            answer=str(answer.outcome),
        )
        return result
    return answer


async def plan(
    hooks: Hooks, entry: Entry, result: RecipientResult, *, scheduled_at: datetime, is_exhausted: bool
) -> tuple[RecipientResult, datetime | None]:
    """Decide whether and when a deferred entry is tried again.

    Args:
        scheduled_at: What the schedule says.
        is_exhausted: Whether the entry has had all its attempts; then no plugin is asked.

    Returns:
        The result and when the next attempt is due. None means that the entry has failed, and the result says so.
    """
    if is_exhausted:
        return _given_up(result, f"given up after {entry.attempts} attempts"), None
    answer = await hooks.plan_retry(entry=entry, result=result, due_at=scheduled_at)
    if answer is None:
        return result, scheduled_at
    if answer.due_at is None:
        return _given_up(result, f"given up by a plugin after {entry.attempts} attempts"), None
    if answer.due_at.tzinfo is None:
        log.warning("a plugin's due time has no time zone; the schedule's is taken", entry=entry.id)
        return result, scheduled_at
    return result, answer.due_at


def _given_up(result: RecipientResult, why: str) -> RecipientResult:
    error = f"{why}: {result.error}" if result.error else why
    return msgspec.structs.replace(result, outcome=Outcome.FAILED, error=error)
