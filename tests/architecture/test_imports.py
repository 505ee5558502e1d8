"""Imports follow the data. The lists here are the architecture; an exception is a decision with a page in docs/.

Imports under ``if TYPE_CHECKING`` and inside functions count as well.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import Struct

ROOT = Path(__file__).parents[2]
CORE = ROOT / "core" / "mailcrane"

VOCABULARY = ("model",)

# Each may import the vocabulary and services named before it. Why sasl is one: docs/decisions/0002.
SERVICES = ("observe", "config", "message", "sasl", "smtp", "dns", "tls", "verify", "store", "http", "plugin")

# Each may import the vocabulary, all services, and stages to its right. Loops go through stored state.
STAGES = ("listener", "session", "receive", "queue", "route", "transport", "result", "retire", "webhook")

# May import everything; nothing above imports them.
TOP = ("admin", "api", "testing", "run", "cli")

# What a plugin may import of ours; the conformance kits are for strangers' plugins and are bound alike.
PLUGIN_MAY_IMPORT = ("api", "testing")


class Import(Struct, frozen=True):
    """One import statement; `module` is absolute."""

    path: Path
    line: int
    module: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line} imports {self.module}"


def allowed_packages(package: str) -> frozenset[str]:
    """Return the packages of the core that a package of the core may import, itself included."""
    if package in VOCABULARY:
        return frozenset({package})
    if package in SERVICES:
        return frozenset((*VOCABULARY, *SERVICES[: SERVICES.index(package) + 1]))
    if package in STAGES:
        return frozenset((*VOCABULARY, *SERVICES, *STAGES[STAGES.index(package) :]))
    return frozenset((*VOCABULARY, *SERVICES, *STAGES, *TOP))


def imports_of(path: Path, module: str) -> Iterator[Import]:
    """Yield what a file imports; ``from a import b`` counts as ``a.b``, because b may be a module."""
    is_package = path.name == "__init__.py"
    for node in ast.walk(ast.parse(path.read_text("utf-8"), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(path, node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                parent = parts[: len(parts) - node.level + (1 if is_package else 0)]
                base = ".".join([*parent, base] if base else parent)
            for alias in node.names:
                yield Import(path, node.lineno, f"{base}.{alias.name}")


def modules_below(folder: Path, base: Path) -> Iterator[tuple[Path, str]]:
    """Yield each Python file below a folder with its module's name."""
    for path in sorted(folder.rglob("*.py")):
        relative = path.relative_to(base).with_suffix("")
        parts = relative.parts[:-1] if relative.name == "__init__" else relative.parts
        yield path, ".".join(parts)


def core_package(module: str) -> str:
    """Return the package of the core that a module is in: ``smtp`` of ``mailcrane.smtp.server``; else empty."""
    parts = module.split(".")
    return parts[1] if parts[0] == "mailcrane" and len(parts) > 1 else ""


ALL_PACKAGES = (*VOCABULARY, *SERVICES, *STAGES, *TOP)


@pytest.mark.parametrize("package", ALL_PACKAGES)
def test_a_package_imports_only_what_is_before_it(package: str) -> None:
    allowed = allowed_packages(package)
    wrong = [
        str(found)
        for path, module in modules_below(CORE, CORE.parent)
        if core_package(module) == package
        for found in imports_of(path, module)
        if core_package(found.module) in set(ALL_PACKAGES) - allowed
    ]
    assert wrong == []


def test_every_package_has_its_place_in_the_list() -> None:
    folders = {path.name for path in CORE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    modules = {path.stem for path in CORE.glob("*.py") if path.name not in {"__init__.py", "__main__.py"}}
    assert folders | modules <= set(ALL_PACKAGES)


def test_the_core_imports_no_plugin() -> None:
    plugins = {path.name for folder in ("plugins", "conformance") for path in (ROOT / folder).iterdir()}
    wrong = [
        str(found)
        for path, module in modules_below(CORE, CORE.parent)
        for found in imports_of(path, module)
        if found.module.split(".")[0] in plugins or found.module.split(".")[0].startswith("mailcrane_")
    ]
    assert wrong == []


@pytest.mark.parametrize("folder", ["plugins", "conformance"])
def test_plugins_import_only_the_api(folder: str) -> None:
    wrong = []
    for path, module in modules_below(ROOT / folder, ROOT / folder):
        own = module.split(".")[0]
        for found in imports_of(path, module):
            top = found.module.split(".")[0]
            is_of_the_core = top == "mailcrane" and core_package(found.module) not in PLUGIN_MAY_IMPORT
            is_of_another = top.startswith("mailcrane_") and top != own
            if is_of_the_core or is_of_another:
                wrong.append(str(found))
    assert wrong == []


def test_the_check_sees_every_form_of_import(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text(
        "import mailcrane.queue\n"
        "from mailcrane import webhook\n"
        "from ..route import select\n"
        "from . import other\n"
        "def f():\n    from mailcrane.retire import ending\n"
        "if TYPE_CHECKING:\n    import mailcrane.run\n"
    )
    assert {core_package(found.module) for found in imports_of(path, "mailcrane.smtp.x")} == {
        "queue",
        "webhook",
        "route",
        "smtp",
        "retire",
        "run",
    }


def test_the_table_means_what_the_design_says() -> None:
    assert "smtp" not in allowed_packages("message")
    assert "message" in allowed_packages("smtp")
    assert "listener" not in allowed_packages("session")
    assert "webhook" in allowed_packages("listener")
    assert "admin" not in allowed_packages("webhook")
    assert "listener" in allowed_packages("admin")
