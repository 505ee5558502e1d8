"""What mailcrane.toml and the rows say of each other: accounts that listeners name, transports that routes name.

Neither can be checked alone, and each may change without the other. A server starts all the same, and tells of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from mailcrane.config.convert import ConfigError, join_key
from mailcrane.config.rows import Configuration, Route
from mailcrane.config.static import StaticConfig
from mailcrane.config.validate import account_path, domain_path
from mailcrane.model.event import OUTGOING_EVENT_KINDS


def dangling(
    static: StaticConfig, configuration: Configuration, *, event_types: Collection[str] = ()
) -> tuple[str, ...]:
    """Return what is named and does not exist, one text each, with the key path and what to change.

    Args:
        event_types: Names of the kinds of events that plugins add.
    """
    found = (*_dangling(static, configuration), *_unknown_events(configuration, event_types))
    return tuple(str(error) for error in found)


def _unknown_events(configuration: Configuration, event_types: Collection[str]) -> Iterator[ConfigError]:
    for account in configuration.accounts:
        webhook = account.outgoing_webhook
        for index, name in enumerate(() if webhook is None else webhook.events):
            if name not in OUTGOING_EVENT_KINDS and name not in event_types:
                yield ConfigError(
                    f"{account_path(account.name)}.outgoing_webhook.events[{index}]",
                    f'no plugin has the event "{name}"',
                    "Enable the plugin, or remove the name with `mailcrane config apply`",
                )


def _dangling(static: StaticConfig, configuration: Configuration) -> Iterator[ConfigError]:
    accounts = {account.name for account in configuration.accounts}
    for name, listener in static.listeners.items():
        for key in ("relay_account", "catch_all_account"):
            account = getattr(listener, key)
            if account and account not in accounts:
                yield ConfigError(
                    join_key(join_key("listeners", name), key),
                    f'there is no account "{account}", so its mail is put off',
                    "Add it with `mailcrane account add`, or name another",
                )
    for path, routes in _routes(configuration):
        for index, route in enumerate(routes):
            if route.transport not in static.transports:
                yield ConfigError(
                    f"{path}.routes[{index}].transport",
                    f'there is no transport "{route.transport}"',
                    f"Add [transports.{route.transport}] to mailcrane.toml, or change the route with "
                    "`mailcrane config apply`",
                )


def _routes(configuration: Configuration) -> Iterator[tuple[str, tuple[Route, ...]]]:
    yield "settings", configuration.settings.routes
    for domain in configuration.domains:
        yield domain_path(domain.name), domain.routes
    for account in configuration.accounts:
        yield account_path(account.name), account.routes
