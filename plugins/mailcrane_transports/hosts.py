"""Which hosts take the mail of a domain (RFC 5321 section 5.1, RFC 7505)."""

from __future__ import annotations

import random
from collections.abc import Callable

from msgspec import Struct

from mailcrane.api import AddressError, Outcome, RecipientResult, Reply, parse_domain
from mailcrane.api.dns import MX, Answer, NotFound, Resolver, TemporaryFailure

_MAX_ALIASES = 16
# More are not asked in one attempt: each can take minutes.
_MAX_HOSTS = 16
# The place of a domain's own address where there are no MX records.
_IMPLICIT = -1


class MailHost(Struct, frozen=True):
    """A host to ask.

    Attributes:
        name: A-label form, or an IP address for an address literal.
        preference: Hosts of one preference stand for each other.
        ips: Where they need no look-up.
    """

    name: str
    preference: int = _IMPLICIT
    ips: tuple[str, ...] = ()


class NoHost(Exception):
    """No host can be asked; the result is what that means for all forward-paths."""

    def __init__(self, result: RecipientResult) -> None:
        super().__init__(result.error)
        self.result = result


async def find_hosts(
    resolver: Resolver,
    domain: str,
    *,
    own_name: str,
    is_local_domain: bool,
    shuffle: Callable[[list[MX]], None] = random.shuffle,
) -> tuple[MailHost, ...]:
    """Return the hosts of a domain, in the order in which they are to be asked.

    Args:
        domain: A-label form.
        own_name: The name of this server: of its own MX record and those behind it nothing is expected.
        is_local_domain: This server takes mail for the domain itself, so that its own record is no loop.
        shuffle: Orders hosts of one preference.

    Raises:
        NoHost: there is none, or it is not known.
    """
    name, records = await _mail_exchangers(resolver, domain)
    if not records:
        # RFC 5321 section 5.1: the domain itself, as if it had an MX record of preference 0 with its own name.
        return (MailHost(name),)
    if any(not record.host for record in records):
        if len(records) == 1:
            raise _failed(556, "5.1.10", f"{domain} takes no mail (null MX)")
        # RFC 7505 section 3: a null MX has no others beside it; those that have a name are what was meant.
        records = [record for record in records if record.host]
    valid = [record for record in records if _is_name(record.host)]
    if not valid:
        raise _failed(550, "5.1.2", f"{domain} has no MX record with a host name: {records[0].host!r}")
    if not is_local_domain:
        valid = _before_us(valid, own_name)
        if not valid:
            raise _failed(554, "5.4.6", f"mail loops: the best mail exchanger of {domain} is this server")
    shuffle(valid)
    valid.sort(key=lambda record: record.preference)
    return tuple(MailHost(record.host, record.preference) for record in valid[:_MAX_HOSTS])


async def _mail_exchangers(resolver: Resolver, domain: str) -> tuple[str, list[MX]]:
    """Return the name that aliases lead to, and its MX records if it has any."""
    name, seen = domain, {domain}
    while True:
        try:
            answer: Answer[MX] = await resolver.mx(name)
        except TemporaryFailure as failure:
            raise _deferred(f"looking up {failure}") from failure
        except NotFound as missing:
            if missing.canonical_name == name:
                if missing.is_nxdomain:
                    raise _failed(550, "5.1.2", f"the domain {domain} does not exist (looked up {name})") from None
                return name, []
            # An alias: most servers have followed it, but some tell only where it leads.
            name = missing.canonical_name
        else:
            return answer.canonical_name, list(answer.records)
        if name in seen or len(seen) > _MAX_ALIASES:
            raise _deferred(f"the aliases (CNAME) of {domain} lead in a circle, or have no end, at {name}")
        seen.add(name)


def _before_us(records: list[MX], own_name: str) -> list[MX]:
    # RFC 5321 section 5.1: those at our own preference and behind it would only send the mail back to us.
    ours = min((record.preference for record in records if record.host == own_name), default=None)
    return records if ours is None else [record for record in records if record.preference < ours]


def _is_name(host: str) -> bool:
    try:
        return parse_domain(host) == host and not host.rpartition(".")[2].isdigit()
    except AddressError:
        return False


def _failed(code: int, enhanced_status_code: str, text: str) -> NoHost:
    reply = Reply.make(code, enhanced_status_code, text)
    return NoHost(RecipientResult(Outcome.FAILED, reply, str(reply)))


def _deferred(error: str) -> NoHost:
    return NoHost(RecipientResult(Outcome.DEFERRED, Reply.make(451, "4.4.3", "DNS gave no answer"), error))
