from __future__ import annotations

import json
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any

from mailcrane.run.catcher import Catcher


class _Noon:
    def now(self) -> datetime:
        return datetime(2026, 1, 1, 12, tzinfo=UTC)


async def _call(
    catcher: Catcher,
    method: str,
    path: str = "/",
    *,
    query: bytes = b"",
    body: bytes = b"",
    header: list[Any] | None = None,
) -> tuple[int, bytes]:
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "query_string": query, "headers": header or []}
    await catcher(scope, receive, send)
    return sent[0]["status"], sent[1]["body"]


async def test_a_posted_webhook_is_shown_as_json() -> None:
    catcher = Catcher(_Noon())
    header = [(b"X-Mox-Webhook-ID", b"7"), (b"Host", b"localhost")]
    assert (await _call(catcher, "POST", "/x", body=b'{"Event":"delivered"}', header=header))[0] == 200
    status, octets = await _call(catcher, "GET", query=b"format=json")
    assert status == 200
    (shown,) = json.loads(octets)
    assert shown["payload"] == {"Event": "delivered"}
    assert shown["header"] == {"x-mox-webhook-id": "7"}
    assert shown["at"].startswith("2026-01-01T12:00")


async def test_the_page_shows_what_was_posted_and_escapes_it() -> None:
    catcher = Catcher(_Noon())
    await _call(catcher, "POST", body=b"<script>alert(1)</script>")
    _, page = await _call(catcher, "GET")
    assert b"<script>" not in page
    assert b"&lt;script&gt;" in page


async def test_only_the_last_hundred_are_kept() -> None:
    catcher = Catcher(_Noon())
    for number in range(120):
        await _call(catcher, "POST", body=str(number).encode())
    assert len(catcher.calls) == 100
    assert catcher.calls[0].body == "119"


async def test_a_body_that_is_too_large_is_not_kept() -> None:
    catcher = Catcher(_Noon())
    assert (await _call(catcher, "POST", body=b"x" * (1024 * 1024 + 1)))[0] == 413
    assert catcher.calls == ()


async def test_other_methods_are_refused() -> None:
    assert (await _call(Catcher(_Noon()), "DELETE"))[0] == 405
