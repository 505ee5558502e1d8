"""The manual of the configuration, made from the types that parse it."""

from __future__ import annotations

import inspect
import textwrap
import typing
from collections.abc import Iterator
from typing import Any

import msgspec
import tomli_w
from msgspec import Struct

from mailcrane.config.convert import describe_type, strip_annotation, to_table
from mailcrane.config.rows import Account, Address, DKIMKey, Domain, Route, Settings, Webhook
from mailcrane.config.static import (
    AuthConfig,
    CertificateConfig,
    DNSConfig,
    ListenerConfig,
    LogConfig,
    PluginsConfig,
    QueueConfig,
    StaticConfig,
    StoreConfig,
    WebhooksConfig,
)
from mailcrane.observe.secret import Secret

STATIC_SECTIONS: tuple[tuple[str, type[Struct]], ...] = (
    ("", StaticConfig),
    ("[log]", LogConfig),
    ("[store]", StoreConfig),
    ("[plugins]", PluginsConfig),
    ("[queue]", QueueConfig),
    ("[webhooks]", WebhooksConfig),
    ("[dns]", DNSConfig),
    ("[auth]", AuthConfig),
    ("[tls.NAME]", CertificateConfig),
    ("[listeners.NAME]", ListenerConfig),
)

ROW_SECTIONS: tuple[tuple[str, type[Struct]], ...] = (
    ("[settings]", Settings),
    ("[domains.NAME]", Domain),
    ("[domains.NAME.dkim_keys.SELECTOR]", DKIMKey),
    ("[accounts.NAME]", Account),
    ("[accounts.NAME.outgoing_webhook]", Webhook),
    ("[accounts.NAME.addresses.ADDRESS]", Address),
    ("[[settings.routes]], [[domains.NAME.routes]], [[accounts.NAME.routes]]", Route),
)

# What stands in the name of a row's table instead of in it.
_IN_TABLE_NAME = {(Domain, "name"), (Account, "name"), (DKIMKey, "domain"), (DKIMKey, "selector")} | {
    (Address, "address"),
    (Address, "account"),
}


class FieldDescription(Struct, frozen=True):
    """One field of a section.

    Attributes:
        default: As it would be written in TOML; empty when the field must be there or is absent by default.
    """

    name: str
    type: str
    is_required: bool
    default: str
    description: str


class SectionDescription(Struct, frozen=True):
    """One table; `heading` is as it stands in the file, empty for what is above all tables."""

    heading: str
    description: str
    fields: tuple[FieldDescription, ...]


def describe_struct(heading: str, type_: type[Struct]) -> SectionDescription:
    """Describe a Struct, the configuration of a plugin or transport too."""
    hints = typing.get_type_hints(type_, include_extras=True)
    fields = tuple(
        FieldDescription(
            name=field.encode_name,
            type=describe_type(hints[field.name]),
            is_required=field.required,
            default=_default(field),
            description=_description(hints[field.name]),
        )
        for field in msgspec.structs.fields(type_)
        if (type_, field.name) not in _IN_TABLE_NAME
    )
    return SectionDescription(heading, (inspect.getdoc(type_) or "").partition("\n")[0], fields)


def describe_static() -> tuple[SectionDescription, ...]:
    """Describe mailcrane.toml."""
    return tuple(describe_struct(heading, type_) for heading, type_ in STATIC_SECTIONS)


def describe_rows() -> tuple[SectionDescription, ...]:
    """Describe what `config export` writes and `config apply` reads."""
    return tuple(describe_struct(heading, type_) for heading, type_ in ROW_SECTIONS)


def render_text(sections: typing.Iterable[SectionDescription]) -> str:
    """Render sections as commented TOML, for a terminal."""
    return "\n".join(_text_lines(sections)) + "\n"


def render_markdown() -> str:
    """Render ``docs/reference/config.md``."""
    lines = [
        "# Configuration",
        "",
        "Made from the types that parse it, with `make docs`: do not edit. `mailcrane config describe` prints it too.",
        "",
        "## mailcrane.toml",
        "",
        "Read once at start; `mailcrane config test` checks it. Relative paths are taken from the file's directory.",
        "",
        *_markdown_lines(describe_static()),
        "## Domains, accounts and keys",
        "",
        "Rows that change while the server runs: `mailcrane config export`, `diff FILE` and `apply FILE` write and",
        "read them in this form. `version` above all tables says which version the file was made from; `apply` refuses",
        "it when the server has moved on.",
        "",
        *_markdown_lines(describe_rows()),
    ]
    return "\n".join(lines).rstrip() + "\n"


def render_transports_markdown(sections: typing.Iterable[SectionDescription]) -> str:
    """Render ``docs/reference/transports.md``."""
    lines = [
        "# Transports",
        "",
        "What `[transports.NAME]` may say for each `type` of the plugin `transports`. Made from the types that parse",
        "it, with `make docs`: do not edit. Limits are counted per process.",
        "",
        *_markdown_lines(sections),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _text_lines(sections: typing.Iterable[SectionDescription]) -> Iterator[str]:
    for section in sections:
        if section.heading:
            yield ""
            yield section.heading
        yield f"# {section.description}"
        for field in section.fields:
            yield ""
            yield from textwrap.wrap(field.description, 100, initial_indent="# ", subsequent_indent="# ")
            yield f"# {field.type}{', required' if field.is_required else ''}"
            yield f"# {field.name} = {field.default or '…'}"


def _markdown_lines(sections: typing.Iterable[SectionDescription]) -> Iterator[str]:
    for section in sections:
        yield f"### {'`' + section.heading + '`' if section.heading else 'Above all tables'}"
        yield ""
        yield section.description
        yield ""
        if section.fields:
            yield "| key | type | default | meaning |"
            yield "|---|---|---|---|"
        for field in section.fields:
            default = "**required**" if field.is_required else f"`{field.default}`" if field.default else ""
            description = field.description.replace("|", "\\|")
            yield f"| `{field.name}` | {field.type.replace('|', chr(92) + '|')} | {default} | {description} |"
        yield ""


def _description(type_: Any) -> str:
    return strip_annotation(type_)[1]


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.default is not msgspec.NODEFAULT:
        value = field.default
    elif field.default_factory is not msgspec.NODEFAULT:
        value = field.default_factory()
    else:
        return ""
    if isinstance(value, Secret):
        value = value.reveal()
    if isinstance(value, Struct):
        return "" if not to_table(value) else "see below"
    if value is None or value == {}:
        return ""
    if isinstance(value, tuple):
        value = list(value)
        return "[" + ", ".join(tomli_w.dumps({"v": item}).removeprefix("v = ").strip() for item in value) + "]"
    return tomli_w.dumps({"v": value}).removeprefix("v = ").strip()
