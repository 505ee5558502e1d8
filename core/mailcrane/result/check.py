"""What a transport returned, checked before it is believed."""

from __future__ import annotations

from mailcrane.model.delivery import Outcome, RecipientResult


class NonsenseResults(Exception):
    """A transport broke its promise: one `RecipientResult` per forward-path, in order."""


def check_results(answer: object, expected: int) -> tuple[RecipientResult, ...]:
    """Return a transport's answer as what it has to be.

    Raises:
        NonsenseResults: nothing of it can be believed, because it is not known whose result is whose.
    """
    if not isinstance(answer, tuple | list):
        raise NonsenseResults(f"the transport returned {type(answer).__name__} instead of a tuple of results")
    if len(answer) != expected:
        raise NonsenseResults(f"the transport returned {len(answer)} results for {expected} forward-paths")
    for result in answer:
        if not isinstance(result, RecipientResult) or not isinstance(result.outcome, Outcome):
            raise NonsenseResults(f"the transport returned {type(result).__name__} in place of a RecipientResult")
    return tuple(answer)
