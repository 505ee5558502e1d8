"""From tables of TOML or JSON to typed values and back, with errors that name the key, the value and the remedy.

msgspec does the checking. Its errors do not name the keys of tables such as ``[listeners.NAME]``, so after a failure
the value is walked once more to find the exact place; the way that succeeds costs nothing extra.
"""

from __future__ import annotations

import difflib
import enum
import re
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from mailcrane.observe.secret import Secret

T = TypeVar("T")

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+\Z")
_MSGSPEC_PATH = re.compile(r" - at `[^`]*`\Z")
_NAMES = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text in quotes",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
    "null": "nothing",
}


class ConfigError(Exception):
    """A configuration that cannot be used.

    Attributes:
        key_path: Where, as a dotted TOML key; the name of the file when it is not TOML at all.
        problem: What is wrong, with the value.
        hint: What to change.
        source: The file; empty when it is not from a file.
    """

    def __init__(self, key_path: str, problem: str, hint: str = "", *, source: str = "") -> None:
        super().__init__(key_path, problem, hint)
        self.key_path = key_path
        self.problem = problem
        self.hint = hint
        self.source = source

    def __str__(self) -> str:
        where = ": ".join(part for part in (self.source, self.key_path) if part)
        return f"{where}: {self.problem}" + (f". {self.hint}" if self.hint else "")


def join_key(key_path: str, key: str) -> str:
    """Append a key to a dotted key path, quoted as TOML wants it."""
    quoted = key if _BARE_KEY.match(key) else '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f"{key_path}.{quoted}" if key_path else quoted


def convert(section: Any, type_: type[T], key_path: str) -> T:
    """Convert a table of TOML or JSON to a typed value.

    Args:
        section: What the parser gave.
        type_: A `msgspec.Struct`, or any type that msgspec knows, with `Secret` in it or not.
        key_path: Where the section stands; errors start with it. Empty for a whole file.

    Raises:
        ConfigError: a key is unknown or missing, or a value does not fit. Secrets are not in its text.
    """
    try:
        return msgspec.convert(section, type_, dec_hook=_read_secret)
    except msgspec.ValidationError as error:
        raise _locate(section, type_, key_path, "") or ConfigError(key_path, str(error)) from None


def decode_json(octets: bytes | str, type_: type[T]) -> T:
    """Decode JSON that `encode_json` wrote.

    Raises:
        msgspec.DecodeError: it is not JSON, or (msgspec.ValidationError) not of that type.
    """
    return msgspec.json.decode(octets, type=type_, dec_hook=_read_secret)


def encode_json(value: Any) -> bytes:
    """Encode a typed value as JSON, secrets included."""
    return msgspec.json.encode(value, enc_hook=_write_secret)


def to_table(value: Struct) -> dict[str, Any]:
    """Return a Struct as a table: fields that have their default left out, secrets kept as `Secret`."""
    table: dict[str, Any] = {}
    for field in msgspec.structs.fields(value):
        item = getattr(value, field.name)
        if field.default is not msgspec.NODEFAULT and item == field.default:
            continue
        if field.default_factory is not msgspec.NODEFAULT and item == field.default_factory():
            continue
        table[field.encode_name] = _to_item(item)
    return table


def reveal(item: Any) -> Any:
    """Return a table or list with every `Secret` in it replaced by its text."""
    if isinstance(item, Secret):
        return item.reveal()
    if isinstance(item, dict):
        return {key: reveal(value) for key, value in item.items()}
    if isinstance(item, list):
        return [reveal(value) for value in item]
    return item


def describe_type(type_: Any) -> str:
    """Say in a few words what a value of a type looks like in TOML."""
    type_, _ = strip_annotation(type_)
    arms = [arm for arm in _arms(type_) if arm is not type(None)]
    if len(arms) > 1:
        return " or ".join(describe_type(arm) for arm in arms)
    type_, _ = strip_annotation(arms[0])
    origin = typing.get_origin(type_)
    arguments = typing.get_args(type_)
    if origin is typing.Literal:
        return "one of " + ", ".join(_show(item) for item in arguments)
    if origin in (list, tuple):
        return f"list of {describe_type(arguments[0])}"
    if origin is dict:
        return "table"
    if isinstance(type_, type) and issubclass(type_, enum.Enum):
        return "one of " + ", ".join(_show(item.value) for item in type_)
    if isinstance(type_, type) and issubclass(type_, Struct):
        return "table"
    return {int: "whole number", float: "number", str: "text", bool: "true or false", Secret: "text, secret"}.get(
        type_, getattr(type_, "__name__", str(type_))
    )


def strip_annotation(type_: Any) -> tuple[Any, str]:
    """Return a type without ``Annotated``, and the description of its ``Meta``."""
    description = ""
    while typing.get_origin(type_) is typing.Annotated:
        type_, *extras = typing.get_args(type_)
        description = next((meta.description or "" for meta in extras if isinstance(meta, msgspec.Meta)), description)
    return type_, description


def _read_secret(type_: type, value: Any) -> Any:
    if type_ is Secret and isinstance(value, str | Secret):
        return value if isinstance(value, Secret) else Secret(value)
    raise ValueError(f"Expected `str`, got `{type(value).__name__}`")


def _write_secret(value: Any) -> Any:
    if isinstance(value, Secret):
        return value.reveal()
    raise NotImplementedError(f"no encoding for {type(value).__name__}")


def _to_item(item: Any) -> Any:
    if isinstance(item, Struct):
        return to_table(item)
    if isinstance(item, dict):
        return {key: _to_item(value) for key, value in item.items()}
    if isinstance(item, list | tuple):
        return [_to_item(value) for value in item]
    return item.value if isinstance(item, enum.Enum) else item


def _locate(value: Any, type_: Any, key_path: str, description: str) -> ConfigError | None:
    """Find the first place in a value that does not fit its type."""
    bare, annotation = strip_annotation(type_)
    description = annotation or description
    try:
        msgspec.convert(value, type_, dec_hook=_read_secret)
        return None
    except msgspec.ValidationError as error:
        problem = _MSGSPEC_PATH.sub("", str(error))
    arms = [arm for arm in _arms(bare) if arm is not type(None)]
    if len(arms) == 1:
        bare, annotation = strip_annotation(arms[0])
        description = annotation or description
    found: ConfigError | None = None
    if isinstance(bare, type) and issubclass(bare, Struct) and isinstance(value, dict):
        found = _locate_in_struct(value, bare, key_path)
    elif typing.get_origin(bare) is dict and isinstance(value, dict):
        item_type = typing.get_args(bare)[1]
        found = _first(_locate(item, item_type, join_key(key_path, str(key)), "") for key, item in value.items())
    elif typing.get_origin(bare) in (list, tuple) and isinstance(value, list | tuple):
        item_type = typing.get_args(bare)[0]
        found = _first(_locate(item, item_type, f"{key_path}[{index}]", "") for index, item in enumerate(value))
    return found or _leaf_error(value, bare, key_path, problem, description)


def _locate_in_struct(value: dict[str, Any], type_: type[Struct], key_path: str) -> ConfigError | None:
    hints = typing.get_type_hints(type_, include_extras=True)
    fields = {field.encode_name: field for field in msgspec.structs.fields(type_)}
    if type_.__struct_config__.forbid_unknown_fields:
        for key in value:
            if key not in fields:
                return unknown_key(join_key(key_path, str(key)), str(key), fields)
    for name, field in fields.items():
        field_path = join_key(key_path, name)
        if name in value:
            if (found := _locate(value[name], hints[field.name], field_path, "")) is not None:
                return found
        elif field.required:
            _, description = strip_annotation(hints[field.name])
            return ConfigError(
                field_path, "is missing", f"Add {name} = … ({describe_type(hints[field.name])}). {description}".strip()
            )
    return None


def unknown_key(key_path: str, key: str, known: Mapping[str, Any] | typing.Iterable[str]) -> ConfigError:
    """Make the error for a key that does not exist; it suggests the nearest one that does."""
    names = list(known)
    near = difflib.get_close_matches(key, names, n=1, cutoff=0.6)
    hint = f"Did you mean {near[0]}?" if near else f"Remove it; known here: {', '.join(sorted(names)) or 'nothing'}"
    return ConfigError(key_path, "is not a known key", hint)


def _leaf_error(value: Any, type_: Any, key_path: str, problem: str, description: str) -> ConfigError:
    expected = re.match(r"Expected `([^`]+)`, got `[^`]+`\Z", problem)
    if type_ is Secret:
        return ConfigError(key_path, "is not a text", "Write a text in quotes")
    if expected is not None:
        names = [_NAMES.get(name.strip(), name.strip()) for name in expected.group(1).split("|")]
        problem = f"{_show(value)} does not fit; expected {' or '.join(names)}"
    elif problem.startswith("Invalid enum value"):
        problem = f"{_show(value)} is not a known value"
    elif (bound := re.match(r"Expected (.+)\Z", problem)) is not None:
        bound_text = re.sub(r"`(\w+)`", lambda name: _NAMES.get(name.group(1), name.group(1)), bound.group(1))
        problem = f"{_show(value)} does not fit; expected {bound_text}"
    else:
        problem = f"{_show(value)}: {problem}"
    hint = f"Write {describe_type(type_)}" if problem.endswith("is not a known value") else "Correct it"
    return ConfigError(key_path, problem, f"{hint}. Meaning: {description}" if description else hint)


def _first(errors: typing.Iterable[ConfigError | None]) -> ConfigError | None:
    return next((error for error in errors if error is not None), None)


def _arms(type_: Any) -> tuple[Any, ...]:
    if isinstance(type_, types.UnionType) or typing.get_origin(type_) is typing.Union:
        return typing.get_args(type_)
    return (type_,)


def _show(value: Any) -> str:
    if isinstance(value, str):
        return '"' + (value if len(value) <= 60 else value[:57] + "…") + '"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list | tuple):
        return "a list"
    return str(value)
