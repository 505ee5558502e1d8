"""A DNS of a test's own: names, records, and which names nobody answers for."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

import trio

from mailcrane.dns.answer import MX, TLSA, Answer, NotFound, RecordType, TemporaryFailure

_MAX_ALIASES = 16


class FakeResolver:
    """Looks up what it was told; implements `mailcrane.api.dns.Resolver`. A name without any record does not exist.

    Attributes:
        lookups: Type and name of every look-up, in order.
        failing: Names for which there is no answer.
        authentic: Names whose answers are authentic; with aliases every name on the way must be one.
    """

    def __init__(self) -> None:
        self.lookups: list[tuple[RecordType, str]] = []
        self.failing: set[str] = set()
        self.authentic: set[str] = set()
        self._records: dict[tuple[str, RecordType], list[Any]] = {}

    def add(self, name: str, record_type: RecordType | str, *records: Any) -> None:
        """Add records to a name.

        Args:
            name: A-label form; for PTR the IP address.
            record_type: Such as ``MX``.
            records: As in answers: text for A, AAAA, CNAME and PTR, bytes for TXT, `MX` and `TLSA`. For MX
                ``(preference, host)`` will do.
        """
        kind = RecordType(record_type)
        if kind is RecordType.PTR:
            name = ipaddress.ip_address(name).reverse_pointer
        values: Iterable[Any] = (MX(*record) if isinstance(record, tuple) else record for record in records)
        self._records.setdefault((name, kind), []).extend(values)

    def add_host(self, name: str, *ips: str) -> None:
        """Add IP addresses of both families to a name."""
        for ip in ips:
            self.add(name, RecordType.AAAA if ":" in ip else RecordType.A, ip)

    def remove(self, name: str, record_type: RecordType | str) -> None:
        """Remove the records of a name and type."""
        del self._records[name, RecordType(record_type)]

    async def a(self, name: str) -> Answer[str]:
        """Return IPv4 addresses."""
        return await self._look_up(name, RecordType.A)

    async def aaaa(self, name: str) -> Answer[str]:
        """Return IPv6 addresses."""
        return await self._look_up(name, RecordType.AAAA)

    async def cname(self, name: str) -> Answer[str]:
        """Return what a name is an alias of."""
        return await self._look_up(name, RecordType.CNAME)

    async def mx(self, name: str) -> Answer[MX]:
        """Return mail exchangers."""
        return await self._look_up(name, RecordType.MX)

    async def ptr(self, ip: str) -> Answer[str]:
        """Return the names of an IP address."""
        return await self._look_up(ipaddress.ip_address(ip).reverse_pointer, RecordType.PTR)

    async def tlsa(self, name: str) -> Answer[TLSA]:
        """Return certificate associations."""
        return await self._look_up(name, RecordType.TLSA)

    async def txt(self, name: str) -> Answer[bytes]:
        """Return texts."""
        return await self._look_up(name, RecordType.TXT)

    async def _look_up(self, name: str, kind: RecordType) -> Answer[Any]:
        await trio.lowlevel.checkpoint()
        self.lookups.append((kind, name))
        is_authentic = True
        current = name
        for _ in range(_MAX_ALIASES):
            if current in self.failing:
                raise TemporaryFailure(name, kind, "no answer, as the test wants it")
            is_authentic = is_authentic and current in self.authentic
            if records := self._records.get((current, kind)):
                return Answer(name, tuple(records), current, is_authentic)
            alias = self._records.get((current, RecordType.CNAME))
            if alias is None or kind is RecordType.CNAME:
                is_there = any(owner == current for owner, _ in self._records)
                raise NotFound(name, kind, is_nxdomain=not is_there, is_authentic=is_authentic, canonical_name=current)
            current = alias[0]
        raise TemporaryFailure(name, kind, "the aliases have no end")
