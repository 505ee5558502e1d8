"""HTTP applications, limits per network, and the guarded client (provisional)."""

# ruff: noqa: PLC0414 - the alias is what tells a type checker that a name is re-exported.

from __future__ import annotations

from typing import TYPE_CHECKING

from mailcrane.api._lazy import lazy_names

if TYPE_CHECKING:
    from mailcrane.http.app import ASGIApp as ASGIApp
    from mailcrane.http.app import Headers as Headers
    from mailcrane.http.app import HTTPApp as HTTPApp
    from mailcrane.http.app import Message as Message
    from mailcrane.http.app import Receive as Receive
    from mailcrane.http.app import RequestContext as RequestContext
    from mailcrane.http.app import Scope as Scope
    from mailcrane.http.app import Send as Send
    from mailcrane.http.app import drain as drain
    from mailcrane.http.app import header as header
    from mailcrane.http.app import request_context as request_context
    from mailcrane.http.app import respond as respond
    from mailcrane.http.client import AddressRefused as AddressRefused
    from mailcrane.http.client import ConnectFailed as ConnectFailed
    from mailcrane.http.client import GuardedClient as GuardedClient
    from mailcrane.http.client import HTTPClientError as HTTPClientError
    from mailcrane.http.client import HTTPResponse as HTTPResponse
    from mailcrane.http.client import RequestTimedOut as RequestTimedOut
    from mailcrane.http.client import ResponseFailed as ResponseFailed
    from mailcrane.http.client import URLRefused as URLRefused
    from mailcrane.observe.limits import FAILED_LOGIN_WINDOWS as FAILED_LOGIN_WINDOWS
    from mailcrane.observe.limits import HTTP_REQUEST_WINDOWS as HTTP_REQUEST_WINDOWS
    from mailcrane.observe.limits import Window as Window
    from mailcrane.observe.limits import WindowLimiter as WindowLimiter
else:
    # A type checker sees the names above, and no others.
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "mailcrane.http.app": (
                "ASGIApp",
                "HTTPApp",
                "Headers",
                "Message",
                "Receive",
                "RequestContext",
                "Scope",
                "Send",
                "drain",
                "header",
                "request_context",
                "respond",
            ),
            "mailcrane.http.client": (
                "AddressRefused",
                "ConnectFailed",
                "GuardedClient",
                "HTTPClientError",
                "HTTPResponse",
                "RequestTimedOut",
                "ResponseFailed",
                "URLRefused",
            ),
            "mailcrane.observe.limits": ("FAILED_LOGIN_WINDOWS", "HTTP_REQUEST_WINDOWS", "Window", "WindowLimiter"),
        },
    )
