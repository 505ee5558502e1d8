"""The development server's directory, and the server as a process."""

from __future__ import annotations

import json
import smtplib
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mailcrane.config.rows import Webhook
from mailcrane.config.static import load, split_address
from mailcrane.config.validate import validate
from mailcrane.observe.secret import Secret
from mailcrane.run import localserve


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
        "127.0.0.9:1025",
        "127.0.0.9:1587",
        "127.0.0.9:1465",
        "127.0.0.9:1080",
        "127.0.0.9:1443",
        "127.0.0.9:1081",
        "/messages/",
        "/hooks/",
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


def test_webhooks_follow_the_server_to_another_address_but_not_what_somebody_set() -> None:
    here, there = "http://127.0.0.1:1080/hooks/", "http://127.0.0.5:1080/hooks/"
    moved = localserve.with_hooks_at(localserve.initial_configuration(here), there)
    assert moved is not None
    assert moved.accounts[0].outgoing_webhook == Webhook(there, secrets=(Secret(localserve.WEBHOOK_SECRET),))
    assert localserve.with_hooks_at(moved, there) is None
    assert (
        localserve.with_hooks_at(localserve.initial_configuration("http://127.0.0.1:8000/my/application"), there)
        is None
    )
    assert (
        localserve.with_hooks_at(localserve.initial_configuration("https://application.example/hooks/"), there) is None
    )


def test_a_port_base_moves_all_ports(tmp_path: Path) -> None:
    localserve.set_up(tmp_path)
    config = localserve.on_this_machine(load(tmp_path / "mailcrane.toml"), "127.0.0.1", localserve.Ports(2000))
    addresses = localserve.addresses_of(config)
    assert (addresses.smtp, addresses.http) == ("127.0.0.1:2025", "127.0.0.1:2080")
    with pytest.raises(ValueError, match="port 2025 would become 66025"):
        localserve.on_this_machine(config, ports=localserve.Ports(65000))


@pytest.mark.parametrize("ports", [localserve.Ports(is_free=True), localserve.Ports(2000)])
def test_local_mail_is_delivered_where_the_smtp_listener_was_bound(tmp_path: Path, ports: localserve.Ports) -> None:
    localserve.set_up(tmp_path)
    config = localserve.on_this_machine(load(tmp_path / "mailcrane.toml"), "127.0.0.1", ports)
    if ports.is_free:
        assert {one.addresses for one in config.listeners.values()} == {("127.0.0.1:0",)}
    first = 5000 if ports.is_free else 2025
    bound = {name: [("127.0.0.1", first + index)] for index, name in enumerate(config.listeners)}
    found = localserve.as_bound(config, bound, ports)
    assert localserve.addresses_of(found).smtp == f"127.0.0.1:{first}"
    assert found.transports["local"] == {"type": "local", "host": "127.0.0.1", "port": first}


def test_where_the_file_says_the_ports_it_says_where_local_mail_goes(tmp_path: Path) -> None:
    localserve.set_up(tmp_path)
    config = localserve.on_this_machine(load(tmp_path / "mailcrane.toml"), "127.0.0.1")
    bound = {name: [split_address(one.addresses[0])] for name, one in config.listeners.items()}
    assert localserve.as_bound(config, bound) == config


def test_a_server_without_the_catcher_has_no_webhook_and_no_line_about_it(tmp_path: Path) -> None:
    assert localserve.initial_configuration("").accounts[0].outgoing_webhook is None
    addresses = localserve.Addresses("a:1", "a:2", "a:3", "a:4", "a:5", "")
    assert "webhooks" not in localserve.greeting(addresses, tmp_path)
    assert "messages" not in localserve.greeting(addresses, tmp_path)


def test_services_that_an_old_file_does_not_have_are_named(tmp_path: Path) -> None:
    localserve.set_up(tmp_path)
    path = tmp_path / "mailcrane.toml"
    assert localserve.missing_services(load(path)) == ()
    path.write_text(path.read_text().replace('messages = "/messages/", ', ""))
    assert localserve.missing_services(load(path)) == ('messages = "/messages/"',)


@contextmanager
def _process(*options: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """Run a server on free ports; yields what it says of itself."""
    command = [sys.executable, "-m", "mailcrane", "localserve", "--free-ports", "--json", *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())
        finally:
            process.terminate()


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30) as response:
        return json.load(response)


def test_the_process_delivers_at_the_second_try_and_shows_message_and_webhooks(tmp_path: Path) -> None:
    with _process("--dir", str(tmp_path)) as (process, where):
        host, port = where["submission"]
        with smtplib.SMTP(host, port, timeout=10) as client:
            client.login(where["login"], where["password"])
            content = f"From: {where['login']}\nSubject: hello\n\nHello\n"
            client.sendmail(where["login"], ["ann-451x1@example.org"], content)
        [message] = _get(f"{where['messages_url']}?to=ann-451x1@example.org&timeout=15")["messages"]
        assert message["subject"] == "hello"
        caught = _get(f"{where['hooks_url']}?to=ann-451x1@example.org&count=2&timeout=15")["webhooks"]
        assert [one["event"] for one in caught] == ["delivered", "delayed"]
        assert caught[0]["header"]["webhook-signature"].startswith("v1,")
        process.terminate()
        assert process.wait(10) == 0


def test_two_servers_run_side_by_side_and_end_with_their_standard_input(tmp_path: Path) -> None:
    with (
        _process("--dir", str(tmp_path / "a"), "--until-eof") as (first, here),
        _process("--dir", str(tmp_path / "b"), "--until-eof") as (second, there),
    ):
        assert here["messages_url"] != there["messages_url"]
        for process in (first, second):
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(10) == 0
