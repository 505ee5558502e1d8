from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
import trio
import trio.testing

from mailcrane.run import catcher as module
from mailcrane.run.catcher import Catcher
from mailcrane.testing import HTTPAnswer, ask_app


class _Noon:
    def now(self) -> datetime:
        return datetime(2026, 1, 1, 12, tzinfo=UTC)


async def _recipient(entry_id: int) -> str:
    return {7: "ann@example.org"}.get(entry_id, "")


def _catcher() -> Catcher:
    return Catcher(_Noon(), _recipient, trio.Event())


async def _post(catcher: Catcher, payload: object, **header: str) -> None:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    assert (await ask_app(catcher, "POST", "/x", header=header, body=body)).status == 200


async def _get(catcher: Catcher, query: str = "", **header: str) -> HTTPAnswer:
    return await ask_app(catcher, "GET", f"/?{query}", header={"host": "localhost", **header})


async def _find(catcher: Catcher, query: str = "") -> list[dict[str, Any]]:
    found: Any = (await _get(catcher, query)).json()
    return list(found["webhooks"])


async def test_a_posted_webhook_is_shown_as_json() -> None:
    catcher = _catcher()
    await _post(catcher, {"Event": "delivered", "QueueMsgID": 7, "MessageID": "<1@x>"}, **{"X-Mox-Webhook-ID": "9"})
    [shown] = await _find(catcher)
    assert shown["payload"]["QueueMsgID"] == 7
    assert (shown["event"], shown["to"], shown["message_id"]) == ("delivered", "ann@example.org", "<1@x>")
    assert shown["header"] == {"x-mox-webhook-id": "9"}
    assert shown["at"] == "2026-01-01T12:00:00Z"


async def test_the_webhook_of_an_incoming_message_tells_its_recipient_itself() -> None:
    catcher = _catcher()
    await _post(catcher, {"Subject": "hi", "Meta": {"RcptTo": "bob@example.org"}})
    assert [one["to"] for one in await _find(catcher, "to=BOB@example.org")] == ["bob@example.org"]


async def test_webhooks_are_found_by_event_recipient_and_message_id() -> None:
    catcher = _catcher()
    for number, event in enumerate(("deferred", "delivered", "delivered")):
        await _post(catcher, {"Event": event, "QueueMsgID": 7 + number, "MessageID": f"<{number}@x>"})
    assert [one["number"] for one in await _find(catcher)] == [3, 2, 1]
    assert [one["number"] for one in await _find(catcher, "event=delivered")] == [3, 2]
    assert [one["number"] for one in await _find(catcher, "to=ann@example.org")] == [1]
    assert [one["number"] for one in await _find(catcher, "message_id=1@x")] == [2]
    assert [one["number"] for one in await _find(catcher, "after=2")] == [3]


async def test_a_request_waits_for_the_webhook(autojump_clock: trio.testing.MockClock) -> None:
    catcher = _catcher()
    found: list[dict[str, Any]] = []

    async def wait() -> None:
        found.extend(await _find(catcher, "event=delivered&timeout=60"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        await _post(catcher, {"Event": "deferred"})
        await trio.testing.wait_all_tasks_blocked()
        assert not found
        await _post(catcher, {"Event": "delivered"})
    assert [one["number"] for one in found] == [2]
    begun_at = trio.current_time()
    assert await _find(catcher, "event=failed&timeout=3") == []
    assert trio.current_time() - begun_at == 3


@pytest.mark.parametrize(
    ("query", "name"), [("timeout=x", "timeout"), ("count=0", "count"), ("format=xml", "format"), ("from=me", "from")]
)
async def test_a_wrong_parameter_is_named(query: str, name: str) -> None:
    answer = await _get(_catcher(), query)
    assert answer.status == 400
    assert f"parameter '{name}'".encode() in answer.body


async def test_the_page_shows_what_was_posted_and_escapes_it() -> None:
    catcher = _catcher()
    await _post(catcher, b"<script>alert(1)</script>")
    await _post(catcher, {"Event": "<script>"})
    page = await _get(catcher, accept="text/html")
    assert page.header["content-type"].startswith("text/html")
    assert page.body.count(b"<script>") == 1, "its own"
    assert b"&lt;script&gt;alert(1)" in page.body
    assert (await _get(catcher, "format=json", accept="text/html")).header["content-type"] == "application/json"


async def test_what_was_caught_is_forgotten_when_asked_and_numbers_go_on() -> None:
    catcher = _catcher()
    await _post(catcher, {})
    answer = await ask_app(catcher, "DELETE", "/", header={"host": "localhost"})
    assert answer.json() == {"deleted": 1}
    await _post(catcher, {})
    assert [one["number"] for one in await _find(catcher)] == [2]


async def test_only_so_many_and_so_much_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CALLS", 3)
    monkeypatch.setattr(module, "MAX_KEPT_OCTETS", 50)
    catcher = _catcher()
    for number in range(5):
        await _post(catcher, str(number).encode())
    assert [call.body for call in catcher.calls] == ["4", "3", "2"]
    await _post(catcher, b"x" * 49)
    assert [call.body[0] for call in catcher.calls] == ["x", "4"]


async def test_a_body_that_is_too_large_is_not_kept() -> None:
    catcher = _catcher()
    assert (await ask_app(catcher, "POST", "/", body=b"x" * (1024 * 1024 + 1))).status == 413
    assert catcher.calls == ()


async def test_other_methods_and_other_names_of_this_machine_are_refused() -> None:
    assert (await ask_app(_catcher(), "PUT", "/", header={"host": "localhost"})).status == 405
    assert (await _get(_catcher(), host="evil.example")).status == 421
