"""A suite in a test file of an author's: one line, a case for each behaviour."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TEST_FILE = """
from mailcrane_conformance import transport


class Nothing:
    async def deliver(self, delivery):
        return ()

    async def aclose(self):
        pass


async def make(host, port):
    return Nothing()


test_nothing = transport.make_test(transport.smtp(make))
"""


def test_a_case_for_each_behaviour_passes_fails_or_is_skipped_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(TEST_FILE)
    # Without any plugin of pytest's: an author needs none.
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-rs",
        "-v",
        "-p",
        "no:cacheprovider",
        "-k",
        "delivered or lmtp or aclose",
    ]
    ran = subprocess.run(
        command,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )
    assert "test_nothing[transport/delivered] FAILED" in ran.stdout, ran.stdout + ran.stderr
    assert "FAIL transport/delivered any 2yz reply" in ran.stdout
    assert "0 results came back for 1 forward-paths" in ran.stdout
    assert "the transport does not speak LMTP" in ran.stdout
