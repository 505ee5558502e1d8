"""How each plugin is, and what the calls of its hooks came to."""

from __future__ import annotations

import enum

import trio
from msgspec import Struct

from mailcrane.plugin.implementation import CallCounters, Implementation


class PluginState(enum.StrEnum):
    """Where a plugin is between start and end."""

    LOADED = "loaded"
    STARTING = "starting"
    RUNNING = "running"
    FAILED = "failed"  # A background task crashed; hooks are asked all the same.
    STOPPING = "stopping"
    STOPPED = "stopped"
    ABANDONED = "abandoned"  # Tasks of it did not end when the server did.


class HookHealth(Struct, frozen=True):
    """How one implementation does.

    Attributes:
        left_out_seconds: How long it is not asked yet, because it failed again and again; 0 when it is asked.
    """

    hook: str
    calls: int
    failures: int
    timeouts: int
    late: int
    total_seconds: float
    left_out_seconds: float
    last_failure: str


class PluginHealth(Struct, frozen=True):
    """How one plugin does.

    Attributes:
        problem: In words; empty when there is none.
    """

    plugin: str
    state: PluginState
    problem: str
    hooks: tuple[HookHealth, ...]

    @property
    def left_out(self) -> tuple[HookHealth, ...]:
        """The hooks that it is not asked in for a while."""
        return tuple(hook for hook in self.hooks if hook.left_out_seconds)

    @property
    def is_well(self) -> bool:
        """Whether it runs, and nothing of it is left out."""
        return self.state is PluginState.RUNNING and not self.left_out

    @property
    def reason(self) -> str:
        """Why it is not well, for the operator; empty when it is."""
        if self.problem or not self.left_out:
            return self.problem
        hooks = ", ".join(f"{hook.hook} ({hook.last_failure})" for hook in self.left_out)
        return f"left out for a while, because it keeps failing: {hooks}"


def hook_health(implementation: Implementation) -> HookHealth:
    """Report one implementation."""
    try:
        left_out = max(0.0, implementation.left_out_until - trio.current_time())
    except RuntimeError:  # Not in trio: a command that only looks.
        left_out = 0.0
    counters: CallCounters = implementation.counters
    return HookHealth(
        implementation.spec.name,
        counters.calls,
        counters.failures,
        counters.timeouts,
        counters.late,
        counters.total_seconds,
        left_out,
        implementation.last_failure,
    )
