"""The tests of an application, as `docs/how-to/test-an-application.md` writes them, run by a pytest of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "test-an-application.md"

MORE = """
import asyncio
import pytest
import trio
from mailcrane.testing import NothingArrived
from signup import signup
from test_webapi import send

def test_what_earlier_tests_left_is_gone(mailcrane):
    assert mailcrane.messages() == [] == mailcrane.webhooks()

def test_a_failure_lists_what_arrived(mailcrane):
    signup("bob@example.org", smtp=mailcrane.smtp)
    with pytest.raises(NothingArrived) as failed:
        mailcrane.wait_for_message(to="ann@example.org", timeout=0.1)
    lines = str(failed.value).splitlines()
    assert lines[0] == "no message with to='ann@example.org' within 0.1 seconds"
    assert lines[2].endswith("to=bob@example.org from=shop@example.com subject='Welcome'")
    assert lines[3] == "No webhook arrived at all."

def test_a_failure_without_anything_says_where_to_send(mailcrane):
    with pytest.raises(NothingArrived, match=f"send to 127.0.0.1:{mailcrane.smtp.port} "):
        mailcrane.wait_for_webhook(event="delivered", timeout=0)

def test_a_wrong_timeout_is_told(mailcrane):
    with pytest.raises(ValueError, match="timeout"):
        mailcrane.wait_for_message(timeout=1000)

def test_attachments_and_the_raw_message_are_read(mailcrane):
    signup("ann@example.org", smtp=mailcrane.smtp)
    mail = mailcrane.wait_for_message(to="ann@example.org", subject="welc")
    assert mailcrane.raw(mail).startswith(b"Delivered-To: ann@example.org")
    assert mail.header("from") == "shop@example.com" == str(mail.from_[0])
    assert "<b>4711</b>" in mail.html

def test_webhooks_are_caught_again_after_they_went_elsewhere(mailcrane):
    with mailcrane.webhooks_sent_to("http://127.0.0.1:9/"):
        pass
    send(mailcrane.webapi_url, mailcrane.login, mailcrane.password, "ann@example.org")
    assert mailcrane.wait_for_webhook(to="ann@example.org").event == "delivered"

async def _both(mailcrane, open_nursery):
    got = []
    async def wait():
        got.append(await mailcrane.wait_for_message_async(to="ann@example.org"))
    async def sign_up():
        signup("ann@example.org", smtp=mailcrane.smtp)
    await open_nursery(wait, sign_up)
    assert got[0].subject == "Welcome"

def test_a_test_of_asyncio_waits_beside_its_other_tasks(mailcrane):
    async def gather(*tasks):
        await asyncio.gather(*(task() for task in tasks))
    asyncio.run(_both(mailcrane, gather))

def test_a_test_of_trio_waits_beside_its_other_tasks(mailcrane):
    async def nursery(*tasks):
        async with trio.open_nursery() as running:
            for task in tasks:
                running.start_soon(task)
    trio.run(_both, mailcrane, nursery)
"""


def _files() -> dict[str, str]:
    """The indented blocks of the page that begin with the name of their file."""
    files: dict[str, str] = {}
    block: list[str] = []
    for line in [*PAGE.read_text("utf-8").splitlines(), "end"]:
        if line.startswith("    ") or not line:
            block.append(line)
            continue
        text = textwrap.dedent("\n".join(block)).strip()
        first = text.partition("\n")[0]
        if first.startswith("# ") and first.endswith(".py"):
            files[first[2:]] = text + "\n"
        block = []
    return files


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in {**_files(), "test_more.py": MORE}.items():
        (tmp_path / name).write_text(text, "utf-8")
    return tmp_path


def _run(project: Path, *command: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    # A proxy of the environment is nothing to a server on this machine.
    environment["http_proxy"] = "http://127.0.0.1:9"
    environment["no_proxy"] = "127.0.0.1"
    ran = subprocess.run(
        [sys.executable, *command],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_the_tests_of_the_page_pass_and_so_does_what_it_promises_besides(project: Path) -> None:
    names = {"check.py", "conftest.py", "signup.py", "test_signup.py", "test_webapi.py", "test_endpoint.py"}
    assert _files().keys() == names
    printed = _run(project, "-m", "pytest", "-q", "-c", "/dev/null", "--rootdir", str(project), str(project))
    assert "13 passed" in printed


def test_it_works_without_pytest(project: Path) -> None:
    assert _run(project, "check.py") == "Welcome\n"


def test_a_server_that_cannot_start_says_why(project: Path) -> None:
    (project / "data").mkdir()
    (project / "data" / "mailcrane.toml").write_text("hostname = 7\n")
    program = "from mailcrane.testing import running_localserve as run\ntry: run('data').__enter__()\n"
    program += "except RuntimeError as error: print(error)\n"
    printed = _run(project, "-c", program)
    assert "mailcrane localserve ended" in printed
    assert "hostname" in printed
