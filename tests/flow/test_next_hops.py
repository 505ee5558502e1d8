"""What the queue tells a transport, and what it keeps of what a transport has seen."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from mailcrane.model.delivery import Delivery, Outcome, RecipientResult, TLSUse
from mailcrane.model.reply import Reply
from mailcrane.testing.in_memory import PASSWORD, RunningServer, server
from mailcrane.transport.next_hops import NextHopLimits, NextHops

OK = Reply.make(250, "2.0.0", "taken")
LATER = Reply.make(451, "4.3.0", "come back later")


async def submit(running: RunningServer) -> None:
    client = running.connect("submission")
    await client.hello()
    assert (await client.log_in("ann@here.example", PASSWORD)).code == 235
    content = b"From: ann@here.example\r\nSubject: news\r\n\r\nHello.\r\n"
    assert (await client.send("ann@here.example", ["you@there.example"], content)).code == 250
    await client.quit()


class Limited:
    """A transport whose only next hop takes a second for a message, and one at a time; it refuses at first."""

    def __init__(self) -> None:
        self.hops = NextHops(NextHopLimits(max_connections=1))
        self.refusals = 0
        self.at_once = self.most_at_once = 0
        self.attempts: list[int] = []

    async def deliver(self, delivery: Delivery) -> tuple[RecipientResult, ...]:
        with self.hops.enter("mx.there.example") as place:
            if self.refusals:
                self.refusals -= 1
                place.unreachable("connection refused")
                return (RecipientResult(Outcome.DEFERRED, error="connection refused"),)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            await trio.sleep(1)
            self.at_once -= 1
            place.accepted()
            self.attempts.append(delivery.attempt)
            return (RecipientResult(Outcome.DELIVERED, OK),)


async def test_what_a_next_hop_cannot_take_at_once_waits_and_costs_no_attempt(
    autojump_clock: trio.testing.MockClock,
) -> None:
    limited = Limited()
    async with server() as running:
        running.transport.deliver = limited.deliver  # type: ignore[method-assign]
        for _ in range(5):
            await submit(running)
        await trio.sleep(30)
        assert not await running.entries()
    assert limited.most_at_once == 1
    assert limited.attempts == [1] * 5


async def test_a_next_hop_that_was_left_alone_is_delivered_to_by_itself_once_it_is_back(
    autojump_clock: trio.testing.MockClock,
) -> None:
    limited = Limited()
    limited.refusals = 1
    async with server() as running:
        running.transport.deliver = limited.deliver  # type: ignore[method-assign]
        for _ in range(5):
            await submit(running)
        await trio.sleep(20)
        assert len(await running.entries()) == 5
        await trio.sleep(40)
        # The one that was refused has its next attempt in minutes; the others were held back and are through.
        [entry] = await running.entries()
        assert entry.attempts == 1
        await trio.sleep(600)
        assert not await running.entries()
    assert sorted(limited.attempts) == [1, 1, 1, 1, 2]


async def test_a_transport_is_told_of_the_attempts_before(autojump_clock: trio.testing.MockClock) -> None:
    async with server() as running:
        running.transport.answer(LATER, ConnectionError("no route"))
        await submit(running)
        await trio.sleep(3600)
        befores = [one.delivery.attempts_before for one in running.transport.deliveries]
    assert [[attempt.number for attempt in before] for before in befores] == [[], [1], [1, 2]]
    assert befores[2][0].result is not None
    assert befores[2][0].result.reply == LATER


@pytest.mark.parametrize("outcome", [Outcome.DELIVERED, Outcome.DEFERRED])
async def test_what_a_domain_offers_of_tls_is_remembered_for_the_sender(
    autojump_clock: trio.testing.MockClock, outcome: Outcome
) -> None:
    tls = TLSUse("TLSv1.3", is_offered=True, has_requiretls=True, is_of_domain=True)

    async def deliver(delivery: Delivery) -> tuple[RecipientResult, ...]:
        return (RecipientResult(outcome, tls=tls),) * len(delivery.entries)

    async with server() as running:
        running.transport.deliver = deliver  # type: ignore[method-assign]
        await submit(running)
        await trio.sleep(10)
        known = await running.store.read(lambda transaction: transaction.recipient_tls.get("ann", "there.example"))
    assert known is not None
    assert (known.has_starttls, known.has_requiretls) == (True, True)


async def test_what_a_relay_offers_says_nothing_of_the_domain(autojump_clock: trio.testing.MockClock) -> None:
    async def deliver(delivery: Delivery) -> tuple[RecipientResult, ...]:
        return (RecipientResult(Outcome.DELIVERED, tls=TLSUse("TLSv1.3", is_offered=True)),) * len(delivery.entries)

    async with server() as running:
        running.transport.deliver = deliver  # type: ignore[method-assign]
        await submit(running)
        await trio.sleep(10)
        assert not await running.entries()
        known = await running.store.read(lambda transaction: transaction.recipient_tls.get("ann", "there.example"))
    assert known is None
