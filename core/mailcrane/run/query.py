"""The requests of a development server's pages: their parameters, what they want, and whether they may come in.

Also the wait on the server's side: until there is what was asked for, its time is up, the client has gone, or the
server stops.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Collection
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec
import trio

from mailcrane.http.app import Headers, Receive, Scope, Send, header, respond

MAX_TIMEOUT = 300.0
"""Seconds that a request may wait."""

MAX_WAITING = 200
"""Requests of one service that may wait at once."""

_encoder = msgspec.json.Encoder()


class BadParameter(ValueError):
    """A parameter of a request is not what it must be; the message names it and is safe to show."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"parameter {name!r}: {problem}")


class Parameters:
    """The query of a request; empty values count as not given.

    Args:
        query: As it stands in the URL.
        known: Names that there are.

    Raises:
        BadParameter: one has another name, or comes twice.
    """

    def __init__(self, query: bytes, known: Collection[str]) -> None:
        self._values: dict[str, str] = {}
        try:
            pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=50)
        except ValueError:
            raise BadParameter("query", "is not UTF-8 in percent encoding, or has too many fields") from None
        for name, value in pairs:
            if name not in known:
                raise BadParameter(name, f"is not known; there are {', '.join(sorted(known))}")
            if name in self._values:
                raise BadParameter(name, "is given twice")
            self._values[name] = value

    def text(self, name: str) -> str:
        """Return a text; empty where it is not given."""
        return self._values.get(name, "")

    def whole(self, name: str, *, default: int, least: int = 0, most: int = 2**62) -> int:
        """Return a whole number.

        Raises:
            BadParameter: it is none, or out of its bounds.
        """
        text = self.text(name)
        if not text:
            return default
        if not (text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most):
            bounds = f"from {least} to {most}" if most < 2**62 else f"from {least}"
            raise BadParameter(name, f"{text!r} is not a whole number {bounds}")
        return int(text)

    def seconds(self, name: str) -> float:
        """Return a time to wait; 0 where it is not given.

        Raises:
            BadParameter: it is not a number, or out of its bounds.
        """
        text = self.text(name)
        try:
            seconds = float(text or 0)
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds <= MAX_TIMEOUT:
            raise BadParameter(name, f"{text!r} is not a number of seconds from 0 to {MAX_TIMEOUT:g}")
        return seconds


def wants_page(scope: Scope) -> bool:
    """Whether a request comes from a browser that shows pages to people; programs get JSON."""
    return b"text/html" in (header(scope, b"accept") or b"")


def is_for_this_server(scope: Scope) -> bool:
    """Whether the name in ``Host`` may be a name of this server.

    On a loopback address only localhost and IP addresses are: otherwise any page that a browser shows could have its
    own name point to 127.0.0.1 and read what is here.
    """
    try:
        if not ipaddress.ip_address((scope.get("server") or ("",))[0]).is_loopback:
            return True
    except ValueError:
        return True
    host = urlsplit(f"//{(header(scope, b'host') or b'localhost').decode('latin-1')}").hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


async def refuse_strangers(scope: Scope, send: Send) -> bool:
    """Answer a request whose ``Host`` is not ours; returns whether it was."""
    if is_for_this_server(scope):
        return False
    await respond(send, 421, "this server is reached as localhost or by its IP address\n")
    return True


async def respond_json(send: Send, status: int, value: Any, headers: Headers = ()) -> None:
    """Send a value as JSON."""
    await respond(
        send,
        status,
        _encoder.encode(value) + b"\n",
        content_type=b"application/json",
        headers=[(b"cache-control", b"no-store"), *headers],
    )


class Waiting:
    """The requests of one service that wait.

    Args:
        stopping: Set when the server stops.
    """

    def __init__(self, stopping: trio.Event) -> None:
        self._stopping = stopping
        self._count = 0

    @property
    def is_full(self) -> bool:
        """Whether no more may wait."""
        return self._count >= MAX_WAITING

    async def until(self, receive: Receive, seconds: float, arrived: Callable[[], Awaitable[None]]) -> None:
        """Return when `arrived` does, after so many seconds, or when the client has gone or the server stops.

        Args:
            receive: Of the request, whose body is not read yet; used only if there is time to wait.
            seconds: May be 0.
            arrived: May be cancelled.
        """
        if not seconds:
            return
        self._count += 1
        try:
            with trio.move_on_after(seconds):
                async with trio.open_nursery() as nursery:

                    async def first(wait: Callable[[], Awaitable[object]]) -> None:
                        await wait()
                        nursery.cancel_scope.cancel()

                    nursery.start_soon(first, self._stopping.wait)
                    nursery.start_soon(first, lambda: _disconnected(receive))
                    await first(arrived)
        finally:
            self._count -= 1


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
