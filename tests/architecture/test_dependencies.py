"""What is imported is declared: a library that only comes with another one may be gone with its next release."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[2]
OURS = {"mailcrane", "mailcrane_conformance", "mailcrane_transports", "mailcrane_webapi"}


def _imported() -> set[str]:
    found: set[str] = set()
    for folder in ("core", "plugins", "conformance"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Import):
                    found |= {name.name.partition(".")[0] for name in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    found.add(node.module.partition(".")[0])
    return found - OURS - set(sys.stdlib_module_names)


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_library_that_is_imported_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    optional = [dependency for group in project["optional-dependencies"].values() for dependency in group]
    declared = {_plain(re.split(r"[<>=;\[ ]", dependency)[0]) for dependency in [*project["dependencies"], *optional]}
    distributions = packages_distributions()
    undeclared = {
        module for module in _imported() if not declared & {_plain(name) for name in distributions.get(module, [])}
    }
    assert undeclared == set()
