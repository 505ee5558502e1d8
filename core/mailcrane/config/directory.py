"""Look-ups over the configuration rows for the mail path: built once for a version, immutable, no I/O."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from mailcrane.config.rows import Account, Address, Configuration, DKIMKey, Domain, Route
from mailcrane.model.address import AddressError, Mailbox
from mailcrane.model.receive import LocalDestination

POSTMASTER = "postmaster"


class ScopedRoute(Struct, frozen=True):
    """A route with where it was set.

    Attributes:
        scope: ``account NAME``, ``domain NAME`` or ``global``.
    """

    scope: str
    route: Route


class Directory:
    """Answers who is local, who may send as whom, who signs and which routes apply.

    Args:
        configuration: As `mailcrane.config.declarative.validate` returned it.
        hostname: The server's own name, at which postmaster exists; A-labels in lower case.
    """

    def __init__(self, configuration: Configuration, *, hostname: str = "") -> None:
        self.configuration = configuration
        self.hostname = hostname
        self._domains = {domain.name: domain for domain in configuration.domains}
        self._accounts = {account.name: account for account in configuration.accounts}
        self._catchalls: dict[str, Address] = {}
        self._addresses: dict[Mailbox, Address] = {}
        for address in configuration.addresses:
            if address.address.startswith("@"):
                self._catchalls[address.address[1:]] = address
            else:
                self._addresses[self.canonical_address(Mailbox.parse(address.address))] = address
        self._signing_keys: dict[str, tuple[DKIMKey, ...]] = {}
        for key in configuration.dkim_keys:
            if key.is_signing:
                self._signing_keys[key.domain] = (*self._signing_keys.get(key.domain, ()), key)
        settings = configuration.settings
        self._global_routes = tuple(ScopedRoute("global", route) for route in settings.routes)

    @property
    def version(self) -> int:
        """The version of the configuration that this answers for."""
        return self.configuration.version

    def domain(self, name: str) -> Domain | None:
        """Return a domain of ours by its A-label name."""
        return self._domains.get(name)

    def account(self, name: str) -> Account | None:
        """Return an account by its name."""
        return self._accounts.get(name)

    def is_local_domain(self, name: str) -> bool:
        """Whether mail for the domain is received here, disabled or not."""
        return name in self._domains

    def canonical_address(self, mailbox: Mailbox) -> Mailbox:
        """Return the address that a mailbox at a domain of ours stands for; others are returned as they are.

        Lower case unless the domain is case-sensitive, then cut at the first occurrence of each separator in order.
        A separator at the very start does not cut.
        """
        domain = self._domains.get(mailbox.domain)
        if domain is None:
            return mailbox
        local_part = mailbox.local_part if domain.is_case_sensitive else mailbox.local_part.lower()
        for separator in domain.separators:
            position = local_part.find(separator)
            if position > 0:
                local_part = local_part[:position]
        return Mailbox(local_part, mailbox.domain)

    def lookup(self, mailbox: Mailbox) -> LocalDestination | None:
        """Return where mail for a mailbox is placed; None when there is no such address here.

        An exact address wins over a catchall, and both over postmaster. Whether the domain is disabled is not looked
        at: ask `domain`.
        """
        found = self._find(mailbox)
        if found is not None:
            return LocalDestination(found.account, found.folder)
        if mailbox.local_part.lower() == POSTMASTER and (
            mailbox.domain == self.hostname or mailbox.domain in self._domains
        ):
            return self.postmaster
        return None

    @property
    def postmaster(self) -> LocalDestination | None:
        """Where mail to postmaster goes, with the server's hostname or without a domain (RFC 5321 section 4.5.1)."""
        settings = self.configuration.settings
        if settings.postmaster_account not in self._accounts:
            return None
        return LocalDestination(settings.postmaster_account, settings.postmaster_folder)

    def address(self, mailbox: Mailbox) -> Address | None:
        """Return the configured address, or catchall, that takes a mailbox; postmaster's fallback is not one."""
        return self._find(mailbox)

    def may_send_as(self, account: str, mailbox: Mailbox) -> bool:
        """Whether a mailbox belongs to an account, so that it may be its author or reverse-path."""
        found = self._find(mailbox)
        return found is not None and found.account == account

    def login(self, login: str | Mailbox) -> str | None:
        """Return the name of the account that a login address belongs to; None for what is no address of ours."""
        if isinstance(login, str):
            try:
                login = Mailbox.parse(login)
            except AddressError:
                return None
        found = self._find(login)
        return None if found is None else found.account

    def full_name(self, account: str, address: str) -> str:
        """Return the name of the person at an address of an account, the account's where it has none; may be empty."""
        try:
            found = self._find(Mailbox.parse(address))
        except AddressError:
            found = None
        owner = self._accounts.get(account)
        return (found.full_name if found is not None else "") or ("" if owner is None else owner.full_name)

    @property
    def has_signing_keys(self) -> bool:
        """Whether any domain signs."""
        return bool(self._signing_keys)

    def signing_keys(self, domain: str) -> tuple[DKIMKey, ...]:
        """Return the keys that messages of an author at a domain are signed with, in order."""
        return self._signing_keys.get(domain, ())

    def routes(self, account: str, reverse_domain: str) -> tuple[ScopedRoute, ...]:
        """Return the routes in the order they are asked: the account's, the reverse-path domain's, the server's.

        Args:
            account: Name of the account that submitted; one that is gone has no routes.
            reverse_domain: Empty for the null reverse-path.
        """
        owner = self._accounts.get(account)
        domain = self._domains.get(reverse_domain)
        own = _scoped(f"account {account}", owner.routes) if owner is not None else ()
        of_domain = _scoped(f"domain {reverse_domain}", domain.routes) if domain is not None else ()
        return (*own, *of_domain, *self._global_routes)

    def select_route(self, account: str, reverse_domain: str, forward_domain: str, attempts: int) -> ScopedRoute | None:
        """Return the first route that matches; None leaves it to the default transport.

        Args:
            account: Name of the account that submitted.
            reverse_domain: Empty for the null reverse-path.
            forward_domain: A domain or an address literal.
            attempts: How many were made before this one.
        """
        for scoped in self.routes(account, reverse_domain):
            if route_matches(scoped.route, reverse_domain, forward_domain, attempts):
                return scoped
        return None

    def _find(self, mailbox: Mailbox) -> Address | None:
        if mailbox.domain not in self._domains:
            return None
        return self._addresses.get(self.canonical_address(mailbox)) or self._catchalls.get(mailbox.domain)


def route_matches(route: Route, reverse_domain: str, forward_domain: str, attempts: int) -> bool:
    """Whether a route applies to an attempt; see `Directory.select_route` for the arguments."""
    return (
        attempts >= route.minimum_attempts
        and _one_matches(route.from_domains, reverse_domain)
        and _one_matches(route.to_domains, forward_domain)
    )


def _one_matches(patterns: tuple[str, ...], domain: str) -> bool:
    if domain.startswith("["):
        domain = ""  # An address literal has no domain.
    return not patterns or any(_matches(pattern, domain) for pattern in patterns)


def _matches(pattern: str, domain: str) -> bool:
    if pattern == domain:
        return True
    # `.example.org` stands for the domain and what is under it; `.` thus only for the empty domain.
    return pattern.startswith(".") and (domain == pattern[1:] or (len(pattern) > 1 and domain.endswith(pattern)))


def _scoped(scope: str, routes: Iterable[Route]) -> tuple[ScopedRoute, ...]:
    return tuple(ScopedRoute(scope, route) for route in routes)
