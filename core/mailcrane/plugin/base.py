"""The class that every plugin is."""

from __future__ import annotations

import typing
from typing import Any, ClassVar

import trio
from msgspec import Struct

from mailcrane.config.convert import strip_annotation
from mailcrane.plugin.context import PluginContext
from mailcrane.plugin.errors import PluginError


class NoConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """The configuration of a plugin that has none."""


class Plugin:
    """A plugin: hook implementations, and what lives from the server's start to its end.

    Hook implementations are methods marked with ``@hookimpl``; they may be called concurrently, from `start` on.

    Attributes:
        name: As in ``[plugins] enabled`` and in the entry point group ``mailcrane.plugins``.
        api: The lowest version of the hook API that it works with.
        requires: Names of plugins that must stand before it in ``[plugins] enabled``.
        Config: The type of ``[plugin.NAME]``: a `msgspec.Struct` with ``forbid_unknown_fields`` whose fields all have
            a description: ``Annotated[str, msgspec.Meta(description=...)]``.
    """

    name: ClassVar[str] = ""
    api: ClassVar[str] = "1.0"
    requires: ClassVar[frozenset[str]] = frozenset()
    Config: ClassVar[type[Struct]] = NoConfig

    def __init__(self, config: Any, context: PluginContext) -> None:
        """Take configuration and context. No I/O here: the server may only want to look at the plugin."""
        self.config = config
        self.context = context

    async def start(self, nursery: trio.Nursery) -> None:
        """Get ready; the server starts when this returns, and does not start when it raises or takes too long.

        Args:
            nursery: For background tasks. One that crashes ends the others and is shown in the plugin's health; the
                server and the plugin's hooks go on.
        """

    async def stop(self) -> None:
        """Finish what is under way, within the grace time. Background tasks are cancelled afterwards."""


def check_plugin_class(plugin: type[Plugin], name: str) -> None:
    """Check what can be checked of a plugin's class without constructing it.

    Raises:
        PluginError: it is not one, or its configuration is not documented.
    """
    if not (isinstance(plugin, type) and issubclass(plugin, Plugin)):
        raise PluginError(name, f"its entry point is {plugin!r}, not a subclass of mailcrane.api.Plugin")
    if plugin.name != name:
        raise PluginError(name, f"its class says name = {plugin.name!r}", "entry point and class must agree")
    if isinstance(plugin.requires, str):
        raise PluginError(name, "requires is a text", f'write requires = frozenset({{"{plugin.requires}"}})')
    _check_config(plugin.Config, name, "Config")


def _check_config(config: Any, plugin: str, path: str) -> None:
    if not (isinstance(config, type) and issubclass(config, Struct)):
        raise PluginError(plugin, f"{path} is not a msgspec.Struct")
    if not config.__struct_config__.forbid_unknown_fields:
        raise PluginError(plugin, f"{path} takes unknown keys", "declare it with forbid_unknown_fields=True")
    for field, hint in typing.get_type_hints(config, include_extras=True).items():
        if field not in config.__struct_fields__:
            continue
        bare, description = strip_annotation(hint)
        if not description:
            raise PluginError(
                plugin,
                f"{path}.{field} has no description",
                f'write {field}: Annotated[…, msgspec.Meta(description="…")]',
            )
        for nested in _structs_in(bare):
            _check_config(nested, plugin, f"{path}.{field}")


def _structs_in(hint: Any) -> list[type[Struct]]:
    bare, _ = strip_annotation(hint)
    if isinstance(bare, type) and issubclass(bare, Struct):
        return [bare]
    return [found for argument in typing.get_args(bare) for found in _structs_in(argument)]
