"""The outside world that counts: a next hop and a receiver of webhooks, which outlive the server."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from lines import Lines
from load import body_of, kind_of, token_of


class Sink:
    """A next hop. The beginning of the forward-path says what it does.

    It closes the connection without a reply after it has taken what begins with ``cut``, and at ``lost`` when the
    connection has carried another message before.

    Attributes:
        accepted: How often it took the message for each forward-path.
        spoiled: Forward-paths whose message was not what was sent.
        is_slow: Whether it keeps what begins with ``slow`` waiting for its last word, and what begins with ``sulk``,
            which it refuses.
    """

    def __init__(self) -> None:
        self.accepted: Counter[str] = Counter()
        self.spoiled: list[str] = []
        self.is_slow = False
        self.waiting = 0
        self.hurry = trio.Event()

    def speed_up(self) -> None:
        """Take from now on what is slow as fast as all."""
        self.is_slow = False
        self.hurry.set()

    def slow_down(self) -> None:
        """Keep what begins with ``slow`` or ``sulk`` waiting."""
        self.is_slow = True
        self.hurry = trio.Event()

    async def serve(self, stream: trio.SocketStream) -> None:
        """Speak SMTP with one client."""
        lines = Lines(stream)
        paths: list[str] = []
        taken = 0
        try:
            await stream.send_all(b"220 sink.example\r\n")
            while line := await lines.until(b"\r\n"):
                verb = line[:4].upper()
                if verb == b"RCPT":
                    path = line[line.index(b"<") + 1 : line.index(b">")].decode()
                    if kind_of(path) == "lost" and taken:
                        # As if the connection had been given up while it was kept.
                        return
                    if kind_of(path) == "sulk":
                        await self._wait()
                    reply = _refusals.get(kind_of(path), b"250 2.1.5 taken")
                    if reply.startswith(b"250"):
                        paths.append(path)
                elif verb == b"DATA":
                    reply = b"354 go on" if paths else b"503 5.5.1 no recipient"
                elif verb == b"QUIT":
                    await stream.send_all(b"221 2.0.0 bye\r\n")
                    return
                elif verb == b"EHLO":
                    reply = b"250-sink.example\r\n250-PIPELINING\r\n250 8BITMIME"
                else:
                    if verb == b"MAIL":
                        paths = []
                    reply = b"250 2.0.0 fine"
                await stream.send_all(reply + b"\r\n")
                if reply.startswith(b"354"):
                    content = await lines.until(b"\r\n.\r\n")
                    if not content:
                        return
                    await self._take(paths, content)
                    if any(kind_of(path) == "cut" for path in paths):
                        return
                    await stream.send_all(b"250 2.0.0 taken\r\n")
                    taken += 1
                    paths = []
        except trio.BrokenResourceError:
            return
        finally:
            await trio.aclose_forcefully(stream)

    async def _wait(self) -> None:
        if self.is_slow:
            self.waiting += 1
            try:
                await self.hurry.wait()
            finally:
                self.waiting -= 1

    async def _take(self, paths: list[str], content: bytes) -> None:
        if any(kind_of(path) == "slow" for path in paths):
            await self._wait()
        for path in paths:
            # From here on it has the message, whether the reply arrives or not.
            self.accepted[path] += 1
            if body_of(token_of(path)) not in content:
                self.spoiled.append(path)


# Of the recipient: it says nothing of how much the next hop bears.
_refusals = {"soft": b"451 4.2.1 later"} | dict.fromkeys(("hard", "gone", "sulk"), b"550 5.1.1 nobody")


class Receiver:
    """Receives webhooks, and refuses the first call of some.

    Attributes:
        is_stubborn: Whether it refuses their further calls too.
        waiting: Calls that it keeps waiting for an answer.
        told: What each ``webhook-id`` told of: the entry and the event.
        contradictions: Ids that told of two different things.
    """

    def __init__(self) -> None:
        self.told: dict[str, tuple[int, str]] = {}
        self.contradictions: list[str] = []
        self.calls: Counter[str] = Counter()
        self.is_stubborn = False
        self.waiting = 0
        self._hurry = trio.Event()
        self._hurry.set()

    def slow_down(self) -> None:
        """Keep all calls waiting for their answers."""
        self._hurry = trio.Event()

    def speed_up(self) -> None:
        """Answer, also those that wait."""
        self._hurry.set()

    def repeated(self) -> list[str]:
        """Return the ids that were posted again although the first call was answered that all is well."""
        return [id_ for id_, count in self.calls.items() if count > 1 and not _is_refused_first(self.told[id_][0])]

    async def serve(self, stream: trio.SocketStream) -> None:
        """Answer the requests of one connection."""
        lines = Lines(stream)
        try:
            while head := await lines.until(b"\r\n\r\n"):
                fields = {}
                for line in head.split(b"\r\n")[1:]:
                    name, _, value = line.partition(b":")
                    fields[name.lower()] = value.strip().decode()
                body = json.loads(await lines.octets(int(fields[b"content-length"])))
                id_ = fields[b"webhook-id"]
                told = (body["QueueMsgID"], body["Event"])
                self.calls[id_] += 1
                if self.told.setdefault(id_, told) != told:
                    self.contradictions.append(id_)
                # Some fail the first time, and are called again in a minute, which no test waits for.
                is_refused = (self.calls[id_] == 1 or self.is_stubborn) and _is_refused_first(body["QueueMsgID"])
                self.waiting += 1
                try:
                    await self._hurry.wait()
                finally:
                    self.waiting -= 1
                status = b"503 Busy" if is_refused else b"200 OK"
                await stream.send_all(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")
        except (trio.BrokenResourceError, ValueError):
            return
        finally:
            await trio.aclose_forcefully(stream)


def _is_refused_first(entry_id: int) -> bool:
    return entry_id % 17 == 0


@asynccontextmanager
async def listening(peer: Sink | Receiver) -> AsyncIterator[int]:
    """Let a peer serve for the length of the block; gives its port."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port: int = listener.socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, peer.serve, [listener])
        yield port
        nursery.cancel_scope.cancel()
