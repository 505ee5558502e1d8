"""The listeners that a file asks for."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from mailcrane.config.static import parse
from mailcrane.http.app import HTTPApp, Receive, Scope, Send, request_context, respond
from mailcrane.http.server import HTTPListener
from mailcrane.run.listeners import WebServices, bind_http, make_http_listeners

HEAD = (
    'hostname = "mail.example.org"\ndata_dir = "d"\n[listeners.web]\nprotocol = "http"\naddresses = ["127.0.0.1:0"]\n'
)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    await respond(send, 200, request_context(scope).session.remote_ip)


async def made(fields: str) -> HTTPListener:
    config = parse(f'{HEAD}services = {{ echo = "/" }}\n{fields}')
    sockets = bind_http(config, "web")
    web = WebServices({"echo": HTTPApp("echo", "/", lambda: app)})
    [listener] = make_http_listeners(config, {"web": sockets}, web, {})
    for one in sockets:
        await one.aclose()
    return listener


async def client_ip(listener: HTTPListener) -> str:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)
        await trio.lowlevel.checkpoint()

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "query_string": b"",
        "headers": [(b"x-forwarded-for", b"203.0.113.5, 10.0.0.1")],
        "client": ("192.0.2.1", 1),
        "server": ("192.0.2.2", 80),
    }
    await listener.app(scope, trio.sleep_forever, send)
    body: bytes = sent[1]["body"]
    return body.decode()


@pytest.mark.parametrize(
    ("fields", "address", "is_gated"),
    [
        ("", "192.0.2.1", True),
        ("is_behind_proxy = true", "203.0.113.5", False),
        ("limit_requests = false", "192.0.2.1", False),
    ],
)
async def test_behind_a_proxy_its_header_tells_the_client_and_its_connections_are_not_limited(
    fields: str, address: str, is_gated: bool
) -> None:
    listener = await made(fields)
    assert await client_ip(listener) == address
    assert (listener.gate is not None) is is_gated
