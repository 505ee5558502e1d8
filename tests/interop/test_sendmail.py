"""Programs that call sendmail hand their mail to a development server through ours."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from mailcrane.model.clock import SystemClock
from mailcrane.store.content import StoredContent
from mailcrane.store.sqlite import open_sqlite

pytestmark = pytest.mark.slow

HOST = "127.0.0.33"
USER, PASSWORD = "mox@localhost", "moxmoxmox"
_SECONDS = 20.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A development server on an address of its own, for all tests of the module."""
    folder = tmp_path_factory.mktemp("sendmail")
    command = [sys.executable, "-m", "mailcrane", "localserve", "--dir", str(folder), "--ip", HOST]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            end = time.monotonic() + _SECONDS
            while True:
                try:
                    socket.create_connection((HOST, 1465), 1).close()
                    break
                except OSError:
                    if time.monotonic() > end or process.poll() is not None:
                        pytest.fail((folder / "log").read_text())
                    time.sleep(0.05)
            yield folder
        finally:
            process.terminate()
            process.wait(20)


class Sendmail:
    """The command as programs find it, with a file and a home of its own."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = folder
        self.home = home
        self.path = home / "bin" / "sendmail"
        self.path.parent.mkdir()
        self.path.write_text(
            f"#!{sys.executable}\nimport sys\nsys.argv[0] = {str(self.path)!r}\n"
            "from mailcrane.cli import main\nmain()\n"
        )
        self.path.chmod(0o755)
        self.environment = {
            **os.environ,
            "HOME": str(home),
            "MAILCRANE_SENDMAIL_CONFIG": str(home / "sendmail.toml"),
            "PATH": f"{self.path.parent}:{os.environ['PATH']}",
        }
        self.configure()

    def configure(self, **settings: Any) -> None:
        """Write the file."""
        usual: dict[str, Any] = {
            "host": HOST,
            "port": 1465,
            "from": USER,
            "username": USER,
            "password": PASSWORD,
            # The server's certificate is for localhost.
            "tls_insecure_skip_verify": True,
            "default_destination": "admin@localhost",
        }
        lines = [f"{key} = {json.dumps(value)}" for key, value in {**usual, **settings}.items()]
        text = "\n".join(lines).replace("localhost.crt", f"{self.folder}/localhost.crt")
        (self.home / "sendmail.toml").write_text(text + "\n")

    def run(self, octets: bytes, *words: str) -> subprocess.CompletedProcess[bytes]:
        """Call it."""
        return subprocess.run(
            [str(self.path), *words], input=octets, env=self.environment, capture_output=True, timeout=60, check=False
        )

    def kept(self) -> list[bytes]:
        """What could not be submitted."""
        failures = self.home / "mailcrane-sendmail.failures"
        return [path.read_bytes() for path in sorted(failures.iterdir())] if failures.exists() else []


@pytest.fixture
def sendmail(folder: Path, tmp_path: Path) -> Sendmail:
    return Sendmail(folder, tmp_path)


def arrived(folder: Path, subject: str, count: int = 1) -> list[bytes]:
    """Wait for messages with a subject in the Inbox; the server delivers all it takes to itself."""

    async def look() -> list[bytes]:
        found = []
        async with await open_sqlite(str(folder / "data" / "mailcrane.db"), SystemClock(), inline=True) as store:
            for stored in await store.read(
                lambda transaction: transaction.folders.messages("mox", "Inbox", limit=1000)
            ):
                content = await StoredContent.open(store, stored.content_id)
                if content.info.subject == subject:
                    found.append(b"".join([chunk async for chunk in content.chunks()]))
        return found

    end = time.monotonic() + _SECONDS
    while len(found := trio.run(look)) < count:
        assert time.monotonic() < end, f"{len(found)} messages arrived"
        time.sleep(0.1)
    return found


def test_mail_of_cron_goes_to_the_administrator(sendmail: Sendmail) -> None:
    octets = b"From: root (Cron Daemon)\nTo: root\nSubject: Cron <root@host> job\n\noutput\n.\nmore\n"
    done = sendmail.run(octets, "-FCronDaemon", "-i", "-B8BITMIME", "-oem", "root")
    assert (done.returncode, done.stderr.decode()) == (0, "")
    (message,) = arrived(sendmail.folder, "Cron <root@host> job")
    assert b"\r\nFrom: <mox@localhost>\r\nTo: root\r\n" in message
    assert message.endswith(b"\r\n\r\noutput\r\n.\r\nmore\r\n")


def test_mail_of_php_goes_to_all_whom_the_header_names(sendmail: Sendmail) -> None:
    octets = "To: a@localhost, B <b@localhost>\nBcc: c@localhost\nSubject: php\n\nGrüße\n".encode()
    done = sendmail.run(octets, "-t", "-i")
    assert (done.returncode, done.stderr.decode()) == (0, "")
    messages = arrived(sendmail.folder, "php", 3)
    assert {b"Bcc" in message for message in messages} == {False}
    assert messages[0].endswith("Grüße\r\n".encode())


@pytest.mark.parametrize(
    "settings",
    [
        {"tls": "starttls", "port": 1587},
        {"tls": "none", "port": 1587},
        {"mechanisms": ["PLAIN"]},
        {"mechanisms": ["CRAM-MD5"]},
        {"mechanisms": ["SCRAM-SHA-1"]},
        {"require_tls": "no"},
    ],
    ids=str,
)
def test_the_server_is_reached_in_every_way(sendmail: Sendmail, settings: dict[str, Any]) -> None:
    sendmail.configure(**settings)
    done = sendmail.run(b"Subject: way\n\nx\n", "you@localhost")
    assert (done.returncode, done.stderr.decode()) == (0, "")


@pytest.mark.parametrize(
    ("settings", "words", "code", "text"),
    [
        ({"password": "wrong"}, ["you@localhost"], 77, b"the login is refused"),
        ({"port": 9}, ["you@localhost"], 75, b"refused"),
        (
            {"tls_insecure_skip_verify": False, "ca_file": "localhost.crt"},
            ["you@localhost"],
            75,
            b"certificate is not good",
        ),
        ({}, ["rcptto-550@localhost"], 69, b"550"),
        ({}, ["rcptto-451@localhost"], 75, b"451"),
        ({}, ["you@localhost", "rcptto-550@localhost"], 69, b"the other recipients have it"),
        ({"from": "you@example.org"}, ["you@localhost"], 69, b"550"),
        ({}, [], 65, b"no recipients"),
    ],
    ids=str,
)
def test_what_is_not_taken_is_kept_and_the_exit_code_says_why(
    sendmail: Sendmail, settings: dict[str, Any], words: list[str], code: int, text: bytes
) -> None:
    sendmail.configure(**settings)
    octets = b"Subject: not taken\n\nx\n"
    done = sendmail.run(octets, *words)
    assert text in done.stderr, done.stderr
    assert done.returncode == code
    assert sendmail.kept() == [octets]


def require(program: str) -> str:
    """The path of a program that .ci/run installs."""
    path = shutil.which(program)
    assert path is not None, f"this test needs {program}"
    return path


def test_mutt_sends_through_it(sendmail: Sendmail) -> None:
    command = [require("mutt"), "-e", "set copy=no", "-e", f"set sendmail='{sendmail.path} -oem -oi'"]
    command += ["-s", "from mutt", "-c", "cc@localhost", "-b", "bcc@localhost", "--", "you@localhost"]
    done = subprocess.run(
        command, input=b".\nbody\n", env=sendmail.environment, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    messages = arrived(sendmail.folder, "from mutt", 3)
    assert all(message.endswith(b"\r\n\r\n.\r\nbody\r\n") for message in messages)


def test_git_sends_patches_through_it(sendmail: Sendmail) -> None:
    sendmail.configure(keep_from=True)
    patch = sendmail.home / "0001.patch"
    patch.write_text("From: Mox <mox@localhost>\nSubject: [PATCH] from git\n\nIt is better.\n---\n a | 1 +\n")
    command = [
        "git",
        "send-email",
        f"--sendmail-cmd={sendmail.path}",
        "--to=list@lists.example.org",
        "--cc=cc@example.org",
    ]
    command += ["--from=mox@localhost", "--confirm=never", "--suppress-cc=all", str(patch)]
    identity = {f"GIT_{who}_{what}": USER for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = {**sendmail.environment, **identity}
    done = subprocess.run(command, env=environment, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    messages = arrived(sendmail.folder, "[PATCH] from git", 1)
    assert b"\r\nFrom: mox@localhost\r\n" in messages[0]
