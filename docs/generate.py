"""Writes what docs takes from code: the reference pages, and the files that pages show. Run by ``make docs``.

``python docs/generate.py`` writes; with ``--check`` it only says what is out of date. After a marker
``<!-- file: PATH -->`` in a page stands the text of that file, which is real and tested where it lies.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import mailcrane.cli.reference
import mailcrane.config.describe
import mailcrane.model.event_kinds
import mailcrane.plugin.reference
import mailcrane_conformance.suites
import mailcrane_webapi.reference
from mailcrane_transports.config import AuthConfig
from mailcrane_transports.plugin import TYPES


def _transports() -> str:
    describe = mailcrane.config.describe
    sections = [describe.describe_struct(f'[transports.NAME] type = "{name}"', config) for name, config, _ in TYPES]
    return describe.render_transports_markdown(
        [*sections, describe.describe_struct("[transports.NAME.auth]", AuthConfig)]
    )


DOCS = Path(__file__).resolve().parent

REFERENCE: dict[str, Callable[[], str]] = {
    "reference/commands.md": mailcrane.cli.reference.render,
    "reference/conformance.md": mailcrane_conformance.suites.render,
    "reference/config.md": mailcrane.config.describe.render_markdown,
    "reference/event-format.txt": lambda: mailcrane.model.event_kinds.render_format(
        (DOCS / "reference" / "event-format.txt").read_text("utf-8")
    ),
    "reference/events.md": mailcrane.model.event_kinds.render,
    "reference/hooks.md": mailcrane.plugin.reference.render,
    "reference/webapi.md": mailcrane_webapi.reference.render,
    "reference/transports.md": _transports,
}

_SHOWN = re.compile(r"<!-- file: (?P<path>\S+) -->\n(?:\n```\w*\n.*?\n```\n)?", re.DOTALL)
_LANGUAGES = {".py": "python", ".toml": "toml", ".part": "toml", ".sh": "sh"}


def pages() -> dict[str, str]:
    """Every page that takes something from code, by its path below docs, as it has to be."""
    made = {name: render() for name, render in REFERENCE.items()}
    for page in sorted(DOCS.rglob("*.md")):
        name = str(page.relative_to(DOCS))
        if name not in made and _SHOWN.search(page.read_text("utf-8")):
            made[name] = _with_files(page)
    return made


def stale_pages() -> list[str]:
    """Return the names of pages that are not what the code says."""
    return [
        name for name, text in pages().items() if not (DOCS / name).exists() or (DOCS / name).read_text("utf-8") != text
    ]


def main() -> int:
    """Write or check the pages."""
    stale = stale_pages()
    if "--check" in sys.argv:
        for name in stale:
            print(f"docs/{name} is out of date; run: make docs", file=sys.stderr)
        return 1 if stale else 0
    for name, text in pages().items():
        if name in stale:
            (DOCS / name).write_text(text, "utf-8")
            print(f"docs/{name} written")
    return 0


def _with_files(page: Path) -> str:
    def block(found: re.Match[str]) -> str:
        path = page.parent / found["path"]
        text = path.read_text("utf-8").rstrip()
        return f"<!-- file: {found['path']} -->\n\n```{_LANGUAGES[path.suffix]}\n{text}\n```\n"

    return _SHOWN.sub(block, page.read_text("utf-8"))


if __name__ == "__main__":
    sys.exit(main())
