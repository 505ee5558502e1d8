"""Operations: each is one unit with its audit event, and the server has it when it answers."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec
import pytest
import trio

from mailcrane.admin.accounts import AddAccount, ListAccounts, SetPassword, add_account, list_accounts, set_password
from mailcrane.admin.administration import Administration
from mailcrane.admin.configuration import (
    ApplyConfiguration,
    DiffConfiguration,
    ExportConfiguration,
    apply_configuration,
    diff_configuration,
    export_configuration,
)
from mailcrane.admin.domains import AddDomain, ListDomains, add_domain, list_domains
from mailcrane.admin.errors import AdminError
from mailcrane.admin.operations import OPERATIONS, run_named
from mailcrane.config import declarative
from mailcrane.config.convert import ConfigError
from mailcrane.config.rows import Configuration, Domain
from mailcrane.model.event import EventKind
from mailcrane.observe.secret import Secret
from mailcrane.sasl.credentials import verify_password
from mailcrane.store.store import Store


class RunningServer(Protocol):
    configurations: list[Configuration]
    is_stopped: bool


@pytest.fixture
async def with_domain(administration: Administration) -> Administration:
    await administration.change(
        "test", lambda old: msgspec.structs.replace(old, domains=(*old.domains, Domain("example.org")))
    )
    return administration


async def test_a_new_domain_has_four_keys_of_which_two_sign(administration: Administration) -> None:
    added = await add_domain(administration, AddDomain("Example.ORG"))
    keys = (await administration.configuration()).dkim_keys
    assert [(key.selector, key.algorithm, key.is_signing) for key in keys] == [
        ("2026a", "ed25519", True),
        ("2026b", "rsa", True),
        ("2026c", "ed25519", False),
        ("2026d", "rsa", False),
    ]
    assert added.version == 1
    assert added.records[0].name == "2026a._domainkey.example.org"
    assert added.records[0].value.startswith("v=DKIM1;")
    listed = await list_domains(administration, ListDomains())
    assert [(domain.name, domain.signing_selectors) for domain in listed.domains] == [
        ("example.org", ("2026a", "2026b"))
    ]


async def test_a_domain_is_added_once(with_domain: Administration) -> None:
    with pytest.raises(AdminError, match="already") as caught:
        await add_domain(with_domain, AddDomain("example.org"))
    assert caught.value.code == "exists"


async def test_a_new_account_has_an_address_folders_and_a_password(with_domain: Administration, store: Store) -> None:
    await add_account(with_domain, AddAccount("ann", "Ann@example.org", Secret("correct horse"), "Ann"))
    listed = await list_accounts(with_domain, ListAccounts())
    assert [(account.name, account.addresses, account.has_password) for account in listed.accounts] == [
        ("ann", ("ann@example.org",), True)
    ]
    folders = await store.read(lambda transaction: transaction.folders.list("ann"))
    assert {folder.name for folder in folders} == {"Inbox", "Sent", "Archive", "Trash", "Drafts", "Junk"}
    credentials = await store.read(lambda transaction: transaction.credentials.get("ann"))
    assert verify_password(credentials, "correct horse")


async def test_an_account_needs_a_domain_of_ours(with_domain: Administration) -> None:
    with pytest.raises(AdminError, match=r"mailcrane domain add elsewhere\.example"):
        await add_account(with_domain, AddAccount("ann", "ann@elsewhere.example"))


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (AddAccount("ann", "no address"), "not an address"),
        (AddAccount("bob", "bob@example.org", Secret("short")), "shorter than 8"),
    ],
)
async def test_a_bad_account_changes_nothing(with_domain: Administration, request_: AddAccount, words: str) -> None:
    with pytest.raises(AdminError, match=words):
        await add_account(with_domain, request_)
    assert (await with_domain.configuration()).version == 1


async def test_a_name_that_is_not_one_is_refused_by_the_whole_check(with_domain: Administration) -> None:
    with pytest.raises(ConfigError, match="is not a name"):
        await add_account(with_domain, AddAccount("../ann", "ann@example.org"))


async def test_a_password_is_set_by_name_or_address_and_its_version_rises(
    with_domain: Administration, store: Store
) -> None:
    await add_account(with_domain, AddAccount("ann", "ann@example.org", Secret("first password")))
    first = await store.read(lambda transaction: transaction.credentials.get("ann"))
    await set_password(with_domain, SetPassword("ann@example.org", Secret("second password")))
    second = await store.read(lambda transaction: transaction.credentials.get("ann"))
    assert first is not None
    assert second is not None
    assert second.version > first.version
    assert verify_password(second, "second password")
    with pytest.raises(AdminError, match='no account "bob"'):
        await set_password(with_domain, SetPassword("bob", Secret("second password")))


async def test_the_server_has_each_change_when_it_is_answered(
    with_domain: Administration, server: RunningServer, store: Store
) -> None:
    await add_account(with_domain, AddAccount("ann", "ann@example.org"))
    assert [configuration.version for configuration in server.configurations] == [1, 2]
    assert server.configurations[-1].accounts[0].name == "ann"
    events = await store.read(lambda transaction: transaction.events.feed("", 0, 10))
    assert [event.kind for event in events] == [EventKind.CONFIGURATION_CHANGED] * 2
    assert events[1].data["operation"] == "account_add"
    assert events[1].data["by"] == "uid 0"
    assert "+ accounts.ann" in events[1].data["changes"]


async def test_two_changes_at_once_are_both_made(with_domain: Administration) -> None:
    calls = 0

    async def meanwhile() -> None:
        await with_domain.change("other", _adding("meanwhile.example"))

    def edit(old: Configuration) -> Configuration:
        nonlocal calls
        calls += 1
        if calls == 1:
            trio.from_thread.run(meanwhile)
        edited: Configuration = _adding("mine.example")(old)
        return edited

    await with_domain.change("mine", edit)
    assert calls == 2
    names = [domain.name for domain in (await with_domain.configuration()).domains]
    assert names == ["example.org", "meanwhile.example", "mine.example"]


async def test_what_is_exported_is_applied_without_a_difference(with_domain: Administration) -> None:
    await add_domain(with_domain, AddDomain("keys.example"))
    exported = await export_configuration(with_domain, ExportConfiguration())
    assert exported.version == 2
    assert (await diff_configuration(with_domain, DiffConfiguration(exported.toml))).lines == ()
    applied = await apply_configuration(with_domain, ApplyConfiguration(exported.toml))
    assert (applied.version, applied.lines) == (2, ())


async def test_applying_shows_what_changed(with_domain: Administration) -> None:
    toml = declarative.dump(Configuration(version=1, domains=(Domain("new.example"),)))
    expected = ('- domains."example.org"', '+ domains."new.example"')
    assert (await diff_configuration(with_domain, DiffConfiguration(Secret(toml)))).lines == expected
    applied = await apply_configuration(with_domain, ApplyConfiguration(Secret(toml)))
    assert (applied.version, applied.lines) == (2, expected)


async def test_applying_on_an_old_version_is_refused(with_domain: Administration) -> None:
    toml = Secret(declarative.dump(Configuration(version=7)))
    with pytest.raises(AdminError, match="at version 1, but this was made from version 7") as caught:
        await apply_configuration(with_domain, ApplyConfiguration(toml))
    assert caught.value.code == "version_changed"
    await apply_configuration(with_domain, ApplyConfiguration(toml, expected_version=1))
    assert (await with_domain.configuration()).domains == ()


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ('[domains."example.org"]\nseparators = ["@"]', "cannot separate"),
        ('[[settings.routes]]\ntransport = "gone"', 'no transport "gone"'),
        ("x", "is not TOML"),
        (
            '[domains."a.example".dkim_keys.s]\nalgorithm = "rsa"\n'
            'private_key_pem = "-----BEGIN PRIVATE KEY-----\\nAAAA\\n-----END PRIVATE KEY-----"',
            "not an unencrypted private key",
        ),
    ],
)
async def test_a_configuration_that_does_not_hold_together_changes_nothing(
    with_domain: Administration, toml: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        await apply_configuration(with_domain, ApplyConfiguration(Secret(toml)))
    assert (await with_domain.configuration()).version == 1


async def test_operations_are_run_by_name_with_checked_arguments(
    with_domain: Administration, server: RunningServer
) -> None:
    await run_named(with_domain, "account_add", {"name": "ann", "address": "ann@example.org"})
    with pytest.raises(AdminError, match=r"nam: is not a known key\. Did you mean name") as caught:
        await run_named(with_domain, "account_add", {"nam": "ann", "address": "ann@example.org"})
    assert caught.value.code == "bad_request"
    with pytest.raises(AdminError, match='no operation "drop_all"'):
        await run_named(with_domain, "drop_all", {})
    health = await run_named(with_domain, "health", {})
    assert msgspec.to_builtins(health)["state"] == "ok"
    await run_named(with_domain, "stop", {})
    assert server.is_stopped


def test_every_argument_is_described() -> None:
    for operation in OPERATIONS.values():
        for field in msgspec.inspect.type_info(operation.request).fields:  # type: ignore[attr-defined]
            assert isinstance(field.type, msgspec.inspect.Metadata), (operation.name, field.name)


def _adding(name: str) -> Any:
    return lambda old: msgspec.structs.replace(old, domains=(*old.domains, Domain(name)))
