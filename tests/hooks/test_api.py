"""What plugins may import is there, lazily, and a type checker sees the same names."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import mailcrane.api

MODULES = ["mailcrane.api"] + [
    f"mailcrane.api.{module.name}"
    for module in pkgutil.iter_modules(mailcrane.api.__path__)
    if not module.name.startswith("_")
]


@pytest.mark.parametrize("name", MODULES)
def test_every_name_exists_and_is_the_one_that_type_checkers_see(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__file__ is not None
    tree = ast.parse(Path(module.__file__).read_text())
    seen = {
        (alias.name, node.module)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module not in ("__future__", "typing", "mailcrane.api._lazy")
        for alias in node.names
    }
    assert sorted(exported for exported, _ in seen) == dir(module)
    for exported, home in seen:
        assert home is not None
        assert getattr(module, exported) is getattr(importlib.import_module(home), exported)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        mailcrane.api.Nothing  # type: ignore[attr-defined]  # noqa: B018


def test_importing_the_api_loads_nothing_else() -> None:
    code = "import sys, mailcrane.api; print(sorted(m for m in sys.modules if m.startswith(('mailcrane', 'trio'))))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "['mailcrane', 'mailcrane.api', 'mailcrane.api._lazy']"
