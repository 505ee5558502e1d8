"""What a plugin must do when its hooks are asked. The list of hooks is the server's: new ones are covered too."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Any

import trio
from msgspec import Struct
from msgspec.structs import replace

from mailcrane.api import NULL_REVERSE_PATH, HookFailed, Mailbox, Plugin, PluginError, ReversePath, hookimpl
from mailcrane.testing import PASSWORD, made_event, plugin_services, server
from mailcrane_conformance.kit import Behaviour, NotApplicable, Violation, require
from mailcrane_conformance.plugin.subject import Running, Subject

_HOOKS = "hooks.md"
_BLOCKED_SECONDS = 0.25
_ODD_TEXTS = ("", "\u00e9\u4e2d\U0001f600" * 40, "x" * 20_000, "a\tb \u0000 %s {0} ../.. ' \" <>")
_ODD_MAILBOXES = (
    Mailbox('"a b"', "there.example"),
    Mailbox("\u00e9", "there.example"),
    Mailbox("x" * 64, "there.example"),
)


def _require_hooks(subject: Subject) -> None:
    if not subject.hooks:
        raise NotApplicable("it implements no hook that is asked while the server runs")


async def _registers(subject: Subject) -> None:
    if not subject.registers:
        raise NotApplicable("it registers nothing")
    host = subject.host()
    for hook in subject.registers:
        try:
            host.hooks.by_name[hook]()  # type: ignore[operator]
        except PluginError as error:
            raise Violation(str(error)) from error


async def _answers(subject: Subject) -> None:
    _require_hooks(subject)
    async with subject.running() as running:
        for hook in subject.hooks:
            await running.ask_well(hook, subject.made(hook))


async def _every_event(subject: Subject) -> None:
    if "event_recorded" not in subject.hooks:
        raise NotApplicable("it is not told of every event")
    made = made_event()
    async with subject.running() as running:
        for kind in type(made.kind):
            arguments = {"event": replace(made, kind=kind)}
            await running.ask_well("event_recorded", arguments, f"of {kind} without data")


async def _garbage(subject: Subject) -> None:
    _require_hooks(subject)
    async with subject.running() as running:
        for hook in subject.hooks:
            made = subject.made(hook)
            for name, value in made.items():
                for what, odd in _odd(value):
                    await running.ask_well(hook, {**made, name: odd}, f"with {name}{what}")


def _odd(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield values of the same type that a stranger may cause, each with what is odd."""
    if isinstance(value, enum.Enum):
        return
    if isinstance(value, Mailbox):
        yield from ((f" {odd}", odd) for odd in _ODD_MAILBOXES)
    elif isinstance(value, ReversePath):
        yield " null", NULL_REVERSE_PATH
    elif isinstance(value, str):
        yield from ((f" {odd[:12]!r}", odd) for odd in _ODD_TEXTS)
    elif isinstance(value, dict):
        yield " empty", {}
    elif isinstance(value, tuple):
        yield " empty", ()
    elif isinstance(value, Struct):
        for field in value.__struct_fields__:
            if field in ("verdict", "outcome", "code", "id", "kind", "account", "listener", "protocol"):
                continue  # These have the values that they have.
            inner = getattr(value, field)
            if isinstance(inner, (str, dict, tuple, Struct)) and not isinstance(inner, enum.Enum):
                for what, odd in _odd(inner):
                    yield f".{field}{what}", replace(value, **{field: odd})


async def _twice(subject: Subject) -> None:
    if not subject.told:
        raise NotApplicable("it is told of no events")
    async with subject.running() as running:
        for hook in subject.told:
            arguments = subject.made(hook)
            await running.ask_well(hook, arguments)
            await running.ask_well(hook, arguments, "of the same event again")


async def _concurrent(subject: Subject) -> None:
    _require_hooks(subject)
    async with subject.running() as running:
        for hook in subject.hooks:
            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(running.ask_well, hook, subject.made(hook), "asked 20 times at once")


async def _cancellation(subject: Subject) -> None:
    _require_hooks(subject)
    async with subject.running(services=plugin_services(data=_Hanging())) as running:
        for hook in subject.hooks:
            if running.is_async(hook):
                await _cancel(running, hook)


async def _cancel(running: Running, hook: str) -> None:
    with trio.move_on_after(0.2) as limit:
        try:
            await running.direct(hook, running.subject.made(hook))
        except Exception:  # That it raises is for other behaviours.
            return
    late = trio.current_time() - limit.deadline
    if not limit.cancel_called:
        return
    require(late < 1.0, f"{hook} went on for {late:.1f} s after it was cancelled")
    require(limit.cancelled_caught, f"{hook} swallows its cancellation")


class _Hanging:
    """A store of a plugin's data that never answers."""

    async def get(self, plugin: str, key: str, entry_id: int) -> bytes | None:
        await trio.sleep_forever()

    async def set(self, plugin: str, key: str, value: bytes, entry_id: int) -> bool:
        await trio.sleep_forever()

    async def delete(self, plugin: str, key: str, entry_id: int) -> bool:
        await trio.sleep_forever()

    async def list(self, plugin: str, prefix: str, entry_id: int) -> list[tuple[str, bytes]]:
        await trio.sleep_forever()


async def _loop(subject: Subject) -> None:
    _require_hooks(subject)
    async with subject.running() as running:
        for hook in subject.hooks:
            blocked = min([await _longest_step(running, hook) for _ in range(3)])
            require(blocked < _BLOCKED_SECONDS, f"{hook} kept everybody else from running for {blocked:.2f} s")


async def _longest_step(running: Running, hook: str) -> float:
    """Ask once; returns the longest time that nothing else could run."""
    longest, last = 0.0, trio.current_time()

    async def beat() -> None:
        nonlocal longest, last
        while True:
            now = trio.current_time()
            longest, last = max(longest, now - last), now
            await trio.sleep(0.005)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(beat)
        await trio.sleep(0.01)
        await running.ask(hook, running.subject.made(hook))
        await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    return longest


async def _arguments(subject: Subject) -> None:
    _require_hooks(subject)
    async with subject.running() as running:
        for hook in subject.hooks:
            if not running.is_async(hook):
                continue
            made = subject.made(hook)
            before = {name: repr(value) for name, value in made.items()}
            try:
                with trio.move_on_after(subject.seconds):
                    await running.direct(hook, made)
            except Exception:  # That it raises is for other behaviours.
                pass
            for name, value in made.items():
                require(repr(value) == before[name], f"{hook} changes its argument {name}")


class _Neighbour(Plugin):
    """Looks on, so that one sees whether the plugin lets others be asked."""

    @hookimpl
    async def accept_connection(self) -> None:
        """Have nothing to say."""

    @hookimpl
    async def message_queued(self) -> None:
        """Be told."""


class _Before(_Neighbour):
    name = "kit_before"


class _After(_Neighbour):
    name = "kit_after"


async def _beside_others(subject: Subject) -> None:
    subject.host()  # or it does not apply
    sections = {subject.plugin.name: dict(subject.config)}
    try:
        async with server(_Before, *subject.needs, subject.plugin, _After, sections=sections) as running:
            client = running.connect("submission")
            await client.hello()
            await client.log_in("ann@here.example", PASSWORD)
            content = b"From: <ann@here.example>\r\nSubject: kit\r\n\r\nHello\r\n"
            await client.send("ann@here.example", "you@there.example", content)
            stranger = running.connect()
            await stranger.hello()
            await stranger.send("you@there.example", "bob@here.example", content)
            await trio.sleep(0.5)
            for health in running.server.host.health():
                if health.plugin == subject.plugin.name:
                    require(health.is_well, health.reason)
                    for hook in health.hooks:
                        require(not hook.failures, f"{hook.hook} failed in the server: {hook.last_failure}")
                elif health.plugin.startswith("kit_"):
                    require(health.is_well, f"beside it, another plugin is not well: {health.reason}")
    except (PluginError, HookFailed) as error:
        raise Violation(f"a server with it does not run: {error}") from error


BEHAVIOURS: tuple[Behaviour[Subject], ...] = (
    Behaviour("plugin/registers", "what it registers is of the right type, and at once", _HOOKS, _registers),
    Behaviour("plugin/answers", "each hook answers made-up arguments, with the right type, in time", _HOOKS, _answers),
    Behaviour("plugin/every-event", "event_recorded takes kinds and data that it does not know", _HOOKS, _every_event),
    Behaviour("plugin/garbage", "strangers' texts, addresses and empty tables make no hook fail", _HOOKS, _garbage),
    Behaviour("plugin/twice", "being told of the same event twice does no harm", "hooks.md, notify", _twice),
    Behaviour("plugin/concurrent", "hooks can be asked many times at once", "mailcrane.api.Plugin", _concurrent),
    Behaviour(
        "plugin/cancellation", "a call that waits for the store ends when it is cancelled", _HOOKS, _cancellation
    ),
    Behaviour("plugin/loop", "no hook keeps the event loop for a quarter of a second", _HOOKS, _loop),
    Behaviour("plugin/arguments", "no hook changes its arguments", "hooks.md", _arguments),
    Behaviour("plugin/beside-others", "it runs in the real server between other plugins", _HOOKS, _beside_others),
)
