from __future__ import annotations

import logging
from typing import Any

import pytest

from mailcrane.http.app import Message, Receive, Scope, Send, drain, request_context, respond
from mailcrane.http.dispatch import Dispatcher, Mount, clean_path
from mailcrane.model.session import TLSInfo
from mailcrane.observe.limits import Window, WindowLimiter


class Answer:
    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.body = b""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = dict(message["headers"])
        else:
            self.body += message["body"]


def make_scope(path: str, **fields: Any) -> dict[str, Any]:
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "query_string": b"",
        "headers": [],
        "client": ("192.0.2.1", 1234),
        "server": ("198.51.100.1", 443),
    }
    return {**scope, **fields}


async def receive_nothing() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def ask(dispatcher: Dispatcher, path: str, **fields: Any) -> Answer:
    answer = Answer()
    await dispatcher(make_scope(path, **fields), receive_nothing, answer.send)
    return answer


def app_named(name: str) -> Any:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, 200, f"{name} {scope['root_path']} {scope['path']}")

    return app


def dispatcher(**settings: Any) -> Dispatcher:
    mounts = [
        Mount("/", "root", app_named("root"), is_internal=False),
        Mount("/webapi/", "webapi", app_named("webapi")),
        Mount("/webapi/deep/", "deep", app_named("deep")),
    ]
    return Dispatcher(mounts[settings.pop("first", 0) :], listener="web", **settings)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/", b"root  /"),
        ("/other", b"root  /other"),
        ("/webapi/", b"webapi /webapi /webapi/"),
        ("/webapi/v0/Send", b"webapi /webapi /webapi/v0/Send"),
        ("/webapi/deep/x", b"deep /webapi/deep /webapi/deep/x"),
        ("//webapi//v0/./Send", b"webapi /webapi /webapi/v0/Send"),
        ("/webapi/deep/../v0/", b"webapi /webapi /webapi/v0/"),
        ("/../../etc/passwd", b"root  /etc/passwd"),
    ],
)
async def test_the_longest_path_is_found(path: str, body: bytes) -> None:
    assert (await ask(dispatcher(), path)).body == body


async def test_a_path_without_its_slash_is_redirected_with_the_query() -> None:
    answer = await ask(dispatcher(), "/webapi", query_string=b"a=b")
    assert answer.status == 303
    assert answer.headers[b"location"] == b"/webapi/?a=b"


async def test_an_unknown_path_is_404() -> None:
    answer = await ask(dispatcher(first=1), "/nothing")
    assert (answer.status, answer.body) == (404, b"404 not found\n")
    assert answer.headers[b"content-type"].startswith(b"text/plain")


async def test_a_request_with_a_length_and_chunks_is_refused_and_the_last_of_its_connection() -> None:
    headers = [(b"content-length", b"5"), (b"transfer-encoding", b"chunked")]
    answer = await ask(dispatcher(), "/webapi/", method="POST", headers=headers)
    assert (answer.status, answer.headers[b"connection"]) == (400, b"close")


async def test_internal_services_have_security_headers_and_others_have_not() -> None:
    headers = (await ask(dispatcher(), "/webapi/")).headers
    assert headers[b"x-frame-options"] == b"deny"
    assert headers[b"x-content-type-options"] == b"nosniff"
    assert headers[b"content-security-policy"] == b"default-src 'self' 'unsafe-inline' data:"
    assert headers[b"referrer-policy"] == b"same-origin"
    assert b"x-frame-options" not in (await ask(dispatcher(), "/")).headers


async def test_an_application_finds_a_session_of_its_request() -> None:
    sessions = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        sessions.append(request_context(scope))
        await respond(send, 200)

    tls = TLSInfo("TLSv1.3", "TLS_AES_128_GCM_SHA256")
    dispatcher = Dispatcher([Mount("/", "x", app)], listener="web", require_tls_for_auth=True)
    await ask(dispatcher, "/")
    await ask(dispatcher, "/", **{"mailcrane.tls": tls})
    first, second = sessions
    assert first.session.protocol == "http"
    assert first.session.listener == "web"
    assert (first.session.remote_ip, first.session.remote_port) == ("192.0.2.1", 1234)
    assert (first.session.local_ip, first.session.local_port) == ("198.51.100.1", 443)
    assert first.session.id != second.session.id
    assert second.session.tls == tls
    assert (first.may_log_in, second.may_log_in) == (False, True)


@pytest.mark.parametrize(
    ("is_forwarded", "value", "client_ip"),
    [
        (False, b"203.0.113.5", "192.0.2.1"),
        (True, b"203.0.113.5", "203.0.113.5"),
        (True, b" 2001:DB8::1 , 10.0.0.1", "2001:db8::1"),
        (True, b"nonsense", None),
        (True, None, None),
    ],
)
async def test_the_client_is_taken_from_a_proxys_header_only_where_told(
    is_forwarded: bool, value: bytes | None, client_ip: str | None
) -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(request_context(scope).session.remote_ip)
        await respond(send, 200)

    dispatcher = Dispatcher([Mount("/", "x", app)], listener="web", is_forwarded=is_forwarded)
    answer = await ask(dispatcher, "/", headers=[] if value is None else [(b"x-forwarded-for", value)])
    assert seen == ([] if client_ip is None else [client_ip])
    assert answer.status == (500 if client_ip is None else 200)


async def test_requests_of_one_address_are_limited() -> None:
    limited = dispatcher(limiter=WindowLimiter([Window(60, (2, 5, 5))]))
    assert [(await ask(limited, "/")).status for _ in range(3)] == [200, 200, 429]
    assert (await ask(limited, "/", client=("192.0.2.99", 1))).status == 200


async def test_a_failing_application_is_a_500_and_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("broken")

    answer = await ask(Dispatcher([Mount("/", "x", fail)], listener="web"), "/")
    assert answer.status == 500
    assert b"broken" not in answer.body
    assert "web application failed" in caplog.text


async def test_requests_are_logged_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="mailcrane"):
        await ask(dispatcher(), "/webapi/")
        await ask(dispatcher(first=1), "/nothing")
    assert [record.getMessage() for record in caplog.records] == ["http request"] * 2


async def test_websockets_are_refused() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await dispatcher()({"type": "websocket", "path": "/"}, receive_nothing, send)
    assert sent == [{"type": "websocket.close"}]


@pytest.mark.parametrize("path", ["webapi/", "/webapi", "/web//api/", "/../"])
def test_a_mount_path_is_checked(path: str) -> None:
    with pytest.raises(ValueError, match="must begin and end"):
        Dispatcher([Mount(path, "x", app_named("x"))], listener="web")


def test_a_path_is_mounted_once() -> None:
    with pytest.raises(ValueError, match="twice"):
        Dispatcher([Mount("/a/", "x", app_named("x")), Mount("/a/", "y", app_named("y"))], listener="web")


@pytest.mark.parametrize(
    ("path", "cleaned"),
    [
        ("/a/b", "/a/b"),
        ("/a//b/", "/a/b/"),
        ("/a/./b", "/a/b"),
        ("/a/..", "/"),
        ("a", "/a"),
        ("/a/b/..", "/a/"),
        ("", "/"),
    ],
)
def test_paths_are_cleaned(path: str, cleaned: str) -> None:
    assert clean_path(path) == cleaned


async def test_what_is_left_of_a_body_is_read_up_to_a_limit() -> None:
    async def receive() -> Message:
        return {"type": "http.request", "body": bytes(1000), "more_body": next(more)}

    more = iter([True, True, False])
    assert await drain(receive, 10_000)
    more = iter([True] * 20)
    assert not await drain(receive, 10_000)
    assert len(list(more)) == 9
