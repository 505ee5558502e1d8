"""Metrics: counters, gauges and histograms that cost a lock and an addition, rendered for Prometheus on demand.

They are made once, at module level, with names that begin with ``mailcrane_``. The prometheus-client package is only
imported by `render`, so that commands start fast and the mail path does not pay for it.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client.core import Metric as PrometheusMetric

PREFIX = "mailcrane_"
DEFAULT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

_metrics: dict[str, Counter | Gauge | Histogram] = {}


class Counter:
    """A number that only rises, per combination of label values.

    Args:
        name: Begins with ``mailcrane_`` and ends with ``_total``; used once.
        description: For people.
        labels: Names of the labels. Values must come from a small set: never an address or a remote text.
    """

    def __init__(self, name: str, description: str, labels: Sequence[str] = ()) -> None:
        if not name.endswith("_total"):
            raise ValueError(f"{name}: names of counters end with _total")
        self.name, self.description, self.labels = name, description, tuple(labels)
        self._values: dict[tuple[str, ...], float] = {} if labels else {(): 0.0}
        self._lock = threading.Lock()
        _register(self)

    def inc(self, *label_values: str, by: float = 1.0) -> None:
        """Add to the number."""
        with self._lock:
            self._values[label_values] = self._values.get(label_values, 0.0) + by

    def value(self, *label_values: str) -> float:
        """Return the number."""
        return self._values.get(label_values, 0.0)

    def collect(self) -> PrometheusMetric:
        """Return it in prometheus-client's form."""
        from prometheus_client.core import CounterMetricFamily  # noqa: PLC0415 - see the module's docstring

        family = CounterMetricFamily(self.name, self.description, labels=self.labels)
        for label_values, value in sorted(self._values.items()):
            family.add_metric(label_values, value)
        return family


class Gauge:
    """A number that goes up and down: set, or asked for when it is rendered."""

    def __init__(self, name: str, description: str, labels: Sequence[str] = ()) -> None:
        self.name, self.description, self.labels = name, description, tuple(labels)
        self._values: dict[tuple[str, ...], float] = {}
        self._function: Callable[[], float] | None = None
        self._lock = threading.Lock()
        _register(self)

    def set(self, value: float, *label_values: str) -> None:
        """Set the number."""
        self._values[label_values] = value

    def inc(self, *label_values: str, by: float = 1.0) -> None:
        """Add to the number, or take away with a negative `by`."""
        with self._lock:
            self._values[label_values] = self._values.get(label_values, 0.0) + by

    def set_function(self, function: Callable[[], float] | None) -> None:
        """Ask a function for the number when it is rendered; it must be fast and is called in any thread."""
        self._function = function

    def value(self, *label_values: str) -> float:
        """Return the number."""
        if self._function is not None and not label_values:
            return self._function()
        return self._values.get(label_values, 0.0)

    def collect(self) -> PrometheusMetric:
        """Return it in prometheus-client's form."""
        from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415

        family = GaugeMetricFamily(self.name, self.description, labels=self.labels)
        if self._function is not None:
            family.add_metric((), self._function())
        for label_values, value in sorted(self._values.items()):
            family.add_metric(label_values, value)
        return family


class Histogram:
    """How often values fell into each of some buckets; durations in seconds."""

    def __init__(
        self, name: str, description: str, labels: Sequence[str] = (), *, buckets: Sequence[float] = DEFAULT_BUCKETS
    ) -> None:
        self.name, self.description, self.labels = name, description, tuple(labels)
        self._bounds = tuple(sorted(buckets))
        self._values: dict[tuple[str, ...], _Buckets] = {}
        self._lock = threading.Lock()
        _register(self)

    def observe(self, value: float, *label_values: str) -> None:
        """Count a value."""
        with self._lock:
            buckets = self._values.get(label_values)
            if buckets is None:
                buckets = self._values[label_values] = _Buckets(len(self._bounds) + 1)
            buckets.counts[bisect_left(self._bounds, value)] += 1
            buckets.sum += value

    def count(self, *label_values: str) -> int:
        """Return how many values were counted."""
        buckets = self._values.get(label_values)
        return 0 if buckets is None else sum(buckets.counts)

    def collect(self) -> PrometheusMetric:
        """Return it in prometheus-client's form."""
        from prometheus_client.core import HistogramMetricFamily  # noqa: PLC0415

        family = HistogramMetricFamily(self.name, self.description, labels=self.labels)
        for label_values, buckets in sorted(self._values.items()):
            family.add_metric(label_values, list(self._cumulated(buckets)), buckets.sum)
        return family

    def _cumulated(self, buckets: _Buckets) -> Iterator[tuple[str, float]]:
        total = 0
        for bound, count in zip((*map(str, self._bounds), "+Inf"), buckets.counts, strict=True):
            total += count
            yield bound, total


class _Buckets:
    __slots__ = ("counts", "sum")

    def __init__(self, size: int) -> None:
        self.counts = [0] * size
        self.sum = 0.0


CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def render() -> bytes:
    """Return all metrics in Prometheus' text format, with those of the process."""
    from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest  # noqa: PLC0415

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_AllMetrics())
    ProcessCollector(namespace="mailcrane", registry=registry)
    return generate_latest(registry)


class _AllMetrics:
    def collect(self) -> Iterable[PrometheusMetric]:
        return [metric.collect() for _, metric in sorted(_metrics.items())]


def _register(metric: Counter | Gauge | Histogram) -> None:
    if not metric.name.startswith(PREFIX):
        raise ValueError(f"{metric.name}: names of metrics begin with {PREFIX}")
    if metric.name in _metrics:
        raise ValueError(f"{metric.name}: there is such a metric already")
    _metrics[metric.name] = metric
