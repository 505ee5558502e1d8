"""Calls with an Idempotency-Key, against the real server: done once, answered alike, also after a crash."""

from __future__ import annotations

import base64
import json
import urllib.parse
from collections.abc import AsyncIterator, Sequence
from socket import gethostname
from typing import Any

import pytest
import trio
import trio.testing

from mailcrane.model.idempotency import Claim
from mailcrane.model.receive import Judgement, Verdict
from mailcrane.model.reply import Reply
from mailcrane.plugin.base import Plugin
from mailcrane.plugin.policy import hookimpl
from mailcrane.receive.idempotency import IdempotencyKeys
from mailcrane.store.records import Worker
from mailcrane.testing.in_memory import PASSWORD, RunningServer, server
from mailcrane.testing.web import HTTPAnswer
from mailcrane_webapi.decoding import decode_request
from mailcrane_webapi.form import Form
from mailcrane_webapi.keys import fingerprint
from mailcrane_webapi.methods import METHODS
from mailcrane_webapi.plugin import WebAPIPlugin
from mailcrane_webapi.wire import SendRequest, SuppressionAddRequest

CONFIG = """
[listeners.web]
protocol = "http"
addresses = ["127.0.0.1:80"]
services = { webapi = "/webapi/" }
require_tls_for_auth = false
"""
REQUEST: dict[str, Any] = {"To": [{"Address": "you@there.example"}], "Subject": "hello", "Text": "hi\n"}


class Gate(Plugin):
    """Keeps submissions waiting, or refuses them, as a test says."""

    name = "gate"
    seconds = 0.0
    verdict: Verdict | None = None
    asked = 0

    @hookimpl
    async def judge_message(self) -> Judgement | None:
        Gate.asked += 1
        await trio.sleep(Gate.seconds)
        if Gate.verdict is None:
            return None
        return Judgement(Gate.verdict, "as the test says", Reply.make(554, "5.7.1", "not today"))


@pytest.fixture
async def running(autojump_clock: trio.testing.MockClock) -> AsyncIterator[RunningServer]:
    Gate.seconds, Gate.verdict, Gate.asked = 0.0, None, 0
    async with server(WebAPIPlugin, Gate, config=CONFIG) as made:
        yield made


async def call(
    running: RunningServer,
    key: str,
    request: dict[str, Any] = REQUEST,
    *,
    method: str = "Send",
    login: str = "ann@here.example",
    files: Sequence[tuple[str, str, bytes]] = (),
    boundary: str = "",
) -> HTTPAnswer:
    """Call a method; with a boundary, in a multipart form with files (name, type, octets)."""
    header = {
        "authorization": "Basic " + base64.b64encode(f"{login}:{PASSWORD}".encode()).decode(),
        "content-type": "application/x-www-form-urlencoded",
    }
    if key:
        header["idempotency-key"] = key
    text = json.dumps(request)
    if boundary:
        header["content-type"] = f"multipart/form-data; boundary={boundary}"
        parts = [f'Content-Disposition: form-data; name="request"\r\n\r\n{text}\r\n'.encode()]
        for name, kind, octets in files:
            head = f'Content-Disposition: form-data; name="attachedfile"; filename="{name}"\r\nContent-Type: {kind}'
            parts.append(head.encode() + b"\r\n\r\n" + octets + b"\r\n")
        mark = f"--{boundary}".encode()
        body = b"".join(mark + b"\r\n" + part for part in parts) + mark + b"--\r\n"
    else:
        body = urllib.parse.urlencode({"request": text}).encode()
    return await running.request("POST", f"/webapi/v0/{method}", header=header, body=body)


async def submitted(running: RunningServer) -> int:
    """How many entries were ever queued."""
    return len([event for event in await running.events("ann") if event.kind == "message_queued"])


async def test_a_repeated_call_is_answered_alike_and_done_once(running: RunningServer) -> None:
    first = await call(running, "k1")
    second = await call(running, "k1")
    assert first.status == second.status == 200
    assert first.body == second.body
    assert await submitted(running) == 1
    assert (await call(running, "k2")).body != first.body
    assert (await call(running, "")).body != first.body
    assert await submitted(running) == 3


async def test_the_answer_is_the_same_after_the_message_has_left(
    running: RunningServer, autojump_clock: trio.testing.MockClock
) -> None:
    first = await call(running, "k1")
    await trio.sleep(60)
    assert await running.entries() == []
    assert (await call(running, "k1")).body == first.body


async def test_after_a_day_the_key_is_new(running: RunningServer, autojump_clock: trio.testing.MockClock) -> None:
    first = await call(running, "k1")
    await trio.sleep(24 * 3600 - 1)
    assert (await call(running, "k1")).body == first.body
    await trio.sleep(2)
    again = await call(running, "k1")
    assert again.status == 200
    assert again.body != first.body


async def test_another_request_with_the_key_is_409(running: RunningServer) -> None:
    await call(running, "k1")
    answer = await call(running, "k1", {**REQUEST, "Subject": "other"})
    assert answer.status == 409
    assert answer.header["content-type"] == "application/json; charset=utf-8"
    body = answer.json()
    assert isinstance(body, dict)
    assert (list(body), body["Code"]) == (["Code", "Message"], "idempotencyKeyReused")
    assert "retry-after" not in answer.header
    assert await submitted(running) == 1


async def test_what_the_form_looks_like_does_not_count(running: RunningServer) -> None:
    first = await call(running, "k1")
    reordered = dict(reversed(REQUEST.items()))
    assert (await call(running, "k1", {**reordered, "CC": None, "text": reordered.pop("Text")})).body == first.body
    assert (await call(running, "k1", boundary="one")).body == first.body
    assert (await call(running, '"k1"')).body == first.body


async def test_files_count_by_name_type_and_content(running: RunningServer) -> None:
    file = ("a.txt", "text/plain", b"x" * 300_000)
    first = await call(running, "k1", files=[file], boundary="one")
    assert first.status == 200
    assert (await call(running, "k1", files=[file], boundary="another")).body == first.body
    for other in (
        ("b.txt", "text/plain", b"x" * 300_000),
        ("a.txt", "text/html", b"x" * 300_000),
        ("a.txt", "text/plain", b"x" * 299_999 + b"y"),
    ):
        assert (await call(running, "k1", files=[other], boundary="one")).status == 409
    assert (await call(running, "k1", boundary="one")).status == 409
    assert await submitted(running) == 1


async def test_a_key_is_an_accounts_own(running: RunningServer) -> None:
    first = await call(running, "k1")
    other = await call(running, "k1", login="bob@here.example")
    assert other.status == 200
    assert other.body != first.body


async def test_a_refusal_is_not_remembered(running: RunningServer) -> None:
    Gate.verdict = Verdict.REFUSE
    assert (await call(running, "k1")).status == 400
    assert (await call(running, "k1", {**REQUEST, "To": []})).status == 400
    Gate.verdict = None
    assert (await call(running, "k1")).status == 200


async def test_of_two_at_once_the_second_waits_for_the_answer_of_the_first(
    running: RunningServer, autojump_clock: trio.testing.MockClock
) -> None:
    Gate.seconds = 10
    answers: list[HTTPAnswer] = []

    async def one() -> None:
        answers.append(await call(running, "k1"))

    begin = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(one)
    assert trio.current_time() - begin < 12
    assert [answer.status for answer in answers] == [200] * 5
    assert len({answer.body for answer in answers}) == 1
    assert Gate.asked == 1
    assert await submitted(running) == 1


async def test_who_has_waited_30_seconds_is_told_when_to_try_again(
    running: RunningServer, autojump_clock: trio.testing.MockClock
) -> None:
    Gate.seconds = 50
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call, running, "k1")
        await trio.sleep(1)
        begin = trio.current_time()
        answer = await call(running, "k1")
        waited = trio.current_time() - begin
    assert answer.status == 409
    assert 30 <= waited < 32
    assert answer.header["retry-after"] == "30"
    assert b"idempotencyKeyInUse" in answer.body


async def test_when_the_first_fails_the_second_is_carried_out(
    running: RunningServer, autojump_clock: trio.testing.MockClock
) -> None:
    Gate.seconds, Gate.verdict = 10, Verdict.REFUSE
    answers: list[HTTPAnswer] = []

    async def second() -> None:
        await trio.sleep(5)
        answers.append(await call(running, "k1"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(second)
        assert (await call(running, "k1")).status == 400
        Gate.seconds, Gate.verdict = 0, None
    assert answers[0].status == 200
    assert await submitted(running) == 1


async def test_a_call_that_is_cancelled_lets_go_of_its_key(
    running: RunningServer, autojump_clock: trio.testing.MockClock
) -> None:
    Gate.seconds = 10
    with trio.move_on_after(1):
        await call(running, "k1")
    Gate.seconds = 0
    assert (await call(running, "k1")).status == 200
    assert await submitted(running) == 1


@pytest.mark.parametrize("key", [" ", "a b", "schlüssel", "x" * 256, '"', '"a', '""', '"a b"', "a\tb"])
async def test_what_is_no_key_is_refused(running: RunningServer, key: str) -> None:
    answer = await call(running, key)
    assert answer.status == 400
    assert b'"protocol"' in answer.body
    assert await submitted(running) == 0


@pytest.mark.parametrize("key", ["a", "x" * 255, "8e03978e-40d5-43e8-bc93-6894a57f9324", r'"a\"b"', "a,b;c=d"])
async def test_any_visible_ascii_is_a_key(running: RunningServer, key: str) -> None:
    assert (await call(running, key)).status == 200


async def test_the_suppression_list_is_changed_once(running: RunningServer) -> None:
    request = {"EmailAddress": "you@there.example"}
    for method in ("SuppressionAdd", "SuppressionRemove"):
        first = await call(running, "k1" + method, request, method=method)
        assert (first.status, first.body) == (200, b"{}\n")
        assert (await call(running, "k1" + method, request, method=method)).body == first.body
        assert (await call(running, "k2" + method, request, method=method)).status == 400
        assert (await call(running, "k1" + method, {"EmailAddress": "x@y.example"}, method=method)).status == 409
    # A method is a part of what is the same.
    assert (await call(running, "k1SuppressionAdd", request, method="SuppressionRemove")).status == 409


async def test_a_key_says_nothing_to_methods_that_only_read(running: RunningServer) -> None:
    request = {"EmailAddress": "you@there.example"}
    assert (await call(running, "k1", request, method="SuppressionPresent")).body == b'{"Present":false}\n'
    await call(running, "", request, method="SuppressionAdd")
    assert (await call(running, "k1", request, method="SuppressionPresent")).body == b'{"Present":true}\n'


async def test_a_change_whose_answer_was_not_stored_is_found_done(running: RunningServer) -> None:
    request = SuppressionAddRequest("you@there.example")
    dead = IdempotencyKeys(running.store, worker=Worker("machine", "dead"), clock=running.clock)
    await dead.claim("ann", "k1", fingerprint(METHODS["SuppressionAdd"], request, Form()))
    await call(running, "", {"EmailAddress": "you@there.example"}, method="SuppressionAdd")
    await IdempotencyKeys(running.store, worker=Worker("machine", "next"), clock=running.clock).free_dead()
    answer = await call(running, "k1", {"EmailAddress": "you@there.example"}, method="SuppressionAdd")
    assert (answer.status, answer.body) == (200, b"{}\n")
    assert (await call(running, "k2", {"EmailAddress": "you@there.example"}, method="SuppressionAdd")).status == 400


async def test_a_message_is_not_stored_by_a_call_that_lost_its_claim(
    running: RunningServer, autojump_clock: trio.testing.MockClock
) -> None:
    Gate.seconds = 10
    answers: list[HTTPAnswer] = []

    async def slow() -> None:
        answers.append(await call(running, "k1"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(slow)
        await trio.sleep(5)
        # As if it had taken longer than its lease.
        taken = IdempotencyKeys(running.store, worker=Worker("other", "boot"), clock=running.clock)
        await running.store.write(lambda tx: tx.idempotency.free(Worker(gethostname(), "other")), key="idempotency")
        claim = await taken.claim("ann", "k1", fingerprint(METHODS["Send"], decoded(REQUEST), Form()))
        assert isinstance(claim, Claim)
        assert claim.is_again
    assert answers[0].status == 409
    assert answers[0].header["retry-after"] == "5"
    assert await submitted(running) == 0


def decoded(request: dict[str, Any]) -> SendRequest:
    return decode_request(json.dumps(request).encode(), SendRequest)
