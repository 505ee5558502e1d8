"""What is asked of DNS and what comes back, without a word about how.

All names are in A-label form, lower case, without a final dot; look-ups never use a search list.
"""

from __future__ import annotations

import enum
from typing import Generic, Protocol, TypeVar

from msgspec import Struct

T = TypeVar("T")


class RecordType(enum.StrEnum):
    """Types of records that can be asked for."""

    A = "A"
    AAAA = "AAAA"
    CNAME = "CNAME"
    MX = "MX"
    PTR = "PTR"
    TLSA = "TLSA"
    TXT = "TXT"


class MX(Struct, frozen=True, order=True):
    """A mail exchanger (RFC 1035 section 3.3.9).

    Attributes:
        preference: The lowest is tried first.
        host: Empty is the root: the domain takes no mail (RFC 7505).
    """

    preference: int
    host: str


class TLSA(Struct, frozen=True):
    """A certificate association (RFC 6698 section 2.1)."""

    usage: int
    selector: int
    matching_type: int
    data: bytes


class Answer(Struct, Generic[T], frozen=True):
    """Records of one name and type; there is at least one.

    Attributes:
        name: What was asked for.
        records: In the order in which they came.
        canonical_name: Where aliases (CNAME) have led; `name` where there were none.
        is_authentic: The resolver vouches by DNSSEC for every record and every alias on the way, and is trusted to.
    """

    name: str
    records: tuple[T, ...]
    canonical_name: str
    is_authentic: bool = False


class LookupFailed(Exception):
    """A look-up gave no records. The message is for operators: it has the name, the type and why."""

    def __init__(self, name: str, record_type: RecordType, why: str) -> None:
        super().__init__(f"{record_type} of {name}: {why}")
        self.name = name
        self.record_type = record_type


class NotFound(LookupFailed):
    """DNS answered that there are no such records.

    Attributes:
        is_nxdomain: The name does not exist at all; otherwise it has records of other types only.
        is_authentic: As for answers.
        canonical_name: The name that aliases have led to, which is the one that was not found.
    """

    def __init__(
        self,
        name: str,
        record_type: RecordType,
        *,
        is_nxdomain: bool,
        is_authentic: bool = False,
        canonical_name: str = "",
    ) -> None:
        super().__init__(name, record_type, "no such name" if is_nxdomain else "no such record")
        self.is_nxdomain = is_nxdomain
        self.is_authentic = is_authentic
        self.canonical_name = canonical_name or name


class TemporaryFailure(LookupFailed):
    """DNS gave no answer: no server was reached in time, or none could tell. Nothing is known of the name."""


class Resolver(Protocol):
    """Looks names up. Every method takes an A-label name and raises `NotFound` or `TemporaryFailure`.

    Aliases are followed by the server that is asked, save by `cname`.
    """

    async def a(self, name: str) -> Answer[str]:
        """Return IPv4 addresses, as text."""
        ...

    async def aaaa(self, name: str) -> Answer[str]:
        """Return IPv6 addresses, as text."""
        ...

    async def cname(self, name: str) -> Answer[str]:
        """Return what the name itself is an alias of."""
        ...

    async def mx(self, name: str) -> Answer[MX]:
        """Return the mail exchangers of a domain, as they came."""
        ...

    async def ptr(self, ip: str) -> Answer[str]:
        """Return the names that an IP address says it has."""
        ...

    async def tlsa(self, name: str) -> Answer[TLSA]:
        """Return certificate associations of a name such as ``_25._tcp.mx.example.org``."""
        ...

    async def txt(self, name: str) -> Answer[bytes]:
        """Return texts; the strings of one record are joined."""
        ...
