"""The example LMTP transport delivers into Dovecot, over a Unix socket and over TCP."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from mailcrane.api import Outcome, RecipientResult
from mailcrane.testing import made_delivery, made_entry

DOVECOT = shutil.which("dovecot", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
_SECONDS = 20.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(DOVECOT is None, reason="dovecot is not installed"),
    pytest.mark.skipif(os.getuid() != 0, reason="dovecot is started by root, and becomes others"),
]

PACKAGE = Path(__file__).parents[2] / "docs" / "examples" / "lmtp"

CONFIG = """
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
protocols = lmtp
listen = 127.0.0.1
ssl = no
default_internal_user = nobody
default_internal_group = nogroup
default_login_user = nobody
mail_location = maildir:{folder}/mail/%n
mail_uid = nobody
mail_gid = nogroup
first_valid_uid = 1
auth_mechanisms = plain
passdb {{
  driver = static
  args = nopassword=y
}}
userdb {{
  driver = passwd-file
  args = {folder}/users
}}
service lmtp {{
  unix_listener {folder}/lmtp.sock {{
    mode = 0666
  }}
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {port}
  }}
}}
service stats {{
  unix_listener stats-writer {{
    mode = 0666
  }}
}}
protocol lmtp {{
  auth_username_format = %n
  mail_plugins = quota
}}
plugin {{
  quota = maildir:User quota
}}
"""

# The quota of "full" has room for no message.
USERS = """ann::{uid}:{gid}::{folder}/mail/ann::
bob::{uid}:{gid}::{folder}/mail/bob::
full::{uid}:{gid}::{folder}/mail/full::userdb_quota_rule=*:bytes=100
"""


@dataclass(frozen=True)
class Dovecot:
    """A Dovecot that runs."""

    folder: Path
    port: int

    def messages(self, user: str) -> list[bytes]:
        """What lies in the new messages of a user."""
        return [path.read_bytes() for path in sorted((self.folder / "mail" / user / "new").glob("*"))]


@pytest.fixture(scope="module")
def dovecot() -> Iterator[Dovecot]:
    """Run Dovecot as an ordinary process with a configuration of its own, in a folder with a short name."""
    assert DOVECOT is not None
    with tempfile.TemporaryDirectory(prefix="dovecot") as name, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        folder, port = Path(name), free.getsockname()[1]
        free.close()
        folder.chmod(0o755)
        nobody = pwd.getpwnam("nobody")
        (folder / "mail").mkdir()
        os.chown(folder / "mail", nobody.pw_uid, nobody.pw_gid)
        config = folder / "dovecot.conf"
        config.write_text(CONFIG.format(folder=folder, port=port))
        (folder / "users").write_text(USERS.format(folder=folder, uid=nobody.pw_uid, gid=nobody.pw_gid))
        process = subprocess.Popen([DOVECOT, "-F", "-c", str(config)], stderr=subprocess.PIPE, text=True)
        try:
            _wait_for(port, process, folder)
            yield Dovecot(folder, port)
        finally:
            process.terminate()
            process.communicate(timeout=20)


def _wait_for(port: int, process: subprocess.Popen[str], folder: Path) -> None:
    until = time.monotonic() + _SECONDS
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    log = (folder / "log").read_text() if (folder / "log").exists() else ""
    process.kill()
    pytest.fail(f"dovecot did not start: {process.communicate()[1]} {log}")


@pytest.fixture
def transport_type(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The class of the example package's transport."""
    monkeypatch.syspath_prepend(str(PACKAGE))
    from mailcrane_lmtp.transport import LMTPTransport  # type: ignore[import-not-found]  # noqa: PLC0415

    yield LMTPTransport
    for name in [name for name in sys.modules if name.startswith("mailcrane_lmtp")]:
        del sys.modules[name]


async def deliver(transport: Any, *paths: str, octets: bytes, **fields: Any) -> tuple[RecipientResult, ...]:
    entries = [made_entry(path, id=number, **fields) for number, path in enumerate(paths, 1)]
    with trio.fail_after(_SECONDS):
        results: tuple[RecipientResult, ...] = await transport.deliver(made_delivery(*entries, octets=octets))
    return results


def content(subject: str, size_octets: int = 0) -> bytes:
    return f"From: <me@localhost>\r\nSubject: {subject}\r\n\r\n.dot\r\n".encode() + b"x" * size_octets + b"\r\n"


async def test_each_recipient_has_the_outcome_that_dovecot_says(dovecot: Dovecot, transport_type: Any) -> None:
    transport = transport_type(str(dovecot.folder / "lmtp.sock"), "client.example")
    sent = content("each its own", 2000)
    paths = ("ann@there.example", "nobody-here@there.example", "full@there.example", "bob@there.example")
    results = await deliver(transport, *paths, octets=sent)
    outcomes = [result.outcome for result in results]
    assert outcomes[0] is outcomes[3] is Outcome.DELIVERED, results
    assert outcomes[1] is Outcome.FAILED
    assert results[1].reply is not None
    assert results[1].reply.enhanced_status_code == "5.1.1"
    # Whether a full mailbox is 4yz or 5yz is Dovecot's quota_full_tempfail; it is not delivered.
    assert outcomes[2] is not Outcome.DELIVERED
    assert results[2].reply is not None
    assert "2.2" in results[2].reply.enhanced_status_code
    for user in ("ann", "bob"):
        [message] = [one for one in dovecot.messages(user) if b"each its own" in one]
        assert message.endswith(sent.replace(b"\r\n", b"\n"))
    assert dovecot.messages("full") == []


async def test_a_bounce_goes_over_tcp_with_the_null_reverse_path(dovecot: Dovecot, transport_type: Any) -> None:
    transport = transport_type(("127.0.0.1", dovecot.port), "client.example")
    [result] = await deliver(transport, "ann@there.example", octets=content("bounce"), reverse_path="")
    assert result.outcome is Outcome.DELIVERED, result
    [message] = [one for one in dovecot.messages("ann") if b"Subject: bounce" in one]
    assert b"Return-Path: <>" in message


async def test_a_large_message_comes_through(dovecot: Dovecot, transport_type: Any) -> None:
    transport = transport_type(str(dovecot.folder / "lmtp.sock"), "client.example")
    sent = b"Subject: large\r\n\r\n" + b"0123456789abcdef" * 4 * 16384 * 3 + b"\r\n"
    [result] = await deliver(transport, "bob@there.example", octets=sent)
    assert result.outcome is Outcome.DELIVERED, result
    [message] = [one for one in dovecot.messages("bob") if b"Subject: large" in one]
    assert len(message) > 3_000_000
