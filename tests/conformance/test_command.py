"""``python -m mailcrane_conformance``, as an author runs it."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path

import trio

from .plain_receiver import AUTHORIZATION, SECRET, ReceiverFaults, running_receiver

BROKEN = (
    "class Broken:\n"
    "    async def deliver(self, delivery): return ()\n"
    "    async def aclose(self): pass\n"
    "async def make(host, port): return Broken()\n"
)


async def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mailcrane_conformance", *arguments]
    call = functools.partial(subprocess.run, command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
    return await trio.to_thread.run_sync(call)


async def test_each_behaviour_is_reported_and_one_that_fails_makes_the_exit_code(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(BROKEN)
    arguments = ("transport", "broken:make", "--only", "transport/delivered", "--only", "nobody-listens")
    ended = await run(*arguments, cwd=tmp_path)
    assert ended.returncode == 1
    assert "FAIL transport/delivered" in ended.stdout
    assert ended.stdout.splitlines()[-1] == "0 passed, 2 failed, 0 skipped"


async def test_what_does_not_apply_is_skipped_and_makes_no_failure(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(BROKEN)
    ended = await run("transport", "broken:make", "--only", "lmtp-each-answer", "--json", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    [row] = json.loads(ended.stdout)
    assert (row["answer"], row["explanation"]) == ("skipped", "the transport does not speak LMTP")


async def test_list_shows_every_id_with_its_sentence(tmp_path: Path) -> None:
    ended = await run("list", "--json", cwd=tmp_path)
    rows = {row["id"]: row for row in json.loads(ended.stdout)}
    assert rows["transport/delivered"]["sentence"] == "any 2yz reply to the final dot is delivered"
    text = await run("list", "transport", cwd=tmp_path)
    assert all(name in text.stdout for name in rows if name.startswith("transport/"))


async def test_an_installed_plugin_is_tested_by_its_name_with_its_table_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "mailcrane.toml").write_text("[plugin.webapi]\nnonsense = 1\n")
    good = await run("plugin", "webapi", "--only", "registration", cwd=tmp_path)
    assert good.returncode == 0, good.stdout + good.stderr
    bad = await run("plugin", "webapi", "--only", "registration", "--config", "mailcrane.toml", cwd=tmp_path)
    assert bad.returncode == 1
    assert "nonsense" in bad.stdout


async def test_a_receiver_of_webhooks_is_called_and_its_secret_is_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET + "\n")
    (tmp_path / "authorization").write_text(AUTHORIZATION + "\n")
    files = ("--secret-file", "secret", "--authorization-file", "authorization")
    async with running_receiver(ReceiverFaults()) as receiver:
        good = await run("webhook", receiver.url, *files, cwd=tmp_path)
        bad = await run("webhook", receiver.url, "--only", "takes", cwd=tmp_path)
    assert good.returncode == 0, good.stdout + good.stderr
    assert good.stdout.splitlines()[-1] == "17 passed, 0 failed, 0 skipped"
    assert bad.returncode == 1
    assert "a correct call was answered 401, not 200" in bad.stdout


async def test_a_wrong_call_says_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(BROKEN)
    for arguments, problem in {
        ("transport", "nonsense"): "is not MODULE:FUNCTION",
        ("transport", "broken:make", "--only", "gibberish"): "no behaviour has the id gibberish",
        ("transport", "missing:make"): "No module named 'missing'",
        ("plugin", "missing"): "is in [plugins] enabled but not installed",
    }.items():
        ended = await run(*arguments, cwd=tmp_path)
        assert ended.returncode == 2
        assert problem in ended.stderr
