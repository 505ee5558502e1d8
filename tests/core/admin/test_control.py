"""The control socket: who may use it, what it answers, what it survives."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio

from mailcrane.admin.accounts import AccountList, ListAccounts
from mailcrane.admin.administration import Administration
from mailcrane.admin.client import ControlClient, NotRunning
from mailcrane.admin.control import ControlInUse, serve_control
from mailcrane.admin.domains import AddDomain, DomainAdded, DomainList, ListDomains
from mailcrane.admin.errors import AdminError
from mailcrane.admin.lock import DataDirInUse, hold_data_dir
from mailcrane.admin.offline import run_offline
from mailcrane.admin.operations import DOMAIN_ADD, DOMAIN_LIST, HEALTH
from mailcrane.admin.server import GetHealth
from mailcrane.config.static import StaticConfig
from mailcrane.store.errors import DiskFull

T = TypeVar("T")


async def in_thread(function: Callable[[], T]) -> T:
    return await trio.to_thread.run_sync(function, abandon_on_cancel=True)


@pytest.fixture
async def path(administration: Administration, tmp_path: Path, nursery: trio.Nursery) -> Path:
    control = tmp_path / "control"
    await nursery.start(serve_control, administration, control)
    return control


async def exchange(path: Path, *lines: bytes) -> list[dict[str, Any]]:
    with trio.fail_after(5):
        async with await trio.open_unix_socket(str(path)) as stream:
            for line in lines:
                await stream.send_all(line + b"\n")
            await stream.send_eof()
            received = b"".join([part async for part in stream])
    return [json.loads(line) for line in received.splitlines()]


async def test_only_the_owner_may_use_it(path: Path) -> None:
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


async def test_a_full_disk_is_named_with_what_to_do(
    path: Path, administration: Administration, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object, **__: object) -> None:
        raise DiskFull("no space left for the database")

    monkeypatch.setattr(administration.store, "write", full)
    _, answer = await exchange(path, b'{"op": "domain_add", "args": {"name": "example.org"}}')
    assert answer["error"]["code"] == "disk_full"
    assert "free some space and give the command again" in answer["error"]["message"]


async def test_a_client_runs_several_operations(path: Path) -> None:
    def use() -> tuple[DomainAdded, DomainList]:
        with ControlClient(path) as client:
            added = client.call("domain_add", AddDomain("example.org"), DomainAdded)
            return added, client.call("domain_list", ListDomains(), DomainList)

    added, listed = await in_thread(use)
    assert added.version == 1
    assert [domain.name for domain in listed.domains] == ["example.org"]


async def test_a_refusal_reaches_the_client_with_its_code(path: Path) -> None:
    def use() -> None:
        with ControlClient(path) as client:
            client.call("domain_add", AddDomain("exa mple"), DomainAdded)

    with pytest.raises(AdminError, match="is not a domain") as caught:
        await in_thread(use)
    assert caught.value.code == "bad_value"


async def test_nonsense_is_answered_and_the_connection_goes_on(path: Path) -> None:
    greeting, *answers = await exchange(
        path,
        b"nonsense",
        b"[]",
        b'{"op": "none"}',
        b'{"op": "health", "args": {"x": 1}}',
        b'{"op": "\xff"}',
        b'{"op": "health"}',
    )
    assert greeting["control"] == 1
    assert [answer["error"]["code"] for answer in answers[:5]] == ["bad_request"] * 5
    assert answers[5]["result"]["state"] == "ok"


async def test_an_operation_that_crashes_is_told_without_details(
    path: Path, administration: Administration, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def crash(self: Administration) -> None:
        raise RuntimeError("inside")

    monkeypatch.setattr(Administration, "configuration", crash)
    _, answer, again = await exchange(path, b'{"op": "domain_list"}', b'{"op": "health"}')
    assert answer["error"] == {"code": "server", "message": "domain_list failed; the server's log says why"}
    assert again["result"]
    assert "operation failed" in caplog.text


async def test_a_line_that_is_too_long_ends_the_connection(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailcrane.admin.wire.MAX_LINE_OCTETS", 1000)
    with trio.fail_after(5):
        async with await trio.open_unix_socket(str(path)) as stream:
            await stream.send_all(b"x" * 2000)
            received = b"".join([part async for part in stream])
    assert b"the line is too long" in received


async def test_a_socket_that_a_killed_server_left_is_replaced(
    administration: Administration, tmp_path: Path, nursery: trio.Nursery
) -> None:
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(tmp_path / "control"))
    stale.close()
    await nursery.start(serve_control, administration, tmp_path / "control")
    assert (await exchange(tmp_path / "control", b'{"op": "health"}'))[1]["result"]


async def test_a_socket_of_another_server_is_not_taken(administration: Administration, path: Path) -> None:
    with pytest.raises(ControlInUse):
        await serve_control(administration, path)
    assert (await exchange(path, b'{"op": "health"}'))[1]["result"]


async def test_the_socket_is_gone_with_the_server(administration: Administration, tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_control, administration, tmp_path / "control")
        nursery.cancel_scope.cancel()
    assert not (tmp_path / "control").exists()


async def test_a_deep_data_directory_is_reached(
    administration: Administration, tmp_path: Path, nursery: trio.Nursery
) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    await nursery.start(serve_control, administration, deep / "control")

    def use() -> AccountList:
        with ControlClient(deep / "control") as client:
            return client.call("account_list", ListAccounts(), AccountList)

    assert (await in_thread(use)).accounts == ()


def test_a_client_without_a_server_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotRunning):
        ControlClient(tmp_path / "control")


def test_a_client_that_meets_something_else_says_so(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "control"))
        other.listen()
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(tmp_path / "control"))
        connection, _ = other.accept()
        connection.close()
        client.close()
    with pytest.raises(NotRunning):
        ControlClient(tmp_path / "control")


def test_a_data_directory_is_held_once(tmp_path: Path) -> None:
    with (
        hold_data_dir(tmp_path / "data"),
        pytest.raises(DataDirInUse, match="in use"),
        hold_data_dir(tmp_path / "data"),
    ):
        pass
    with hold_data_dir(tmp_path / "data"):
        pass


def test_operations_run_without_a_server(static_config: StaticConfig) -> None:
    run_offline(static_config, DOMAIN_ADD, AddDomain("example.org"))
    listed = run_offline(static_config, DOMAIN_LIST, ListDomains())
    assert [domain.name for domain in listed.domains] == ["example.org"]


def test_without_a_server_some_operations_make_no_sense(static_config: StaticConfig) -> None:
    with pytest.raises(AdminError, match="no server is running"):
        run_offline(static_config, HEALTH, GetHealth())


def test_a_database_in_use_is_not_opened(static_config: StaticConfig) -> None:
    with hold_data_dir(static_config.data_dir), pytest.raises(AdminError, match="is in use"):
        run_offline(static_config, DOMAIN_LIST, ListDomains())
