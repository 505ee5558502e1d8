"""Health is that of the worst component."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from mailcrane.observe.health import Health, State


class Clock:
    def __init__(self) -> None:
        self.at = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.at


def test_nothing_said_is_well() -> None:
    assert Health().report().state is State.OK


def test_the_worst_component_counts_and_comes_first() -> None:
    health = Health()
    health.set("store", State.OK)
    health.set("plugin a", State.DEGRADED, "left out")
    health.set("plugin b", State.FAILED, "crashed")
    report = health.report()
    assert report.state is State.FAILED
    assert [item.component for item in report.components] == ["plugin b", "plugin a", "store"]
    health.clear("plugin b")
    health.set("plugin a", State.OK)
    assert health.report().state is State.OK


def test_a_state_keeps_the_time_it_began() -> None:
    clock = Clock()
    health = Health(clock)
    began = clock.at
    health.set("x", State.FAILED, "first")
    clock.at += timedelta(hours=1)
    health.set("x", State.FAILED, "second")
    found = health.get("x")
    assert found is not None
    assert (found.since, found.reason) == (began, "second")


def test_the_server_is_degraded_when_what_has_failed_is_not_vital() -> None:
    health = Health()
    health.set("store", State.OK)
    health.set("plugin a", State.FAILED, "crashed", is_vital=False)
    report = health.report()
    assert report.state is State.DEGRADED
    assert report.components[0].state is State.FAILED
