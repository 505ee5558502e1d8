"""What a plugin is handed: values that it may do with as it likes.

Values of the vocabulary are frozen, but some hold a dict. Each call gets a copy of those, so that a plugin that changes
one changes it neither for the plugins after it nor for the stage.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from mailcrane.model.delivery import Delivery, Entry
from mailcrane.model.event import Event
from mailcrane.model.receive import Assessment
from mailcrane.model.retired import Retired


def own_copy(value: Any) -> Any:
    """Return a value that shares no dict with the given one; what has none is returned as it is."""
    make = _COPIES.get(type(value))
    return value if make is None else make(value)


def _all(values: tuple[Any, ...] | list[Any]) -> Any:
    return type(values)(own_copy(value) for value in values)


# By type, so that a call costs a look-up for each argument. Only what hooks are asked with.
_COPIES: dict[type, Callable[[Any], Any]] = {
    dict: copy.deepcopy,
    list: _all,
    tuple: _all,
    Event: lambda event: replace(event, data=copy.deepcopy(event.data)),
    Entry: lambda entry: replace(entry, extra=dict(entry.extra)),
    Delivery: lambda delivery: replace(delivery, entries=_all(delivery.entries)),
    Retired: lambda retired: replace(retired, entry=own_copy(retired.entry)),
    Assessment: lambda assessment: replace(assessment, facts=dict(assessment.facts)),
}
