"""``mailcrane domain``."""

from __future__ import annotations

import click

from mailcrane.admin.domains import AddDomain, DNSRecord, ListDomains
from mailcrane.admin.operations import DOMAIN_ADD, DOMAIN_LIST
from mailcrane.cli.output import json_option, write_json, write_table
from mailcrane.cli.reach import run

# RFC 1035 section 3.3: a character-string holds 255 octets; a TXT record may have several.
_MAX_STRING = 255


@click.command(short_help="Add a domain with new DKIM keys.")
@click.argument("name")
@click.option("--description", default="", help="For people.")
@json_option
def add(name: str, description: str, as_json: bool) -> None:
    """Add the domain NAME with four new DKIM keys, of which two sign, and write the DNS records to publish."""
    added = run(DOMAIN_ADD, AddDomain(name, description))
    if as_json:
        write_json(added)
        return
    click.echo(f"domain {name} added (configuration version {added.version}); publish in DNS:", err=True)
    for record in added.records:
        click.echo(_zone_line(record))


@click.command("list", short_help="List the domains.")
@json_option
def list_(as_json: bool) -> None:
    """List the domains."""
    listed = run(DOMAIN_LIST, ListDomains())
    if as_json:
        write_json(listed.domains)
        return
    write_table(
        ("DOMAIN", "DISABLED", "ADDRESSES", "SIGNS WITH", "DESCRIPTION"),
        [
            (domain.name, domain.is_disabled, domain.addresses, domain.signing_selectors, domain.description)
            for domain in listed.domains
        ],
    )


def _zone_line(record: DNSRecord) -> str:
    parts = [record.value[start : start + _MAX_STRING] for start in range(0, len(record.value), _MAX_STRING)]
    return f"{record.name}. IN {record.type} " + " ".join(f'"{part}"' for part in parts)
