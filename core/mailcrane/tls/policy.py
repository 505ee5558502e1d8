"""What TLS a connection to a next hop must have. The input of a connection, decided before it is made.

`TLSPolicyProvider` is where MTA-STS (RFC 8461) and DANE (RFC 7672) say more than "use it where it is offered".
"""

from __future__ import annotations

import enum
from typing import Protocol

from msgspec import Struct

from mailcrane.model.reply import Reply


class TLSMode(enum.StrEnum):
    """How much TLS is asked for."""

    NONE = "none"  # plaintext, whatever is offered
    OPPORTUNISTIC = "opportunistic"  # where it is offered and works, with any certificate
    REQUIRED = "required"  # TLS or nothing, with any certificate
    VERIFIED = "verified"  # TLS or nothing, with a certificate that is good for the host


class TLSPolicy(Struct, frozen=True):
    """The TLS of a connection to one host.

    Attributes:
        source: Where the policy is from, for people: ``configuration``, ``default``.
        is_immediate: TLS begins with the connection (RFC 8314); otherwise by STARTTLS.
    """

    mode: TLSMode
    source: str = "default"
    is_immediate: bool = False

    @property
    def is_required(self) -> bool:
        """Whether nothing is sent without TLS."""
        return self.mode in {TLSMode.REQUIRED, TLSMode.VERIFIED}

    @property
    def is_verified(self) -> bool:
        """Whether nothing is sent to a host that does not prove who it is: what REQUIRETLS needs (RFC 8689)."""
        return self.mode is TLSMode.VERIFIED


class PolicyUnknown(Exception):
    """The policy for a host cannot be found out now; nothing is to be sent to it."""


class TLSPolicyProvider(Protocol):
    """Knows the policies of domains for their mail exchangers."""

    async def policy(self, domain: str, host: str) -> TLSPolicy | Reply:
        """Return the policy for a host that a domain names, or a reply that says why nothing may be sent to it.

        Args:
            domain: Of the forward-paths, before aliases.
            host: The mail exchanger.

        Raises:
            PolicyUnknown: it cannot be found out now; the host is passed over, and the delivery deferred.
        """
        ...


class OpportunisticTLS:
    """The policy of domains that publish none; implements `TLSPolicyProvider`."""

    async def policy(self, domain: str, host: str) -> TLSPolicy | Reply:
        """Return that TLS is used where it is offered."""
        return OPPORTUNISTIC


OPPORTUNISTIC = TLSPolicy(TLSMode.OPPORTUNISTIC)
