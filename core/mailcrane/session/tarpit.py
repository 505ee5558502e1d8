"""Slows a dialog down with a client that guesses passwords or sends what is refused.

A reply to such a client goes out octet by octet, one a second, until shortly before the deadline, then the rest at
once; reads begin a second late. It costs us one sleeping task, and the client its patience.
"""

from __future__ import annotations

import trio

READ_DELAY = 1.0
_OCTET_DELAY = 1.0

# What stays for the rest of a reply when the deadline comes near.
_MARGIN = 2.0


async def send_slowly(stream: trio.abc.SendStream, octets: bytes, deadline: float) -> None:
    """Send one octet a second until shortly before a deadline (of `trio.current_time`), then the rest."""
    sent = 0
    while sent < len(octets) - 1 and trio.current_time() + _OCTET_DELAY < deadline - _MARGIN:
        await stream.send_all(octets[sent : sent + 1])
        sent += 1
        await trio.sleep(_OCTET_DELAY)
    await stream.send_all(octets[sent:])
