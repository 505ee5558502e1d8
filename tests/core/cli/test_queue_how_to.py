"""The commands of the how-to on the queue do what the page says, one after another."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import mailcrane as package

from .test_queue_commands import Mailcrane, mailcrane  # noqa: F401 - a fixture

PAGE = Path(package.__file__).parents[2] / "docs" / "how-to" / "look-after-the-queue.md"


def test_every_command_of_the_page_works(mailcrane: Mailcrane) -> None:  # noqa: F811
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    assert len(lines) > 20
    answers: dict[str, str] = {}
    for line in lines:
        words = shlex.split(line)
        assert words[:2] == ["mailcrane", "queue"]
        result = mailcrane(*words[2:])
        assert result.exit_code == 0, f"{line}: {result.output}"
        answers[line] = result.stdout
    assert "no server runs" in answers["mailcrane queue why example.net"]
    assert "queued for" not in answers["mailcrane queue show 1"]
    assert answers["mailcrane queue unhold --to example.net"] == "2 released\n"
    assert answers["mailcrane queue hold --all"] == "3 held\n"
    assert "Hello." in answers["mailcrane queue dump 2"]
    assert answers["mailcrane queue drop --account ann"] == "2 dropped\n"
