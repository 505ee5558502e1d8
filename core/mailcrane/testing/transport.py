"""The next hop of a test: takes what is delivered, or answers as it is told."""

from __future__ import annotations

from collections import deque

import trio
from msgspec import Struct

from mailcrane.model.delivery import Delivery, RecipientResult
from mailcrane.model.reply import Reply

OK = Reply.make(250, "2.0.0", "taken")


Answer = Reply | tuple[Reply, ...] | Exception | float
"""What `FakeTransport` answers."""


class Delivered(Struct, frozen=True):
    """One delivery as the transport got it.

    Attributes:
        octets: All of the content.
        results: What was answered.
    """

    delivery: Delivery
    octets: bytes
    results: tuple[RecipientResult, ...]


class FakeTransport:
    """A transport that keeps what it is given.

    Attributes:
        deliveries: Every delivery, in order, those that failed too.
    """

    def __init__(self) -> None:
        self.deliveries: list[Delivered] = []
        self._script: deque[Answer] = deque()

    def answer(self, *answers: Answer) -> None:
        """Say what comes of the next deliveries; those after them are taken with 250.

        Args:
            answers: A reply for every recipient, a tuple with one for each, an exception to be raised, or seconds to
                wait before the next answer.
        """
        self._script.extend(answers)

    async def deliver(self, delivery: Delivery) -> tuple[RecipientResult, ...]:
        """Take a delivery."""
        octets = b"".join([chunk async for chunk in delivery.content.chunks()])
        answer = self._script.popleft() if self._script else OK
        while isinstance(answer, float):
            await trio.sleep(answer)
            answer = self._script.popleft() if self._script else OK
        if isinstance(answer, Exception):
            self.deliveries.append(Delivered(delivery, octets, ()))
            raise answer
        replies = answer if isinstance(answer, tuple) else (answer,) * len(delivery.entries)
        results = tuple(RecipientResult.from_reply(reply, remote_mta="next.example (192.0.2.25)") for reply in replies)
        self.deliveries.append(Delivered(delivery, octets, results))
        return results

    async def aclose(self) -> None:
        """Nothing is open."""
