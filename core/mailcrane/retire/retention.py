"""How long an entry that left the queue is kept."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from mailcrane.config.directory import Directory
from mailcrane.model.delivery import Attempt, Entry
from mailcrane.observe.log import get_log
from mailcrane.plugin.caller import Hooks

log = get_log(__name__)

OF_UNKNOWN_ACCOUNTS = timedelta(days=7)
"""For entries of an account that is gone: somebody may still ask what became of its mail."""


async def retention(
    hooks: Hooks, directory: Directory, entry: Entry, event: str, attempts: Sequence[Attempt]
) -> timedelta:
    """Return how long the retired entry is kept; zero keeps nothing.

    Args:
        event: The wire's name of what ended it, such as ``delivered``.
        attempts: All of them, the last one included.
    """
    answer = await hooks.retain_retired(entry=entry, event=event, attempts=attempts)
    if answer is not None:
        if answer.period >= timedelta(0):
            return answer.period
        log.warning("a plugin answered a negative period; the account's counts", entry=entry.id)
    account = directory.account(entry.account)
    if account is None:
        return OF_UNKNOWN_ACCOUNTS
    return timedelta(seconds=account.keep_retired_messages_seconds)
