"""What whoever sends webhooks must do: the kit is the receiver, on loopback, and reads what comes.

A sender is tested through a function that makes something happen: given a URL, a secret and how many events, it makes
the sender tell of so many events, each of a message of its own, and returns when they are under way. It imports
nothing of Mailcrane, so that the suite is a second opinion.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import trio

from mailcrane_conformance.kit import Behaviour, NotApplicable, Violation, require

SECRET = "whsec_" + base64.b64encode(b"the kit's secret of 32 octets ..").decode()
_STANDARD = "Standard Webhooks 1.0.0"
_PAGE = "events.md"

# The wire's fields, in order, with the types of their values.
FIELDS: dict[str, type] = {
    "Version": int,
    "Event": str,
    "DSN": bool,
    "Suppressing": bool,
    "QueueMsgID": int,
    "FromID": str,
    "MessageID": str,
    "Subject": str,
    "WebhookQueued": str,
    "SMTPCode": int,
    "SMTPEnhancedCode": str,
    "Error": str,
    "Extra": dict,
}
EVENTS = ("delivered", "suppressed", "delayed", "failed", "relayed", "expanded", "canceled", "unrecognized")


@dataclass(frozen=True)
class Sender:
    """A sender to test.

    Attributes:
        tell: Makes the sender tell a URL of a number of events, signed with a secret.
        hurry: Makes it repeat at once what failed; without it, repetition is not looked at.
        seconds: What a call may take to come.
    """

    tell: Callable[[str, str, int], Awaitable[None]]
    hurry: Callable[[], Awaitable[None]] | None = None
    seconds: float = 10.0


@dataclass(frozen=True)
class Call:
    """A call as it came.

    Attributes:
        header: Names in lower case.
        at: Seconds since the epoch, of our clock.
    """

    method: str
    header: dict[str, str]
    body: bytes
    at: float

    @property
    def payload(self) -> dict[str, Any]:
        """The body as JSON.

        Raises:
            Violation: it is none.
        """
        try:
            payload = json.loads(self.body)
        except ValueError as error:
            raise Violation(f"the body is not JSON: {error}") from error
        require(isinstance(payload, dict), "the body is not a JSON object")
        return dict(payload)


@dataclass
class _Endpoint:
    """What the sender posts to.

    Attributes:
        statuses: Of the next answers; 200 when there are none left.
    """

    calls: list[Call] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    came: trio.Event = field(default_factory=trio.Event)
    url: str = ""

    async def wait_for(self, count: int, seconds: float) -> list[Call]:
        """Wait until so many calls have come.

        Raises:
            Violation: there were fewer.
        """
        with trio.move_on_after(seconds):
            while len(self.calls) < count:
                await self.came.wait()
        require(len(self.calls) >= count, f"{len(self.calls)} calls came in {seconds:g} s, not {count}")
        return self.calls

    async def serve(self, stream: trio.SocketStream) -> None:
        """Take the calls of one connection."""
        buffered = b""
        try:
            while True:
                while b"\r\n\r\n" not in buffered:
                    buffered += await _some(stream)
                head, _, buffered = buffered.partition(b"\r\n\r\n")
                request, *lines = head.decode("latin-1").split("\r\n")
                pairs = (line.partition(":") for line in lines)
                header = {name.strip().lower(): value.strip() for name, _, value in pairs}
                length = int(header.get("content-length", "0"))
                while len(buffered) < length:
                    buffered += await _some(stream)
                body, buffered = buffered[:length], buffered[length:]
                self.calls.append(Call(request.partition(" ")[0], header, body, time.time()))
                status = self.statuses.pop(0) if self.statuses else 200
                await stream.send_all(f"HTTP/1.1 {status} Kit\r\nContent-Length: 0\r\n\r\n".encode())
                self.came.set()
                self.came = trio.Event()
        except (EOFError, trio.BrokenResourceError):
            await trio.aclose_forcefully(stream)


async def _some(stream: trio.SocketStream) -> bytes:
    got = await stream.receive_some(65536)
    if not got:
        raise EOFError
    return bytes(got)


@contextlib.asynccontextmanager
async def _told(sender: Sender, count: int = 1, *statuses: int) -> AsyncIterator[tuple[_Endpoint, list[Call]]]:
    """Make the sender tell of events; gives the endpoint and the first calls."""
    endpoint = _Endpoint(statuses=list(statuses))
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        endpoint.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/hook"
        nursery.start_soon(trio.serve_listeners, endpoint.serve, listeners)
        await sender.tell(endpoint.url, SECRET, count)
        yield endpoint, await endpoint.wait_for(count, sender.seconds)
        nursery.cancel_scope.cancel()


async def _request(sender: Sender) -> None:
    async with _told(sender) as (_, [call, *_more]):
        require(call.method == "POST", f"the method is {call.method}")
        kind = call.header.get("content-type", "")
        require(kind.partition(";")[0].strip() == "application/json", f"Content-Type is {kind!r}")
        require(bool(call.header.get("user-agent")), "there is no User-Agent")


async def _numbers(sender: Sender) -> None:
    async with _told(sender) as (_, [call, *_more]):
        number = call.header.get("x-mox-webhook-id", "")
        require(number.isdigit() and int(number) > 0, f"X-Mox-Webhook-ID is {number!r}")
        attempt = call.header.get("x-mox-webhook-attempt", "")
        require(attempt == "1", f"X-Mox-Webhook-Attempt of the first attempt is {attempt!r}")


async def _schema(sender: Sender) -> None:
    async with _told(sender) as (_, [call, *_more]):
        payload = call.payload
        for name, kind in FIELDS.items():
            require(name in payload, f"the payload has no {name}")
            value = payload[name]
            is_right = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
            require(is_right, f"{name} is {value!r}, not {kind.__name__}")
        require(payload["Version"] == 0, f"Version is {payload['Version']}")
        require(
            all(isinstance(value, str) for value in payload["Extra"].values()), "Extra has values that are no texts"
        )


async def _order(sender: Sender) -> None:
    async with _told(sender) as (_, [call, *_more]):
        names = list(call.payload)[: len(FIELDS)]
        require(names == list(FIELDS), f"the fields come as {names}")


async def _event_name(sender: Sender) -> None:
    async with _told(sender) as (_, [call, *_more]):
        payload = call.payload
        event = payload.get("Event")
        require(event in EVENTS or "Data" in payload, f"Event is {event!r}, which is none of the wire's")


async def _instant(sender: Sender) -> None:
    async with _told(sender) as (_, [call, *_more]):
        text = str(call.payload.get("WebhookQueued"))
        try:
            at = datetime.fromisoformat(text)
        except ValueError as error:
            raise Violation(f"WebhookQueued is {text!r}, not RFC 3339") from error
        require(at.tzinfo is not None, f"WebhookQueued is {text!r}, without a time zone")


async def _signature(sender: Sender) -> None:
    async with _told(sender) as (_, [call, *_more]):
        signed = f"{call.header.get('webhook-id', '')}.{call.header.get('webhook-timestamp', '')}.".encode() + call.body
        key = base64.b64decode(SECRET.removeprefix("whsec_"))
        wanted = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        given = call.header.get("webhook-signature", "").split(" ")
        require(wanted in given, f"webhook-signature is {given}, not one of id, timestamp and body")


async def _timestamp(sender: Sender) -> None:
    async with _told(sender) as (_, [call, *_more]):
        text = call.header.get("webhook-timestamp", "")
        require(text.isdigit(), f"webhook-timestamp is {text!r}, not seconds since the epoch")
        require(abs(call.at - int(text)) < 300, f"webhook-timestamp is {call.at - int(text):.0f} s old")


async def _ids(sender: Sender) -> None:
    async with _told(sender, 3) as (_, calls):
        for name in ("webhook-id", "x-mox-webhook-id"):
            seen = [call.header.get(name, "") for call in calls[:3]]
            require(all(seen) and len(set(seen)) == 3, f"three events have these {name}: {seen}")


async def _once(sender: Sender) -> None:
    async with _told(sender) as (endpoint, _):
        if sender.hurry is not None:
            await sender.hurry()
        await trio.sleep(0.3)
        require(len(endpoint.calls) == 1, f"a call that was answered 200 was made {len(endpoint.calls)} times")


async def _repeats(sender: Sender) -> None:
    if sender.hurry is None:
        raise NotApplicable("the sender cannot be made to repeat at once")
    async with _told(sender, 1, 500) as (endpoint, _):
        await sender.hurry()
        first, again, *_ = await endpoint.wait_for(2, sender.seconds)
        for name in ("webhook-id", "x-mox-webhook-id"):
            require(first.header.get(name) == again.header.get(name), f"{name} is another one in the second attempt")
        require(first.body == again.body, "the body is another one in the second attempt")
        attempt = again.header.get("x-mox-webhook-attempt")
        require(attempt == "2", f"X-Mox-Webhook-Attempt of the second attempt is {attempt!r}")


BEHAVIOURS: tuple[Behaviour[Sender], ...] = (
    Behaviour("webhook-sender/request", "it posts JSON, and says who it is", _PAGE, _request),
    Behaviour("webhook-sender/numbers", "it counts calls and attempts in the header", _PAGE, _numbers),
    Behaviour("webhook-sender/schema", "the payload has all fields, with the right types", _PAGE, _schema),
    Behaviour("webhook-sender/order", "the fields come in the wire's order, those of plugins behind", _PAGE, _order),
    Behaviour("webhook-sender/event-name", "the event is one of the wire's, or has Data", _PAGE, _event_name),
    Behaviour("webhook-sender/instant", "WebhookQueued is RFC 3339 with a time zone", "RFC 3339", _instant),
    Behaviour("webhook-sender/signature", "id, timestamp and body are signed", f"{_STANDARD}, signature", _signature),
    Behaviour("webhook-sender/timestamp", "the timestamp is that of now", f"{_STANDARD}, timestamp", _timestamp),
    Behaviour("webhook-sender/ids", "events have ids of their own", f"{_STANDARD}, webhook-id", _ids),
    Behaviour("webhook-sender/once", "what was answered 200 is not repeated", _PAGE, _once),
    Behaviour(
        "webhook-sender/repeats",
        "what was answered 500 is repeated with the same ids and body, and the next attempt's number",
        f"{_STANDARD}, retries",
        _repeats,
    ),
)
