"""Asks an ASGI application without a socket."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import trio
from msgspec import Struct

from mailcrane.http.app import ASGIApp, Message, Scope


class HTTPAnswer(Struct, frozen=True):
    """What an application answered.

    Attributes:
        header: Names in lower case; of equal ones the last.
    """

    status: int
    header: dict[str, str]
    body: bytes

    def json(self) -> object:
        """Return the body as JSON."""
        return msgspec.json.decode(self.body)


async def ask_app(
    app: ASGIApp,
    method: str,
    path: str,
    *,
    header: Mapping[str, str] | None = None,
    body: bytes = b"",
    remote_ip: str = "192.0.2.1",
) -> HTTPAnswer:
    """Make one HTTP/1.1 request.

    Args:
        path: As in the URL, with the query.
    """
    fields = {"host": "mail.here.example", "content-length": str(len(body)), **(header or {})}
    to_receive: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
    sent: list[Message] = []

    async def receive() -> Message:
        if not to_receive:
            # The client stays until it has its answer.
            await trio.sleep_forever()
        return to_receive.pop()

    async def send(message: Message) -> None:
        sent.append(message)

    raw_path, _, query = path.partition("?")
    scope: Scope = {
        "type": "http",
        "http_version": "1.1",
        "asgi": {"version": "3.0", "spec_version": "2.1"},
        "method": method,
        "scheme": "http",
        "path": raw_path,
        "raw_path": raw_path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in fields.items()],
        "client": (remote_ip, 40000),
        "server": ("127.0.0.1", 80),
        "extensions": {},
    }
    await app(scope, receive, send)
    start = next(message for message in sent if message["type"] == "http.response.start")
    return HTTPAnswer(
        start["status"],
        {name.decode().lower(): value.decode() for name, value in start["headers"]},
        b"".join(message.get("body", b"") for message in sent if message["type"] == "http.response.body"),
    )
