"""Puts files into pages: after ``<!-- file: PATH -->`` stands the file's text as a block. ``--check`` changes nothing.

python docs/embed.py [--check]
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
_EMBEDDED = re.compile(r"<!-- file: (?P<path>\S+) -->\n(?:\n```\w*\n.*?\n```\n)?", re.DOTALL)
_LANGUAGES = {".py": "python", ".toml": "toml", ".part": "toml", ".sh": "sh"}


def embedded(page: Path) -> str:
    """The page's text with every named file as it is now."""

    def block(found: re.Match[str]) -> str:
        path = page.parent / found["path"]
        return f"<!-- file: {found['path']} -->\n\n```{_LANGUAGES[path.suffix]}\n{path.read_text().rstrip()}\n```\n"

    return _EMBEDDED.sub(block, page.read_text())


def main(arguments: list[str]) -> int:
    """Write the pages anew, or say with ``--check`` which are stale."""
    stale = [page for page in sorted(DOCS.rglob("*.md")) if embedded(page) != page.read_text()]
    for page in stale:
        if "--check" in arguments:
            print(f"{page.relative_to(DOCS.parent)} is stale: run make docs")
        else:
            page.write_text(embedded(page))
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
