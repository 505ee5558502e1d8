"""A plugin that a test tells what to answer in one hook of the real server."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import trio
from msgspec import Struct
from msgspec.structs import replace

from mailcrane.config.rows import Webhook
from mailcrane.model.event import Event, EventKind
from mailcrane.model.retired import Retired
from mailcrane.plugin.base import Plugin
from mailcrane.plugin.policy import hookimpl
from mailcrane.testing import PASSWORD, ROWS, RunningServer, server
from mailcrane.testing.failures import Failure, blocks_the_loop, impatient

URL = "https://hooks.there.example/mail"

ROWS_WITH_WEBHOOK = replace(
    ROWS, accounts=(replace(ROWS.accounts[0], outgoing_webhook=Webhook(URL)), *ROWS.accounts[1:])
)

CONTENT = "From: {author}\r\nMessage-Id: <{number}@there.example>\r\nSubject: news\r\n\r\nHello.\r\n"


class Received(Struct, frozen=True):
    """What became of a message from outside for ann.

    Attributes:
        reply: Codes of the reply that refused it, or of the one to the final dot.
        folders: Where it was placed.
        octets: The first copy; empty when it was not placed.
    """

    reply: str
    folders: tuple[str, ...]
    octets: bytes = b""


class Attempted(Struct, frozen=True):
    """What the first attempt for a message of ann's came to.

    Attributes:
        finished: Details of the event.
        octets: What the next hop was given; empty when nothing.
        retired: None when the entry is still in the queue, or not kept.
        webhooks: URL and payload of each webhook call.
    """

    entry_id: int
    finished: dict[str, Any]
    octets: bytes
    retired: Retired | None
    webhooks: tuple[tuple[str, dict[str, Any]], ...]

    @property
    def result(self) -> tuple[str, str, str]:
        """Outcome, transport and error."""
        return (self.finished["outcome"], self.finished["transport"], self.finished["error"])


class Stage:
    """A running server with the plugin ``odd``, which implements one hook.

    Attributes:
        answer: What the hook answers well.
        failure: What it does instead; None lets it answer.
    """

    def __init__(self, hook: str, answer: Any = None) -> None:
        self.hook = hook
        self.answer = answer
        self.failure: Failure | None = None
        self.running: RunningServer
        self._numbers = itertools.count(1)

    @property
    def plugin(self) -> type[Plugin]:
        """The class of the plugin."""
        stage = self

        async def implementation(self: Plugin) -> Any:
            return stage.answer if stage.failure is None else await stage.failure(stage.answer)

        return type("Odd", (Plugin,), {"name": "odd", self.hook: hookimpl(implementation)})

    @contextlib.contextmanager
    def failing(self, failure: Failure) -> Iterator[None]:
        """Let the plugin fail within the block."""
        self.failure = failure
        try:
            with impatient_with(failure):
                yield
        finally:
            self.failure = None

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """Let the plugin answer None within the block."""
        answer, self.answer = self.answer, None
        try:
            yield
        finally:
            self.answer = answer

    @contextlib.asynccontextmanager
    async def run(self, *beside: type[Plugin], config: str = "") -> AsyncIterator[RunningServer]:
        """Run the server with the plugin in front of others."""
        async with server(self.plugin, *beside, config=config, rows=ROWS_WITH_WEBHOOK) as self.running:
            yield self.running

    async def receive(self) -> Received:
        """Let a server send a message to ann."""
        number = next(self._numbers)
        client = self.running.connect()
        await client.hello()
        reply = await client.send("you@there.example", "ann@here.example", _content("you@there.example", number))
        await client.quit()
        events = [*await self.running.events("ann"), *await self.running.events("bob")]
        places = [
            (event.account, event.data["folder"])
            for event in events
            if event.kind is EventKind.MESSAGE_STORED and event.data["message_id"] == f"<{number}@there.example>"
        ]
        folders = tuple("/".join(place) for place in places)
        octets = (await self.running.read(*places[0]))[-1] if places else b""
        return Received(f"{reply.code} {reply.enhanced_status_code}", folders, octets)

    async def submit(self) -> Attempted:
        """Let ann submit a message, and wait for the first attempt and for what is told of it."""
        running = self.running
        calls, deliveries = len(running.receiver.calls), len(running.transport.deliveries)
        client = running.connect("submission")
        await client.hello()
        await client.log_in("ann@here.example", PASSWORD)
        reply = await client.send(
            "ann@here.example", "you@there.example", _content("ann@here.example", next(self._numbers))
        )
        assert reply.code == 250
        await client.quit()
        queued = [event for event in await running.events("ann") if event.kind is EventKind.MESSAGE_QUEUED][-1]
        finished: list[Event] = []
        while not finished or len(running.receiver.calls) == calls:
            await trio.sleep(1)
            events = await running.store.read(lambda transaction: transaction.events.for_entry(queued.entry_id))
            finished = [event for event in events if event.kind is EventKind.ATTEMPT_FINISHED]
        await trio.sleep(5)
        delivered = running.transport.deliveries[deliveries:]
        return Attempted(
            queued.entry_id,
            finished[0].data,
            delivered[0].octets if delivered else b"",
            await running.store.read(lambda transaction: transaction.retired.get(queued.entry_id)),
            tuple((call.url, call.payload) for call in running.receiver.calls[calls:]),
        )


def impatient_with(failure: Failure) -> contextlib.AbstractContextManager[None]:
    """Let a short hold-up of the loop count within the block, where that is the failure."""
    return impatient() if failure is blocks_the_loop else contextlib.nullcontext()


def _content(author: str, number: int) -> bytes:
    return CONTENT.format(author=author, number=number).encode()
