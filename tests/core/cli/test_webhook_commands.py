"""``mailcrane queue webhook`` and ``mailcrane webhook`` on a database without a server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner, Result

from mailcrane.cli.commands import cli
from mailcrane.model.clock import SystemClock
from mailcrane.model.webhook import WebhookTarget
from mailcrane.store.records import NewCall
from mailcrane.store.sqlite import open_sqlite
from mailcrane.store.transaction import Transaction

Mailcrane = Callable[..., Result]

CONFIG = 'hostname = "mail.example.org"\ndata_dir = "data"\n[plugins]\nenabled = []\n'
ROWS = """
[domains."example.org"]
[accounts.ann]
domain = "example.org"
keep_retired_webhooks_seconds = 3600
[accounts.ann.outgoing_webhook]
url = "http://127.0.0.1:9/hook"
"""


@pytest.fixture
def mailcrane(tmp_path: Path) -> Mailcrane:
    (tmp_path / "mailcrane.toml").write_text(CONFIG)
    (tmp_path / "rows.toml").write_text(ROWS)

    def invoke(*arguments: str, stdin: str = "") -> Result:
        result = CliRunner().invoke(cli, ["--config", str(tmp_path / "mailcrane.toml"), *arguments], input=stdin)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    applied = invoke("config", "apply", "--yes", str(tmp_path / "rows.toml"))
    assert applied.exit_code == 0, applied.output
    return invoke


@pytest.fixture
def with_calls(mailcrane: Mailcrane, tmp_path: Path) -> Mailcrane:
    async def add() -> None:
        async with await open_sqlite(str(tmp_path / "data" / "mailcrane.db"), SystemClock()) as store:
            target = WebhookTarget("http://127.0.0.1:9/hook", "Bearer hidden")
            payload = '{"Event":"failed"}'

            def unit(tx: Transaction) -> None:
                for n in (1, 2, 3):
                    tx.webhooks.add([NewCall("ann", f"evt_1_{n}_0", "failed", n, target, payload, tx.now)])

            await store.write(unit, key="webhooks")

    trio.run(add)
    return mailcrane


def test_calls_are_listed_page_by_page(with_calls: Mailcrane) -> None:
    lines = with_calls("queue", "webhook", "list").stdout.splitlines()
    assert lines[0].split()[:3] == ["ID", "STATUS", "ATTEMPTS"]
    assert [line.split()[0] for line in lines[1:]] == ["1", "2", "3"]
    first = with_calls("queue", "webhook", "list", "-n", "2")
    hint = first.stderr.strip()
    assert hint.startswith("there are more: --after 2@")
    listed = json.loads(with_calls("queue", "webhook", "list", "--json", "--after", hint.split()[-1]).stdout)
    assert [call["id"] for call in listed["calls"]] == [3]


def test_a_call_is_shown_without_its_authorization(with_calls: Mailcrane) -> None:
    shown = with_calls("queue", "webhook", "show", "1").stdout
    assert "sent, not shown" in shown
    assert "hidden" not in shown
    assert "hidden" not in with_calls("queue", "webhook", "show", "1", "--json").stdout


def test_changes_of_all_calls_have_to_be_meant(with_calls: Mailcrane) -> None:
    assert with_calls("queue", "webhook", "cancel").exit_code == 2
    assert with_calls("queue", "webhook", "schedule", "1h", "--entry", "2").stdout == "1 rescheduled\n"
    assert with_calls("queue", "webhook", "cancel", "--ids", "1,2").stdout == "2 canceled\n"
    assert json.loads(with_calls("queue", "webhook", "cancel", "--all", "--json").stdout) == {"changed": 1}
    ended = json.loads(with_calls("queue", "webhook", "retired", "list", "--json").stdout)
    assert {call["status"] for call in ended["calls"]} == {"canceled"}
    assert "canceled by user" in with_calls("queue", "webhook", "retired", "show", "3").stdout
    assert with_calls("queue", "webhook", "dead").stdout.splitlines()[1:] == []


def test_replaying_needs_a_server_and_one_way_to_say_what(with_calls: Mailcrane) -> None:
    assert with_calls("queue", "webhook", "replay").exit_code == 2
    assert with_calls("queue", "webhook", "replay", "--ids", "1", "--dead").exit_code == 2
    assert with_calls("queue", "webhook", "replay", "--ids", "1", "--since", "2h").exit_code == 2
    assert "no server is running" in with_calls("queue", "webhook", "replay", "--account", "ann").stderr


def test_a_url_that_may_not_be_reached_is_tried_and_said_so(mailcrane: Mailcrane) -> None:
    tried = mailcrane("queue", "webhook", "test", "http://127.0.0.1:9/")
    assert tried.exit_code == 1
    assert tried.stdout.startswith('{\n\t"Version": 0,\n')
    assert "no response after" in tried.stdout
    assert "not a global one" in tried.stdout
    refused = mailcrane("queue", "webhook", "test", "http://127.0.0.1:9/", "--payload", "-", stdin="[]")
    assert refused.exit_code == 2


def test_a_secret_is_written_once_and_then_known_by_its_fingerprint(mailcrane: Mailcrane) -> None:
    first = mailcrane("webhook", "secret", "rotate", "ann")
    assert first.stdout.startswith("whsec_")
    assert first.stderr == ""
    second = mailcrane("webhook", "secret", "rotate", "ann", "--keep-for", "2d")
    assert "earlier secrets sign as well until" in second.stderr
    listed = mailcrane("webhook", "secret", "list", "ann").stdout
    assert len(listed.splitlines()) == 3
    assert "whsec_" not in listed
    assert "whsec_" not in mailcrane("webhook", "secret", "list", "ann", "--json").stdout
    assert mailcrane("webhook", "secret", "remove", "ann").stdout.startswith("1 removed")
    bad = mailcrane("webhook", "secret", "rotate", "ann", "--stdin", stdin="short\n")
    assert (bad.exit_code, "not a signing secret" in bad.stderr) == (1, True)


def test_nothing_is_disabled_at_first(mailcrane: Mailcrane) -> None:
    assert json.loads(mailcrane("queue", "webhook", "disabled", "--json").stdout) == []
    assert mailcrane("queue", "webhook", "enable", "ann").exit_code == 1
