"""``mailcrane example``: what it shows is what the code takes and makes."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest
from click.testing import CliRunner

from mailcrane.api import Mailbox, RouteChoice
from mailcrane.cli.commands import cli
from mailcrane.cli.example import EXAMPLES
from mailcrane.config import declarative
from mailcrane.config.convert import convert
from mailcrane.config.static import parse
from mailcrane.testing import ask, made_entry
from mailcrane.testing.clock import START
from mailcrane_transports.config import SMTPConfig


def show(*name: str) -> str:
    result = CliRunner().invoke(cli, ["example", *name])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_examples_are_listed() -> None:
    assert [line.split()[0] for line in show().splitlines()] == list(EXAMPLES)
    assert CliRunner().invoke(cli, ["example", "nothing"]).exit_code == 2


def test_the_transport_is_one() -> None:
    static = parse('hostname = "mail.example.org"\ndata_dir = "x"\n' + show("transport"))
    section = dict(static.transports["provider"])
    assert section.pop("type") == "smtp"
    assert convert(section, SMTPConfig, "transports.provider").port == 587
    assert static.queue.default_transport == "provider"


def test_the_routes_are_routes() -> None:
    configuration = declarative.parse(show("route"))
    assert [route.transport for route in configuration.settings.routes] == ["provider", "provider"]
    assert configuration.settings.routes[1].minimum_attempts == 2


async def test_the_plugin_works() -> None:
    namespace: dict[str, Any] = {"__name__": "stamps"}
    exec(compile(show("plugin"), "stamps.py", "exec", dont_inherit=True), namespace)
    config = {"domains": ["partner.example"]}
    entry = made_entry(forward_path=Mailbox.parse("you@partner.example"))
    assert await ask(namespace["StampsPlugin"], "select_route", config, entry=entry) == RouteChoice(
        "provider", "a partner's domain"
    )
    assert await ask(namespace["StampsPlugin"], "select_route", config, entry=made_entry()) is None


@pytest.mark.parametrize(
    ("name", "event", "is_dsn", "code"),
    [("webhook-outgoing-delivered", "delivered", False, 0), ("webhook-outgoing-dsn-failed", "failed", True, 550)],
)
def test_payloads_are_made_as_webhooks_are(name: str, event: str, is_dsn: bool, code: int) -> None:
    payload = json.loads(show(name))
    assert (payload["Event"], payload["DSN"], payload["Suppressing"], payload["SMTPCode"]) == (
        event,
        is_dsn,
        is_dsn,
        code,
    )
    assert payload["Extra"] == {"order": "1701"}
    assert datetime.fromisoformat(payload["WebhookQueued"]) == START


def test_the_payload_of_a_message_that_came_in_has_what_the_server_knows_of_it() -> None:
    assert json.loads(show("webhook-incoming-basic"))["Meta"]["MailboxName"] == "Inbox"
