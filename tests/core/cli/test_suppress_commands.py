"""``mailcrane queue suppress``: commands on the database of a server that does not run."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner, Result

from mailcrane.cli import reach, suppress
from mailcrane.cli.commands import cli
from mailcrane.config.rows import Account, Configuration, Domain
from mailcrane.model.address import Mailbox
from mailcrane.model.clock import SystemClock
from mailcrane.model.event import Event
from mailcrane.model.suppression import SuppressionEvidence, SuppressionOrigin
from mailcrane.store.records import NewSuppression
from mailcrane.store.sqlite import open_sqlite
from mailcrane.store.transaction import Transaction

CONFIG = """\
hostname = "mail.example.org"
data_dir = "data"
[plugins]
enabled = []
"""
ROWS = Configuration(
    domains=(Domain("example.org"),), accounts=(Account("ann", "example.org"), Account("bob", "example.org"))
)
FROM_QUEUE = NewSuppression(
    "ann",
    Mailbox("Y.ou+tag", "xn--bcher-kva.example"),
    "queue: the next hop answered 550 5.1.1",
    SuppressionOrigin.QUEUE,
    evidence=SuppressionEvidence(4711, 550, "5.1.1", 'no such "user", at all\nreally', "mx (192.0.2.1)"),
)

Mailcrane = Callable[..., Result]


def fill(transaction: Transaction) -> None:
    transaction.configuration.replace(ROWS, expected_version=0)
    transaction.suppressions.add(FROM_QUEUE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mailcrane.toml").write_text(CONFIG)

    async def prepare() -> None:
        (tmp_path / "data").mkdir()
        async with await open_sqlite(str(tmp_path / "data" / "mailcrane.db"), SystemClock()) as store:
            await store.write(fill, key="config")

    trio.run(prepare)
    return tmp_path


@pytest.fixture
def mailcrane(folder: Path) -> Mailcrane:
    """The command, with one address on ann's list and none on bob's."""

    def invoke(*arguments: str, given: str = "") -> Result:
        config = str(folder / "mailcrane.toml")
        result = CliRunner().invoke(cli, ["--config", config, "queue", "suppress", *arguments], input=given)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return invoke


def events(folder: Path, account: str) -> list[Event]:
    async def read() -> list[Event]:
        async with await open_sqlite(str(folder / "data" / "mailcrane.db"), SystemClock()) as store:
            return await store.read(lambda transaction: transaction.events.feed(account, 0, 5000))

    return trio.run(read)


def test_a_list_shows_since_when_and_why(mailcrane: Mailcrane) -> None:
    lines = mailcrane("list", "ann").output.splitlines()
    assert lines[0].split() == ["ID", "ACCOUNT", "ADDRESS", "SINCE", "ORIGIN", "REASON"]
    assert "Y.ou+tag@bücher.example" in lines[1]
    assert lines[1].endswith("queue   queue: the next hop answered 550 5.1.1")
    assert mailcrane("list", "bob").output.splitlines() == [" ".join(lines[0].split()).replace(" ", "  ")]
    (listed,) = json.loads(mailcrane("list", "--json").output)
    assert (listed["account"], listed["base_address"]) == ("ann", "you@bücher.example")
    assert listed["record"]["code"] == 550


def test_a_list_comes_in_pages(mailcrane: Mailcrane) -> None:
    mailcrane("add", "ann", "second@example.net")
    first = mailcrane("list", "ann", "-n", "1")
    assert "there are more: --after 1" in first.stderr
    second = mailcrane("list", "ann", "-n", "1", "--after", "1")
    assert "second@example.net" in second.output
    assert second.stderr == ""


def test_what_is_added_by_hand_is_found_by_its_base_and_can_be_taken_off(mailcrane: Mailcrane, folder: Path) -> None:
    added = mailcrane("add", "bob", "First.Last+news@example.net", "--reason", "asked to stop")
    assert added.output == "firstlast@example.net is on the suppression list of bob\n"
    again = mailcrane("add", "bob", "firstlast@example.net")
    assert again.exit_code == 1
    assert "firstlast@example.net is on the suppression list of bob already" in again.output
    found = mailcrane("lookup", "bob", "FIRSTLAST-x@example.net")
    assert found.exit_code == 0
    assert "asked to stop" in found.output
    assert "manual" in found.output
    removed = mailcrane("remove", "bob", "firstlast@example.net")
    assert removed.output.startswith("firstlast@example.net is off the suppression list of bob")
    missing = mailcrane("lookup", "bob", "firstlast@example.net")
    assert (missing.exit_code, missing.output) == (1, "firstlast@example.net is not on the suppression list of bob\n")
    told = events(folder, "bob")
    assert [(event.data["change"], event.data["is_manual"]) for event in told] == [("added", True), ("removed", True)]
    assert all(event.data["by"] for event in told)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("add", "bob", "no address"), '"no address" is not an address'),
        (("add", "eve", "you@example.net"), 'there is no account "eve"'),
        (("list", "eve"), 'there is no account "eve"'),
        (("lookup", "eve", "you@example.net"), 'there is no account "eve"'),
        (("remove", "bob", "you@example.net"), "you@example.net is not on the suppression list of bob"),
        (("add", "bob", "you@example.net", "--reason", "x" * 1001), "reason"),
        (("export", "eve"), 'there is no account "eve"'),
    ],
)
def test_what_cannot_be_done_is_said(mailcrane: Mailcrane, arguments: tuple[str, ...], message: str) -> None:
    result = mailcrane(*arguments)
    assert result.exit_code == 1
    assert message in result.output


@pytest.mark.parametrize("form", [(), ("--csv",)], ids=["json", "csv"])
def test_a_list_that_is_exported_and_imported_is_the_same(
    mailcrane: Mailcrane, folder: Path, form: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suppress, "_PAGE_ROWS", 2)
    for number in range(4):
        mailcrane("add", "ann", f"user{number}@example.net", "--reason", '=1+1, "quoted"; ü')
    exported = mailcrane("export", "ann", *form).output
    assert len(exported.splitlines()) >= 5
    assert mailcrane("import", "bob", "-", *form, given=exported).output == (
        "5 addresses are added, 0 were on the list already\n"
    )
    assert mailcrane("export", "bob", *form).output == exported
    again = mailcrane("import", "bob", "-", *form, "--json", given=exported)
    assert json.loads(again.output) == {"added": 0, "present": 5}
    assert mailcrane("export", "bob", *form).output == exported
    assert [event.data["change"] for event in events(folder, "bob")] == ["added"] * 5


def test_an_exported_line_has_all_that_is_known(mailcrane: Mailcrane) -> None:
    record = json.loads(mailcrane("export", "ann").output)
    assert record.pop("created_at")
    assert record == {
        "address": "Y.ou+tag@bücher.example",
        "is_manual": False,
        "reason": "queue: the next hop answered 550 5.1.1",
        "origin": "queue",
        "code": 550,
        "enhanced_status_code": "5.1.1",
        "text": 'no such "user", at all\nreally',
        "remote_mta": "mx (192.0.2.1)",
        "entry_id": 4711,
    }


def test_lists_of_other_systems_need_only_addresses(mailcrane: Mailcrane) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([["address"], ["one@example.net"], ["two@example.net"]])
    assert "2 addresses are added" in mailcrane("import", "bob", "-", "--csv", given=text.getvalue()).output
    assert (
        "1 addresses are added" in mailcrane("import", "bob", "-", given='{"address": "three@example.net"}\n\n').output
    )
    listed = json.loads(mailcrane("list", "bob", "--json").output)
    assert {one["record"]["origin"] for one in listed} == {"import"}
    assert {one["record"]["reason"] for one in listed} == {"imported"}


@pytest.mark.parametrize(
    ("form", "text", "message"),
    [
        ((), '{"address": "a@example.net"}\n{"address": 7}\n', "line 2: "),
        ((), '{"address": "a@example.net"}\nnot json\n', "line 2: "),
        ((), '{"address": "no address"}\n', "line 1: bad address: no @"),
        ((), '{"address": "a@example.net", "odd": 1}\n', "unknown field"),
        ((), '{"address": "a@example.net", "created_at": "2024-01-01T00:00:00"}\n', "created_at"),
        (("--csv",), "email\na@example.net\n", "line 1: the first line has to name the columns: address, and any of"),
        (("--csv",), "address\na@example.net,more\n", "line 2: there are more cells than columns"),
        (("--csv",), "address,code\na@example.net,many\n", "line 2: "),
        (("--csv",), "", "line 1: the first line has to name"),
    ],
)
def test_a_line_that_cannot_be_read_is_named_and_nothing_of_its_batch_is_added(
    mailcrane: Mailcrane, form: tuple[str, ...], text: str, message: str
) -> None:
    result = mailcrane("import", "bob", "-", *form, given=text)
    assert result.exit_code == 1
    assert message in result.output
    assert json.loads(mailcrane("list", "bob", "--json").output) == []


def test_thousands_are_imported_in_bounded_batches(mailcrane: Mailcrane, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def counting(operation: Any, request: Any) -> Any:
        sizes.append(len(request.records))
        return reach.run(operation, request)

    monkeypatch.setattr(suppress, "run", counting)
    lines = "".join(json.dumps({"address": f"user{number}@example.net"}) + "\n" for number in range(2500))
    assert "2500 addresses are added" in mailcrane("import", "bob", "-", given=lines).output
    assert sizes == [1000, 1000, 500]
