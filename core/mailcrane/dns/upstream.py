"""Queries to DNS servers, by dnspython's stub resolver on trio.

dnspython has a search list, a cache and signature checks of its own; none of them is used. Names are absolute, and
that an answer is authentic (the AD bit, RFC 4035 section 3.2.3) is believed of servers on loopback and of those that
the operator trusts: anybody on the way to another could set it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

import dns.asyncresolver
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver

from mailcrane.config.static import DNSConfig, split_server
from mailcrane.dns.answer import MX, TLSA, Answer, NotFound, RecordType, TemporaryFailure
from mailcrane.dns.resolver import Found

# RFC 2308 section 5: that something is not there is kept for hours at most.
_MAX_NEGATIVE_SECONDS = 3600.0
# RFC 9715: what passes every path without fragments.
_UDP_OCTETS = 1232


class ServerUpstream:
    """Asks the configured servers in turn; implements `mailcrane.dns.resolver.Upstream`."""

    def __init__(self, config: DNSConfig) -> None:
        self._stub = dns.asyncresolver.Resolver(configure=False)
        self._stub.nameservers = list(_nameservers(config.servers))
        self._stub.timeout = config.server_timeout_seconds
        self._lifetime = config.timeout_seconds
        # AD in a query asks for it in the answer (RFC 6840 section 5.7), without signatures that we would not check.
        self._stub.flags = int(dns.flags.RD | dns.flags.AD)
        self._stub.use_edns(0, 0, _UDP_OCTETS)
        trusted = {str(ipaddress.ip_address(address)) for address in config.trusted}
        self._trusted = frozenset(
            address for address in map(_address, self._stub.nameservers) if address in trusted or _is_loopback(address)
        )
        # dnspython does not tell which server said that a name does not exist.
        self._are_all_trusted = all(_address(server) in self._trusted for server in self._stub.nameservers)

    async def query(self, name: str, record_type: RecordType) -> Found:
        """Ask for records.

        Raises:
            TemporaryFailure: no server gave an answer in time.
        """
        try:
            asked = dns.name.from_text(name, dns.name.root)
        except (dns.exception.DNSException, UnicodeError):
            # What cannot be written into a query cannot exist.
            return Found(NotFound(name, record_type, is_nxdomain=True), 0.0)
        try:
            answer = await self._stub.resolve(
                asked, str(record_type), raise_on_no_answer=False, search=False, lifetime=self._lifetime
            )
        except dns.resolver.NXDOMAIN as nxdomain:
            response: Any = nxdomain.response(asked)  # type: ignore[no-untyped-call]
            return self._nothing(name, record_type, response, is_trusted=self._are_all_trusted, is_nxdomain=True)
        except dns.resolver.LifetimeTimeout:
            raise TemporaryFailure(name, record_type, f"no answer in {self._lifetime:g} s") from None
        except dns.resolver.NoNameservers as failure:
            raise TemporaryFailure(name, record_type, _errors(failure)) from None
        except (dns.exception.DNSException, OSError) as failure:
            raise TemporaryFailure(name, record_type, str(failure) or type(failure).__name__) from failure
        is_trusted = answer.nameserver in self._trusted
        if answer.rrset is None:
            return self._nothing(name, record_type, answer.response, is_trusted=is_trusted, is_nxdomain=False)
        return Found(
            Answer(
                name,
                tuple(_value(record_type, record) for record in answer.rrset),
                _text(answer.canonical_name),
                is_trusted and _is_authentic(answer.response),
            ),
            answer.chaining_result.minimum_ttl,
        )

    def _nothing(
        self, name: str, record_type: RecordType, response: Any, *, is_trusted: bool, is_nxdomain: bool
    ) -> Found:
        chain = response.resolve_chaining()
        # RFC 2308 section 5: without a SOA record there is no time for which it may be kept.
        has_soa = any(rrset.rdtype == dns.rdatatype.SOA for rrset in response.authority)
        return Found(
            NotFound(
                name,
                record_type,
                is_nxdomain=is_nxdomain,
                is_authentic=is_trusted and _is_authentic(response),
                canonical_name=_text(chain.canonical_name),
            ),
            min(chain.minimum_ttl, _MAX_NEGATIVE_SECONDS) if has_soa else 0.0,
        )


def _nameservers(servers: Iterable[str]) -> Iterable[dns.nameserver.Do53Nameserver]:
    configured = [split_server(text) for text in servers]
    if not configured:
        try:
            configured = [(str(address), 53) for address in dns.resolver.Resolver().nameservers]
        except (dns.resolver.NoResolverConfiguration, OSError):
            # As the C library does where nothing is said.
            configured = [("127.0.0.1", 53)]
    return [dns.nameserver.Do53Nameserver(address, port) for address, port in configured]


def _address(server: Any) -> str:
    return str(server.address)


def _is_loopback(address: str) -> bool:
    # A zone, as in fe80::1%eth0, is none of loopback's.
    return "%" not in address and ipaddress.ip_address(address).is_loopback


def _is_authentic(response: dns.message.Message) -> bool:
    return bool(response.flags & dns.flags.AD)


def _errors(failure: dns.resolver.NoNameservers) -> str:
    """Say what each server did, in a line."""
    errors = failure.kwargs.get("errors") or ()
    return "; ".join(f"{server} answered {error}" for server, _, _, error, _ in errors) or "no server is left"


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower() if name != dns.name.root else ""


def _value(record_type: RecordType, record: Any) -> Any:
    match record_type:
        case RecordType.MX:
            return MX(record.preference, _text(record.exchange))
        case RecordType.TXT:
            return b"".join(record.strings)
        case RecordType.TLSA:
            return TLSA(record.usage, record.selector, record.mtype, record.cert)
        case RecordType.CNAME | RecordType.PTR:
            return _text(record.target)
        case RecordType.A | RecordType.AAAA:
            return str(record.address)
