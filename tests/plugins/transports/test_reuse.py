"""Connections that are kept for the next message, and closed in time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from mailcrane.api import NotNow, Outcome
from mailcrane_conformance.transport import make_delivery
from mailcrane_transports.config import SMTPConfig
from mailcrane_transports.home import Home
from mailcrane_transports.relay import RelayTransport, open_smtp

OpenTo = Callable[..., Awaitable[RelayTransport]]


@pytest.fixture
def open_to(home: Home, opened: Callable[[RelayTransport], RelayTransport]) -> OpenTo:
    """Opens a plaintext relay to a peer."""

    async def open_it(peer: Any, **fields: Any) -> RelayTransport:
        return opened(await open_smtp(SMTPConfig(peer.host, peer.port, no_starttls=True, **fields), home))

    return open_it


def verbs(peer: Any, connection: int = 0) -> list[str]:
    return [line.partition(" ")[0] for line in peer.lines[connection]]


async def deliver(transport: RelayTransport, *paths: str) -> list[Outcome]:
    return [result.outcome for result in await transport.deliver(make_delivery(*paths))]


async def test_the_next_message_goes_over_the_same_connection(peer: Any, open_to: OpenTo) -> None:
    transport = await open_to(peer)
    for _ in range(3):
        assert await deliver(transport) == [Outcome.DELIVERED]
    await transport.aclose()
    assert verbs(peer) == ["EHLO", *["MAIL", "RCPT", "DATA"] * 3, "QUIT"]
    assert len(peer.lines) == 1


async def test_a_transaction_without_content_is_reset_before_the_next(peer: Any, open_to: OpenTo) -> None:
    transport = await open_to(peer)
    peer.replies["RCPT"] = ["550 5.1.1 nobody"]
    peer.replies["DATA"] = ["503 no recipients"]
    assert await deliver(transport) == [Outcome.FAILED]
    assert await deliver(transport) == [Outcome.DELIVERED]
    assert verbs(peer) == ["EHLO", "MAIL", "RCPT", "DATA", "RSET", "MAIL", "RCPT", "DATA"]


async def test_a_kept_connection_that_is_closed_at_the_reset_is_made_anew(peer: Any, open_to: OpenTo) -> None:
    transport = await open_to(peer)
    peer.replies = {"RCPT": ["550 5.1.1 nobody"], "DATA": ["503 no recipients"], "RSET": ["421 4.4.2 timeout"]}
    assert await deliver(transport) == [Outcome.FAILED]
    assert await deliver(transport) == [Outcome.DELIVERED]
    assert len(peer.lines) == 2


async def test_a_peer_that_closes_at_the_reset_between_transactions_takes_nothing_back(
    peer: Any, open_to: OpenTo
) -> None:
    transport = await open_to(peer)
    peer.extensions = ("LIMITS RCPTMAX=1",)
    peer.replies = {"RCPT": ["250 ok", "550 5.1.1 nobody"], "RSET": ["421 4.4.2 timeout"]}
    paths = [f"{name}@peer.example" for name in "abc"]
    assert await deliver(transport, *paths) == [Outcome.DELIVERED, Outcome.FAILED, Outcome.DEFERRED]


async def test_a_connection_has_so_many_messages_at_most(peer: Any, open_to: OpenTo) -> None:
    transport = await open_to(peer, messages_per_connection=2)
    for _ in range(3):
        await deliver(transport)
    assert [verbs(peer, number).count("MAIL") for number in range(2)] == [2, 1]


async def test_a_connection_is_not_kept_when_told_so(peer: Any, open_to: OpenTo) -> None:
    transport = await open_to(peer, idle_seconds=0.0)
    await deliver(transport)
    await peer.wait_until_closed()
    assert verbs(peer)[-1] == "QUIT"


async def test_a_connection_is_closed_when_nobody_needs_it(peer: Any, open_to: OpenTo) -> None:
    transport = await open_to(peer, idle_seconds=0.05)
    await deliver(transport)
    await peer.wait_until_closed()
    assert verbs(peer)[-1] == "QUIT"
    assert await deliver(transport) == [Outcome.DELIVERED]
    assert len(peer.lines) == 2


async def test_a_connection_that_the_peer_has_closed_is_not_used(peer: Any, open_to: OpenTo) -> None:
    transport = await open_to(peer)
    await deliver(transport)
    peer.close_all()
    await peer.wait_until_closed()
    assert await deliver(transport) == [Outcome.DELIVERED]
    assert len(peer.lines) == 2


@pytest.mark.parametrize("said", [None, "421 4.4.2 idle for too long"])
async def test_a_kept_connection_that_ends_as_it_is_used_again_is_made_anew(
    peer: Any, open_to: OpenTo, said: str | None
) -> None:
    transport = await open_to(peer)
    await deliver(transport)
    peer.replies["MAIL"] = [said]
    assert await deliver(transport) == [Outcome.DELIVERED]
    assert len(peer.lines) == 2
    assert len(peer.contents) == 2


async def test_a_new_connection_that_ends_is_not_made_anew(peer: Any, open_to: OpenTo) -> None:
    peer.replies["MAIL"] = [None]
    assert await deliver(await open_to(peer)) == [Outcome.DEFERRED]
    assert len(peer.lines) == 1


async def test_a_kept_connection_that_is_lost_after_the_final_dot_is_not_tried_again(
    peer: Any, open_to: OpenTo
) -> None:
    transport = await open_to(peer)
    await deliver(transport)
    peer.replies["."] = [None]
    [result] = await transport.deliver(make_delivery())
    assert result.is_maybe_delivered
    assert len(peer.lines) == 1


async def test_deliveries_at_once_have_connections_of_their_own_up_to_the_limit(peer: Any, open_to: OpenTo) -> None:
    peer.gate = trio.Event()
    transport = await open_to(peer, max_connections=2)
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(deliver, transport)
        await peer.wait_for_contents(2)
        with pytest.raises(NotNow, match="2 connections at once is the limit") as limit:
            await deliver(transport)
        assert limit.value.wait_for_place is not None
        nursery.start_soon(limit.value.wait_for_place)
        peer.gate.set()
    assert len(peer.lines) == 2


async def test_a_peer_that_asks_to_slow_down_is_not_kept_connected(peer: Any, open_to: OpenTo) -> None:
    transport = await open_to(peer)
    peer.replies["."] = ["451 4.7.1 too many messages from you"]
    assert await deliver(transport) == [Outcome.DEFERRED]
    await peer.wait_until_closed()
    with pytest.raises(NotNow, match="too many messages from you"):
        await deliver(transport)


async def test_a_login_is_not_shared_between_transports(peer: Any, open_to: OpenTo) -> None:
    one, other = await open_to(peer), await open_to(peer)
    await deliver(one)
    await deliver(other)
    assert len(peer.lines) == 2


async def test_cancelling_a_delivery_on_a_kept_connection_closes_it(peer: Any, open_to: OpenTo) -> None:
    transport = await open_to(peer)
    await deliver(transport)
    peer.gate = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(deliver, transport)
        await peer.wait_for_contents(2)
        nursery.cancel_scope.cancel()
    peer.gate.set()
    await peer.wait_until_closed()
