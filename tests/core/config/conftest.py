"""A small configuration that has something of everything."""

from __future__ import annotations

import pytest

from mailcrane.config.rows import Account, Address, Configuration, DKIMKey, Domain, Route, Settings, Webhook
from mailcrane.config.validate import validate
from mailcrane.observe.secret import Secret

PEM = "-----BEGIN PRIVATE KEY-----\nTUM=\n-----END PRIVATE KEY-----\n"
SIGNING_SECRET = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"


@pytest.fixture
def configuration() -> Configuration:
    return validate(
        Configuration(
            version=7,
            settings=Settings(postmaster_account="ann", routes=(Route("smarthost", to_domains=(".example.net",)),)),
            domains=(
                Domain("example.org", separators=("+", "-"), routes=(Route("slow", minimum_attempts=3),)),
                Domain("case.example", is_case_sensitive=True, separators=()),
                Domain("off.example", is_disabled=True),
            ),
            accounts=(
                Account(
                    "ann",
                    "example.org",
                    outgoing_webhook=Webhook(
                        "https://hooks.example.org/in", Secret("Bearer hidden"), (Secret(SIGNING_SECRET),), ("failed",)
                    ),
                    from_id_login_addresses=("ann@example.org",),
                    routes=(Route("own", from_domains=("example.org",)),),
                ),
                Account("bob", "case.example", login_disabled_message="ask the office"),
            ),
            addresses=(
                Address("Ann@Example.Org", "ann"),
                Address("shop@example.org", "ann", folder="Shop", full_name="The Shop"),
                Address("@example.org", "bob", folder="Rest"),
                Address("Bob@case.example", "bob"),
            ),
            dkim_keys=(
                DKIMKey("example.org", "2026b", "rsa", Secret(PEM), is_signing=False),
                DKIMKey("example.org", "2026a", "ed25519", Secret(PEM)),
            ),
        )
    )
