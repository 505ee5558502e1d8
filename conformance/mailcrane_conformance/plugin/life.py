"""How a plugin must start, stop and start again."""

from __future__ import annotations

import trio

from mailcrane.api import PluginError
from mailcrane.testing import HeldPluginData
from mailcrane_conformance.kit import Behaviour, Violation, require
from mailcrane_conformance.plugin.subject import Running, Subject

_CONTRACT = "mailcrane.api.Plugin"


async def _starts(subject: Subject) -> None:
    host = subject.host()
    try:
        async with host.running():
            [health] = [one for one in host.health() if one.plugin == subject.plugin.name]
            require(not health.problem, health.problem)
    except PluginError as error:
        raise Violation(str(error)) from error


async def _stops(subject: Subject) -> None:
    async with subject.running() as running:
        pass
    [health] = [one for one in running.host.health() if one.plugin == subject.plugin.name]
    require(not health.problem, health.problem)


async def _leaves_nothing(subject: Subject) -> None:
    async with subject.running() as running:
        await trio.sleep(0.05)
    [health] = [one for one in running.host.health() if one.plugin == subject.plugin.name]
    require(health.state.value == "stopped", "tasks of it go on after it was stopped")


async def _background(subject: Subject) -> None:
    async with subject.running() as running:
        await trio.sleep(0.2)
        [health] = [one for one in running.host.health() if one.plugin == subject.plugin.name]
        require(not health.problem, health.problem)


async def _stops_twice(subject: Subject) -> None:
    async with subject.running() as running:
        for count in ("first", "second"):
            try:
                with trio.fail_after(subject.seconds):
                    await running.plugin.stop()
            except Exception as error:  # whatever a stranger's code raises
                if count == "second":
                    raise Violation(f"stop() after stop() raised {error!r}") from error
                raise Violation(f"stop() raised {error!r}") from error


async def _starts_again(subject: Subject) -> None:
    async with subject.running():
        pass
    try:
        async with subject.host().running():
            pass
    except PluginError as error:
        raise Violation(f"after it was stopped, another one of it does not start: {error}") from error


async def _restarts(subject: Subject) -> None:
    data = HeldPluginData()
    asked = []
    async with subject.running(data) as running:
        for hook in subject.hooks:
            _, problem = await running.ask(hook, subject.made(hook))
            if not problem:  # That it fails at all is for other behaviours.
                asked.append(hook)
    host = subject.host(data)
    try:
        async with host.running():
            again = Running(subject, host)
            for hook in asked:
                await again.ask_well(hook, subject.made(hook), "after a restart")
    except PluginError as error:
        raise Violation(f"with what it kept in context.data it does not start again: {error}") from error


BEHAVIOURS: tuple[Behaviour[Subject], ...] = (
    Behaviour("plugin/starts", "it starts, in time", _CONTRACT, _starts),
    Behaviour("plugin/stops", "it stops, in time and without raising", _CONTRACT, _stops),
    Behaviour("plugin/stop-twice", "stopping it again does no harm", _CONTRACT, _stops_twice),
    Behaviour("plugin/leaves-nothing", "its tasks end when they are cancelled", _CONTRACT, _leaves_nothing),
    Behaviour("plugin/background", "its background tasks do not crash", _CONTRACT, _background),
    Behaviour("plugin/starts-again", "it can be started again in the same process", _CONTRACT, _starts_again),
    Behaviour(
        "plugin/restart", "what it kept in context.data survives a restart", "mailcrane.api.PluginData", _restarts
    ),
)
