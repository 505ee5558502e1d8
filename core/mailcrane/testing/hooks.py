"""Asks one hook, with made-up arguments for what a test does not care about."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

from mailcrane.dns.answer import Resolver
from mailcrane.message.content import BytesContent
from mailcrane.model.clock import Clock
from mailcrane.model.delivery import Attempt, Delivery, Outcome, RecipientResult
from mailcrane.model.event import Event, EventKind
from mailcrane.model.receive import Assessment, Judgement, Verdict
from mailcrane.model.reply import Reply
from mailcrane.model.suppression import FailureCause
from mailcrane.plugin.base import Plugin
from mailcrane.plugin.caller import HookCaller, Notify
from mailcrane.plugin.context import PluginServices
from mailcrane.plugin.data import HeldPluginData, PluginDataStore
from mailcrane.plugin.host import PluginHost
from mailcrane.plugin.spec import hook_spec
from mailcrane.testing.clock import START
from mailcrane.testing.dns import FakeResolver
from mailcrane.testing.values import made_entry, made_message, made_retired, made_suppression

MADE_MESSAGE = b"From: <me@localhost>\r\nTo: <you@example.org>\r\nSubject: made up\r\n\r\nHello\r\n"


def made_event(kind: EventKind = EventKind.DELIVERED, **fields: Any) -> Event:
    """Make an event; `fields` are those of `Event`."""
    values: dict[str, Any] = {"id": "evt_1_1", "account": "me", "number": 1, "at": START, "entry_id": 1}
    values.update(fields)
    return Event(kind=kind, **values)


def made_arguments(hook: str) -> dict[str, Any]:
    """Make the arguments of a hook."""
    spec = hook_spec(hook)
    if spec is None:
        raise LookupError(f"there is no hook {hook!r}")
    return {name: _made(name, hook) for name in spec.arguments}


class HeldEvents:
    """Takes events that a plugin records, and keeps them.

    Attributes:
        recorded: In order.
    """

    def __init__(self) -> None:
        self.recorded: list[Event] = []

    async def record(self, kind: str, *, account: str, entry_id: int, data: dict[str, Any]) -> Event:
        """Keep an event."""
        number = len(self.recorded) + 1
        event = Event(f"evt_1_{number}", account, number, EventKind(kind), START, entry_id, data)
        self.recorded.append(event)
        return event


def plugin_services(
    *,
    hostname: str = "localhost",
    clock: Clock | None = None,
    data: PluginDataStore | None = None,
    resolver: Resolver | None = None,
) -> PluginServices:
    """Make services for plugins whose ``context.data`` is held in memory, with an empty DNS."""
    return PluginServices(
        hostname=hostname,
        clock=clock,
        data=HeldPluginData() if data is None else data,
        events=HeldEvents(),
        resolver=FakeResolver() if resolver is None else resolver,
        is_local_domain=lambda domain: domain == hostname,
    )


@contextlib.asynccontextmanager
async def running_plugins(
    *plugins: type[Plugin],
    config: dict[str, dict[str, Any]] | None = None,
    services: PluginServices | None = None,
) -> AsyncIterator[PluginHost]:
    """Construct plugins, start them, and stop them at the end; their hooks are in ``host.hooks``.

    Args:
        config: What stands in ``[plugin.NAME]``, by name.
    """
    host = PluginHost.of(plugins, config, plugin_services() if services is None else services)
    async with host.running():
        yield host


async def ask(plugin: type[Plugin], hook: str, config: dict[str, Any] | None = None, /, **arguments: Any) -> Any:
    """Start a plugin, ask one of its hooks and stop it again.

    Args:
        plugin: The class.
        hook: Name of the hook.
        config: What stands in ``[plugin.NAME]``.
        arguments: Those that matter; the others are made up.

    Returns:
        What the stage gets: one answer or None; a list of (plugin, answer) for hooks whose answers are merged.

    Raises:
        HookFailed: it failed, and failing means *defer* or *retry*.
        PluginError: it does not start, or registers nonsense.
    """
    asked = {**made_arguments(hook), **arguments}
    async with running_plugins(plugin, config={plugin.name: config or {}}) as host:
        return await ask_host(host, hook, asked)


async def ask_host(host: PluginHost, hook: str, arguments: dict[str, Any]) -> Any:
    """Ask a hook of running plugins, of whatever kind it is."""
    caller: HookCaller = host.hooks.by_name[hook]
    if isinstance(caller, Notify):
        for implementation in caller.implementations:
            await caller.tell(implementation, **arguments)
        return None
    answer = caller(**arguments)  # type: ignore[operator]
    return answer if isinstance(answer, list) else await answer


def _made(argument: str, hook: str) -> Any:
    message = made_message("you@example.org", octets=MADE_MESSAGE)
    entry = made_entry()
    deferred = RecipientResult.from_reply(Reply(451, "4.3.0", ("Try again later",)))
    attempt = Attempt(1, START, "direct", timedelta(seconds=1), deferred)
    event = EventKind(hook) if hook in list(EventKind) else EventKind.DELIVERED
    values = {
        "session": message.session,
        "login": "me@localhost",
        "password": "made up",
        "reverse_path": message.reverse_path,
        "forward_path": message.recipients[0].forward_path,
        "message": message,
        "recipient": message.recipients[0],
        "assessments": (Assessment("spf", "pass"),),
        "judgement": Judgement(Verdict.ACCEPT, "made up"),
        "entry": entry,
        "result": deferred,
        "due_at": START + timedelta(minutes=8),
        "suppression": made_suppression(),
        "cause": FailureCause.UNCLEAR,
        "content": message.content,
        "transport": "direct",
        "delivery": Delivery("1-1", (entry,), entry.reverse_path, BytesContent(MADE_MESSAGE)),
        "attempts": (attempt,),
        "retired": made_retired(entry),
        "payload": {"Version": 0, "Event": "delivered"},
        "event": str(Outcome.DELIVERED) if hook == "retain_retired" else made_event(event),
    }
    return values[argument]
