"""Catches webhooks and shows them: a small ASGI application for developers, without authentication.

It keeps the last hundred calls in memory. localserve enables it on the loopback addresses only.
"""

from __future__ import annotations

import html
import json
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from msgspec import Struct

from mailcrane.model.clock import Clock

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_MAX_CALLS = 100
_MAX_BODY_OCTETS = 1024 * 1024

# What a reader wants to see of a call's header; the rest is how HTTP works.
_SHOWN_PREFIXES = ("x-mox-", "webhook-", "authorization", "user-agent")


class CaughtCall(Struct, frozen=True):
    """A webhook call as it arrived.

    Attributes:
        number: Rises by one; the newest is shown first.
        header: The fields that belong to webhooks, lower case.
        body: As text; JSON is shown indented.
    """

    number: int
    at: str
    path: str
    header: dict[str, str]
    body: str


class Catcher:
    """The application: POST is kept and answered 200, GET shows what was kept (``?format=json`` for programs)."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._calls: deque[CaughtCall] = deque(maxlen=_MAX_CALLS)
        self._number = 0

    @property
    def calls(self) -> tuple[CaughtCall, ...]:
        """What was caught, newest first."""
        return tuple(self._calls)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        method = scope["method"]
        if method == "POST":
            body = await _read_body(receive)
            if body is None:
                await _answer(send, 413, "text/plain; charset=utf-8", b"the body is larger than 1 MiB\n")
                return
            self._keep(scope, body)
            await _answer(send, 200, "text/plain; charset=utf-8", b"ok\n")
        elif method in {"GET", "HEAD"}:
            if b"format=json" in scope.get("query_string", b"").split(b"&"):
                octets = json.dumps([_as_json(call) for call in self._calls], indent=2).encode()
                await _answer(send, 200, "application/json", octets)
            else:
                await _answer(send, 200, "text/html; charset=utf-8", self._page().encode())
        else:
            await _answer(send, 405, "text/plain; charset=utf-8", b"use GET or POST\n", (b"allow", b"GET, HEAD, POST"))

    def _keep(self, scope: Scope, body: bytes) -> None:
        header = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in scope["headers"]
            if name.decode("latin-1").lower().startswith(_SHOWN_PREFIXES)
        }
        self._number += 1
        at = self._clock.now().isoformat(timespec="milliseconds")
        self._calls.appendleft(CaughtCall(self._number, at, scope["path"], header, body.decode("utf-8", "replace")))

    def _page(self) -> str:
        calls = "".join(_call_as_html(call) for call in self._calls)
        return _PAGE.format(count=self._number, calls=calls or "<p>No webhook has arrived yet. Send a message.</p>")


async def _read_body(receive: Receive) -> bytes | None:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return bytes(body)
        body += message.get("body", b"")
        if len(body) > _MAX_BODY_OCTETS:
            return None
        if not message.get("more_body", False):
            return bytes(body)


async def _answer(send: Send, status: int, content_type: str, body: bytes, *fields: tuple[bytes, bytes]) -> None:
    header = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode()), *fields]
    await send({"type": "http.response.start", "status": status, "headers": header})
    await send({"type": "http.response.body", "body": body})


def _as_json(call: CaughtCall) -> dict[str, Any]:
    try:
        payload = json.loads(call.body)
    except ValueError:
        payload = None
    return {
        "number": call.number,
        "at": call.at,
        "path": call.path,
        "header": call.header,
        "body": call.body,
        "payload": payload,
    }


def _call_as_html(call: CaughtCall) -> str:
    try:
        payload = json.loads(call.body)
        shown = json.dumps(payload, indent=2, ensure_ascii=False)
        title = payload.get("Event", "") if isinstance(payload, dict) else ""
    except ValueError:
        shown, title = call.body, ""
    header = "\n".join(f"{name}: {value}" for name, value in call.header.items())
    return (
        f"<details open><summary>#{call.number} <b>{html.escape(str(title))}</b> "
        f"{html.escape(call.at)} <code>{html.escape(call.path)}</code></summary>"
        f"<pre>{html.escape(header)}</pre><pre>{html.escape(shown)}</pre></details>"
    )


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="refresh" content="2">
<title>Webhooks caught: {count}</title>
<style>
body {{ font: 15px/1.4 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em }}
pre {{ background: #f4f4f4; padding: .6em; overflow-x: auto }}
summary {{ cursor: pointer; padding: .3em 0 }}
</style>
<h1>Webhooks caught: {count}</h1>
<p>The last hundred, newest first; the page reloads by itself. <a href="?format=json">As JSON</a>.</p>
{calls}
</html>
"""
