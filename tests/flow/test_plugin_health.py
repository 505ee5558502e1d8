"""What the operator sees of a plugin that is not well: in the health of the server, and printed by the command."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import trio
import trio.testing
from click.testing import CliRunner

from mailcrane.admin.control import serve_control
from mailcrane.admin.errors import AdminError
from mailcrane.admin.operations import run_named
from mailcrane.admin.plugins import DeadEvents, EventsReplayed
from mailcrane.cli.commands import cli
from mailcrane.config import static
from mailcrane.model.event import Event
from mailcrane.model.receive import Placement
from mailcrane.observe.health import State
from mailcrane.plugin.base import Plugin
from mailcrane.plugin.policy import hookimpl
from mailcrane.testing import server

CONTENT = b"From: you@there.example\r\n\r\nHello.\r\n"


class Crashing(Plugin):
    """Has a background task that crashes when told to."""

    name = "crashing"
    is_time: trio.Event

    async def start(self, nursery: trio.Nursery) -> None:
        nursery.start_soon(self._work)

    async def _work(self) -> None:
        await self.is_time.wait()
        raise RuntimeError("boom")


class AlwaysFailing(Plugin):
    """Fails in a hook whose failure is skipped."""

    name = "always-failing"

    @hookimpl
    async def place_message(self) -> Placement:
        raise ValueError("odd")


async def test_a_crashed_background_task_is_in_the_health_and_is_printed(tmp_path: Path) -> None:
    Crashing.is_time = trio.Event()
    config = tmp_path / "mailcrane.toml"
    config.write_text('hostname = "mail.here.example"\ndata_dir = "."\n')
    path = static.load(config).control_path
    async with server(Crashing) as running, trio.open_nursery() as nursery:
        assert running.server.report_health().state is State.OK
        Crashing.is_time.set()
        await trio.testing.wait_all_tasks_blocked()
        await nursery.start(serve_control, running.server.administration(), path)
        printed = await trio.to_thread.run_sync(
            lambda: CliRunner().invoke(cli, ["--config", str(config), "health"]), abandon_on_cancel=True
        )
        nursery.cancel_scope.cancel()
    assert printed.exit_code == 1
    assert re.search(
        r"^plugin crashing +failed .*a background task crashed: RuntimeError\('boom'\)", printed.stdout, re.M
    )
    assert re.search(r"^plugin fake_transport +ok ", printed.stdout, re.M)


async def test_a_hook_that_is_left_out_is_in_the_health_until_it_works_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with server(AlwaysFailing) as running:
        client = running.connect()
        await client.hello()
        for _ in range(5):
            assert (await client.send("you@there.example", "ann@here.example", CONTENT)).code == 250
        plugin = running.server.report_health().components[0]
        assert (plugin.component, plugin.state) == ("plugin always-failing", State.DEGRADED)
        assert (
            plugin.reason == "left out for a while, because it keeps failing: place_message (raised ValueError('odd'))"
        )
        await trio.sleep(61)
        assert running.server.report_health().state is State.OK


class TakesItLater(Plugin):
    """Fails at every event until it is mended."""

    name = "later"
    is_mended = False

    @hookimpl
    async def message_stored(self, event: Event) -> None:
        if not TakesItLater.is_mended:
            raise ValueError("not yet")


async def test_what_a_plugin_kept_failing_at_is_listed_and_told_once_more(
    autojump_clock: trio.testing.MockClock,
) -> None:
    TakesItLater.is_mended = False
    async with server(TakesItLater) as running:
        client = running.connect()
        await client.hello()
        assert (await client.send("you@there.example", "ann@here.example", CONTENT)).code == 250
        await trio.sleep(3600)
        administration = running.server.administration()
        listed = await run_named(administration, "plugin_dead", {"plugin": "later"})
        assert isinstance(listed, DeadEvents)
        assert [(one.kind, one.account) for one in listed.events] == [("message_stored", "ann")]
        assert "not yet" in listed.events[0].error
        again = await run_named(administration, "plugin_replay", {"plugin": "later"})
        assert again == EventsReplayed(told=0, failed=1)
        TakesItLater.is_mended = True
        again = await run_named(administration, "plugin_replay", {"plugin": "later"})
        assert again == EventsReplayed(told=1, failed=0)
        assert await run_named(administration, "plugin_dead", {"plugin": "later"}) == DeadEvents(0, ())
        with pytest.raises(AdminError, match="not enabled"):
            await run_named(administration, "plugin_replay", {"plugin": "nobody"})
