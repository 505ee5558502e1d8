"""Counters, gauges and histograms (provisional). Make them once, at module level; names begin with ``mailcrane_``."""

# ruff: noqa: PLC0414 - the alias is what tells a type checker that a name is re-exported.

from __future__ import annotations

from typing import TYPE_CHECKING

from mailcrane.api._lazy import lazy_names

if TYPE_CHECKING:
    from mailcrane.observe.metrics import Counter as Counter
    from mailcrane.observe.metrics import Gauge as Gauge
    from mailcrane.observe.metrics import Histogram as Histogram
else:
    # A type checker sees the names above, and no others.
    __getattr__, __dir__ = lazy_names(__name__, {"mailcrane.observe.metrics": ("Counter", "Gauge", "Histogram")})
