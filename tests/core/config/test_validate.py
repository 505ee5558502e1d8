"""Rows are checked as a whole and come out in canonical form."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from mailcrane.config.convert import ConfigError
from mailcrane.config.rows import Account, Address, Configuration, DKIMKey, Domain, Route, Settings, Webhook
from mailcrane.config.validate import validate
from mailcrane.observe.secret import Secret


def key_path_of(configuration: Configuration, **changes: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        validate(replace(configuration, **changes), transports=["own", "slow", "smarthost"])
    assert caught.value.hint
    return caught.value.key_path


def test_what_holds_together_is_accepted(configuration: Configuration) -> None:
    assert validate(configuration, transports=["own", "slow", "smarthost"]) == configuration


def test_names_come_out_canonical_and_sorted(configuration: Configuration) -> None:
    assert [address.address for address in configuration.addresses] == [
        "@example.org",
        "Bob@case.example",
        "ann@example.org",
        "shop@example.org",
    ]
    assert [key.selector for key in configuration.dkim_keys] == ["2026a", "2026b"]
    assert validate(Configuration(domains=(Domain("Bücher.Example"),))).domains[0].name == "xn--bcher-kva.example"


@pytest.mark.parametrize(
    ("changes", "key_path"),
    [
        ({"domains": (Domain("exa mple"),)}, 'domains."exa mple"'),
        ({"domains": (Domain("a.example"), Domain("A.example"))}, 'domains."a.example"'),
        ({"domains": (Domain("a.example", separators=("+", "+")),)}, 'domains."a.example".separators[1]'),
        ({"domains": (Domain("a.example", separators=("",)),)}, 'domains."a.example".separators[0]'),
        ({"settings": Settings(postmaster_account="x")}, "settings.postmaster_account"),
        ({"settings": Settings(routes=(Route("x"),))}, "settings.routes[0].transport"),
        ({"settings": Settings(routes=(Route("own", ("a", "b c")),))}, "settings.routes[0].from_domains[1]"),
    ],
)
def test_an_error_names_its_place(configuration: Configuration, changes: dict[str, Any], key_path: str) -> None:
    assert key_path_of(configuration, **changes) == key_path


@pytest.mark.parametrize(
    ("account", "key_path"),
    [
        (Account("c d", "example.org"), 'accounts."c d"'),
        (Account("../c", "example.org"), 'accounts."../c"'),
        (Account("c", "elsewhere.example"), "accounts.c.domain"),
        (Account("ann", "example.org"), "accounts.ann"),
        (Account("c", "example.org", login_disabled_message="nein, schön"), "accounts.c.login_disabled_message"),
        (Account("c", "example.org", routes=(Route("x"),)), "accounts.c.routes[0].transport"),
        (Account("c", "example.org", outgoing_webhook=Webhook("ftp://x")), "accounts.c.outgoing_webhook.url"),
        (Account("c", "example.org", outgoing_webhook=Webhook("https://")), "accounts.c.outgoing_webhook.url"),
        (Account("c", "example.org", outgoing_webhook=Webhook("http://[x")), "accounts.c.outgoing_webhook.url"),
        (
            Account("c", "example.org", outgoing_webhook=Webhook("https://x", Secret("a\r\nb: c"))),
            "accounts.c.outgoing_webhook.authorization",
        ),
        (
            Account("c", "example.org", outgoing_webhook=Webhook("https://x", secrets=(Secret("whsec_x"),))),
            "accounts.c.outgoing_webhook.secrets[0]",
        ),
        (
            Account("c", "example.org", from_id_login_addresses=("ann@example.org",)),
            "accounts.c.from_id_login_addresses[0]",
        ),
    ],
)
def test_accounts_are_checked(configuration: Configuration, account: Account, key_path: str) -> None:
    assert key_path_of(configuration, accounts=(*configuration.accounts, account)) == key_path


@pytest.mark.parametrize(
    ("address", "words"),
    [
        (Address("c@example.org", "nobody"), "no account"),
        (Address("c@elsewhere.example", "ann"), "no domain"),
        (Address("c+d@example.org", "ann"), "separates"),
        (Address("c", "ann"), "not an address"),
        (Address("@elsewhere.example", "ann"), "no domain"),
        (Address("ANN@example.org", "bob"), "taken by account"),
        (Address("c@example.org", "ann", folder=""), "is empty"),
    ],
)
def test_addresses_are_checked(configuration: Configuration, address: Address, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        validate(replace(configuration, addresses=(*configuration.addresses, address)))
    assert caught.value.key_path.startswith(f"accounts.{address.account}.addresses.")


@pytest.mark.parametrize(
    "changes",
    [
        {"domain": "elsewhere.example"},
        {"selector": "a b"},
        {"private_key_pem": Secret("secret-text")},
        {"header_fields": ("Subject",)},
        {"header_fields": ("From", "a:b")},
        {"selector": "2026b"},
    ],
)
def test_keys_are_checked_and_not_shown(configuration: Configuration, changes: dict[str, Any]) -> None:
    key: DKIMKey = replace(configuration.dkim_keys[0], **changes)
    with pytest.raises(ConfigError) as caught:
        validate(replace(configuration, dkim_keys=(key, configuration.dkim_keys[1])))
    assert ".dkim_keys." in caught.value.key_path
    assert "secret-text" not in str(caught.value)


def test_a_login_for_unique_ids_needs_a_separator(configuration: Configuration) -> None:
    bob = replace(configuration.accounts[1], from_id_login_addresses=("Bob@case.example",))
    path = key_path_of(configuration, accounts=(configuration.accounts[0], bob))
    assert path == "accounts.bob.from_id_login_addresses[0]"
