"""Health: what each part of the server says of itself, and the worst of it."""

from __future__ import annotations

import enum
from datetime import datetime

from msgspec import Struct

from mailcrane.model.clock import Clock, SystemClock
from mailcrane.observe.log import get_log

_log = get_log(__name__)


class State(enum.StrEnum):
    """How a component is."""

    OK = "ok"
    DEGRADED = "degraded"  # works, but not all of it, or slower
    FAILED = "failed"  # does not do what it is there for


_SEVERITY = {State.OK: 0, State.DEGRADED: 1, State.FAILED: 2}


class ComponentHealth(Struct, frozen=True):
    """The state of one component.

    Attributes:
        component: Such as ``store``, ``listener submission`` or ``plugin webapi``.
        reason: In words, for the operator; empty when all is well.
        since: When this state began.
        is_vital: Whether the server has failed with it; otherwise it is degraded.
    """

    component: str
    state: State
    reason: str
    since: datetime
    is_vital: bool = True


class HealthReport(Struct, frozen=True):
    """The state of the server, as bad as its components have made it; they follow, the worst first."""

    state: State
    components: tuple[ComponentHealth, ...]


class Health:
    """Keeps the state of each component; a change of state is logged once."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._components: dict[str, ComponentHealth] = {}

    def set(self, component: str, state: State, reason: str = "", *, is_vital: bool = True) -> None:
        """Say how a component is; calls that change nothing cost nothing.

        Args:
            is_vital: Whether the server has failed when this component has, as without its store.
        """
        known = self._components.get(component)
        if known is not None and known.state is state and known.reason == reason:
            return
        since = known.since if known is not None and known.state is state else self._clock.now()
        self._components[component] = ComponentHealth(component, state, reason, since, is_vital)
        if state is not State.OK:
            _log.warning("health changed", component=component, state=state.value, reason=reason)
        elif known is not None and known.state is not State.OK:
            _log.info("health restored", component=component)

    def clear(self, component: str) -> None:
        """Forget a component that is no more."""
        self._components.pop(component, None)

    def get(self, component: str) -> ComponentHealth | None:
        """Return what is known of a component."""
        return self._components.get(component)

    def report(self) -> HealthReport:
        """Return the state of the server."""
        components = sorted(self._components.values(), key=lambda item: (-_SEVERITY[item.state], item.component))
        states = [
            State.DEGRADED if item.state is State.FAILED and not item.is_vital else item.state for item in components
        ]
        return HealthReport(max(states, key=_SEVERITY.__getitem__, default=State.OK), tuple(components))
