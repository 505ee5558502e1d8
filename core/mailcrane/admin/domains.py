"""Operations on domains: add one with its DKIM keys, list them."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from mailcrane.admin.administration import Administration
from mailcrane.admin.errors import AdminError
from mailcrane.config.rows import Configuration, DKIMAlgorithm, DKIMKey, Domain
from mailcrane.message.dkim_keys import dns_record, generate_key
from mailcrane.model.address import AddressError, parse_domain
from mailcrane.observe.secret import Secret

NEW_KEYS: tuple[tuple[str, DKIMAlgorithm, bool], ...] = (
    ("a", "ed25519", True),
    ("b", "rsa", True),
    ("c", "ed25519", False),
    ("d", "rsa", False),
)
"""The keys of a new domain: end of the selector, kind, whether it signs. The spare ones are published from the start,
so that signing can move to them without waiting for DNS."""


class AddDomain(Struct, frozen=True, forbid_unknown_fields=True):
    """Add a domain with new DKIM keys."""

    name: Annotated[str, Meta(description="The domain.")]
    description: Annotated[str, Meta(description="For people.")] = ""


class ListDomains(Struct, frozen=True, forbid_unknown_fields=True):
    """List the domains."""


class DNSRecord(Struct, frozen=True):
    """A record to be published."""

    name: str
    type: str
    value: str


class DomainAdded(Struct, frozen=True):
    """The configuration has this version now, and these records are to be published."""

    version: int
    records: tuple[DNSRecord, ...]


class DomainSummary(Struct, frozen=True):
    """A domain in a list, with the selectors it signs with."""

    name: str
    is_disabled: bool
    description: str
    addresses: int
    signing_selectors: tuple[str, ...]


class DomainList(Struct, frozen=True):
    """The domains, by name."""

    domains: tuple[DomainSummary, ...]


async def add_domain(administration: Administration, request: AddDomain) -> DomainAdded:
    """Add a domain with four DKIM keys, of which the first two sign."""
    try:
        name = parse_domain(request.name)
    except AddressError as error:
        raise AdminError("bad_value", f'"{request.name}" is not a domain: {error}') from None
    _check_is_new(await administration.configuration(), name)
    year = (await administration.store.read(lambda transaction: transaction.now)).year
    keys = await administration.in_thread(lambda: _new_keys(name, year))

    def edit(configuration: Configuration) -> Configuration:
        _check_is_new(configuration, name)
        return msgspec.structs.replace(
            configuration,
            domains=(*configuration.domains, Domain(name, description=request.description)),
            dkim_keys=(*configuration.dkim_keys, *keys),
        )

    changed = await administration.change("domain_add", edit)
    records = await administration.in_thread(lambda: tuple(_record(key) for key in keys))
    return DomainAdded(changed.version, records)


async def list_domains(administration: Administration, request: ListDomains) -> DomainList:
    """List all domains."""
    configuration = await administration.configuration()
    counts: dict[str, int] = {}
    for address in configuration.addresses:
        domain = address.address.rpartition("@")[2]
        counts[domain] = counts.get(domain, 0) + 1
    return DomainList(
        tuple(
            DomainSummary(
                domain.name,
                domain.is_disabled,
                domain.description,
                counts.get(domain.name, 0),
                tuple(key.selector for key in configuration.dkim_keys if key.domain == domain.name and key.is_signing),
            )
            for domain in sorted(configuration.domains, key=lambda domain: domain.name)
        )
    )


def _check_is_new(configuration: Configuration, name: str) -> None:
    if any(domain.name == name for domain in configuration.domains):
        raise AdminError("exists", f'there is a domain "{name}" already')


def _new_keys(domain: str, year: int) -> tuple[DKIMKey, ...]:
    """Generate keys; takes some hundred milliseconds."""
    return tuple(
        DKIMKey(domain, f"{year}{letter}", algorithm, Secret(generate_key(algorithm)), is_signing=is_signing)
        for letter, algorithm, is_signing in NEW_KEYS
    )


def _record(key: DKIMKey) -> DNSRecord:
    return DNSRecord(f"{key.selector}._domainkey.{key.domain}", "TXT", dns_record(key.private_key_pem.reveal()))
