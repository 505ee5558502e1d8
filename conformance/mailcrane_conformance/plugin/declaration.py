"""What a plugin's class must say, and what its package may import. Nothing is started here."""

from __future__ import annotations

import ast
import contextlib
import inspect
import re
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec import Meta, Struct

from mailcrane.api import HOOK_API, ConfigError, NoConfig, Plugin, PluginError
from mailcrane.testing import PluginHost
from mailcrane_conformance.kit import Behaviour, NotApplicable, Violation, require
from mailcrane_conformance.plugin.subject import Subject

_CONTRACT = "mailcrane.api.Plugin"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_MAY_IMPORT = ("mailcrane.api", "mailcrane.testing")
# What the interpreter does by itself while code is imported.
_CODE_SUFFIXES = (".py", ".pyc", ".so", ".pth")


async def _name(subject: Subject) -> None:
    plugin = subject.plugin
    require(isinstance(plugin, type) and issubclass(plugin, Plugin), f"{plugin!r} is not a subclass of Plugin")
    require(bool(_NAME.fullmatch(plugin.name)), f"name = {plugin.name!r} cannot stand in [plugin.NAME]")
    if subject.entry_point:
        require(
            plugin.name == subject.entry_point, f"the entry point is {subject.entry_point!r}, the class {plugin.name!r}"
        )


async def _api(subject: Subject) -> None:
    wanted = subject.plugin.api
    require(isinstance(wanted, str) and bool(re.fullmatch(r"\d+\.\d+", wanted)), f"api = {wanted!r} is not a version")
    major, minor = (int(part) for part in wanted.split("."))
    has_major, has_minor = (int(part) for part in HOOK_API.split("."))
    require(major == has_major and minor <= has_minor, f"api = {wanted!r}; this Mailcrane has {HOOK_API}")


async def _requires(subject: Subject) -> None:
    wanted: Any = subject.plugin.requires
    require(isinstance(wanted, (set, frozenset)), f"requires is a {type(wanted).__name__}, not a frozenset of names")
    require(all(isinstance(name, str) and name for name in wanted), f"requires has what is no name: {wanted!r}")
    require(subject.plugin.name not in wanted, "it requires itself")


async def _config_unknown_keys(subject: Subject) -> None:
    for path, config in _configs(subject):
        require(
            bool(config.__struct_config__.forbid_unknown_fields),
            f"{path} takes unknown keys: forbid_unknown_fields=True",
        )


async def _config_described(subject: Subject) -> None:
    for path, config in _configs(subject):
        hints = typing.get_type_hints(config, include_extras=True)
        for field in config.__struct_fields__:
            described = any(isinstance(one, Meta) and one.description for one in _metadata(hints[field]))
            require(described, f"{path}.{field} has no description")


async def _registration(subject: Subject) -> None:
    try:
        PluginHost.of([*subject.needs, subject.plugin], {subject.plugin.name: dict(subject.config)})
    except (PluginError, ConfigError) as error:
        raise Violation(str(error)) from error


async def _constructor(subject: Subject) -> None:
    with _watched() as seen:
        subject.host()
    require(not seen, f"constructing it did: {', '.join(dict.fromkeys(seen))}")


async def _imports(subject: Subject) -> None:
    for path in _sources(subject.plugin):
        for node in ast.walk(ast.parse(path.read_text("utf-8"), str(path))):
            for module in _modules(node):
                is_ours = module.partition(".")[0] == "mailcrane"
                is_allowed = any(module == one or module.startswith(one + ".") for one in _MAY_IMPORT)
                require(not is_ours or is_allowed, f"{path.name} imports {module}")


def _configs(subject: Subject) -> Iterator[tuple[str, Any]]:
    """Yield the plugin's configuration and those of its transport types, with what is nested in them."""
    config: Any = subject.plugin.Config
    require(isinstance(config, type) and issubclass(config, Struct), "Config is not a msgspec.Struct")
    if config is not NoConfig:
        yield from _with_nested("Config", config, set())
    for types in _transport_types(subject):
        yield from _with_nested(types.config.__name__, types.config, set())


def _transport_types(subject: Subject) -> list[Any]:
    if "register_transport_types" not in subject.registers:
        return []
    try:
        host = subject.host()
    except NotApplicable:
        return []
    answer = host.plugins[-1].register_transport_types()  # type: ignore[attr-defined]
    return list(answer or ()) if isinstance(answer, (list, tuple)) else []


def _with_nested(path: str, config: Any, seen: set[type]) -> Iterator[tuple[str, Any]]:
    if config in seen:
        return
    seen.add(config)
    yield path, config
    for field, hint in typing.get_type_hints(config, include_extras=True).items():
        for nested in _structs_in(hint):
            yield from _with_nested(f"{path}.{field}", nested, seen)


def _structs_in(hint: Any) -> list[type[Struct]]:
    if isinstance(hint, type) and issubclass(hint, Struct):
        return [hint]
    return [found for argument in typing.get_args(hint) for found in _structs_in(argument)]


def _metadata(hint: Any) -> tuple[Any, ...]:
    return tuple(getattr(hint, "__metadata__", ()))


def _modules(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [name.name for name in node.names]
    if isinstance(node, ast.ImportFrom) and not node.level and node.module:
        return [f"{node.module}.{name.name}" if node.module == "mailcrane" else node.module for name in node.names]
    return []


def _sources(plugin: type[Plugin]) -> list[Path]:
    """The source files of the package that a class comes from, or its module where it is in none."""
    package = plugin.__module__.rpartition(".")[0]
    top = ""
    while package and getattr(sys.modules.get(package), "__file__", None):  # Not what only happens to be a folder.
        top, package = package, package.rpartition(".")[0]
    if top:
        return sorted(path for place in sys.modules[top].__path__ for path in Path(place).rglob("*.py"))
    try:
        return [Path(inspect.getfile(plugin))]
    except (OSError, TypeError) as error:
        raise NotApplicable("the plugin's source cannot be read") from error


# Audit hooks cannot be taken away again, so there is one, which looks only while something is watched.
_watching: list[list[str]] = []
_EVENTS = (
    "socket.connect",
    "socket.bind",
    "socket.getaddrinfo",
    "subprocess.Popen",
    "os.system",
    "os.mkdir",
    "os.remove",
)
_MORE_EVENTS = (
    "os.rename",
    "os.rmdir",
    "sqlite3.connect",
    "urllib.Request",
    "shutil.rmtree",
    "os.fork",
    "os.posix_spawn",
)


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watching:
        return
    if event == "open":
        path = str(arguments[0])
        if not path.endswith(_CODE_SUFFIXES) and not isinstance(arguments[0], int):
            _watching[-1].append(f"open {path}")
    elif event in _EVENTS or event in _MORE_EVENTS:
        _watching[-1].append(event)


@contextlib.contextmanager
def _watched() -> Iterator[list[str]]:
    """Note what is opened, connected, run or removed within the block."""
    if not getattr(_note, "is_there", False):
        sys.addaudithook(_note)
        _note.is_there = True  # type: ignore[attr-defined]
    seen: list[str] = []
    _watching.append(seen)
    try:
        yield seen
    finally:
        _watching.remove(seen)


BEHAVIOURS: tuple[Behaviour[Subject], ...] = (
    Behaviour("plugin/name", "it has a name, the same as its entry point's", _CONTRACT, _name),
    Behaviour("plugin/api", "it states a version of the hook API that this Mailcrane has", _CONTRACT, _api),
    Behaviour("plugin/requires", "what it requires is a set of names, not its own", _CONTRACT, _requires),
    Behaviour(
        "plugin/config-unknown-keys",
        "its configuration, its transports' too, refuses keys that it does not know",
        _CONTRACT,
        _config_unknown_keys,
    ),
    Behaviour("plugin/config-described", "every key of them has a description", _CONTRACT, _config_described),
    Behaviour(
        "plugin/registration",
        "the server takes it: its configuration, and its hooks with their names and arguments",
        "hooks.md",
        _registration,
    ),
    Behaviour("plugin/constructor", "its constructor does no I/O", _CONTRACT, _constructor),
    Behaviour(
        "plugin/imports", "of Mailcrane it imports mailcrane.api and mailcrane.testing only", "mailcrane.api", _imports
    ),
)
