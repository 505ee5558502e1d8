"""The composition root."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio.testing
from click.testing import CliRunner, Result
from msgspec.structs import replace

from mailcrane.admin.control import serve_control
from mailcrane.cli.commands import cli
from mailcrane.config.convert import ConfigError
from mailcrane.config.rows import Account, Address, Configuration, Route
from mailcrane.config.static import load
from mailcrane.observe.health import State
from mailcrane.store.errors import StoreFailed
from mailcrane.store.transaction import Transaction
from mailcrane.testing import ROWS, server

MESSAGE = b"From: <you@there.example>\r\n\r\nHello.\r\n"


async def _run_until_the_store_dies() -> None:
    async with server() as running:
        running.store.failed.set()
        await trio.sleep(1)


async def test_a_dead_store_ends_the_server_loudly(autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(BaseExceptionGroup) as ended:
        await _run_until_the_store_dies()
    assert ended.group_contains(StoreFailed)


async def test_rows_that_another_process_stored_are_used(autojump_clock: trio.testing.MockClock) -> None:
    async with server() as running:
        rows: Configuration = replace(ROWS, addresses=(*ROWS.addresses, Address("eve@here.example", "bob")))

        def store(transaction: Transaction) -> None:
            transaction.configuration.replace(rows, expected_version=transaction.configuration.version())

        await running.store.write(store, key="config")
        await trio.testing.wait_all_tasks_blocked()
        client = running.connect()
        await client.hello()
        assert (await client.send("you@there.example", "eve@here.example", MESSAGE)).code == 250
        assert len(await running.read("bob")) == 1


async def test_a_web_service_that_does_not_exist_is_named(autojump_clock: trio.testing.MockClock) -> None:
    config = '\n[listeners.web]\nprotocol = "http"\naddresses = ["127.0.0.1:80"]\nservices = { webmale = "/" }\n'
    with pytest.raises(ConfigError) as refused:
        async with server(config=config):
            raise AssertionError("it must not start")
    assert refused.value.key_path == "listeners.web.services.webmale"


async def test_the_server_secret_stays_the_same(autojump_clock: trio.testing.MockClock) -> None:
    async with server() as running:
        stored = await running.store.read(lambda transaction: transaction.plugin_data.get("core", "server_secret"))
    assert stored == running.server.logins.server_secret
    assert len(running.server.logins.server_secret) == 32


async def test_accounts_and_transports_that_do_not_exist_are_in_the_health_until_they_do(
    autojump_clock: trio.testing.MockClock,
) -> None:
    config = """
[listeners.mx]
protocol = "smtp"
addresses = ["127.0.0.1:27"]
relay_networks = ["198.51.100.0/24"]
relay_account = "carla"
"""
    rows = replace(ROWS, settings=replace(ROWS.settings, routes=(Route("gone"),)))
    async with server(config=config, rows=rows) as running:
        health = running.server.health.get("configuration")
        assert health is not None
        assert health.state is State.DEGRADED
        assert 'listeners.mx.relay_account: there is no account "carla"' in health.reason
        assert 'settings.routes[0].transport: there is no transport "gone"' in health.reason

        carla = Account("carla", "here.example")
        mended = replace(ROWS, version=rows.version + 100, accounts=(*ROWS.accounts, carla))
        await running.server.use(mended)
        health = running.server.health.get("configuration")
        assert health is not None
        assert (health.state, health.reason) == (State.OK, "")


async def test_health_tells_of_listeners_and_plugins(autojump_clock: trio.testing.MockClock) -> None:
    async with server() as running:
        started_at = running.server.clock.now()
        await trio.sleep(60)
        report = running.server.report_health()
    assert report.state is State.OK
    assert {one.since for one in report.components if one.component.startswith("plugin")} == {started_at}
    assert {"listeners", "plugin fake_transport"} <= {one.component for one in report.components}


async def test_a_running_server_is_asked_for_the_accounts_that_a_file_names(tmp_path: Path) -> None:
    config = tmp_path / "mailcrane.toml"
    config.write_text(
        'hostname = "mail.here.example"\ndata_dir = "."\n'
        '[listeners.mx]\nprotocol = "smtp"\naddresses = ["127.0.0.1:0"]\ncatch_all_account = "carla"\n'
    )

    async def run_test() -> Result:
        command = ["--config", str(config), "config", "test"]
        return await trio.to_thread.run_sync(lambda: CliRunner().invoke(cli, command))

    assert (await run_test()).exit_code == 0
    async with server() as running, trio.open_nursery() as nursery:
        await nursery.start(serve_control, running.server.administration(), load(config).control_path)
        refused = await run_test()
        nursery.cancel_scope.cancel()
    assert refused.exit_code == 1
    assert 'listeners.mx.catch_all_account: there is no account "carla"' in refused.stderr
