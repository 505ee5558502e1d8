"""The transports of the configuration, opened by their types and looked up by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import trio

from mailcrane.config.convert import ConfigError, convert, join_key
from mailcrane.model.transport import Transport, TransportType
from mailcrane.observe.log import get_log

log = get_log(__name__)

_CLOSE_SECONDS = 10.0


class Transports:
    """Open transports by name. Made by `open_transports`; whoever opened it closes it."""

    def __init__(self) -> None:
        self._transports: dict[str, Transport] = {}

    def __contains__(self, name: object) -> bool:
        return name in self._transports

    def __iter__(self) -> Iterator[str]:
        return iter(self._transports)

    def __len__(self) -> int:
        return len(self._transports)

    def __getitem__(self, name: str) -> Transport:
        return self._transports[name]

    def add(self, name: str, transport: Transport) -> None:
        """Put an open transport in under a name; it is closed with the others."""
        self._transports[name] = transport

    async def aclose(self) -> None:
        """Close all transports, each within ten seconds; no delivery is under way any more."""
        with trio.CancelScope(shield=True):
            for name, transport in reversed(self._transports.items()):
                try:
                    with trio.move_on_after(_CLOSE_SECONDS) as scope:
                        await transport.aclose()
                    if scope.cancelled_caught:
                        log.warning("transport was not closed in time", transport=name, seconds=_CLOSE_SECONDS)
                except Exception:
                    log.exception("transport failed while it was closed", transport=name)
        self._transports.clear()


async def open_transports(types: Iterable[TransportType], sections: Mapping[str, Mapping[str, Any]]) -> Transports:
    """Open every ``[transports.NAME]`` with the type that it names.

    Args:
        types: What the plugins registered; their names differ.
        sections: ``[transports]`` as it stands in the file.

    Raises:
        ConfigError: a type is missing or unknown, or a key is wrong; with the path of the key.
            Nothing stays open.
    """
    known = {transport_type.name: transport_type for transport_type in types}
    transports = Transports()
    try:
        for name, section in sections.items():
            transports.add(name, await _open(known, name, section))
    except BaseException:
        await transports.aclose()
        raise
    return transports


async def _open(known: Mapping[str, TransportType], name: str, section: Mapping[str, Any]) -> Transport:
    key_path = join_key("transports", name)
    names = ", ".join(sorted(known)) or "none: no enabled plugin registers one"
    type_name = section.get("type")
    if not isinstance(type_name, str):
        raise ConfigError(f"{key_path}.type", "the type of the transport is missing", f"known types: {names}")
    transport_type = known.get(type_name)
    if transport_type is None:
        raise ConfigError(f"{key_path}.type", f"unknown transport type {type_name!r}", f"known types: {names}")
    rest = {key: value for key, value in section.items() if key != "type"}
    config = convert(rest, transport_type.config, key_path)
    try:
        return await transport_type.open(config)
    except ConfigError:
        raise
    except Exception as error:
        # Whatever a plugin raises here, it is this section that an operator has to look at.
        raise ConfigError(key_path, f"the transport cannot be opened: {error}") from error
