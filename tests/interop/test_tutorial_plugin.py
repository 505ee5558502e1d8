"""The tutorial's package is built, installed and enabled like a stranger's, and a message goes through all of it."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mailcrane.testing import running_localserve

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "docs" / "tutorial" / "pigeonhole"
_SECONDS = 15.0


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package as pip installs it: built, with its metadata and entry point."""
    target = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--target", str(target), str(PACKAGE)], check=True, timeout=120)
    return target


@pytest.fixture
def server(installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """A development server with the plugin enabled as the tutorial says; its folder and its base URL."""
    monkeypatch.setenv("PYTHONPATH", str(installed))
    directory = tmp_path / "local"
    command = [sys.executable, "-m", "mailcrane", "localserve", "--dir", str(directory), "--init-only"]
    subprocess.run(command, check=True, timeout=60, capture_output=True)
    config = directory / "mailcrane.toml"
    part = (PACKAGE / "mailcrane.toml.part").read_text().replace("/tmp/pigeonholes", str(tmp_path / "holes"))
    enabled, _, sections = part.partition("\n\n")
    config.write_text(_with_plugins(config.read_text(), enabled) + "\n" + sections)
    with running_localserve(directory) as running:
        yield tmp_path, running.webapi_url.removesuffix("/webapi/")


def _with_plugins(config: str, section: str) -> str:
    """Put the tutorial's ``[plugins]`` in the place of the one that is there."""
    before, _, after = config.partition("[plugins]")
    rest = after.partition("\n[")[2]
    return f"{before}{section}\n\n[{rest}" if rest else f"{before}{section}\n"


def _send(base: str, request: dict[str, Any]) -> dict[str, Any]:
    body = urllib.parse.urlencode({"request": json.dumps(request)}).encode()
    call = urllib.request.Request(f"{base}/webapi/v0/Send", body)
    call.add_header("Authorization", "Basic " + base64.b64encode(b"mox@localhost:moxmoxmox").decode())
    with urllib.request.urlopen(call, timeout=10) as response:
        return dict(json.load(response))


def _until(something: Any) -> Any:
    end = time.monotonic() + _SECONDS
    while not (found := something()) and time.monotonic() < end:
        time.sleep(0.05)
    return found


def test_a_message_takes_the_strangers_route_transport_and_webhook_field(server: tuple[Path, str]) -> None:
    folder, base = server
    answer = _send(
        base,
        {
            "To": [{"Address": "ann@pigeons.example"}],
            "Subject": "coo",
            "Text": "coo coo",
            "Extra": {"department": "letters"},
        },
    )
    [entry] = answer["Submissions"]
    message = folder / "holes" / "ann" / f"{entry['QueueMsgID']}.eml"
    assert _until(message.exists), "no file lies in the pigeonhole"
    octets = message.read_bytes()
    assert b"\r\nSubject: coo\r\n" in octets
    assert b"DKIM-Signature:" in octets

    def webhooks() -> list[dict[str, Any]]:
        with urllib.request.urlopen(f"{base}/hooks/?timeout={_SECONDS}", timeout=2 * _SECONDS) as response:
            return [call["payload"] for call in json.load(response)["webhooks"]]

    [hook] = webhooks()
    assert hook["Event"] == "delivered"
    assert hook["QueueMsgID"] == entry["QueueMsgID"]
    assert hook["Department"] == "letters"


def test_the_package_tests_itself_as_the_tutorial_shows(installed: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "trio", "-o", "trio_mode=true", "--rootdir", str(PACKAGE)]
    ran = subprocess.run(
        [*command, "-c", "/dev/null", str(PACKAGE / "test_pigeonhole.py")],
        env=dict(os.environ, PYTHONPATH=str(installed)),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "4 passed" in ran.stdout


def test_operators_see_the_plugin_in_the_order_of_a_hook(installed: Path, server: tuple[Path, str]) -> None:
    folder, _ = server
    command = [sys.executable, "-m", "mailcrane", "--config", str(folder / "local" / "mailcrane.toml")]
    ran = subprocess.run(
        [*command, "plugins", "order", "select_route"],
        env=dict(os.environ, PYTHONPATH=str(installed)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "pigeonhole" in ran.stdout, ran.stdout + ran.stderr
