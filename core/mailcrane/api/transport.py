"""Limits and back-off per next hop, for transports (provisional).

A transport keeps one `NextHops` and enters it for each message::

    with self.hops.enter("mx.example.org") as place:  # NotNow goes on to the queue; Suspended is to be deferred
        reply = await self.hand_over(delivery)
        if is_push_back(reply):
            place.pushed_back(str(reply))
        else:
            place.accepted()
"""

# ruff: noqa: PLC0414 - the alias is what tells a type checker that a name is re-exported.

from __future__ import annotations

from typing import TYPE_CHECKING

from mailcrane.api._lazy import lazy_names

if TYPE_CHECKING:
    from mailcrane.transport.next_hops import AtLimit as AtLimit
    from mailcrane.transport.next_hops import LeftAlone as LeftAlone
    from mailcrane.transport.next_hops import NextHopLimits as NextHopLimits
    from mailcrane.transport.next_hops import NextHops as NextHops
    from mailcrane.transport.next_hops import Place as Place
    from mailcrane.transport.next_hops import Suspended as Suspended
    from mailcrane.transport.next_hops import is_push_back as is_push_back
else:
    # A type checker sees the names above, and no others.
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "mailcrane.transport.next_hops": (
                "AtLimit",
                "LeftAlone",
                "NextHopLimits",
                "NextHops",
                "Place",
                "Suspended",
                "is_push_back",
            ),
        },
    )
