"""What operations work on: the store, the static configuration, and the running server where there is one.

Every change of the configuration goes through `Administration.change`: one unit with the rows, the audit event and
their consequences, validated whole; it returns when the server has the new version. On any failure nothing has changed.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from mailcrane.admin.errors import AdminError
from mailcrane.config import declarative
from mailcrane.config.convert import ConfigError
from mailcrane.config.directory import Directory
from mailcrane.config.rows import Configuration, DKIMKey
from mailcrane.config.static import StaticConfig
from mailcrane.config.validate import account_path, dkim_key_path, validate
from mailcrane.message.dkim_keys import KeyUnusable, check_private_key
from mailcrane.model.event import EventKind, NewEvent, is_plugin_kind
from mailcrane.observe.health import HealthReport
from mailcrane.observe.log import get_log
from mailcrane.plugin.caller import Hooks
from mailcrane.plugin.events import registered_event_types
from mailcrane.plugin.notify import Notifier
from mailcrane.queue.scheduler import Scheduler
from mailcrane.store.errors import VersionChanged
from mailcrane.store.store import Store
from mailcrane.store.transaction import Transaction
from mailcrane.webhook.attempt import HTTPPoster
from mailcrane.webhook.dispatcher import Dispatcher

_log = get_log(__name__)

_MAX_TRIES = 5
_MAX_AUDITED_LINES = 200

T = TypeVar("T")
Edit = Callable[[Configuration], Configuration]
Consequence = Callable[[Transaction], None]


async def _nobody_listens(configuration: Configuration) -> None:
    """Stand in for `reload` where no server runs."""


class Administration:
    """The object that operations are functions of.

    Args:
        store: Open.
        static: For the names of transports, and the host name.
        actor: Who acts, for the audit event and the log.
        reload: Called after each change with the new configuration; returns when the server uses it.
        health: Tells how the running server is; None where none runs.
        stop: Begins to stop the running server and returns at once; None where none runs.
        notifier: Tells plugins of events; None where no server runs.
        hooks: Of the plugins that run; None where no server runs.
        scheduler: Delivers what is in the queue; None where no server runs.
        dispatcher: Makes webhook calls of events; None where no server runs.
        poster: Posts webhooks; None where no server runs.
        is_inline: Nothing runs in threads: for tests, where a wait for a thread would move a mock clock.
    """

    def __init__(
        self,
        store: Store,
        static: StaticConfig,
        *,
        actor: str = "",
        reload: Callable[[Configuration], Awaitable[None]] = _nobody_listens,
        health: Callable[[], HealthReport] | None = None,
        stop: Callable[[], None] | None = None,
        notifier: Notifier | None = None,
        hooks: Hooks | None = None,
        scheduler: Scheduler | None = None,
        dispatcher: Dispatcher | None = None,
        poster: HTTPPoster | None = None,
        is_inline: bool = False,
    ) -> None:
        self.store = store
        self.static = static
        self.actor = actor
        self.health = health
        self.stop = stop
        self.notifier = notifier
        self.hooks = hooks
        self.scheduler = scheduler
        self.dispatcher = dispatcher
        self.poster = poster
        self._reload = reload
        self._is_inline = is_inline

    def acting_as(self, actor: str) -> Administration:
        """Return the same administration with another actor."""
        other = copy.copy(self)
        other.actor = actor
        return other

    async def in_thread(self, function: Callable[[], T]) -> T:
        """Run what takes more than a few milliseconds of the processor."""
        return function() if self._is_inline else await trio.to_thread.run_sync(function)

    async def configuration(self) -> Configuration:
        """Return the present configuration."""
        return await self.store.read(lambda transaction: transaction.configuration.load())

    async def directory(self) -> Directory:
        """Return the look-ups of the present configuration."""
        return Directory(await self.configuration(), hostname=self.static.hostname)

    async def change(
        self,
        operation: str,
        edit: Edit,
        *,
        expected_version: int | None = None,
        consequence: Consequence | None = None,
    ) -> Configuration:
        """Change the configuration as one unit.

        Args:
            operation: Name for the audit event.
            edit: Makes the new configuration of the present one; pure, and called again when another change came in
                between.
            expected_version: Refuse when the present version is another one; None takes any.
            consequence: What else belongs to the unit, such as credentials; called after the rows are written.

        Returns:
            The new configuration, which the running server uses by now. The present one when nothing changes.

        Raises:
            AdminError: ``version_changed``, or what `edit` raises.
            ConfigError: the new configuration does not hold together.
        """
        for _ in range(_MAX_TRIES):
            old = await self.configuration()
            if expected_version is not None and old.version != expected_version:
                raise _version_changed(expected_version, old.version)
            new = await self.in_thread(functools.partial(self._edited, edit, old))
            changes = declarative.diff(old, new)
            if not changes and consequence is None:
                return old
            try:
                stored = await self._write(operation, old, new, changes, consequence)
            except VersionChanged as error:
                if expected_version is not None:
                    raise _version_changed(expected_version, error.actual) from None
                continue
            _log.info("configuration changed", operation=operation, version=stored.version, by=self.actor)
            await self._reload(stored)
            return stored
        raise AdminError("busy", "the configuration is being changed by others all the time; try again")

    def _edited(self, edit: Edit, old: Configuration) -> Configuration:
        new = validate(edit(old), transports=self.static.transports)
        self._check_event_names(new)
        known = set(old.dkim_keys)
        for key in new.dkim_keys:
            if key not in known:
                _check_key(key)
        return new

    def _check_event_names(self, new: Configuration) -> None:
        """Refuse names of events that no plugin has, where the plugins are known: in a running server."""
        if self.hooks is None:
            return
        known = registered_event_types(self.hooks)
        for account in new.accounts:
            webhook = account.outgoing_webhook
            for index, name in enumerate(() if webhook is None else webhook.events):
                if is_plugin_kind(name) and name not in known:
                    raise ConfigError(
                        f"{account_path(account.name)}.outgoing_webhook.events[{index}]",
                        f'no plugin that is enabled has the event "{name}"',
                        f"There are {', '.join(sorted(known))}" if known else "No plugin adds events",
                    )

    async def _write(
        self,
        operation: str,
        old: Configuration,
        new: Configuration,
        changes: list[str],
        consequence: Consequence | None,
    ) -> Configuration:
        def unit(transaction: Transaction) -> Configuration:
            version = transaction.configuration.replace(new, expected_version=old.version)
            if consequence is not None:
                consequence(transaction)
            data = {
                "version": version,
                "operation": operation,
                "by": self.actor,
                "changes": changes[:_MAX_AUDITED_LINES],
                "more_changes": max(0, len(changes) - _MAX_AUDITED_LINES),
            }
            transaction.events.record([NewEvent("", EventKind.CONFIGURATION_CHANGED, data=data)])
            transaction.wake("configuration")
            transaction.wake("events")
            return transaction.configuration.load()

        return await self.store.write(unit, key="config")


def _check_key(key: DKIMKey) -> None:
    try:
        algorithm = check_private_key(key.private_key_pem.reveal())
    except KeyUnusable as error:
        raise ConfigError(f"{dkim_key_path(key)}.private_key_pem", str(error), "Make a new key") from None
    if algorithm != key.algorithm:
        raise ConfigError(
            f"{dkim_key_path(key)}.algorithm", f'"{key.algorithm}" is not the kind of the key', f'Write "{algorithm}"'
        )


def _version_changed(expected: int, actual: int) -> AdminError:
    return AdminError(
        "version_changed",
        f"the configuration is at version {actual}, but this was made from version {expected}; "
        "run `mailcrane config export` again and repeat the change",
    )
