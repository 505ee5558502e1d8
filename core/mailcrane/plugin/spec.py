"""The list of hooks as data: what `mailcrane.plugin.hookspecs` declares, name by name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from mailcrane.plugin import hookspecs
from mailcrane.plugin.policy import Policy


class HookSpec(Struct, frozen=True):
    """One hook.

    Attributes:
        arguments: Names in the order of the signature.
        argument_names: The same, as a set.
        function: The declaration; its docstring is the manual.
    """

    name: str
    policy: Policy
    arguments: tuple[str, ...]
    argument_names: frozenset[str]
    function: Callable[..., Any]


@functools.cache
def hook_specs() -> tuple[HookSpec, ...]:
    """Return every hook, in the order of a message's way."""
    specs = []
    for name, function in vars(hookspecs).items():
        policy = getattr(function, "hook_policy", None)
        if isinstance(policy, Policy):
            arguments = tuple(inspect.signature(function).parameters)
            specs.append(HookSpec(name, policy, arguments, frozenset(arguments), function))
    return tuple(specs)


def hook_spec(name: str) -> HookSpec | None:
    """Return one hook, or None when there is none of that name."""
    return next((spec for spec in hook_specs() if spec.name == name), None)
