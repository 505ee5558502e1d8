"""What is made from code is up to date; what every package and decision must have is there."""

from __future__ import annotations

import ast
import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES: dict[str, str] = runpy.run_path(str(ROOT / "docs" / "generate.py"))["pages"]()


@pytest.mark.parametrize("name", sorted(PAGES))
def test_a_page_says_what_the_code_says(name: str) -> None:
    assert (ROOT / "docs" / name).read_text("utf-8") == PAGES[name], f"docs/{name} is out of date; run: make docs"


@pytest.mark.parametrize("folder", ["core", "plugins", "conformance"])
def test_every_module_says_what_it_is(folder: str) -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not ast.get_docstring(ast.parse(path.read_text("utf-8")))
    ]
    assert silent == []


def test_decisions_are_numbered_once() -> None:
    pages = [path.name for path in sorted((ROOT / "docs" / "decisions").glob("*.md"))]
    assert all(re.match(r"\d{4}-[a-z0-9-]+\.md\Z", name) for name in pages)
    numbers = [name[:4] for name in pages]
    assert len(set(numbers)) == len(numbers)


def test_links_lead_somewhere() -> None:
    broken = []
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text("utf-8")):
            if "://" not in target and not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert broken == []
