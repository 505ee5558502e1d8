"""A listener in memory, and a server on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from mailcrane.http.connection import HTTPTimeouts
from mailcrane.http.server import HTTPListener, serve_http


class MemoryListener(trio.abc.Listener[trio.abc.Stream]):
    def __init__(self) -> None:
        self._put, self._get = trio.open_memory_channel[trio.abc.Stream](100)

    async def accept(self) -> trio.abc.Stream:
        try:
            return await self._get.receive()
        except trio.EndOfChannel:
            raise trio.ClosedResourceError from None

    async def aclose(self) -> None:
        await self._put.aclose()
        await trio.lowlevel.checkpoint()

    def connect(self, *, is_lockstep: bool = False) -> trio.abc.Stream:
        """Open a connection; a lockstep one gives back pressure at once."""
        make = trio.testing.lockstep_stream_pair if is_lockstep else trio.testing.memory_stream_pair
        client, server = make()
        self._put.send_nowait(server)
        return client


class RunningServer:
    def __init__(self, listener: MemoryListener, stop: trio.Event) -> None:
        self.listener = listener
        self.stop = stop
        self.stopped = trio.Event()

    def connect(self, *, is_lockstep: bool = False) -> trio.abc.Stream:
        return self.listener.connect(is_lockstep=is_lockstep)

    async def exchange(self, request: bytes) -> bytes:
        """Send a request on a connection of its own and return all that comes back."""
        client = self.connect()
        await client.send_all(request)
        return await receive_all(client)


async def receive_all(stream: trio.abc.ReceiveStream) -> bytes:
    received = bytearray()
    try:
        while data := await stream.receive_some():
            received += data
    except trio.BrokenResourceError:
        pass
    return bytes(received)


async def receive_until(stream: trio.abc.ReceiveStream, end: bytes) -> bytes:
    received = bytearray()
    while end not in received:
        data = await stream.receive_some()
        assert data, bytes(received)
        received += data
    return bytes(received)


Serve = Callable[..., Any]


@pytest.fixture
def serve() -> Serve:
    @asynccontextmanager
    async def run(
        app: Callable[[Any, Any, Any], Awaitable[None]], timeouts: HTTPTimeouts | None = None, **settings: Any
    ) -> AsyncIterator[RunningServer]:
        listener, stop = MemoryListener(), trio.Event()
        server = RunningServer(listener, stop)

        async def serve_until_stopped(task_status: trio.TaskStatus[None]) -> None:
            await serve_http(
                [HTTPListener("test", listener, app, **settings)], stop, timeouts=timeouts, task_status=task_status
            )
            server.stopped.set()

        async with trio.open_nursery() as nursery:
            await nursery.start(serve_until_stopped)
            yield server
            stop.set()

    return run
