"""What an HTTP application is, and what it finds in its scope (ASGI 3)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from http import HTTPStatus
from typing import Any

import trio
from msgspec import Struct

from mailcrane.model.session import SessionInfo

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = Sequence[tuple[bytes, bytes]]

_CONTEXT_KEY = "mailcrane"
_DRAIN_SECONDS = 10.0


class HTTPApp(Struct, frozen=True):
    """An application that a plugin registers.

    Attributes:
        service: The name that listeners enable it by, in ``services``.
        default_path: Where it is mounted when a listener does not say; begins and ends with a slash.
        make: Makes the ASGI application. Called once, after the plugin was started, however many listeners serve it.
            The application finds its mount path in ``scope["root_path"]`` (without a slash at the end) and, as ASGI
            has it, the whole path in ``scope["path"]``. It need not know the lifespan protocol.
        is_internal: Whether responses carry the security headers of our own pages.
    """

    service: str
    default_path: str
    make: Callable[[], ASGIApp]
    is_internal: bool = True


class RequestContext(Struct, frozen=True):
    """What the server knows of one request besides what ASGI says.

    Attributes:
        session: The request as a session of its own: its id is unique and in the log, its remote address is the
            client's, also behind a proxy that the listener believes.
        may_log_in: False where the listener refuses logins in plaintext and this is plaintext.
    """

    session: SessionInfo
    may_log_in: bool = True


def request_context(scope: Scope) -> RequestContext:
    """Return what the server knows of a request.

    Raises:
        LookupError: the request did not come through our dispatcher.
    """
    context = scope.get(_CONTEXT_KEY)
    if not isinstance(context, RequestContext):
        raise LookupError("the ASGI scope has no request context of Mailcrane's")
    return context


def set_request_context(scope: Scope, context: RequestContext) -> None:
    """Put into a scope what `request_context` returns."""
    scope[_CONTEXT_KEY] = context


def header(scope: Scope, name: bytes) -> bytes | None:
    """Return the first value of a request header field; `name` is lower case."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None


async def respond(
    send: Send,
    status: int,
    body: bytes | str = b"",
    *,
    content_type: bytes = b"text/plain; charset=utf-8",
    headers: Headers = (),
) -> None:
    """Send a whole response. Without a body, the words of the status are the body."""
    if not body:
        body = f"{status} {HTTPStatus(status).phrase.lower()}\n"
    octets = body.encode() if isinstance(body, str) else body
    fields = [(b"content-type", content_type), (b"content-length", b"%d" % len(octets)), *headers]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": octets, "more_body": False})


async def drain(receive: Receive, limit_octets: int) -> bool:
    """Read and forget what is left of a request's body.

    A response to a request whose body was not read is often lost, because the connection is reset.

    Returns:
        Whether its end was reached, within the limit and in ten seconds.
    """
    remaining = limit_octets
    with trio.move_on_after(_DRAIN_SECONDS):
        while remaining >= 0:
            message = await receive()
            if message["type"] != "http.request":
                return False
            remaining -= len(message.get("body", b""))
            if not message.get("more_body", False):
                return True
    return False
