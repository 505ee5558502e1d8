"""The development server's directory, and the server as a process."""

from __future__ import annotations

import json
import smtplib
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from mailcrane.config.rows import Webhook
from mailcrane.config.static import load
from mailcrane.config.validate import validate
from mailcrane.run import localserve

PORTS = (1025, 1587, 1465, 1080, 1443, 1081)


def test_a_new_directory_holds_a_file_that_loads_and_a_certificate(tmp_path: Path) -> None:
    assert localserve.set_up(tmp_path / "new")
    config = load(tmp_path / "new" / "mailcrane.toml")
    assert config.auth.legacy
    assert config.data_dir == str(tmp_path / "new" / "data")
    assert (tmp_path / "new" / "localhost.key").stat().st_mode & 0o777 == 0o600


def test_an_edited_file_is_left_alone(tmp_path: Path) -> None:
    localserve.set_up(tmp_path)
    config = tmp_path / "mailcrane.toml"
    config.write_text(config.read_text() + "# mine\n")
    assert not localserve.set_up(tmp_path)
    assert config.read_text().endswith("# mine\n")


def test_another_address_replaces_those_of_all_listeners(tmp_path: Path) -> None:
    localserve.set_up(tmp_path)
    config = localserve.on_this_machine(load(tmp_path / "mailcrane.toml"), "127.0.0.9")
    assert localserve.addresses_of(config) == localserve.Addresses(
        "127.0.0.9:1025", "127.0.0.9:1587", "127.0.0.9:1465", "127.0.0.9:1080", "127.0.0.9:1443", "127.0.0.9:1081"
    )
    assert config.transports["local"]["host"] == "127.0.0.9"
    assert {len(listener.addresses) for listener in config.listeners.values()} == {1}


def test_without_ipv6_its_addresses_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(localserve, "has_ipv6", lambda: False)
    localserve.set_up(tmp_path)
    config = localserve.on_this_machine(load(tmp_path / "mailcrane.toml"))
    assert all(not text.startswith("[") for one in config.listeners.values() for text in one.addresses)


def test_the_rows_hold_together() -> None:
    rows = validate(localserve.initial_configuration("http://127.0.0.1:1080/hooks/"))
    assert [account.name for account in rows.accounts] == ["mox"]


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports: list[int] = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def test_webhooks_follow_the_server_to_another_address_but_not_what_somebody_set() -> None:
    here, there = "http://127.0.0.1:1080/hooks/", "http://127.0.0.5:1080/hooks/"
    moved = localserve.with_hooks_at(localserve.initial_configuration(here), there)
    assert moved is not None
    assert moved.accounts[0].outgoing_webhook == Webhook(there)
    assert localserve.with_hooks_at(moved, there) is None
    assert (
        localserve.with_hooks_at(localserve.initial_configuration("http://127.0.0.1:8000/my/application"), there)
        is None
    )
    assert (
        localserve.with_hooks_at(localserve.initial_configuration("https://application.example/hooks/"), there) is None
    )


def test_the_process_takes_a_message_delivers_it_and_shows_the_webhook(tmp_path: Path) -> None:
    localserve.set_up(tmp_path)
    config = tmp_path / "mailcrane.toml"
    text = config.read_text()
    ports = _free_ports(len(PORTS))
    for old, new in zip(PORTS, ports, strict=True):
        text = text.replace(f', "[::1]:{old}"', "").replace(f":{old}", f":{new}")
    config.write_text(text.replace('type = "local"', f'type = "local"\nport = {ports[0]}'))
    program = f"from mailcrane.run.serve import localserve; raise SystemExit(localserve({str(tmp_path)!r}))"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert "is ready" in process.stdout.readline()
            with smtplib.SMTP("127.0.0.1", ports[1], timeout=10) as client:
                client.login(localserve.LOGIN, localserve.PASSWORD)
                client.sendmail(localserve.LOGIN, ["you@example.org"], f"From: {localserve.LOGIN}\n\nHello\n")
            assert _caught(ports[3])[0]["payload"]["Event"] == "delivered"
        finally:
            process.terminate()
        assert process.wait(10) == 0


def _caught(port: int) -> list[dict[str, dict[str, str]]]:
    """Ask for what was caught until something was."""
    for _ in range(200):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/hooks/?format=json", timeout=5) as response:
            calls: list[dict[str, dict[str, str]]] = json.load(response)
        if calls:
            return calls
        time.sleep(0.02)
    raise AssertionError("no webhook was caught")
