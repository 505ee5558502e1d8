"""Places where a test can make the engine fail, wait or die."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct


def _nothing(keys: Sequence[str]) -> None:
    """Let it go on."""


class Faults(Struct):
    """What an engine calls on its way, in the thread that commits. An `Exception` fails the batch; anything else that
    is raised kills the engine.

    Attributes:
        before_commit: Called with the keys of the batch's units, right before COMMIT.
        after_commit: Called right after COMMIT, before anybody is answered.
        rerun_units: Run every unit twice, with the first run undone, as an engine may that retries.
    """

    before_commit: Callable[[Sequence[str]], None] = _nothing
    after_commit: Callable[[Sequence[str]], None] = _nothing
    rerun_units: bool = False


NO_FAULTS = Faults()
