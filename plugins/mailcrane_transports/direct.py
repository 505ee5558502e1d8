"""Deliveries to the mail exchangers of a domain: the transport types ``direct`` and ``socks``."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Callable, Collection, Mapping, Sequence

from mailcrane.api import Delivery, NotNow, RecipientResult, Reply
from mailcrane.api.tls import PolicyUnknown, TLSMode, TLSPolicy
from mailcrane.api.transport import AtLimit, Suspended
from mailcrane_transports import metrics
from mailcrane_transports.addresses import dialed_before, find_addresses, in_order, of_families
from mailcrane_transports.config import DirectConfig, NextHopConfig, SocksConfig, split_host_port
from mailcrane_transports.dial import AddressDialer, CannotConnect, Dialer, SocksDialer
from mailcrane_transports.home import Home
from mailcrane_transports.hosts import MailHost, NoHost, find_hosts
from mailcrane_transports.line import Line
from mailcrane_transports.progress import Progress
from mailcrane_transports.session import SetUp, Target

_NO_VERIFIED_TLS = Reply.make(554, "5.7.30", "REQUIRETLS needs a host whose TLS can be verified (MTA-STS or DANE)")
_BOTH = frozenset({4, 6})


class DirectTransport:
    """Delivers to the hosts that a domain names, the best first; implements `mailcrane.api.Transport`.

    Args:
        dialer: Makes the connections.
        ehlo: Gives the name that we say.
        config: Limits.
        port: Of all hosts.
        families: 4, 6 or both.
        domain_ips: Domains that need no look-up.
    """

    def __init__(
        self,
        home: Home,
        dialer: Dialer,
        ehlo: Callable[[], str],
        config: NextHopConfig,
        *,
        port: int,
        families: Collection[int] = _BOTH,
        domain_ips: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        self._home = home
        self._port = port
        self._families = families
        self._domain_ips = domain_ips or {}
        self._line = Line(dialer, SetUp(), ehlo, config, home.start_soon)

    async def deliver(self, delivery: Delivery) -> tuple[RecipientResult, ...]:
        """Ask the domain's hosts in turn until every forward-path has an answer that counts.

        Raises:
            NotNow: no host was asked, because a limit is reached or all are left alone.
        """
        progress = Progress(delivery)
        with progress.kept(self._home.log):
            await self._ask_hosts(progress)
        return progress.results()

    async def aclose(self) -> None:
        """Close the sessions that are kept."""
        await self._line.aclose()

    async def _ask_hosts(self, progress: Progress) -> None:
        domain = progress.delivery.entries[0].forward_path.domain
        is_local = self._home.is_local_domain(domain)
        try:
            hosts = await self._hosts(domain, is_local=is_local)
        except NoHost as none:
            progress.refused(none.result)
            return
        not_now: list[NotNow] = []
        full_preference: int | None = None
        is_any_asked = False
        for host in hosts:
            if full_preference is not None and host.preference != full_preference:
                # That a limit of ours is reached at the best hosts is no reason to go to their backup.
                break
            try:
                await self._deliver_to(host, domain, progress, is_local=is_local)
            except NotNow as limit:
                not_now.append(limit)
                if isinstance(limit, AtLimit):
                    full_preference = host.preference
                continue
            except (Suspended, PolicyUnknown) as why:
                progress.untried(host.name, str(why))
                continue
            is_any_asked = True
            if not progress.waiting:
                break
        if not_now and not is_any_asked:
            raise min(not_now, key=lambda one: one.seconds)

    async def _hosts(self, domain: str, *, is_local: bool) -> tuple[MailHost, ...]:
        if domain.startswith("["):
            ip = domain[1:-1].removeprefix("IPv6:")
            return (MailHost(ip, ips=(str(ipaddress.ip_address(ip)),)),)
        ips = self._domain_ips.get(domain)
        if ips is not None:
            return (MailHost(domain, ips=ips),)
        return await find_hosts(self._home.resolver, domain, own_name=self._home.hostname(), is_local_domain=is_local)

    async def _deliver_to(self, host: MailHost, domain: str, progress: Progress, *, is_local: bool) -> None:
        delivery = progress.delivery
        policy = await self._policy(host, domain, delivery)
        if isinstance(policy, Reply):
            progress.begin_host()
            progress.remote_mta = host.name
            progress.lacks(policy)
            return
        target = Target(host.name, self._port, policy, may_be_ourselves=is_local, is_of_domain=True)
        await self._line.deliver(target, progress, functools.partial(self._addresses, host, delivery))

    async def _policy(self, host: MailHost, domain: str, delivery: Delivery) -> TLSPolicy | Reply:
        is_optional = delivery.require_tls is False
        policy: TLSPolicy | Reply = TLSPolicy(TLSMode.OPPORTUNISTIC)
        try:
            if not host.ips:
                policy = await self._home.policies.policy(domain, host.name)
        except PolicyUnknown:
            if not is_optional:
                raise
        if is_optional:
            # RFC 8689 section 5: the sender would rather have it delivered than protected.
            if isinstance(policy, Reply) or policy.is_required:
                metrics.requiretls_no_ignored.inc()
            return TLSPolicy(TLSMode.OPPORTUNISTIC, "TLS-Required: No")
        if delivery.require_tls and isinstance(policy, TLSPolicy) and not policy.is_verified:
            metrics.requiretls_unsupported.inc("unverified")
            return _NO_VERIFIED_TLS
        return policy

    async def _addresses(self, host: MailHost, delivery: Delivery) -> Sequence[str]:
        if host.ips:
            ips = of_families(host.ips, self._families)
            if not ips:
                raise CannotConnect(f"{host.name} has no address of a family that may be used")
        else:
            ips = await find_addresses(self._home.resolver, host.name, self._families)
        return in_order(ips, dialed_before(delivery.attempts_before, host.name))


async def open_direct(config: DirectConfig, home: Home) -> DirectTransport:
    """Make a transport of the type ``direct``. Nothing is connected before the first delivery."""
    families = frozenset(
        family for family, is_off in ((4, config.disable_ipv4), (6, config.disable_ipv6)) if not is_off
    )
    return DirectTransport(
        home,
        AddressDialer(config.local_ips),
        (lambda: config.ehlo_name) if config.ehlo_name else home.hostname,
        config,
        port=config.port,
        families=families,
        domain_ips=config.domain_ips,
    )


async def open_socks(config: SocksConfig, home: Home) -> DirectTransport:
    """Make a transport of the type ``socks``."""
    return DirectTransport(
        home,
        SocksDialer(*split_host_port(config.address)),
        lambda: config.remote_hostname,
        config,
        port=config.port,
        families=frozenset(ipaddress.ip_address(ip).version for ip in config.remote_ips),
    )
