"""Operations on accounts: add, list, set a password."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from mailcrane.admin.administration import Administration, Consequence
from mailcrane.admin.errors import AdminError
from mailcrane.config.rows import Account, Address, Configuration
from mailcrane.model.address import AddressError, Mailbox
from mailcrane.observe.secret import NO_SECRET, Secret
from mailcrane.sasl.credentials import Credentials, PasswordRefused, make_credentials
from mailcrane.store.transaction import Transaction

INITIAL_FOLDERS = (
    ("Inbox", ()),
    ("Sent", ("\\Sent",)),
    ("Archive", ("\\Archive",)),
    ("Trash", ("\\Trash",)),
    ("Drafts", ("\\Drafts",)),
    ("Junk", ("\\Junk",)),
)
"""The folders of a new account, with their special use (RFC 6154)."""


class AddAccount(Struct, frozen=True, forbid_unknown_fields=True):
    """Add an account with its first address."""

    name: Annotated[str, Meta(description="Name of the account.")]
    address: Annotated[str, Meta(description="Its first address, at a domain that exists.")]
    password: Annotated[Secret, Meta(description="Its password; without one nobody can log in until it is set.")] = (
        NO_SECRET
    )
    full_name: Annotated[str, Meta(description="Name of the person.")] = ""


class SetPassword(Struct, frozen=True, forbid_unknown_fields=True):
    """Set the password of an account."""

    account: Annotated[str, Meta(description="Name of the account, or one of its addresses.")]
    password: Annotated[Secret, Meta(description="The new password, at least 8 octets.")]


class ListAccounts(Struct, frozen=True, forbid_unknown_fields=True):
    """List the accounts."""


class AccountSummary(Struct, frozen=True):
    """An account in a list.

    Attributes:
        has_password: Whether a password was set.
    """

    name: str
    domain: str
    full_name: str
    addresses: tuple[str, ...]
    is_login_disabled: bool
    has_password: bool


class AccountList(Struct, frozen=True):
    """The accounts, by name."""

    accounts: tuple[AccountSummary, ...]


class Changed(Struct, frozen=True):
    """The configuration has this version now."""

    version: int


async def add_account(administration: Administration, request: AddAccount) -> Changed:
    """Add an account with its first address, folders and password, as one unit."""
    try:
        mailbox = Mailbox.parse(request.address)
    except AddressError as error:
        raise AdminError("bad_value", f'"{request.address}" is not an address: {error}') from None
    credentials = await _make_credentials(administration, request.password) if request.password else None

    def edit(configuration: Configuration) -> Configuration:
        if any(account.name == request.name for account in configuration.accounts):
            raise AdminError("exists", f'there is an account "{request.name}" already')
        if not any(domain.name == mailbox.domain for domain in configuration.domains):
            raise AdminError(
                "not_found",
                f'there is no domain "{mailbox.domain}"; add it with: mailcrane domain add {mailbox.domain}',
            )
        account = Account(request.name, mailbox.domain, full_name=request.full_name)
        return msgspec.structs.replace(
            configuration,
            accounts=(*configuration.accounts, account),
            addresses=(*configuration.addresses, Address(str(mailbox), request.name)),
        )

    def consequence(transaction: Transaction) -> None:
        for folder, special_uses in INITIAL_FOLDERS:
            transaction.folders.create(request.name, folder, special_uses=special_uses)
        if credentials is not None:
            _store_credentials(transaction, request.name, credentials)

    changed = await administration.change("account_add", edit, consequence=consequence)
    return Changed(changed.version)


async def set_password(administration: Administration, request: SetPassword) -> Changed:
    """Set an account's password; verified logins of the old one end at once."""
    name = _account_named(await administration.configuration(), request.account)
    credentials = await _make_credentials(administration, request.password)
    changed = await administration.change("password_set", lambda old: old, consequence=_setting(name, credentials))
    return Changed(changed.version)


async def list_accounts(administration: Administration, request: ListAccounts) -> AccountList:
    """List all accounts with their addresses."""

    def read(transaction: Transaction) -> tuple[Configuration, set[str]]:
        configuration = transaction.configuration.load()
        return configuration, {
            account.name for account in configuration.accounts if transaction.credentials.get(account.name)
        }

    configuration, with_password = await administration.store.read(read)
    addresses: dict[str, list[str]] = {}
    for address in configuration.addresses:
        addresses.setdefault(address.account, []).append(address.address)
    return AccountList(
        tuple(
            AccountSummary(
                account.name,
                account.domain,
                account.full_name,
                tuple(sorted(addresses.get(account.name, ()))),
                account.is_login_disabled,
                account.name in with_password,
            )
            for account in sorted(configuration.accounts, key=lambda account: account.name)
        )
    )


def _account_named(configuration: Configuration, name: str) -> str:
    if any(account.name == name for account in configuration.accounts):
        return name
    for address in configuration.addresses:
        if address.address.lower() == name.lower():
            return address.account
    raise AdminError("not_found", f'there is no account "{name}"; `mailcrane account list` shows those there are')


async def _make_credentials(administration: Administration, password: Secret) -> Credentials:
    legacy = administration.static.auth.legacy
    try:
        return await administration.in_thread(lambda: make_credentials(password.reveal(), version=0, legacy=legacy))
    except PasswordRefused as error:
        raise AdminError("bad_value", str(error)) from None


def _setting(account: str, credentials: Credentials) -> Consequence:
    return lambda transaction: _store_credentials(transaction, account, credentials)


def _store_credentials(transaction: Transaction, account: str, credentials: Credentials) -> None:
    old = transaction.credentials.get(account)
    # From the clock, so that an account that is removed and added again does not repeat a version.
    version = max(transaction.now_us, old.version + 1 if old is not None else 0)
    transaction.credentials.set(account, msgspec.structs.replace(credentials, version=version))
