"""Tests stop at once with the line to run where the installed package is not this tree's."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def stale_entry_points() -> Callable[[Path], str]:
    spec = importlib.util.spec_from_file_location("root_conftest", ROOT / "tests" / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function: Callable[[Path], str] = module.stale_entry_points
    return function


def test_this_tree_is_what_is_installed(stale_entry_points: Callable[[Path], str]) -> None:
    assert stale_entry_points(ROOT / "pyproject.toml") == ""


def test_an_entry_point_that_is_not_installed_is_named(
    stale_entry_points: Callable[[Path], str], tmp_path: Path
) -> None:
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    (tmp_path / "pyproject.toml").write_text(
        text.replace(
            '[project.entry-points."mailcrane.plugins"]', '[project.entry-points."mailcrane.plugins"]\nnew = "x:Y"'
        )
    )
    assert stale_entry_points(tmp_path / "pyproject.toml").endswith(
        "does not have the entry point mailcrane.plugins new x:Y"
    )


def test_a_package_that_is_not_installed_is_named(stale_entry_points: Callable[[Path], str], tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "mailcrane-nowhere"\n')
    assert stale_entry_points(tmp_path / "pyproject.toml") == "mailcrane-nowhere is not installed"
