"""The TOML form of rows, and differences."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from mailcrane.config import declarative
from mailcrane.config.convert import ConfigError
from mailcrane.config.rows import Account, Address, Configuration, Domain, Route
from mailcrane.config.validate import validate
from mailcrane.observe.secret import Secret

PEM = "-----BEGIN PRIVATE KEY-----\nTUM=\n-----END PRIVATE KEY-----\n"


def test_a_configuration_comes_back_whole(configuration: Configuration) -> None:
    assert validate(declarative.parse(declarative.dump(configuration))) == configuration


@given(st.text(), st.text(min_size=1), st.text())
@example("", "a", "\r\n")
def test_any_text_comes_back_whole(description: str, name: str, folder: str) -> None:
    configuration = Configuration(
        domains=(Domain(name, description=description),),
        accounts=(Account(name, name),),
        addresses=(Address(name, name, folder),),
    )
    assert declarative.parse(declarative.dump(configuration)) == configuration


@pytest.mark.parametrize(
    ("text", "key_path"),
    [
        ("x = 1", "x"),
        ("domains = 3", "domains"),
        ("[domains]\nx = 1", "domains.x"),
        ('[domains."a.example"]\nseparatrs = []', 'domains."a.example".separatrs'),
        ('[domains."a.example"]\nname = "b"', 'domains."a.example".name'),
        ('[domains."a.example".dkim_keys.s]\nalgorithm = "dsa"', 'domains."a.example".dkim_keys.s.algorithm'),
        ("[accounts.ann]", "accounts.ann.domain"),
        (
            '[accounts.ann]\ndomain = "a"\n[accounts.ann.addresses."x@y"]\nfolder = 1',
            'accounts.ann.addresses."x@y".folder',
        ),
        ('[[settings.routes]]\ntransport = "a"\nfrom_domain = []', "settings.routes[0].from_domain"),
    ],
)
def test_errors_name_the_key(text: str, key_path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        declarative.parse(text, source="rows.toml")
    assert caught.value.key_path == key_path
    assert str(caught.value).startswith("rows.toml: ")


def test_equal_configurations_do_not_differ(configuration: Configuration) -> None:
    assert declarative.diff(configuration, replace(configuration, version=99)) == []


def test_differences_are_lines_with_their_key(configuration: Configuration) -> None:
    ann, bob = configuration.accounts
    new = replace(
        configuration,
        settings=replace(configuration.settings, routes=(Route("direct"), *configuration.settings.routes)),
        domains=(*configuration.domains, Domain("new.example")),
        accounts=(ann, replace(bob, full_name="Bob", login_disabled_message="")),
        addresses=tuple(address for address in configuration.addresses if address.account != "bob"),
    )
    assert declarative.diff(configuration, new) == [
        '- accounts.bob.addresses."@example.org"',
        '- accounts.bob.addresses."@example.org".folder = "Rest"',
        '- accounts.bob.addresses."Bob@case.example"',
        '+ accounts.bob.full_name = "Bob"',
        '- accounts.bob.login_disabled_message = "ask the office"',
        '+ domains."new.example"',
        '+ settings.routes: { transport = "direct" }',
    ]


def test_secrets_are_not_shown_in_differences(configuration: Configuration) -> None:
    key = replace(configuration.dkim_keys[0], private_key_pem=Secret(PEM.replace("TUM", "QUM")))
    ann = configuration.accounts[0]
    assert ann.outgoing_webhook is not None
    hook = replace(ann.outgoing_webhook, secrets=(Secret("whsec_hidden"),))
    new = replace(
        configuration,
        dkim_keys=(key, configuration.dkim_keys[1]),
        accounts=(replace(ann, outgoing_webhook=hook), configuration.accounts[1]),
    )
    assert declarative.diff(configuration, new) == [
        "~ accounts.ann.outgoing_webhook.secrets = [(secret)] -> [(secret)]",
        '~ domains."example.org".dkim_keys.2026a.private_key_pem = (secret) -> (secret)',
    ]
