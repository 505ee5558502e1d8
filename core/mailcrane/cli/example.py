"""``mailcrane example``: pieces of configuration and code to begin with, and payloads as applications get them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Final

import click

TRANSPORT: Final = """\
# In mailcrane.toml. Messages are handed to a provider, after a login over STARTTLS.
[transports.provider]
type = "smtp"
host = "smtp.provider.example"
port = 587

[transports.provider.auth]
username = "customer"
password = "secret"

# It takes what no route sends elsewhere.
[queue]
default_transport = "provider"
"""

ROUTE: Final = """\
# In the file of `mailcrane config export` and `mailcrane config apply`. The first route that matches wins: those of the
# account come before those of the domain, and these before the ones here.
[[settings.routes]]
to_domains = [".partner.example"]
transport = "provider"

# From the third attempt on, another way.
[[settings.routes]]
minimum_attempts = 2
transport = "provider"
"""

PLUGIN: Final = '''\
"""Sends everything for partner.example through the transport "provider". A file stamps.py that Python finds.

In the pyproject.toml of its distribution:

    [project.entry-points."mailcrane.plugins"]
    stamps = "stamps:StampsPlugin"

and in mailcrane.toml:

    [plugins]
    enabled = ["transports", "webapi", "stamps"]

    [plugin.stamps]
    domains = ["partner.example"]
"""

from typing import Annotated

from msgspec import Meta, Struct

from mailcrane.api import Entry, Plugin, RouteChoice, hookimpl


class StampsConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """What [plugin.stamps] may say."""

    domains: Annotated[tuple[str, ...], Meta(description="Domains of recipients.")] = ()


class StampsPlugin(Plugin):
    """Chooses the transport for some domains."""

    name = "stamps"
    Config = StampsConfig

    @hookimpl
    async def select_route(self, entry: Entry) -> RouteChoice | None:
        if entry.forward_path.domain in self.config.domains:
            return RouteChoice("provider", "a partner's domain")
        return None
'''


def _payload(name: str) -> str:
    from mailcrane.webhook.examples import EXAMPLES as PAYLOADS  # noqa: PLC0415 - so that help imports little

    return json.dumps(PAYLOADS[name], indent=2, ensure_ascii=False) + "\n"


EXAMPLES: Final[Mapping[str, tuple[str, Callable[[], str]]]] = {
    "transport": ("A transport of mailcrane.toml.", lambda: TRANSPORT),
    "route": ("Routes, which choose a transport.", lambda: ROUTE),
    "plugin": ("A whole plugin.", lambda: PLUGIN),
    "webhook-outgoing-delivered": (
        "What is posted when a message was delivered.",
        lambda: _payload("outgoing-delivered"),
    ),
    "webhook-outgoing-dsn-failed": (
        "What is posted when a notification says that a message cannot be delivered.",
        lambda: _payload("outgoing-dsn-failed"),
    ),
    "webhook-incoming-basic": ("What is posted when a message came in.", lambda: _payload("incoming-basic")),
}
"""Name to one line for people, and what makes the text."""


@click.command(short_help="Show pieces of configuration, a plugin, payloads of webhooks.")
@click.argument("name", required=False)
def example(name: str | None) -> None:
    """List the examples, or write the example NAME to standard output."""
    if name is None:
        width = max(map(len, EXAMPLES))
        for one, (line, _) in EXAMPLES.items():
            click.echo(f"{one.ljust(width)}  {line}")
        return
    if name not in EXAMPLES:
        raise click.UsageError(f"there is no example {name!r}; there are: {', '.join(EXAMPLES)}")
    click.echo(EXAMPLES[name][1](), nl=False)
