"""The example packages are built and installed like a stranger's, test themselves, and a message goes through them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
NAMES = sorted(path.parent.name for path in EXAMPLES.glob("*/pyproject.toml"))


@pytest.fixture(params=NAMES)
def example(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """The source of a package, and the folder where pip has put it."""
    package = EXAMPLES / request.param
    target = tmp_path / "installed"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--target", str(target), str(package)], check=True, timeout=120)
    return package, target


def run(*arguments: str, target: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        env=dict(os.environ, PYTHONPATH=str(target)),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def test_the_package_tests_itself_with_the_kit(example: tuple[Path, Path]) -> None:
    package, target = example
    [tests] = package.glob("test_*.py")
    ran = run(
        "pytest",
        "-q",
        "-c",
        "/dev/null",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(package),
        str(tests),
        target=target,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert " passed" in ran.stdout


def test_the_kit_passes_the_installed_plugin_from_the_shell(example: tuple[Path, Path]) -> None:
    package, target = example
    ran = run("mailcrane_conformance", "plugin", package.name, target=target)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "FAIL" not in ran.stdout


def test_its_part_of_the_configuration_is_accepted(example: tuple[Path, Path], tmp_path: Path) -> None:
    package, target = example
    folder = tmp_path / "local"
    made = run("mailcrane", "localserve", "--dir", str(folder), "--init-only", target=target)
    assert made.returncode == 0, made.stdout + made.stderr
    config = folder / "mailcrane.toml"
    enabled, _, sections = (package / "mailcrane.toml.part").read_text().partition("\n\n")
    before, _, after = config.read_text().partition("[plugins]")
    rest = after.partition("\n[")[2]
    config.write_text(f"{before}{enabled}\n\n[{rest}\n{sections}")
    ran = run("mailcrane", "--config", str(config), "config", "test", target=target)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    shown = run("mailcrane", "--config", str(config), "plugins", "check", target=target)
    assert shown.returncode == 0, shown.stdout + shown.stderr
