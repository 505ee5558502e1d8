"""Programs that other people wrote submit and relay to a development server; what arrived has the octets they sent."""

from __future__ import annotations

import json
import shutil
import smtplib
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from mailcrane.model.clock import SystemClock
from mailcrane.store.content import StoredContent
from mailcrane.store.sqlite import open_sqlite

pytestmark = pytest.mark.slow

HOST = "127.0.0.6"
SMTP, SUBMISSION, SUBMISSIONS, HTTP = 1025, 1587, 1465, 1080
USER, PASSWORD = "mox@localhost", "moxmoxmox"
_SECONDS = 20.0

_BODY = (
    b".leading dot\r\n..two\r\n. \r\nFrom me\r\n" + b"x" * 990 + b"\r\n\r\ntrailing spaces   \r\n\ttab\r\n"
    b".\r\n..\r\nend\r\n"
)


def message(subject: str, body: bytes = _BODY) -> bytes:
    """A message whose body is easily spoilt on the way."""
    header = f"From: <{USER}>\r\nTo: <{USER}>\r\nSubject: {subject}\r\nMessage-ID: <{subject}@clients.example>\r\n"
    return header.encode() + b"Date: Fri, 20 Nov 2026 10:00:00 +0000\r\n\r\n" + body


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A development server on an address of its own, for all tests of the module."""
    folder = tmp_path_factory.mktemp("clients")
    command = [sys.executable, "-m", "mailcrane", "localserve", "--dir", str(folder), "--ip", HOST, "--json"]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            # It says where it is when it is ready, and nothing when it cannot start.
            assert process.stdout.readline(), (folder / "log").read_text()
            yield folder
        finally:
            process.terminate()


def arrived(folder: Path, subject: str) -> bytes:
    """Wait for a message in the Inbox and return its octets as they are stored."""

    query = f"message_id={subject}@clients.example&timeout={_SECONDS:g}"
    with urllib.request.urlopen(f"http://{HOST}:{HTTP}/messages/?{query}", timeout=2 * _SECONDS) as response:
        assert json.load(response)["messages"], "the message did not arrive"

    async def look() -> bytes:
        async with await open_sqlite(str(folder / "data" / "mailcrane.db"), SystemClock(), inline=True) as store:
            for stored in await store.read(lambda transaction: transaction.folders.messages("mox", "Inbox")):
                content = await StoredContent.open(store, stored.content_id)
                if content.info.message_id == f"<{subject}@clients.example>":
                    return b"".join([chunk async for chunk in content.chunks()])
        raise AssertionError("the message is shown, and is not there")

    return trio.run(look)


def require(program: str) -> str:
    """The path of a program that .ci/run installs."""
    path = shutil.which(program)
    assert path is not None, f"this test needs {program}: apt-get install {program}"
    return path


def run(*command: str, standard_input: bytes | None = None) -> None:
    ended = subprocess.run(command, input=standard_input, capture_output=True, timeout=60, check=False)
    assert ended.returncode == 0, (ended.stdout + ended.stderr).decode(errors="replace")


def swaks(*more: str) -> Callable[[Path], None]:
    def send(file: Path) -> None:
        common = ("--server", HOST, "--helo", "client.example", "--from", USER, "--to", USER, "--data", f"@{file}")
        run(require("swaks"), *common, "--timeout", "20s", *more)

    return send


def swaks_login(mechanism: str, *more: str) -> Callable[[Path], None]:
    return swaks("--auth", mechanism, "--auth-user", USER, "--auth-password", PASSWORD, *more)


def curl(mechanism: str) -> Callable[[Path], None]:
    def send(file: Path) -> None:
        login = ("--login-options", f"AUTH={mechanism}", "--user", f"{USER}:{PASSWORD}")
        envelope = ("--mail-from", USER, "--mail-rcpt", USER, "-T", str(file))
        run(require("curl"), "-sS", "-m", "20", "--url", f"smtp://{HOST}:{SUBMISSION}/client", *login, *envelope)

    return send


def msmtp(mechanism: str) -> Callable[[Path], None]:
    def send(file: Path) -> None:
        login = (f"--auth={mechanism}", f"--user={USER}", f"--passwordeval=echo {PASSWORD}", "--tls=off")
        where = (f"--host={HOST}", f"--port={SUBMISSION}", f"--from={USER}", USER)
        run(require("msmtp"), *login, *where, standard_input=file.read_bytes())

    return send


def with_smtplib(file: Path) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with smtplib.SMTP(HOST, SUBMISSION, "client.example") as session:
        session.starttls(context=context)
        session.login(USER, PASSWORD)
        session.sendmail(USER, [USER], file.read_bytes())


CLIENTS: dict[str, Callable[[Path], None]] = {
    "mx-swaks": swaks("--port", str(SMTP)),
    "mx-swaks-starttls": swaks("--port", str(SMTP), "--tls"),
    "mx-swaks-pipelining": swaks("--port", str(SMTP), "--pipeline"),
    "swaks-plain": swaks_login("PLAIN", "--port", str(SUBMISSION)),
    "swaks-login": swaks_login("LOGIN", "--port", str(SUBMISSION)),
    "swaks-cram-md5": swaks_login("CRAM-MD5", "--port", str(SUBMISSION)),
    "swaks-starttls": swaks_login("PLAIN", "--port", str(SUBMISSION), "--tls"),
    "swaks-tls": swaks_login("PLAIN", "--port", str(SUBMISSIONS), "--tls-on-connect"),
    "curl-plain": curl("PLAIN"),
    "curl-cram-md5": curl("CRAM-MD5"),
    "msmtp-scram-sha-256": msmtp("scram-sha-256"),
    "msmtp-scram-sha-1": msmtp("scram-sha-1"),
    "smtplib-starttls": with_smtplib,
}


@pytest.mark.parametrize("client", sorted(CLIENTS))
def test_what_a_client_sends_arrives_octet_for_octet(client: str, folder: Path, tmp_path: Path) -> None:
    sent = message(client)
    file = tmp_path / "message.eml"
    file.write_bytes(sent)
    CLIENTS[client](file)
    octets = arrived(folder, client)
    header, _, body = octets.partition(b"\r\n\r\n")
    assert body.rstrip(b"\r\n") == _BODY.rstrip(b"\r\n")
    assert b"Received: " in header
    # What was submitted went through the queue and was signed on its way; what a server relays is left as it is.
    assert (b"DKIM-Signature: " in header) == (not client.startswith("mx-"))


def test_a_wrong_password_is_refused_with_535(folder: Path) -> None:
    with (
        smtplib.SMTP(HOST, SUBMISSION, "client.example") as session,
        pytest.raises(smtplib.SMTPAuthenticationError) as no,
    ):
        session.login(USER, "a wrong password")
    assert no.value.smtp_code == 535
