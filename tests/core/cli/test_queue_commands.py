"""``mailcrane queue``: commands on the database of a server that does not run."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner, Result

from mailcrane.admin import queue_changes
from mailcrane.cli import queue_changes as commands
from mailcrane.cli.commands import cli
from mailcrane.config.rows import Account, Configuration, Domain
from mailcrane.model.address import Mailbox, ReversePath
from mailcrane.model.clock import SystemClock
from mailcrane.store.records import ContentDraft, NewEntry
from mailcrane.store.sqlite import open_sqlite
from mailcrane.store.transaction import Transaction

CONFIG = """\
hostname = "mail.example.org"
data_dir = "data"
[plugins]
enabled = []
[transports.out]
type = "smtp"
"""
ROWS = Configuration(
    domains=(Domain("example.org"),), accounts=(Account("ann", "example.org"), Account("bob", "example.org"))
)
PATHS = ("a@example.net", "b@example.com", "c@example.net")
FAR = datetime(2100, 1, 1, tzinfo=UTC)

Mailcrane = Callable[..., Result]


def fill(transaction: Transaction) -> list[int]:
    transaction.configuration.replace(ROWS, expected_version=0)
    content = transaction.content.add(b"Subject: x\r\n\r\nHello.\r\n", ContentDraft(14))
    sender = ReversePath(Mailbox.parse("ann@example.org"))
    return transaction.queue.add(
        [
            NewEntry("ann", sender, Mailbox.parse(path), content.id, 22, FAR - timedelta(days=place))
            for place, path in enumerate(PATHS)
        ]
    )


@pytest.fixture
def mailcrane(tmp_path: Path) -> Mailcrane:
    """The command, with three entries in the queue."""
    config = tmp_path / "mailcrane.toml"
    config.write_text(CONFIG)

    async def prepare() -> None:
        (tmp_path / "data").mkdir()
        async with await open_sqlite(str(tmp_path / "data" / "mailcrane.db"), SystemClock()) as store:
            await store.write(fill, key="queue")

    trio.run(prepare)

    def invoke(*arguments: str) -> Result:
        result = CliRunner().invoke(cli, ["--config", str(config), "queue", *arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return invoke


def ids_of(result: Result) -> list[int]:
    assert result.exit_code == 0, result.output
    return [entry["id"] for entry in json.loads(result.stdout)]


def test_entries_are_listed_in_both_orders_and_page_by_page(mailcrane: Mailcrane) -> None:
    assert ids_of(mailcrane("list", "--json")) == [1, 2, 3]
    assert ids_of(mailcrane("list", "--json", "--desc")) == [3, 2, 1]
    assert ids_of(mailcrane("list", "--json", "--sort", "nextattempt")) == [3, 2, 1]
    page = mailcrane("list", "--json", "--sort", "nextattempt", "-n", "1")
    assert ids_of(page) == [3]
    following = page.stderr.removeprefix("there are more: ").split()
    assert ids_of(mailcrane("list", "--json", "--sort", "nextattempt", "-n", "1", *following)) == [2]
    assert [line.split()[0] for line in mailcrane("list").stdout.splitlines()] == ["ID", "1", "2", "3"]


def test_conditions_say_which_entries(mailcrane: Mailcrane) -> None:
    assert ids_of(mailcrane("list", "--json", "--to", "example.net")) == [1, 3]
    assert ids_of(mailcrane("list", "--json", "--ids", "2,3", "--account", "ann")) == [2, 3]
    assert ids_of(mailcrane("list", "--json", "--submitted", "<-1h")) == []
    assert ids_of(mailcrane("list", "--json", "--next-attempt", "now")) == []
    assert mailcrane("count", "--from", "ann@").stdout == "3\n"
    assert json.loads(mailcrane("count", "--to", "b@", "--json").stdout) == {"count": 1}
    assert mailcrane("list", "--submitted", "1h").stderr.startswith('Error: "1h" is not a condition on a time')
    assert mailcrane("list", "--ids", "x").exit_code == 2


def test_entries_are_held_and_released(mailcrane: Mailcrane) -> None:
    assert mailcrane("hold", "--to", "example.net").stdout == "2 held\n"
    assert mailcrane("hold", "--all").stdout == "1 held, 2 left as they are\n"
    assert json.loads(mailcrane("unhold", "--ids", "2", "--json").stdout) == {"matched": 1, "changed": 1}
    assert ids_of(mailcrane("list", "--held", "--json")) == [1, 3]


def test_nothing_is_changed_for_every_entry_by_mistake(mailcrane: Mailcrane) -> None:
    for command in (
        ["hold"],
        ["unhold"],
        ["schedule", "1h"],
        ["transport", "out"],
        ["requiretls", "yes"],
        ["fail"],
        ["drop"],
    ):
        result = mailcrane(*command)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "--all" in result.stderr


def test_the_next_attempt_transport_and_tls_are_set(mailcrane: Mailcrane) -> None:
    assert mailcrane("schedule", "--ids", "1", "--", "-24h").stdout == "1 rescheduled\n"
    assert mailcrane("schedule", "--now", "0s", "--ids", "2").stdout == "1 rescheduled\n"
    assert mailcrane("transport", "out", "--ids", "2").stdout == "1 changed\n"
    assert mailcrane("requiretls", "no", "--ids", "2").stdout == "1 changed\n"
    first, second, _ = json.loads(mailcrane("list", "--json").stdout)
    assert first["due_at"] == "2099-12-31T00:00:00Z"
    assert second["due_at"] < "2100"
    assert (second["transport"], second["require_tls"]) == ("out", False)
    assert mailcrane("transport", "missing", "--all").exit_code == 1
    assert mailcrane("requiretls", "maybe", "--all").exit_code == 2


def test_hold_rules_hold_what_is_there_and_are_removed_without_releasing_it(mailcrane: Mailcrane) -> None:
    assert mailcrane("holdrules", "add").exit_code == 2
    added = mailcrane("holdrules", "add", "--account", "ann", "--recipient-domain", "example.net")
    assert added.stdout == "hold rule 1 is added; 2 entries of the queue are held by it\n"
    again = mailcrane("holdrules", "add", "--account", "ann", "--recipient-domain", "example.net")
    assert again.stdout == "hold rule 1 was there already; 0 more entries of the queue are held by it\n"
    (rule,) = json.loads(mailcrane("holdrules", "list", "--json").stdout)
    assert (rule["id"], rule["account"], rule["sender_domain"], rule["recipient_domain"]) == (
        1,
        "ann",
        "",
        "example.net",
    )
    assert mailcrane("holdrules", "list").stdout.splitlines()[1].split()[0] == "1"
    assert mailcrane("holdrules", "remove", "1").stdout == "hold rule 1 is removed; what it held is still held\n"
    assert ids_of(mailcrane("list", "--held", "--json")) == [1, 3]
    assert mailcrane("holdrules", "remove", "1").exit_code == 1


def test_entries_are_failed_and_dropped(mailcrane: Mailcrane) -> None:
    assert mailcrane("fail", "--ids", "1").stdout == "1 failed\n"
    assert mailcrane("drop", "--to", "b@").stdout == "1 dropped\n"
    assert ids_of(mailcrane("list", "--json")) == [3]


def test_a_message_is_written_as_it_travels_in_pieces(mailcrane: Mailcrane) -> None:
    assert mailcrane("dump", "1").stdout_bytes == b"Subject: x\r\n\r\nHello.\r\n"
    assert mailcrane("dump", "99").stderr == "Error: there is no entry 99 in the queue, nor is it kept\n"


def test_why_says_what_waits_and_that_no_server_runs(mailcrane: Mailcrane) -> None:
    mailcrane("holdrules", "add", "--recipient-domain", "example.net")
    lines = mailcrane("why", "example.net").stdout.splitlines()
    assert lines[0].startswith("no server runs, so nothing is attempted")
    assert lines[1] == "2 are held by hold rule 1 (to example.net): `mailcrane queue unhold` releases"
    report = json.loads(mailcrane("why", "example.com", "--json").stdout)
    assert (report["waiting"], report["is_running"], report["blocked"]) == (1, False, None)
    assert report["routes"][0]["transport"] == ""


def test_what_left_the_queue_is_listed_where_it_is_kept_and_its_story_is_told_anyway(mailcrane: Mailcrane) -> None:
    assert mailcrane("drop", "--ids", "2").exit_code == 0
    assert json.loads(mailcrane("retired", "list", "--json").stdout) == []
    story = mailcrane("retired", "show", "2").stdout
    assert story.startswith("entry 2 left the queue and is not kept; this is what happened:\n")
    assert "left the queue as canceled after 0 attempts, not kept" in story
    details = json.loads(mailcrane("show", "2", "--json").stdout)
    assert (details["entry"], details["event_format"]) == (None, 1)


def test_long_work_is_counted_where_somebody_looks_on(mailcrane: Mailcrane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_changes, "_PIECE_ENTRIES", 1)
    assert mailcrane("hold", "--all").stderr == ""
    monkeypatch.setattr(commands, "_is_watched", lambda: True)
    released = mailcrane("unhold", "--all")
    assert released.stdout == "3 released\n"
    assert released.stderr == "\r1 released …\r2 released …\r3 released …\r"
