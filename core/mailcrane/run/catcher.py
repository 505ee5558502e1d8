"""Catches webhooks and shows them: a small ASGI application for developers, without authentication.

    POST   /hooks/anything    is kept and answered 200
    GET    /hooks/?event=&to=&message_id=&after=&count=&timeout=    what was kept, with a wait on the server's side
    DELETE /hooks/            forgets them

It keeps the last calls in memory. localserve enables it on the loopback addresses only.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlencode

import trio
from msgspec import Struct

from mailcrane.http.app import Receive, Scope, Send, respond
from mailcrane.model.clock import Clock
from mailcrane.run import pages
from mailcrane.run.query import BadParameter, Parameters, Waiting, refuse_strangers, respond_json, wants_page
from mailcrane.run.shown import Deleted, ShownWebhook, ShownWebhooks
from mailcrane.store.wakeups import Wakeups

MAX_CALLS = 1000
MAX_KEPT_OCTETS = 32 * 1024 * 1024
_MAX_BODY_OCTETS = 1024 * 1024

# What a reader wants to see of a call's header; the rest is how HTTP works.
_SHOWN_PREFIXES = ("x-mox-", "webhook-", "authorization", "user-agent")

_SEARCHED = ("event", "to", "message_id")
# ``format=json`` is what browsers say to see the JSON.
_PARAMETERS = (*_SEARCHED, "after", "count", "timeout", "format")
_TOPIC = "caught"

Recipient = Callable[[int], Awaitable[str]]
"""Returns the forward-path of a queue entry by its id, or an empty text; the payloads of outgoing events lack it."""


class CatcherFilter(Struct, frozen=True):
    """What calls must have; an empty text is not looked at.

    Attributes:
        event: Such as ``delivered``.
        to: The recipient that it tells of; without regard to case.
        message_id: With or without angle brackets.
        after: Lower bound of the number, itself not included.
    """

    event: str = ""
    to: str = ""
    message_id: str = ""
    after: int = 0

    def is_met(self, call: ShownWebhook) -> bool:
        """Whether a call is one of those."""
        return (
            call.number > self.after
            and (not self.event or call.event.lower() == self.event.lower())
            and (not self.to or call.to.lower() == self.to.lower())
            and (not self.message_id or call.message_id.strip("<>") == self.message_id.strip("<>"))
        )


class Catcher:
    """The application.

    Args:
        recipient: Looks up whom an event is about.
        stopping: Set when the server stops, so that nobody waits any longer.
    """

    def __init__(self, clock: Clock, recipient: Recipient, stopping: trio.Event) -> None:
        self._clock = clock
        self._recipient = recipient
        self._waiting = Waiting(stopping)
        self._wakeups = Wakeups()
        self._calls: deque[ShownWebhook] = deque()
        self._kept_octets = 0
        self._number = 0

    @property
    def calls(self) -> tuple[ShownWebhook, ...]:
        """What was caught, newest first."""
        return tuple(self._calls)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        method = scope["method"]
        if method == "POST":
            await self._catch(scope, receive, send)
        elif await refuse_strangers(scope, send):
            return
        elif method in {"GET", "HEAD"}:
            try:
                await self._show(scope, receive, send)
            except BadParameter as error:
                await respond(send, 400, f"{error}\n")
        elif method == "DELETE":
            count = len(self._calls)
            self._calls.clear()
            self._kept_octets = 0
            await respond_json(send, 200, Deleted(count))
        else:
            await respond(send, 405, headers=[(b"allow", b"GET, HEAD, POST, DELETE")])

    # --- showing --------------------------------------------------------------------------------------------------

    async def _show(self, scope: Scope, receive: Receive, send: Send) -> None:
        parameters = Parameters(scope.get("query_string", b""), _PARAMETERS)
        wanted = CatcherFilter(
            event=parameters.text("event"),
            to=parameters.text("to"),
            message_id=parameters.text("message_id"),
            after=parameters.whole("after", default=0),
        )
        count = parameters.whole("count", default=1, least=1, most=MAX_CALLS)
        timeout = parameters.seconds("timeout")
        if parameters.text("format") not in {"", "json"}:
            raise BadParameter("format", "can only be json")
        if timeout and self._waiting.is_full:
            await respond(send, 503, "too many requests wait\n", headers=[(b"retry-after", b"1")])
            return
        found = self._find(wanted)

        async def until_enough() -> None:
            nonlocal found
            while len(found) < count:
                await self._wakeups.wait(_TOPIC, seen=self._wakeups.version(_TOPIC))
                found = self._find(wanted)

        if len(found) < count:
            await self._waiting.until(receive, timeout, until_enough)
        answer = ShownWebhooks(tuple(found), self._number)
        if wants_page(scope) and not parameters.text("format"):
            query = urlencode([(name, text) for name in _SEARCHED if (text := parameters.text(name))])
            await pages.respond_page(send, pages.webhook_list(answer, root=scope.get("root_path", ""), query=query))
        else:
            await respond_json(send, 200, answer)

    def _find(self, wanted: CatcherFilter) -> list[ShownWebhook]:
        return [call for call in self._calls if wanted.is_met(call)]

    # --- catching -------------------------------------------------------------------------------------------------

    async def _catch(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _read_body(receive)
        if body is None:
            await respond(send, 413, "the body is larger than 1 MiB\n")
            return
        at = self._clock.now()
        text = body.decode("utf-8", "replace")
        payload = _payload(text)
        fields = payload if isinstance(payload, dict) else {}
        to = await self._find_recipient(fields)
        header = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in scope["headers"]
            if name.decode("latin-1").lower().startswith(_SHOWN_PREFIXES)
        }
        self._number += 1
        call = ShownWebhook(
            self._number,
            at,
            str(fields.get("Event") or ""),
            to,
            str(fields.get("MessageID") or ""),
            header,
            text,
            payload,
            scope["path"],
        )
        self._calls.appendleft(call)
        self._kept_octets += len(text)
        while len(self._calls) > MAX_CALLS or self._kept_octets > MAX_KEPT_OCTETS:
            self._kept_octets -= len(self._calls.pop().body)
        self._wakeups.wake(_TOPIC)
        await respond(send, 200, "ok\n")

    async def _find_recipient(self, fields: dict[str, Any]) -> str:
        """Say whom a payload is about: an incoming message's envelope says it, an outgoing one's queue entry."""
        envelope = fields.get("Meta")
        if isinstance(envelope, dict):
            return str(envelope.get("RcptTo") or "")
        entry_id = fields.get("QueueMsgID")
        if isinstance(entry_id, int) and 0 < entry_id < 2**63:
            return await self._recipient(entry_id)
        return ""


def _payload(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


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
