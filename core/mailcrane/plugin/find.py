"""Finds plugins by entry points. Only those that are enabled are imported."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points

from msgspec import Struct

from mailcrane.plugin.base import Plugin, check_plugin_class
from mailcrane.plugin.errors import PluginError

GROUP = "mailcrane.plugins"


class FoundPlugin(Struct, frozen=True):
    """A plugin that is installed.

    Attributes:
        target: ``module:Class``.
        distribution: Name and version of the package that it comes with.
    """

    name: str
    target: str
    distribution: str


def find_plugins(points: Iterable[EntryPoint] | None = None) -> tuple[FoundPlugin, ...]:
    """List the installed plugins by name, without importing any."""
    found = []
    for point in entry_points(group=GROUP) if points is None else points:
        distribution = f"{point.dist.name} {point.dist.version}" if point.dist is not None else ""
        found.append(FoundPlugin(point.name, point.value, distribution))
    # An editable install beside a wheel of the same distribution lists everything twice.
    return tuple(sorted(set(found), key=lambda plugin: (plugin.name, plugin.distribution, plugin.target)))


def import_plugin(name: str, found: Sequence[FoundPlugin]) -> type[Plugin]:
    """Import the class of one plugin.

    Raises:
        PluginError: it is not installed, installed twice, cannot be imported, or is not a plugin.
    """
    candidates = [plugin for plugin in found if plugin.name == name]
    if not candidates:
        near = difflib.get_close_matches(name, [plugin.name for plugin in found], n=1)
        hint = f'did you mean "{near[0]}"?' if near else "install its package where mailcrane is installed"
        raise PluginError(name, "is in [plugins] enabled but not installed", hint)
    if len({candidate.target for candidate in candidates}) > 1:
        owners = " and ".join(candidate.distribution or candidate.target for candidate in candidates)
        raise PluginError(name, f"the name is used by {owners}", "uninstall one of them")
    chosen = candidates[0]
    try:
        plugin = EntryPoint(chosen.name, chosen.target, GROUP).load()
    except Exception as error:
        # Importing is running the plugin's code: anything may come out of it.
        raise PluginError(name, f"{chosen.target} cannot be imported: {error!r}", _import_hint(chosen)) from error
    check_plugin_class(plugin, name)
    return plugin  # type: ignore[no-any-return]


def check_order(requires: Mapping[str, frozenset[str]]) -> None:
    """Check that every plugin stands behind those that it requires.

    Args:
        requires: What each enabled plugin requires, in the order of ``[plugins] enabled``.

    Raises:
        PluginError: with the line to write.
    """
    seen: set[str] = set()
    for name, wanted in requires.items():
        for missing in sorted(wanted - seen):
            where = "stand before it in" if missing in requires else "be enabled before it in"
            line = ", ".join(f'"{plugin}"' for plugin in _right_order(requires, name))
            raise PluginError(name, f"needs {missing!r}, which must {where} [plugins]", f"write enabled = [{line}]")
        seen.add(name)


def _right_order(requires: Mapping[str, frozenset[str]], blamed: str) -> list[str]:
    """Return the order that changes least: each plugin right after those that it requires."""
    order: list[str] = []
    under_way: set[str] = set()

    def put(name: str) -> None:
        if name in order:
            return
        if name in under_way:
            raise PluginError(blamed, f"requires itself through {name!r}", "one of the plugins is in error")
        under_way.add(name)
        for wanted in sorted(requires.get(name, frozenset())):
            put(wanted)
        order.append(name)

    for name in requires:
        put(name)
    return order


def _import_hint(plugin: FoundPlugin) -> str:
    return f"it comes with {plugin.distribution}" if plugin.distribution else ""
