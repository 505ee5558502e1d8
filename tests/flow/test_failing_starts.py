"""The hooks that are asked at start: what they register is there, and a failing plugin means that there is no start."""

from __future__ import annotations

import inspect
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from mailcrane.http.app import HTTPApp, Scope, Send, respond
from mailcrane.http.app import Receive as ReceiveMessage
from mailcrane.model.delivery import RouteChoice
from mailcrane.model.event import EventType
from mailcrane.model.transport import TransportType
from mailcrane.plugin import implementation
from mailcrane.plugin.base import NoConfig, Plugin
from mailcrane.plugin.errors import PluginError
from mailcrane.plugin.policy import Kind, hookimpl
from mailcrane.plugin.spec import hook_spec, hook_specs
from mailcrane.testing import FakeTransport, server

from .conftest import Stage

MADE_TRANSPORT = FakeTransport()


async def open_made(config: NoConfig) -> FakeTransport:
    return MADE_TRANSPORT


async def made_app(scope: Scope, receive: ReceiveMessage, send: Send) -> None:
    await respond(send, 200, "made up")


GOOD: dict[str, Any] = {
    "register_transport_types": [TransportType("made", NoConfig, open_made)],
    "register_http_apps": [HTTPApp("made", "/made/", lambda: made_app)],
    "register_event_types": [EventType("made.made", "Made up.")],
}

CONFIG = """
[transports.made]
type = "made"

[listeners.web]
protocol = "http"
addresses = ["127.0.0.1:80"]
services = { made = "/elsewhere/" }
"""


def registering(hook: str, register: Callable[[], Any], name: str = "odd") -> type[Plugin]:
    def function(self: Plugin) -> Any:
        return register()

    return type("Odd", (Plugin,), {"name": name, hook: hookimpl(function)})


@pytest.fixture
def never(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Set at the end of the test; whoever is asked at start has a moment only."""
    event = threading.Event()
    monkeypatch.setattr(implementation, "REGISTER_SECONDS", 0.05)
    yield event
    event.set()


async def refused_start(*plugins: type[Plugin]) -> PluginError:
    with pytest.raises((PluginError, BaseExceptionGroup)) as refused:
        async with server(*plugins):
            raise AssertionError("it must not start")
    found: BaseException = refused.value
    while isinstance(found, BaseExceptionGroup):
        (found,) = found.exceptions
    assert isinstance(found, PluginError)
    return found


def test_every_hook_that_is_asked_at_start_is_in_the_table() -> None:
    assert list(GOOD) == [spec.name for spec in hook_specs() if spec.policy.kind is Kind.REGISTER]
    for hook in GOOD:
        spec = hook_spec(hook)
        assert spec is not None
        assert "refused at start" in (inspect.getdoc(spec.function) or "")


def _name(hook: str) -> str:
    # Events are named after their plugin.
    return "made" if hook == "register_event_types" else f"plugin-{hook}"


async def test_what_is_registered_is_there(autojump_clock: trio.testing.MockClock) -> None:
    plugins = [registering(hook, partial(list, answer), _name(hook)) for hook, answer in GOOD.items()]
    async with Stage("select_route", RouteChoice("made")).run(*plugins, config=CONFIG) as running:
        answer = await running.request("GET", "/elsewhere/")
    assert (answer.status, answer.body) == (200, b"made up")


async def test_messages_go_through_a_transport_that_is_registered(autojump_clock: trio.testing.MockClock) -> None:
    MADE_TRANSPORT.deliveries.clear()
    stage = Stage("select_route", RouteChoice("made"))
    plugin = registering("register_transport_types", lambda: GOOD["register_transport_types"], "made")
    async with stage.run(plugin, config='[transports.made]\ntype = "made"\n'):
        assert (await stage.submit()).result == ("delivered", "made", "")
    assert len(MADE_TRANSPORT.deliveries) == 1


@pytest.mark.parametrize("hook", GOOD)
async def test_a_plugin_that_raises_keeps_the_server_from_starting(
    hook: str, autojump_clock: trio.testing.MockClock
) -> None:
    def raises() -> Any:
        raise ValueError("odd")

    def exits() -> Any:
        raise SystemExit(1)

    assert str(await refused_start(registering(hook, raises))) == f"plugin 'odd': {hook} raised ValueError('odd')"
    assert str(await refused_start(registering(hook, exits))) == f"plugin 'odd': {hook} raised SystemExit(1)"


@pytest.mark.parametrize("hook", GOOD)
async def test_a_plugin_that_answers_nonsense_keeps_the_server_from_starting(
    hook: str, autojump_clock: trio.testing.MockClock
) -> None:
    answer = str(await refused_start(registering(hook, object)))
    assert answer.startswith(f"plugin 'odd': {hook}: answered object, expected ")
    answer = str(await refused_start(registering(hook, lambda: [object()])))
    assert answer.startswith(f"plugin 'odd': {hook}: answered an element object, expected ")


@pytest.mark.parametrize("hook", GOOD)
async def test_a_plugin_that_does_not_answer_keeps_the_server_from_starting(
    hook: str, never: threading.Event, autojump_clock: trio.testing.MockClock
) -> None:
    answer = str(await refused_start(registering(hook, never.wait)))
    assert answer == f"plugin 'odd': {hook}: no answer within 0.05 s"


@pytest.mark.parametrize("hook", GOOD)
async def test_a_name_that_two_plugins_register_is_refused_at_start(
    hook: str, autojump_clock: trio.testing.MockClock
) -> None:
    plugins = [registering(hook, lambda: GOOD[hook], name) for name in ("one", "two")]
    name = "made.made" if hook == "register_event_types" else "made"
    answer = str(await refused_start(*plugins))
    assert answer.startswith(f"plugin 'two': {hook}: {name!r} is registered by plugin 'one' already; ")


SHIELDED = """
import sys, trio
from mailcrane.plugin.base import Plugin
from mailcrane.plugin.host import PluginHost
from mailcrane.run import serve

class Shielded(Plugin):
    name = "shielded"
    async def start(self, nursery):
        with trio.CancelScope(shield=True):
            await trio.sleep_forever()

serve.PluginHost.load = lambda enabled, sections, services: PluginHost.of([Shielded], {}, services, start_timeout=0.1)
sys.exit(serve.serve(sys.argv[1]))
"""


@pytest.mark.slow
def test_a_plugin_that_cannot_be_stopped_does_not_keep_the_process_from_ending(tmp_path: Path) -> None:
    config = tmp_path / "mailcrane.toml"
    config.write_text('hostname = "mail.here.example"\ndata_dir = "."\n[plugins]\nenabled = []\n')
    ended = subprocess.run(
        [sys.executable, "-c", SHIELDED, str(config)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        cwd=tmp_path,
    )
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == "mailcrane: plugin 'shielded': did not start: not within 0.1 s"


@pytest.mark.parametrize("hook", GOOD)
async def test_a_plugin_may_register_nothing(hook: str, autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage("place_message")
    async with stage.run(registering(hook, lambda: None, "nothing")):
        assert (await stage.receive()).folders == ("ann/Inbox",)
