"""Writes the pages of docs/reference that are made from code. Run by ``make docs``; a test compares.

``python docs/generate.py`` writes them; with ``--check`` it only says which are out of date.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import mailcrane.plugin.reference

import mailcrane.config.describe

REFERENCE = Path(__file__).parent / "reference"

PAGES: dict[str, Callable[[], str]] = {
    "config.md": mailcrane.config.describe.render_markdown,
    "hooks.md": mailcrane.plugin.reference.render,
}


def stale_pages() -> list[str]:
    """Return the names of pages that are not what the code says."""
    return [
        name
        for name, render in PAGES.items()
        if not (REFERENCE / name).exists() or (REFERENCE / name).read_text("utf-8") != render()
    ]


def main() -> int:
    """Write or check the pages."""
    stale = stale_pages()
    if "--check" in sys.argv:
        for name in stale:
            print(f"docs/reference/{name} is out of date; run: make docs", file=sys.stderr)
        return 1 if stale else 0
    for name in stale:
        (REFERENCE / name).write_text(PAGES[name](), "utf-8")
        print(f"docs/reference/{name} written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
