"""Commands against a database without a server, and against a running one."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner, Result

from mailcrane.admin.administration import Administration
from mailcrane.admin.control import serve_control
from mailcrane.cli.commands import cli
from mailcrane.config import static
from mailcrane.config.static import StaticConfig
from mailcrane.model.clock import SystemClock
from mailcrane.observe.health import Health, State
from mailcrane.store.sqlite import open_sqlite

Mailcrane = Callable[..., Result]

CONFIG = 'hostname = "mail.example.org"\ndata_dir = "data"\n[plugins]\nenabled = []\n'


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "mailcrane.toml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def mailcrane(config: Path) -> Mailcrane:
    def invoke(*arguments: str, stdin: str = "") -> Result:
        result = CliRunner().invoke(cli, ["--config", str(config), *arguments], input=stdin)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return invoke


@pytest.fixture
def with_account(mailcrane: Mailcrane) -> Mailcrane:
    assert mailcrane("domain", "add", "example.org").exit_code == 0
    added = mailcrane("account", "add", "ann", "ann@example.org", "--stdin", stdin="correct horse\n")
    assert added.exit_code == 0, added.output
    return mailcrane


def test_a_new_domain_writes_its_records(mailcrane: Mailcrane) -> None:
    result = mailcrane("domain", "add", "example.org")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert len(lines) == 4
    assert lines[0].split(" ")[0].endswith("a._domainkey.example.org.")
    assert all(len(part) <= 255 for line in lines for part in line.split('"'))


def test_accounts_are_listed(with_account: Mailcrane) -> None:
    assert with_account("account", "list").stdout.splitlines()[1].split() == [
        "ann",
        "example.org",
        "yes",
        "ann@example.org",
    ]
    listed = json.loads(with_account("account", "list", "--json").stdout)
    assert listed[0]["addresses"] == ["ann@example.org"]


def test_a_refusal_is_one_line_and_exit_code_1(with_account: Mailcrane) -> None:
    result = with_account("account", "add", "ann", "ann2@example.org", "--no-password")
    assert result.exit_code == 1
    assert result.stderr == 'Error: there is an account "ann" already\n'


def test_a_password_is_asked_for_twice(with_account: Mailcrane) -> None:
    result = with_account("password", "ann@example.org", stdin="battery staple\nbattery staple\n")
    assert result.exit_code == 0
    assert "battery" not in result.output
    refused = with_account("password", "ann", "--stdin", stdin="short\n")
    assert refused.exit_code == 1
    assert "shorter than 8" in refused.stderr


def test_an_export_is_private_and_applies_again(with_account: Mailcrane, tmp_path: Path) -> None:
    file = tmp_path / "rows.toml"
    file.write_text("old")
    file.chmod(0o644)
    assert with_account("config", "export", "-o", str(file)).exit_code == 0
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
    assert list(tmp_path.glob(".rows*")) == []
    assert with_account("config", "export").stdout == file.read_text()
    assert with_account("config", "diff", str(file)).exit_code == 0
    assert with_account("config", "apply", str(file)).stdout == "nothing changes\n"


def test_applying_shows_the_difference_and_asks(with_account: Mailcrane, tmp_path: Path) -> None:
    file = tmp_path / "rows.toml"
    with_account("config", "export", "-o", str(file))
    file.write_text(file.read_text() + '\n[domains."new.example"]\n')
    diff = with_account("config", "diff", str(file))
    assert (diff.exit_code, diff.stdout) == (3, '+ domains."new.example"\n')
    refused = with_account("config", "apply", str(file), stdin="n\n")
    assert refused.exit_code == 1
    applied = with_account("config", "apply", str(file), stdin="y\n")
    assert applied.exit_code == 0
    assert applied.stdout.endswith("applied (configuration version 3)\n")
    again = with_account("config", "apply", "--yes", str(file))
    assert again.stdout == "nothing changes\n"


def test_applying_a_file_of_an_old_version_is_refused(with_account: Mailcrane, tmp_path: Path) -> None:
    file = tmp_path / "rows.toml"
    with_account("config", "export", "-o", str(file))
    with_account("domain", "add", "new.example")
    result = with_account("config", "apply", "--yes", str(file))
    assert result.exit_code == 1
    assert "is at version 3, but this was made from version 2" in result.stderr


def test_errors_in_a_file_name_it_and_the_key(mailcrane: Mailcrane, tmp_path: Path) -> None:
    file = tmp_path / "rows.toml"
    file.write_text('[domains."example.org"]\nseparatrs = []\n')
    result = mailcrane("config", "diff", str(file))
    assert result.exit_code == 1
    assert result.stderr.startswith(f'Error: {file}: domains."example.org".separatrs: is not a known key')
    assert mailcrane("config", "diff", str(tmp_path / "none")).stderr.endswith("No such file or directory\n")


def test_what_is_not_utf_8_is_refused(mailcrane: Mailcrane, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\xff")
    assert mailcrane("config", "diff", str(tmp_path / "x")).stderr.endswith("is not UTF-8\n")


def test_a_good_file_is_well(mailcrane: Mailcrane, config: Path) -> None:
    result = mailcrane("config", "test")
    assert (result.exit_code, result.stdout) == (0, f"{config} is well\n")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[quue]\n", "quue: is not a known key. Did you mean queue?"),
        ('[transports.a]\ntype = "pigeon"\n', 'transports.a.type: there is no type "pigeon"'),
        ('[tls.a]\ncert_file = "none.pem"\nkey_file = "none.key"\n', "none.pem"),
        (
            '[listeners.web]\nprotocol = "http"\naddresses = ["127.0.0.1:0"]\nservices = { pigeons = "/" }\n',
            'listeners.web.services.pigeons: there is no web service "pigeons"',
        ),
    ],
)
def test_a_bad_file_is_told_with_the_key(mailcrane: Mailcrane, config: Path, text: str, words: str) -> None:
    config.write_text(CONFIG + text)
    result = mailcrane("config", "test")
    assert result.exit_code == 1
    assert words in result.stderr


def test_an_unknown_plugin_is_told(mailcrane: Mailcrane, config: Path) -> None:
    config.write_text(CONFIG.replace("[]", '["pigeons"]'))
    for command in (("config", "test"), ("plugins", "check")):
        result = mailcrane(*command)
        assert result.exit_code == 1
        assert "not installed" in result.stderr


def test_a_table_of_a_plugin_that_is_not_enabled_is_a_warning(mailcrane: Mailcrane, config: Path) -> None:
    config.write_text(CONFIG + "[plugin.pigeons]\nlofts = 3\n")
    result = mailcrane("config", "test")
    assert result.exit_code == 0
    assert "warning: [plugin.pigeons] is there, but it is not enabled" in result.stderr


def test_a_data_directory_that_cannot_be_made_is_told(mailcrane: Mailcrane, config: Path) -> None:
    (config.parent / "file").touch()
    text = config.read_text()
    config.write_text(
        "\n".join(['data_dir = "file/x"', *(line for line in text.splitlines() if "data_dir" not in line)])
    )
    for command in (("queue", "list"), ("serve",)):
        result = mailcrane(*command)
        assert result.exit_code == 1
        assert "data_dir: " in result.stderr
        assert "cannot be used: Not a directory" in result.stderr


def test_an_id_that_is_too_large_is_a_usage_error(mailcrane: Mailcrane) -> None:
    assert mailcrane("queue", "show", "9" * 25).exit_code == 2


def test_a_file_that_is_not_there_is_told(mailcrane: Mailcrane, config: Path) -> None:
    config.unlink()
    result = mailcrane("config", "test")
    assert result.exit_code == 1
    assert "cannot be read: No such file or directory. Name the file with --config" in result.stderr


def test_fields_are_explained(mailcrane: Mailcrane) -> None:
    assert "[listeners.NAME]" in mailcrane("config", "describe").stdout
    assert "[accounts.NAME]" in mailcrane("config", "describe", "--rows").stdout
    assert json.loads(mailcrane("config", "describe", "--json").stdout)[0]["fields"][0]["name"] == "hostname"


def test_plugins_are_listed_and_asked_in_order(mailcrane: Mailcrane) -> None:
    names = {row["name"] for row in json.loads(mailcrane("plugins", "list", "--json").stdout)}
    assert {"transports", "webapi"} <= names
    assert mailcrane("plugins", "check").stdout == "0 plugins are well\n"
    assert mailcrane("plugins", "order").stdout.startswith("HOOK")
    assert json.loads(mailcrane("plugins", "order", "--json", "select_route").stdout)[0]["plugins"] == []
    unknown = mailcrane("plugins", "order", "select_rout")
    assert unknown.exit_code == 1
    assert "no hook" in unknown.stderr


def test_an_empty_queue_is_listed(mailcrane: Mailcrane) -> None:
    assert mailcrane("queue", "list").stdout.split() == [
        "ID",
        "STATUS",
        "ATTEMPTS",
        "NEXT",
        "ATTEMPT",
        "SIZE",
        "FROM",
        "TO",
    ]
    assert json.loads(mailcrane("queue", "list", "--json").stdout) == []
    assert mailcrane("queue", "show", "7").stderr == (
        "Error: there is no entry 7 in the queue, nor is it kept, nor does an event tell of it\n"
    )


def test_without_a_server_there_is_nothing_to_stop(mailcrane: Mailcrane) -> None:
    for command in ("stop", "health", "loglevels"):
        result = mailcrane(command)
        assert (result.exit_code, result.stderr) == (1, "Error: no server is running\n")


@pytest.fixture
def beside_its_data(config: Path) -> StaticConfig:
    config.write_text(CONFIG.replace('"data"', '"."'))
    return static.load(config)


async def test_a_running_server_answers(mailcrane: Mailcrane, beside_its_data: StaticConfig) -> None:
    loaded = beside_its_data
    stopped: list[bool] = []
    health = Health()
    health.set("plugin x", State.DEGRADED, "left\x1bout")
    async with await open_sqlite(":memory:", SystemClock(), inline=True) as store, trio.open_nursery() as nursery:
        administration = Administration(store, loaded, health=health.report, stop=lambda: stopped.append(True))
        await nursery.start(serve_control, administration, loaded.control_path)

        async def invoke(*arguments: str) -> Result:
            return await trio.to_thread.run_sync(lambda: mailcrane(*arguments))

        assert (await invoke("domain", "add", "example.org")).exit_code == 0
        assert "example.org" in (await invoke("domain", "list")).stdout
        shown = await invoke("health")
        assert shown.exit_code == 1
        assert "degraded" in shown.stdout
        assert "\x1b" not in shown.stdout
        levels = await invoke("loglevels", "debug", "mailcrane.cli.nowhere")
        assert "mailcrane.cli.nowhere" in levels.stdout
        assert "nowhere" not in (await invoke("loglevels", "--clear", "mailcrane.cli.nowhere")).stdout
        assert "is not a level" in (await invoke("loglevels", "loud")).stderr
        assert (await invoke("stop", "--wait", "0")).stdout == "stopping\n"
        assert stopped == [True]
        nursery.cancel_scope.cancel()
