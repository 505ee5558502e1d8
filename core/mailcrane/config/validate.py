"""Checks the configuration rows as a whole: every name, every reference; the answer is in canonical form."""

from __future__ import annotations

import base64
import binascii
import difflib
import re
from collections.abc import Collection, Iterable
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec

from mailcrane.config.convert import ConfigError, join_key
from mailcrane.config.directory import Directory
from mailcrane.config.rows import Account, Address, Configuration, DKIMKey, Domain, Route, Webhook
from mailcrane.model.address import AddressError, Mailbox, parse_domain
from mailcrane.model.event import OUTGOING_EVENT_KINDS, is_plugin_kind
from mailcrane.observe.secret import Secret

_ACCOUNT_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?\Z")
_FIELD_NAME = re.compile(r"[\x21-\x39\x3b-\x7e]{1,76}\Z")
T = TypeVar("T", Domain, Account)

_SECRET_PREFIX = "whsec_"


def validate(configuration: Configuration, *, transports: Collection[str] | None = None) -> Configuration:
    """Check a configuration and return it in canonical form.

    Canonical: domains as A-labels in lower case, local parts in lower case where the domain is not case-sensitive,
    and everything sorted by name.

    Args:
        configuration: Any.
        transports: The names that routes may use; None leaves them unchecked, where mailcrane.toml is not at hand.

    Raises:
        ConfigError: with the key path of the declarative form.
    """
    domains = _unique("domains", [_domain(domain, transports) for domain in configuration.domains])
    names = {domain.name: domain for domain in domains}
    accounts = _unique("accounts", [_account(account, names, transports) for account in configuration.accounts])
    account_names = {account.name for account in accounts}
    canonical = Directory(Configuration(domains=tuple(domains)))
    addresses = [_address(address, names, account_names, canonical) for address in configuration.addresses]
    _check_unique_addresses(addresses)
    keys = [_dkim_key(key, names) for key in configuration.dkim_keys]
    _check_unique_keys(keys)
    result = msgspec.structs.replace(
        configuration,
        settings=msgspec.structs.replace(
            configuration.settings, routes=_routes("settings", configuration.settings.routes, transports)
        ),
        domains=tuple(domains),
        accounts=tuple(accounts),
        addresses=tuple(sorted(addresses, key=lambda address: address.address)),
        dkim_keys=tuple(sorted(keys, key=lambda key: (key.domain, key.selector))),
    )
    _check_settings(result)
    _check_from_id_logins(result)
    return result


def domain_path(name: str) -> str:
    """Return the key path of a domain in the declarative form."""
    return join_key("domains", name)


def account_path(name: str) -> str:
    """Return the key path of an account in the declarative form."""
    return join_key("accounts", name)


def address_path(address: Address) -> str:
    """Return the key path of an address in the declarative form."""
    return join_key(f"{account_path(address.account)}.addresses", address.address)


def dkim_key_path(key: DKIMKey) -> str:
    """Return the key path of a DKIM key in the declarative form."""
    return join_key(f"{domain_path(key.domain)}.dkim_keys", key.selector)


def _domain(domain: Domain, transports: Collection[str] | None) -> Domain:
    path = domain_path(domain.name)
    seen: set[str] = set()
    for index, separator in enumerate(domain.separators):
        where = f"{path}.separators[{index}]"
        if not separator or not separator.isprintable() or "@" in separator or '"' in separator:
            raise ConfigError(where, f"{separator!r} cannot separate", 'Write a character such as "+" or "-"')
        if separator in seen:
            raise ConfigError(where, f"{separator!r} is there twice", "Remove one")
        seen.add(separator)
    return msgspec.structs.replace(
        domain, name=_domain_name(path, domain.name), routes=_routes(path, domain.routes, transports)
    )


def _account(account: Account, domains: dict[str, Domain], transports: Collection[str] | None) -> Account:
    path = account_path(account.name)
    if not _ACCOUNT_NAME.match(account.name):
        raise ConfigError(path, f'"{account.name}" is not a name', "Use up to 64 letters, digits and -_.")
    domain = _known_domain(f"{path}.domain", account.domain, domains)
    message = account.login_disabled_message
    if message and not (message.isascii() and message.isprintable()):
        raise ConfigError(
            f"{path}.login_disabled_message", "is not printable ASCII", "Clients cannot show it otherwise"
        )
    if account.outgoing_webhook is not None:
        _check_webhook(f"{path}.outgoing_webhook", account.outgoing_webhook)
    return msgspec.structs.replace(account, domain=domain, routes=_routes(path, account.routes, transports))


def _check_webhook(path: str, webhook: Webhook) -> None:
    try:
        url = urlsplit(webhook.url)
        is_good = url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
    except ValueError:
        is_good = False
    if not is_good or not webhook.url.isascii() or not webhook.url.isprintable() or " " in webhook.url:
        raise ConfigError(f"{path}.url", f'"{webhook.url}" is not an http or https URL', "Write https://host/path")
    authorization = webhook.authorization.reveal()
    if not (authorization.isascii() and authorization.isprintable()):
        raise ConfigError(f"{path}.authorization", "is not printable ASCII", 'Write it as "Bearer …" or "Basic …"')
    for index, secret in enumerate(webhook.secrets):
        _check_secret(f"{path}.secrets[{index}]", secret)
    for index, retiring in enumerate(webhook.retiring_secrets):
        _check_secret(f"{path}.retiring_secrets[{index}].secret", retiring.secret)
    for index, name in enumerate(webhook.events):
        if name not in OUTGOING_EVENT_KINDS and not is_plugin_kind(name):
            known = sorted(OUTGOING_EVENT_KINDS)
            near = difflib.get_close_matches(name, known, n=1)
            raise ConfigError(
                f"{path}.events[{index}]",
                f'"{name}" is not an event',
                f"Did you mean {near[0]}?" if near else f"Write one of {', '.join(known)}, or <plugin>.<name>",
            )


def _check_secret(path: str, secret: Secret) -> None:
    text = secret.reveal()
    try:
        key = base64.b64decode(text.removeprefix(_SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not text.startswith(_SECRET_PREFIX) or not 24 <= len(key) <= 64:
        raise ConfigError(
            path,
            "is not a signing secret",
            "Write whsec_ and then 24 to 64 octets in base64; `openssl rand -base64 32` makes some",
        )


def _address(address: Address, domains: dict[str, Domain], accounts: Collection[str], directory: Directory) -> Address:
    path = address_path(address)
    if address.account not in accounts:
        raise ConfigError(
            path, f'there is no account "{address.account}"', f"Add [accounts.{address.account}] or name another"
        )
    if not address.folder:
        raise ConfigError(f"{path}.folder", "is empty", 'Write "Inbox" or another folder')
    if address.address.startswith("@"):
        return msgspec.structs.replace(address, address="@" + _known_domain(path, address.address[1:], domains))
    mailbox = _mailbox(path, address.address)
    domain = domains[_known_domain(path, mailbox.domain, domains)]
    for separator in domain.separators:
        if separator in mailbox.local_part:
            raise ConfigError(
                path,
                f'"{separator}" separates at {domain.name}, so this address is never looked up',
                f"Remove what begins with it, or change {domain_path(domain.name)}.separators",
            )
    return msgspec.structs.replace(address, address=str(directory.canonical_address(mailbox)))


def _dkim_key(key: DKIMKey, domains: dict[str, Domain]) -> DKIMKey:
    path = dkim_key_path(key)
    domain = _known_domain(path, key.domain, domains)
    try:
        selector = parse_domain(key.selector)
    except AddressError as error:
        raise ConfigError(path, f'"{key.selector}" is not a selector: {error}', "Use letters, digits and -") from None
    pem = key.private_key_pem.reveal().strip()
    if not (pem.startswith("-----BEGIN PRIVATE KEY-----") and pem.endswith("-----END PRIVATE KEY-----")):
        raise ConfigError(
            f"{path}.private_key_pem",
            "is not a private key in PKCS #8 PEM",
            "`openssl pkcs8 -topk8 -nocrypt` makes one",
        )
    for index, name in enumerate(key.header_fields):
        if not _FIELD_NAME.match(name):
            raise ConfigError(f"{path}.header_fields[{index}]", f"{name!r} is not a field name", "Such as Subject")
    if "from" not in {name.lower() for name in key.header_fields}:
        # RFC 6376 section 5.4: the From header field MUST be signed.
        raise ConfigError(f"{path}.header_fields", "does not have From", 'Add "From"')
    return msgspec.structs.replace(key, domain=domain, selector=selector)


def _routes(path: str, routes: Iterable[Route], transports: Collection[str] | None) -> tuple[Route, ...]:
    result: list[Route] = []
    for index, route in enumerate(routes):
        where = f"{path}.routes[{index}]"
        if transports is not None and route.transport not in transports:
            raise ConfigError(
                f"{where}.transport",
                f'there is no transport "{route.transport}"',
                f"mailcrane.toml has: {', '.join(sorted(transports)) or '(none)'}",
            )
        result.append(
            msgspec.structs.replace(
                route,
                from_domains=_patterns(f"{where}.from_domains", route.from_domains),
                to_domains=_patterns(f"{where}.to_domains", route.to_domains),
            )
        )
    return tuple(result)


def _patterns(path: str, patterns: Iterable[str]) -> tuple[str, ...]:
    result: list[str] = []
    for index, pattern in enumerate(patterns):
        dot = "." if pattern.startswith(".") else ""
        name = pattern.removeprefix(".")
        result.append(dot + (_domain_name(f"{path}[{index}]", name) if name or not dot else ""))
    return tuple(result)


def _check_settings(configuration: Configuration) -> None:
    settings = configuration.settings
    account = settings.postmaster_account
    if account and account not in {account.name for account in configuration.accounts}:
        raise ConfigError("settings.postmaster_account", f'there is no account "{account}"', "Name one that exists")
    if not settings.postmaster_folder:
        raise ConfigError("settings.postmaster_folder", "is empty", 'Write "Inbox" or another folder')


def _check_from_id_logins(configuration: Configuration) -> None:
    directory = Directory(configuration)
    for account in configuration.accounts:
        for index, login in enumerate(account.from_id_login_addresses):
            where = f"{account_path(account.name)}.from_id_login_addresses[{index}]"
            mailbox = _mailbox(where, login)
            if directory.login(mailbox) != account.name:
                raise ConfigError(where, f'"{login}" is not an address of the account', "Name one of its addresses")
            domain = directory.domain(mailbox.domain)
            if domain is None or not domain.separators:
                raise ConfigError(
                    where, f"{mailbox.domain} has no separators", f"Set {domain_path(mailbox.domain)}.separators"
                )


def _check_unique_addresses(addresses: Iterable[Address]) -> None:
    seen: dict[str, Address] = {}
    for address in addresses:
        other = seen.setdefault(address.address, address)
        if other is not address:
            raise ConfigError(
                address_path(address),
                f'"{address.address}" is taken by account "{other.account}"',
                "Remove one of them",
            )


def _check_unique_keys(keys: Iterable[DKIMKey]) -> None:
    seen: set[tuple[str, str]] = set()
    for key in keys:
        if (key.domain, key.selector) in seen:
            raise ConfigError(dkim_key_path(key), "is there twice", "Remove one of them")
        seen.add((key.domain, key.selector))


def _unique(path: str, rows: list[T]) -> list[T]:
    seen: set[str] = set()
    for row in rows:
        if row.name in seen:
            raise ConfigError(join_key(path, row.name), "is there twice", "Remove one of them")
        seen.add(row.name)
    return sorted(rows, key=lambda row: row.name)


def _known_domain(path: str, name: str, domains: dict[str, Domain]) -> str:
    domain = _domain_name(path, name)
    if domain not in domains:
        raise ConfigError(path, f'there is no domain "{name}"', f'Add [domains."{name}"]')
    return domain


def _domain_name(path: str, name: str) -> str:
    try:
        return parse_domain(name)
    except AddressError as error:
        raise ConfigError(path, f'"{name}" is not a domain: {error}', "Write it as example.org") from None


def _mailbox(path: str, text: str) -> Mailbox:
    try:
        return Mailbox.parse(text)
    except AddressError as error:
        raise ConfigError(path, f'"{text}" is not an address: {error}', "Write it as ann@example.org") from None
