"""Checks that the installed package is the one in this tree, before any test runs."""

from __future__ import annotations

import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).parents[1]

# pip records entry points when it installs; editing pyproject.toml alone does not change them.
_REMEDY = "run: make install"


# The same made-up examples in every run, so that a run that fails fails again. `--hypothesis-profile=explore` looks for
# new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("explore", max_examples=2000, deadline=None)
settings.load_profile("repeatable")


def pytest_configure(config: pytest.Config) -> None:
    """Stop with the line to run where tests would fail for no reason that they name."""
    problem = stale_entry_points(ROOT / "pyproject.toml")
    if problem:
        pytest.exit(f"{problem}; {_REMEDY}", returncode=pytest.ExitCode.USAGE_ERROR)


def stale_entry_points(pyproject: Path) -> str:
    """Say how the installed entry points differ from those of a pyproject.toml; empty when they do not."""
    project = tomllib.loads(pyproject.read_text("utf-8"))["project"]
    declared = {("console_scripts", name, target) for name, target in project.get("scripts", {}).items()}
    for group, points in project.get("entry-points", {}).items():
        declared |= {(group, name, target) for name, target in points.items()}
    try:
        installed = {(point.group, point.name, point.value) for point in distribution(project["name"]).entry_points}
    except PackageNotFoundError:
        return f"{project['name']} is not installed"
    if missing := declared - installed:
        return "the installed package does not have the entry point " + " ".join(sorted(missing)[0])
    if surplus := installed - declared:
        return "the installed package still has the entry point " + " ".join(sorted(surplus)[0])
    return ""
