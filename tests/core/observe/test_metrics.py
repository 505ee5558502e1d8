"""Metrics as Prometheus reads them."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest

from mailcrane.observe.metrics import Counter, Gauge, Histogram, render


@pytest.fixture
def name() -> Callable[[str], str]:
    unique = uuid.uuid4().hex[:8]
    return lambda suffix: f"mailcrane_test_{unique}_{suffix}"


def lines(start: str) -> list[str]:
    return [line for line in render().decode().splitlines() if line.startswith(start)]


def test_counters_count_by_label(name: Callable[[str], str]) -> None:
    counter = Counter(name("things_total"), "Things.", ("kind",))
    counter.inc("a")
    counter.inc("a", by=2)
    counter.inc("b")
    assert counter.value("a") == 3
    assert lines(counter.name) == [f'{counter.name}{{kind="a"}} 3.0', f'{counter.name}{{kind="b"}} 1.0']


def test_a_counter_without_labels_is_there_from_the_start(name: Callable[[str], str]) -> None:
    counter = Counter(name("all_total"), "All.")
    assert lines(counter.name) == [f"{counter.name} 0.0"]


def test_gauges_are_set_or_asked(name: Callable[[str], str]) -> None:
    gauge = Gauge(name("open"), "Open.")
    gauge.set(4)
    gauge.inc(by=-1)
    assert lines(gauge.name) == [f"{gauge.name} 3.0"]
    asked = Gauge(name("asked"), "Asked.")
    asked.set_function(lambda: 7)
    assert lines(asked.name) == [f"{asked.name} 7.0"]


def test_histograms_count_into_buckets(name: Callable[[str], str]) -> None:
    histogram = Histogram(name("seconds"), "Took.", ("result",), buckets=(1, 5))
    for value in (0.5, 1.0, 3.0, 60.0):
        histogram.observe(value, "ok")
    assert histogram.count("ok") == 4
    assert lines(histogram.name) == [
        f'{histogram.name}_bucket{{le="1",result="ok"}} 2.0',
        f'{histogram.name}_bucket{{le="5",result="ok"}} 3.0',
        f'{histogram.name}_bucket{{le="+Inf",result="ok"}} 4.0',
        f'{histogram.name}_count{{result="ok"}} 4.0',
        f'{histogram.name}_sum{{result="ok"}} 64.5',
    ]


def test_names_are_ours_and_used_once(name: Callable[[str], str]) -> None:
    Counter(name("x_total"), "X.")
    with pytest.raises(ValueError, match="already"):
        Counter(name("x_total"), "X.")
    with pytest.raises(ValueError, match="begin with mailcrane_"):
        Gauge("other", "X.")
    with pytest.raises(ValueError, match="end with _total"):
        Counter("mailcrane_x", "X.")
