"""The ASGI application: routes, the checks that come before a method, and how errors are answered.

Calls are read through raw ASGI, so that an upload is never held whole by a framework. Pages are Quart's.
"""

from __future__ import annotations

import base64
import binascii

import msgspec
import trio

from mailcrane.api import Identity, LoginRefused, PluginContext
from mailcrane.api.http import ASGIApp, Headers, Receive, Scope, Send, drain, header, request_context, respond
from mailcrane_webapi.calls import Call, Calls
from mailcrane_webapi.config import WebAPIConfig
from mailcrane_webapi.decoding import decode_request
from mailcrane_webapi.form import Disconnected, Form, read_form
from mailcrane_webapi.keys import idempotency_key
from mailcrane_webapi.methods import METHODS, Method
from mailcrane_webapi.metrics import DURATION, RESULTS
from mailcrane_webapi.wire import APIError, ErrorBody, encode

_VERSION_PATH = "/v0/"
_DOCUMENT_PATH = "openapi.json"
_JSON = b"application/json; charset=utf-8"
_CHALLENGE = ((b"www-authenticate", b"Basic realm=webapi"),)
# What is read of the body of a call that is refused, so that the client sees why.
_DRAIN_OCTETS = 256 * 1024
# Calls whose JSON is large: it is held decoded. Files beside it are not held.
_MAX_LARGE_CALLS = 2


class WebAPI:
    """The application. One serves all listeners."""

    def __init__(self, config: WebAPIConfig, context: PluginContext) -> None:
        self._config = config
        self._context = context
        self._calls = Calls(context, max_message_octets=config.max_message_octets)
        self._large_calls = trio.Semaphore(_MAX_LARGE_CALLS)
        self._pages: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        path = scope["path"].removeprefix(scope["root_path"])
        name = path.removeprefix(_VERSION_PATH)
        if path == "/":
            await self._redirect(scope, receive, send)
        elif path == _VERSION_PATH:
            await self._page(scope, receive, send)
        elif name == _DOCUMENT_PATH and name != path:
            await self._document(scope, receive, send)
        elif name not in METHODS or name == path:
            await _refuse(receive, send, 404)
        elif scope["method"] == "GET":
            await self._page(scope, receive, send)
        elif scope["method"] == "POST":
            await self._call(METHODS[name], scope, receive, send)
        else:
            await _refuse(receive, send, 405, headers=((b"allow", b"GET, POST"),))

    async def _redirect(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "GET":
            await _refuse(receive, send, 405, headers=((b"allow", b"GET"),))
            return
        location = f"{scope['root_path']}{_VERSION_PATH}".encode("latin-1", "replace")
        await respond(send, 303, headers=((b"location", location),))

    async def _page(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._pages is None:
            # Quart takes a fifth of a second to import, which a server without visitors never pays.
            self._pages = await self._context.run_in_thread(_make_pages)
        await self._pages(scope, receive, send)

    async def _document(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "GET":
            await _refuse(receive, send, 405, headers=((b"allow", b"GET"),))
            return
        from mailcrane_webapi.openapi import make_document  # noqa: PLC0415 - few servers are asked for it

        document = make_document(f"{scope['root_path']}{_VERSION_PATH}".rstrip("/"))
        await respond(send, 200, msgspec.json.encode(document), content_type=b"application/json")

    async def _call(self, method: Method, scope: Scope, receive: Receive, send: Send) -> None:
        begin = trio.current_time()
        try:
            identity = await self._log_in(scope, receive, send)
            if identity is None:
                RESULTS.inc(method.name, "badauth")
                return
            body = await self._execute(method, scope, receive, identity)
        except Disconnected:
            return
        except APIError as error:
            RESULTS.inc(method.name, error.code)
            await _tell(send, error)
        # The top of a call: a fault of ours is told as such, with its trace in the log.
        except Exception:
            RESULTS.inc(method.name, "internal")
            session = request_context(scope).session
            self._context.log.exception("call failed", session=session.id, method=method.name)
            await _tell(send, APIError("server", "internal error"))
        else:
            RESULTS.inc(method.name, "ok")
            await respond(send, 200, body, content_type=_JSON)
        DURATION.observe(trio.current_time() - begin, method.name)

    async def _log_in(self, scope: Scope, receive: Receive, send: Send) -> Identity | None:
        """Check the basic authentication; None when it was refused and that is answered."""
        credentials = _basic_credentials(header(scope, b"authorization"))
        if credentials is None:
            await _refuse(receive, send, 401, "401 unauthorized: missing basic authentication\n", headers=_CHALLENGE)
            return None
        request = request_context(scope)
        if not request.may_log_in:
            await _refuse(receive, send, 403, "403 forbidden: logins without TLS are not accepted here\n")
            return None
        try:
            return await self._context.logins.log_in(request.session, *credentials)
        except LoginRefused as refused:
            if refused.reason == "ratelimited":
                await _refuse(receive, send, 429, "429 too many requests: too many failed logins\n")
                return None
            # A plugin that cannot tell now answers 4yz: the password may well be right.
            if refused.reason == "error" or refused.reply.is_transient_failure:
                raise APIError("server", "checking credentials failed") from None
            reason = f"login disabled: {refused.reply.text}" if refused.reason == "logindisabled" else "bad credentials"
            await _refuse(receive, send, 401, f"401 unauthorized: {reason}\n", headers=_CHALLENGE)
            return None

    async def _execute(self, method: Method, scope: Scope, receive: Receive, identity: Identity) -> bytes:
        form = await read_form(
            scope,
            receive,
            max_files_octets=self._config.max_message_octets,
            run_in_thread=self._context.run_in_thread,
        )
        try:
            key = idempotency_key(scope)
            if not form.request:
                raise APIError("protocol", 'missing or empty form field "request"')
            if form.has_large_request:
                async with self._large_calls:
                    return await self._answer(method, scope, identity, form, key)
            return await self._answer(method, scope, identity, form, key)
        finally:
            form.close()

    async def _answer(self, method: Method, scope: Scope, identity: Identity, form: Form, key: str) -> bytes:
        if form.is_large:
            request = await self._context.run_in_thread(decode_request, form.request, method.request)
        else:
            request = decode_request(form.request, method.request)
        return await self._calls.answer(Call(request_context(scope).session, identity, method, request, form, key))


async def _tell(send: Send, error: APIError) -> None:
    headers = ((b"retry-after", b"%d" % error.retry_after_seconds),) if error.retry_after_seconds else ()
    body = encode(ErrorBody(error.code, error.message))
    await respond(send, error.status, body, content_type=_JSON, headers=headers)


async def _refuse(receive: Receive, send: Send, status: int, text: str = "", *, headers: Headers = ()) -> None:
    await drain(receive, _DRAIN_OCTETS)
    await respond(send, status, text, headers=headers)


def _basic_credentials(value: bytes | None) -> tuple[str, str] | None:
    """Return login and password of an Authorization header (RFC 7617), or None when there are none."""
    scheme, _, encoded = (value or b"").partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        octets = base64.b64decode(encoded.strip(), validate=True)
    except binascii.Error:
        return None
    try:
        text = octets.decode()
    except UnicodeDecodeError:
        text = octets.decode("latin-1")
    login, colon, password = text.partition(":")
    return (login, password) if colon else None


def _make_pages() -> ASGIApp:
    from mailcrane_webapi.pages import make_pages  # noqa: PLC0415 - see where it is called

    return make_pages()
