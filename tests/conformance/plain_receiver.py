"""The least receiver of webhooks that the suite accepts, and the least sender, with faults to switch on."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import trio

SECRET = "whsec_" + base64.b64encode(b"a secret of the receiver's own..").decode()
AUTHORIZATION = "Bearer let-me-in"


def sign(secret: str, event_id: str, timestamp: str, body: bytes) -> str:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, f"{event_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


@dataclass(frozen=True)
class ReceiverFaults:
    """Ways in which the receiver can be wrong."""

    acts_twice: bool = False
    only_delivered: bool = False
    ascii_only: bool = False
    strict_fields: bool = False
    known_events_only: bool = False
    forgets_ids: bool = False
    one_at_a_time: bool = False
    believes_all: bool = False
    unsigned_is_fine: bool = False
    ignores_body: bool = False
    ignores_id: bool = False
    ignores_age: bool = False
    ignores_future: bool = False
    impatient: bool = False
    first_signature_only: bool = False
    ignores_authorization: bool = False
    crashes_on_garbage: bool = False


class PlainReceiver:
    """Takes calls, and counts events by their id.

    Attributes:
        effects: How many events it has done something for.
    """

    def __init__(self, faults: ReceiverFaults) -> None:
        self.faults = faults
        self.effects = 0
        self.seen: set[str] = set()
        self.is_busy = False
        self.url = ""

    async def count(self) -> int:
        return self.effects

    async def answer(self, header: dict[str, str], body: bytes) -> int:
        if self.faults.one_at_a_time:
            if self.is_busy:
                return 503
            self.is_busy = True
            await trio.sleep(0.1)
            self.is_busy = False
        if header.get("authorization") != AUTHORIZATION and not self.faults.ignores_authorization:
            return 401
        if not self.is_genuine(header, body):
            return 403
        try:
            payload = json.loads(body)
            if not isinstance(payload, dict):
                raise ValueError("not an object")
        except ValueError:
            return 500 if self.faults.crashes_on_garbage else 400
        return self.act(header["webhook-id"], payload)

    def act(self, event_id: str, payload: dict[str, Any]) -> int:
        event = payload.get("Event")
        if self.faults.only_delivered and event in ("relayed", "expanded"):
            return 422
        if self.faults.known_events_only and event == "kit_unheard_of":
            return 422
        if self.faults.strict_fields and "Department" in payload:
            return 422
        if self.faults.ascii_only and not payload.get("Subject", "").isascii():
            return 500
        if event_id in self.seen and not self.faults.forgets_ids:
            return 200
        self.seen.add(event_id)
        self.effects += 2 if self.faults.acts_twice else 1
        return 200

    def is_genuine(self, header: dict[str, str], body: bytes) -> bool:
        event_id, timestamp = header.get("webhook-id", ""), header.get("webhook-timestamp", "")
        given = header.get("webhook-signature", "")
        if not given:
            return self.faults.unsigned_is_fine
        age = time.time() - int(timestamp)
        if age > (60 if self.faults.impatient else 300) and not self.faults.ignores_age:
            return False
        if age < -300 and not self.faults.ignores_future:
            return False
        signatures = given.split(" ")
        if self.faults.first_signature_only:
            signatures = signatures[:1]
        if self.faults.believes_all or sign(SECRET, event_id, timestamp, body) in signatures:
            return True
        if self.faults.ignores_body and b'"failed"' in body:
            return sign(SECRET, event_id, timestamp, body.replace(b'"failed"', b'"delivered"')) in signatures
        return self.faults.ignores_id and any(
            sign(
                SECRET,
                f"{event_id.rpartition('_')[0].rpartition('_')[0]}_{number}_{event_id.rpartition('_')[2]}",
                timestamp,
                body,
            )
            in signatures
            for number in range(1, 2000)
        )

    async def serve(self, stream: trio.SocketStream) -> None:
        buffered = b""
        try:
            while True:
                while b"\r\n\r\n" not in buffered:
                    buffered += await self.more(stream)
                head, _, buffered = buffered.partition(b"\r\n\r\n")
                pairs = (line.partition(":") for line in head.decode("latin-1").split("\r\n")[1:])
                header = {name.lower(): value.strip() for name, _, value in pairs}
                length = int(header.get("content-length", "0"))
                while len(buffered) < length:
                    buffered += await self.more(stream)
                status = await self.answer(header, buffered[:length])
                buffered = buffered[length:]
                await stream.send_all(f"HTTP/1.1 {status} So\r\nContent-Length: 0\r\n\r\n".encode())
        except (EOFError, trio.BrokenResourceError):
            await trio.aclose_forcefully(stream)

    async def more(self, stream: trio.SocketStream) -> bytes:
        got = await stream.receive_some(65536)
        if not got:
            raise EOFError
        return bytes(got)


@contextlib.asynccontextmanager
async def running_receiver(faults: ReceiverFaults) -> AsyncIterator[PlainReceiver]:
    receiver = PlainReceiver(faults)
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        receiver.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/"
        nursery.start_soon(partial(trio.serve_listeners, receiver.serve, listeners))
        yield receiver
        nursery.cancel_scope.cancel()


@dataclass(frozen=True)
class SenderFaults:
    """Ways in which the sender can be wrong."""

    no_content_type: bool = False
    counts_from_zero: bool = False
    number_as_text: bool = False
    sorts_fields: bool = False
    own_event_name: bool = False
    local_time: bool = False
    signs_body_only: bool = False
    old_timestamp: bool = False
    same_id: bool = False
    sends_twice: bool = False
    new_id_on_repeat: bool = False


class PlainSender:
    """Posts made-up events, and repeats those that failed when it is told to."""

    def __init__(self, faults: SenderFaults) -> None:
        self.faults = faults
        self.number = 0
        self.failed: list[tuple[str, str, int, bytes]] = []

    async def tell(self, url: str, secret: str, count: int) -> None:
        for _ in range(count):
            self.number += 1
            body = json.dumps(self.payload(), sort_keys=self.faults.sorts_fields).encode()
            await self.post(url, secret, self.number, body, 1)
            if self.faults.sends_twice:
                await self.post(url, secret, self.number, body, 2)

    async def hurry(self) -> None:
        while self.failed:
            url, secret, number, body = self.failed.pop()
            await self.post(url, secret, number + 100 * self.faults.new_id_on_repeat, body, 2)

    def payload(self) -> dict[str, Any]:
        return {
            "Version": 0,
            "Event": "was_delivered" if self.faults.own_event_name else "delivered",
            "DSN": False,
            "Suppressing": False,
            "QueueMsgID": str(self.number) if self.faults.number_as_text else self.number,
            "FromID": "",
            "MessageID": "<one@here.example>",
            "Subject": "one",
            "WebhookQueued": "2026-01-01T12:00:00" + ("" if self.faults.local_time else "Z"),
            "SMTPCode": 250,
            "SMTPEnhancedCode": "2.0.0",
            "Error": "",
            "Extra": {},
        }

    async def post(self, url: str, secret: str, number: int, body: bytes, attempt: int) -> None:
        event_id = "evt_same" if self.faults.same_id else f"evt_{number}"
        timestamp = str(int(time.time()) - 3600 * self.faults.old_timestamp)
        signed_id = "" if self.faults.signs_body_only else event_id
        host, _, port = url.removeprefix("http://").partition("/")[0].partition(":")
        lines = [
            "POST /hook HTTP/1.1",
            f"Host: {host}",
            f"Content-Type: {'text/plain' if self.faults.no_content_type else 'application/json'}",
            "User-Agent: plain",
            f"Content-Length: {len(body)}",
            f"X-Mox-Webhook-ID: {number}",
            f"X-Mox-Webhook-Attempt: {attempt - self.faults.counts_from_zero}",
            f"webhook-id: {event_id}",
            f"webhook-timestamp: {timestamp}",
            f"webhook-signature: {sign(secret, signed_id, timestamp, body)}",
        ]
        stream = await trio.open_tcp_stream(host, int(port))
        async with stream:
            await stream.send_all("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
            status = await stream.receive_some(65536)
        if not status.startswith(b"HTTP/1.1 2"):
            self.failed.append((url, secret, number, body))
