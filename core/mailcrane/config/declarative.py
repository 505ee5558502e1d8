"""The configuration rows as TOML, for those who keep them under version control, and the difference of two of them.

Addresses stand under their account and DKIM keys under their domain::

    version = 7

    [settings]
    postmaster_account = "ann"

    [domains."example.org".dkim_keys.2026a]
    algorithm = "ed25519"
    private_key_pem = "…"

    [accounts.ann]
    domain = "example.org"

    [accounts.ann.addresses."ann@example.org"]

What has its default is left out. Private keys and passwords are in it, because it must come back whole.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator
from typing import Any, TypeVar

import tomli_w
from msgspec import Struct

from mailcrane.config.convert import ConfigError, convert, join_key, reveal, to_table, unknown_key
from mailcrane.config.rows import Account, Address, Configuration, DKIMKey, Domain, Settings
from mailcrane.observe.secret import Secret

R = TypeVar("R", bound=Struct)

_SECTIONS = ("version", "settings", "domains", "accounts")
_GROUPS = ("dkim_keys", "addresses")
_EXISTS = object()


def dump(configuration: Configuration) -> str:
    """Return a configuration as TOML, with its secrets."""
    table: dict[str, Any] = {"version": configuration.version, **reveal(_to_tables(configuration))}
    heading = (
        "# Domains, accounts and keys of Mailcrane. Keep this file secret: private keys and passwords are in it.\n\n"
    )
    # TOML reads line ends in strings of several lines as LF, so a text with CR has to stand on one line.
    return heading + tomli_w.dumps(table, multiline_strings=not _has_carriage_return(table))


def parse(text: str, *, source: str = "") -> Configuration:
    """Read what `dump` wrote, or a person. Only types are checked: see `mailcrane.config.validate.validate`.

    Args:
        text: TOML. Without ``version`` the configuration has version 0.
        source: What errors call the file.

    Raises:
        ConfigError: it is not TOML, a key is unknown, or a value does not fit.
    """
    try:
        return _from_tables(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(source or "configuration", f"is not TOML: {error}", "Correct the line") from None
    except ConfigError as error:
        error.source = source
        raise


def diff(old: Configuration, new: Configuration) -> list[str]:
    """Return what changes, one line each: ``+`` is added, ``-`` removed, ``~`` changed. Secrets are not shown.

    Versions are not compared.
    """
    before, after = dict(_flatten(_to_tables(old), "")), dict(_flatten(_to_tables(new), ""))
    lines: list[tuple[str, str]] = []
    for path in {**before, **after}:
        if path not in after:
            lines.append((path, f"- {path}{_shown(before[path])}"))
        elif path not in before:
            lines.append((path, f"+ {path}{_shown(after[path])}"))
        elif isinstance(before[path], list) and isinstance(after[path], list):
            lines += [(path, line) for line in _diff_lists(path, before[path], after[path])]
        elif before[path] != after[path]:
            lines.append((path, f"~ {path} = {_toml(before[path])} -> {_toml(after[path])}"))
    return [line for _, line in sorted(lines, key=lambda item: item[0])]


def _has_carriage_return(item: Any) -> bool:
    if isinstance(item, str):
        return "\r" in item
    if isinstance(item, dict):
        return any(_has_carriage_return(value) for value in item.values())
    return isinstance(item, list) and any(_has_carriage_return(value) for value in item)


def _to_tables(configuration: Configuration) -> dict[str, Any]:
    domains: dict[str, Any] = {domain.name: _without(domain, "name") for domain in configuration.domains}
    for key in configuration.dkim_keys:
        domains[key.domain].setdefault("dkim_keys", {})[key.selector] = _without(key, "domain", "selector")
    accounts: dict[str, Any] = {account.name: _without(account, "name") for account in configuration.accounts}
    for address in configuration.addresses:
        accounts[address.account].setdefault("addresses", {})[address.address] = _without(address, "address", "account")
    return {"settings": to_table(configuration.settings), "domains": domains, "accounts": accounts}


def _from_tables(tables: dict[str, Any]) -> Configuration:
    for name in tables:
        if name not in _SECTIONS:
            raise unknown_key(name, name, _SECTIONS)
    domains: list[Domain] = []
    keys: list[DKIMKey] = []
    for name, section, path in _rows(tables, "domains"):
        children = section.pop("dkim_keys", {})
        domains.append(_row(section, Domain, path, {"name": name}))
        for selector, child, child_path in _rows({"dkim_keys": children}, "dkim_keys", path):
            keys.append(_row(child, DKIMKey, child_path, {"domain": name, "selector": selector}))
    accounts: list[Account] = []
    addresses: list[Address] = []
    for name, section, path in _rows(tables, "accounts"):
        children = section.pop("addresses", {})
        accounts.append(_row(section, Account, path, {"name": name}))
        for address, child, child_path in _rows({"addresses": children}, "addresses", path):
            addresses.append(_row(child, Address, child_path, {"address": address, "account": name}))
    return Configuration(
        version=convert(tables.get("version", 0), int, "version"),
        settings=convert(tables.get("settings", {}), Settings, "settings"),
        domains=tuple(domains),
        accounts=tuple(accounts),
        addresses=tuple(addresses),
        dkim_keys=tuple(keys),
    )


def _rows(tables: dict[str, Any], key: str, parent: str = "") -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield the name, a copy of the table, and the key path of each row of a section."""
    path = join_key(parent, key)
    section = convert(tables.get(key, {}), dict[str, Any], path)
    for name, row in section.items():
        row_path = join_key(path, name)
        yield name, dict(convert(row, dict[str, Any], row_path)), row_path


def _row(section: dict[str, Any], type_: type[R], path: str, names: dict[str, str]) -> R:
    for name in names:
        if name in section:
            raise ConfigError(join_key(path, name), "stands in the table's name already", "Remove it")
    return convert({**names, **section}, type_, path)


def _without(row: Struct, *names: str) -> dict[str, Any]:
    return {key: value for key, value in to_table(row).items() if key not in names}


def _flatten(value: dict[str, Any], path: str, depth: int = 0) -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        item_path = join_key(path, key)
        if isinstance(item, dict):
            # The table of a row says that the row exists; sections and groups of rows are not worth a line.
            if depth == 1 or (depth > 1 and key not in _GROUPS):
                yield item_path, _EXISTS
            yield from _flatten(item, item_path, depth + 1)
        else:
            yield item_path, item


def _diff_lists(path: str, before: list[Any], after: list[Any]) -> Iterator[str]:
    old, new = [_toml(item) for item in before], [_toml(item) for item in after]
    if before == after:
        return
    if old == new:  # Only secrets differ, and those are not shown.
        yield f"~ {path} = {_toml(before)} -> {_toml(after)}"
        return
    for operation, old_start, old_end, new_start, new_end in difflib.SequenceMatcher(a=old, b=new).get_opcodes():
        if operation != "equal":
            yield from (f"- {path}: {item}" for item in old[old_start:old_end])
            yield from (f"+ {path}: {item}" for item in new[new_start:new_end])


def _shown(value: Any) -> str:
    return "" if value is _EXISTS else f" = {_toml(value)}"


def _toml(value: Any) -> str:
    """Return a value as it would stand on one line of TOML, secrets hidden."""
    if isinstance(value, Secret):
        return "(secret)"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{join_key('', key)} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return tomli_w.dumps({"v": value}).removeprefix("v = ").strip()
