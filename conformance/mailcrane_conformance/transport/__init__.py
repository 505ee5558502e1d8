"""The transport suite: what the queue relies on a transport for.

    from mailcrane_conformance import transport
    test_transport = transport.make_test(transport.smtp(make))      # pytest: a case for each behaviour
    results = await transport.run(transport.smtp(make))             # or as values

`smtp` and `lmtp` take a function of host and port; `other` takes a transport that speaks something else, with a peer of
its author's. Every behaviour opens transports of its own and closes them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mailcrane_conformance import kit
from mailcrane_conformance.deliveries import KitContent as KitContent
from mailcrane_conformance.deliveries import make_delivery as make_delivery
from mailcrane_conformance.kit import Behaviour, Result, run_kit
from mailcrane_conformance.transport import any_transport, over_smtp
from mailcrane_conformance.transport.subject import Condition as Condition
from mailcrane_conformance.transport.subject import OpenPeer as OpenPeer
from mailcrane_conformance.transport.subject import Peer as Peer
from mailcrane_conformance.transport.subject import Received as Received
from mailcrane_conformance.transport.subject import Subject as Subject
from mailcrane_conformance.transport.subject import TransportFactory as TransportFactory
from mailcrane_conformance.transport.subject import lmtp as lmtp
from mailcrane_conformance.transport.subject import other as other
from mailcrane_conformance.transport.subject import smtp as smtp

BEHAVIOURS: tuple[Behaviour[Subject], ...] = (*any_transport.BEHAVIOURS, *over_smtp.BEHAVIOURS)


async def run(subject: Subject, only: Sequence[str] = ()) -> list[Result]:
    """Try the behaviours of the suite on a transport and return a result for each.

    Raises:
        ValueError: ``only`` has an id that the suite lacks.
    """
    return await run_kit(BEHAVIOURS, subject, only)


def make_test(subject: Subject) -> Callable[..., None]:
    """Make a test function for pytest, with a case for each behaviour: ``test_mine = make_test(smtp(make))``."""
    return kit.make_test(BEHAVIOURS, lambda: subject)
