"""URLs, methods, logins, and the order of checks before a method."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest

from mailcrane.http.dispatch import Dispatcher
from mailcrane.model.reply import Reply
from mailcrane.model.submission import LoginRefused

from .conftest import API, urlencoded


async def test_the_base_path_leads_to_the_version(api: API) -> None:
    answer = await api.ask("GET", "/webapi/", headers=())
    assert answer.status == 303
    assert answer.headers["location"] == "/webapi/v0/"
    refused = await api.ask("POST", "/webapi/", headers=())
    assert (refused.status, refused.headers["allow"]) == (405, "GET")
    assert (await api.ask("GET", "/webapi", headers=())).headers["location"] == "/webapi/"


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_the_index_lists_the_methods_for_any_http_method(api: API, method: str) -> None:
    answer = await api.ask(method, "/webapi/v0/", headers=())
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["x-frame-options"] == "deny"
    assert '<a href="Send">Send</a>' in answer.text
    assert "noindex" in answer.text
    assert "MessageGet" not in answer.text


async def test_a_method_has_a_page_with_an_example_request(api: API) -> None:
    answer = await api.ask("GET", "/webapi/v0/Send", headers=())
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    for line in (
        "{\n\t&quot;From&quot;: [\n\t\t{\n\t\t\t&quot;Name&quot;: &quot;&quot;,",
        "\t&quot;Extra&quot;: {\n\t\t&quot;example&quot;: &quot;&quot;\n\t}",
        "\t&quot;Headers&quot;: [\n\t\t[\n\t\t\t&quot;&quot;,\n\t\t\t&quot;&quot;\n\t\t]\n\t]",
        "\t&quot;RequireTLS&quot;: false",
        "\t&quot;FutureRelease&quot;: &quot;0001-01-01T00:00:00Z&quot;",
    ):
        assert line in answer.text


@pytest.mark.parametrize(
    "path", ["/webapi/v0", "/webapi/v1/Send", "/webapi/v0/send", "/webapi/v0/Other", "/webapi/v0/Send/", "/webapi/Send"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_unknown_paths_and_methods_are_404(api: API, method: str, path: str) -> None:
    answer = await api.ask(method, path)
    assert answer.status == 404
    assert answer.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "HEAD", "OPTIONS"])
async def test_other_http_methods_are_405(api: API, method: str) -> None:
    answer = await api.ask(method, "/webapi/v0/Send")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, POST")


@pytest.mark.parametrize(
    "value", [None, b"", b"Bearer abc", b"Basic", b"Basic !!!", b"Basic " + base64.b64encode(b"nocolon")]
)
async def test_without_basic_authentication_it_is_401_and_nobody_is_asked(api: API, value: bytes | None) -> None:
    answer = await api.call("{}", headers=() if value is None else ((b"authorization", value),))
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Basic realm=webapi"
    assert answer.headers["content-type"].startswith("text/plain")
    assert api.logins.attempts == []


async def test_a_wrong_password_is_401_before_anything_else_is_looked_at(api: API) -> None:
    wrong = (b"authorization", b"basic " + base64.b64encode("me@example.org:wr:öng".encode()))
    answer = await api.call("nonsense", headers=(wrong,), content_type=None)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Basic realm=webapi"
    session, login, password = api.logins.attempts[0]
    assert (login, password) == ("me@example.org", "wr:öng")
    assert (session.protocol, session.remote_ip) == ("http", "192.0.2.1")


@pytest.mark.parametrize(
    ("reason", "status", "text"),
    [("badcreds", 401, "bad credentials"), ("logindisabled", 401, "disabled: moved"), ("ratelimited", 429, "too many")],
)
async def test_a_refused_login_is_told_in_plain_text(api: API, reason: str, status: int, text: str) -> None:
    api.logins.refusal = LoginRefused(reason, Reply.make(535, "5.7.8", "moved"))
    answer = await api.call("{}")
    assert answer.status == status
    assert answer.headers["content-type"].startswith("text/plain")
    assert text in answer.text


async def test_a_login_that_cannot_be_checked_is_a_server_error(api: API) -> None:
    api.logins.refusal = LoginRefused("error", Reply.make(454, "4.7.0", "database is gone"))
    answer = await api.call("{}")
    assert answer.code == "server"
    assert "database" not in answer.text


async def test_a_login_in_plaintext_is_refused_where_the_listener_wants_tls(api: API) -> None:
    strict = Dispatcher(api.dispatcher._mounts, listener="web", require_tls_for_auth=True)
    answer = await API(strict, api.logins, api.submissions, api.suppressions).send()
    assert answer.status == 403
    assert api.logins.attempts == []


@pytest.mark.parametrize("content_type", [None, b"", b"nonsense", b"/", b"multipart/form-data", b"text/"])
async def test_a_content_type_that_is_none_is_a_protocol_error(api: API, content_type: bytes | None) -> None:
    assert (await api.call('{"Text": "x"}', content_type=content_type)).code == "protocol"


@pytest.mark.parametrize("content_type", [b"application/x-www-form-urlencoded; charset=utf-8", b"text/plain"])
async def test_any_other_type_is_read_as_urlencoded(api: API, content_type: bytes) -> None:
    assert (await api.call('{"Text": "x"}', content_type=content_type)).code == "noRecipients"


@pytest.mark.parametrize(
    "body", [b"", b"request=", b"other=%7B%7D", b"request=%zz", b"request=%7", b"a;b=c&request=%7B%7D", b"{}"]
)
async def test_a_body_without_the_field_is_a_protocol_error(api: API, body: bytes) -> None:
    assert (await api.ask("POST", "/webapi/v0/Send", body)).code == "protocol"


async def test_the_field_is_not_taken_from_the_url(api: API) -> None:
    query = urlencoded('{"Text": "x"}')
    assert (await api.ask("POST", "/webapi/v0/Send", b"", query_string=query)).code == "protocol"


async def test_of_several_fields_the_first_counts_and_pieces_may_be_cut_anywhere(api: API) -> None:
    body = b"a=b&re%71uest=" + urlencoded('{"Text": "x", "To": []}').partition(b"=")[2] + b"&request=nonsense"
    answer = await api.ask("POST", "/webapi/v0/Send", [body[at : at + 3] for at in range(0, len(body), 3)])
    assert answer.code == "noRecipients"


async def test_an_urlencoded_form_is_limited(api: API) -> None:
    answer = await api.ask("POST", "/webapi/v0/Send", [b"request=", *[bytes(65536)] * 200])
    assert answer.code == "protocol"


async def test_a_fault_of_ours_is_a_server_error_without_details(api: API, caplog: pytest.LogCaptureFixture) -> None:
    api.submissions.refusal = RuntimeError("secret detail")
    answer = await api.send()
    assert answer.code == "server"
    assert "secret" not in answer.text
    assert "call failed" in caplog.text


async def test_a_client_that_leaves_in_the_middle_is_not_answered(api: API) -> None:
    chunks: Iterator[Any] = iter(
        [{"type": "http.request", "body": b"request=", "more_body": True}, {"type": "http.disconnect"}]
    )
    sent: list[object] = []

    async def receive() -> Any:
        return next(chunks)

    async def send(message: object) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/webapi/v0/Send",
        "query_string": b"",
        "headers": [
            (b"authorization", b"Basic " + base64.b64encode(b"me@example.org:secret")),
            (b"content-type", b"text/plain"),
        ],
        "client": ("192.0.2.1", 1),
        "server": ("127.0.0.1", 80),
    }
    await api.dispatcher(scope, receive, send)
    assert sent == []
