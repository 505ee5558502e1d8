"""Operations on the configuration as a whole, in its declarative form."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from mailcrane.admin.administration import Administration
from mailcrane.config import declarative
from mailcrane.config.rows import Configuration
from mailcrane.config.validate import validate
from mailcrane.observe.secret import Secret


class ExportConfiguration(Struct, frozen=True, forbid_unknown_fields=True):
    """Export domains, accounts, addresses, keys and routes."""


class Exported(Struct, frozen=True):
    """The configuration as TOML, with secrets."""

    version: int
    toml: Secret


class DiffConfiguration(Struct, frozen=True, forbid_unknown_fields=True):
    """Show what applying a configuration would change."""

    toml: Annotated[Secret, Meta(description="What `config export` wrote, changed.")]


class Difference(Struct, frozen=True):
    """What would change, or was changed.

    Attributes:
        version: Of the configuration that it was compared with; after applying, the new one.
        lines: As `mailcrane.config.declarative.diff` gives them.
    """

    version: int
    lines: tuple[str, ...]


class ApplyConfiguration(Struct, frozen=True, forbid_unknown_fields=True):
    """Replace the configuration as one unit."""

    toml: Annotated[Secret, Meta(description="The whole configuration.")]
    expected_version: Annotated[
        int | None,
        Meta(
            description="Refuse when the present version is another one. None takes the version that stands in `toml`; "
            "where none stands there either, any version is replaced."
        ),
    ] = None


async def export_configuration(administration: Administration, request: ExportConfiguration) -> Exported:
    """Return the configuration in its declarative form."""
    configuration = await administration.configuration()
    toml = await administration.in_thread(lambda: declarative.dump(configuration))
    return Exported(configuration.version, Secret(toml))


async def diff_configuration(administration: Administration, request: DiffConfiguration) -> Difference:
    """Return what applying would change; nothing is changed."""
    old = await administration.configuration()
    return Difference(old.version, await administration.in_thread(lambda: _lines(administration, old, request.toml)))


async def apply_configuration(administration: Administration, request: ApplyConfiguration) -> Difference:
    """Replace the configuration; accounts that are not in it any more are removed with their data."""
    new = await administration.in_thread(lambda: declarative.parse(request.toml.reveal()))
    expected = request.expected_version if request.expected_version is not None else new.version or None
    before: list[Configuration] = []

    def edit(configuration: Configuration) -> Configuration:
        before[:] = [configuration]
        return new

    changed = await administration.change("config_apply", edit, expected_version=expected)
    return Difference(changed.version, tuple(declarative.diff(before[0], changed)))


def _lines(administration: Administration, old: Configuration, toml: Secret) -> tuple[str, ...]:
    new = validate(declarative.parse(toml.reveal()), transports=administration.static.transports)
    return tuple(declarative.diff(old, new))
