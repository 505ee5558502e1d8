"""What the operator sees of a plugin that is not well: in the health of the server, and printed by the command."""

from __future__ import annotations

import re
from pathlib import Path

import trio
import trio.testing
from click.testing import CliRunner

from mailcrane.admin.control import serve_control
from mailcrane.cli.commands import cli
from mailcrane.config import static
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
