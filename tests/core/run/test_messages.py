"""Delivered messages over HTTP: found, waited for, shown, deleted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import pytest
import trio
import trio.testing
from msgspec.structs import replace

from mailcrane.config.rows import Webhook
from mailcrane.model.reply import Reply
from mailcrane.run import delivered, query
from mailcrane.run.shown import ShownMessage
from mailcrane.store.records import CallFilter
from mailcrane.store.transaction import Transaction
from mailcrane.testing import PASSWORD, ROWS, HTTPAnswer, RunningServer, server

CONFIG = """
[listeners.web]
protocol = "http"
addresses = ["127.0.0.1:1080"]
limit_requests = false
services = { messages = "/messages/" }
"""
LETTER = (
    b"From: =?utf-8?q?B=C3=B6rje?= <me@there.example>\r\nTo: Ann <ann@example.org>, <carol@example.org>\r\n"
    b"Cc: dan@example.org\r\nSubject: =?utf-8?q?Welcome_=C3=A4?=\r\nMessage-Id: <1@there.example>\r\n"
    b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\n"
    b"--a\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n"
    b"--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nH\xc3\xa4llo\r\n"
    b'--b\r\nContent-Type: text/html\r\n\r\n<p>Hello<img src="cid:logo@x"><script>alert(1)</script>\r\n--b--\r\n'
    b"--a\r\nContent-Type: image/png\r\nContent-Id: <logo@x>\r\nContent-Transfer-Encoding: base64\r\n\r\nUE5H\r\n"
    b"--a\r\nContent-Type: text/html\r\nContent-Disposition: attachment; filename*=utf-8''%c3%a4%22%0d%0a.html\r\n"
    b"\r\n<script>\r\n--a--\r\n"
)


class _Developer:
    """Sends to a server and asks it what arrived."""

    def __init__(self, running: RunningServer) -> None:
        self.running = running

    async def send(self, *to: str, content: bytes = b"Subject: hello\r\n\r\nHello\r\n") -> None:
        client = self.running.connect("development")
        await client.hello()
        assert (await client.send("me@there.example", list(to), content)).code == 250
        await client.quit()

    async def ask(self, path: str, method: str = "GET", **header: str) -> HTTPAnswer:
        return await self.running.request(method, path, header={"host": "localhost:1080", **header})

    async def find(self, search: str = "") -> list[dict[str, Any]]:
        answer = await self.ask(f"/messages/?{search}")
        assert answer.status == 200, answer.body
        found: Any = answer.json()
        return list(found["messages"])


@asynccontextmanager
async def _developer() -> AsyncIterator[_Developer]:
    async with server(config=CONFIG) as running:
        yield _Developer(running)


@pytest.fixture
async def developer(autojump_clock: trio.testing.MockClock) -> AsyncIterator[_Developer]:
    async with _developer() as one:
        yield one


async def test_a_message_is_shown_with_its_envelope_fields_and_parts(developer: _Developer) -> None:
    await developer.send("ann@example.org", content=LETTER)
    [shown] = await developer.find()
    assert shown["from"] == [{"name": "Börje", "address": "me@there.example"}]
    assert [one["address"] for one in shown["to"]] == ["ann@example.org", "carol@example.org"]
    assert shown["cc"] == [{"name": "", "address": "dan@example.org"}]
    assert (shown["subject"], shown["message_id"]) == ("Welcome ä", "<1@there.example>")
    assert (shown["reverse_path"], shown["forward_path"]) == ("me@there.example", "ann@example.org")
    assert shown["text"] == "Hällo"
    assert shown["html"].startswith("<p>Hello")
    assert not shown["is_cut"]
    logo, page = shown["attachments"]
    assert (logo["content_type"], logo["content_id"]) == ("image/png", "logo@x")
    assert page["file_name"] == 'ä"\r\n.html'
    assert ["Subject", "Welcome ä"] in shown["headers"]
    assert (await developer.ask(logo["url"])).body == b"PNG"
    assert (await developer.ask(shown["url"])).json() == shown
    raw = await developer.ask(shown["raw_url"])
    assert raw.body.endswith(LETTER)
    assert len(raw.body) == shown["size_octets"]


async def test_html_in_a_related_part_is_found_and_attached_text_is_not_taken_for_it(developer: _Developer) -> None:
    content = (
        b"Content-Type: multipart/mixed; boundary=a\r\n\r\n"
        b"--a\r\nContent-Type: text/plain\r\nContent-Disposition: attachment; filename=notes.txt\r\n\r\nnotes\r\n"
        b"--a\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\ninner\r\n"
        b"--a\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n"
        b"--b\r\n\r\nhello\r\n"
        b"--b\r\nContent-Type: multipart/related; boundary=c\r\n\r\n"
        b"--c\r\nContent-Type: text/html\r\n\r\n<p>hello\r\n--c--\r\n--b--\r\n--a--\r\n"
    )
    await developer.send("ann@example.org", content=content)
    [shown] = await developer.find()
    assert (shown["text"], shown["html"]) == ("hello", "<p>hello")
    assert [one["content_type"] for one in shown["attachments"]] == ["text/plain", "message/rfc822"]


async def test_each_recipient_is_a_message_of_its_own_newest_first(developer: _Developer) -> None:
    await developer.send("ann@example.org", "bob@example.org")
    assert [one["forward_path"] for one in await developer.find()] == ["bob@example.org", "ann@example.org"]


@pytest.mark.parametrize(
    ("search", "count"),
    [
        ("to=ANN@example.org", 1),
        ("to=ann", 0),
        ("to=carol@example.org", 0),
        ("from=me@there.example", 2),
        ("from=nobody@there.example", 0),
        ("subject=WELCOME", 1),
        (f"subject={quote('ä')}", 1),
        ("message_id=1@there.example", 1),
        (f"message_id={quote('<1@there.example>')}&to=bob@example.org", 0),
        ("to=&subject=", 2),
    ],
)
async def test_a_search_is_by_recipient_author_subject_and_message_id(
    developer: _Developer, search: str, count: int
) -> None:
    await developer.send("ann@example.org", content=LETTER)
    await developer.send("bob@example.org")
    assert len(await developer.find(search)) == count


async def test_a_search_is_continued_with_before_and_resumed_with_after(developer: _Developer) -> None:
    for number in range(5):
        await developer.send(f"{number}@example.org")
    answer: Any = (await developer.ask("/messages/?limit=2")).json()
    assert [one["forward_path"][0] for one in answer["messages"]] == ["4", "3"]
    assert answer["more"]
    older = await developer.find(f"limit=9&before={answer['messages'][-1]['id']}")
    assert [one["forward_path"][0] for one in older] == ["2", "1", "0"]
    assert await developer.find(f"after={answer['last_id']}") == []


async def test_a_request_waits_until_there_is_a_message_that_matches(developer: _Developer) -> None:
    found: list[dict[str, Any]] = []

    async def wait() -> None:
        found.extend(await developer.find("to=ann@example.org&timeout=60"))

    begun_at = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        await developer.send("bob@example.org")
        await trio.testing.wait_all_tasks_blocked()
        assert not found
        await developer.send("ann@example.org")
    assert [one["forward_path"] for one in found] == ["ann@example.org"]
    assert trio.current_time() - begun_at < 1


async def test_a_request_waits_for_as_many_as_it_says(developer: _Developer) -> None:
    await developer.send("ann@example.org")
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            assert len(await developer.find("count=3&timeout=60")) == 3

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        await developer.send("bob@example.org", "carol@example.org")


async def test_the_wait_ends_with_an_empty_list_when_its_time_is_up(developer: _Developer) -> None:
    await developer.send("ann@example.org")
    begun_at = trio.current_time()
    assert await developer.find("to=bob@example.org&timeout=7.5") == []
    assert trio.current_time() - begun_at == pytest.approx(7.5, abs=0.1)
    # What is there already is not waited for, and neither are older ones.
    assert await developer.find("to=bob@example.org&before=1&timeout=60") == []
    assert trio.current_time() - begun_at < 8


async def test_the_wait_ends_when_the_server_stops(developer: _Developer) -> None:
    begun_at = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(developer.find, "timeout=60")
        await trio.testing.wait_all_tasks_blocked()
        developer.running.server.stop()
    assert trio.current_time() - begun_at < 1


async def test_only_so_many_requests_wait(developer: _Developer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "MAX_WAITING", 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(developer.find, "timeout=60")
        await trio.testing.wait_all_tasks_blocked()
        assert (await developer.ask("/messages/?timeout=1")).status == 503
        assert (await developer.ask("/messages/")).status == 200
        await developer.send("ann@example.org")


@pytest.mark.parametrize(
    ("search", "name"),
    [
        ("timeout=soon", "timeout"),
        ("timeout=301", "timeout"),
        ("timeout=nan", "timeout"),
        ("timeout=-1", "timeout"),
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("count=21", "count"),
        ("after=-1", "after"),
        ("before=x", "before"),
        ("recipient=ann", "recipient"),
        ("to=a&to=b", "to"),
        ("to=%ff", "query"),
    ],
)
async def test_a_wrong_parameter_is_named(developer: _Developer, search: str, name: str) -> None:
    answer = await developer.ask(f"/messages/?{search}")
    assert answer.status == 400
    assert f"parameter '{name}'".encode() in answer.body


async def test_messages_are_deleted_one_by_one_and_all_at_once(developer: _Developer) -> None:
    await developer.send("ann@example.org", "bob@example.org", "carol@example.org")
    newest, *_ = await developer.find()
    assert (await developer.ask(newest["url"], "DELETE")).json() == {"deleted": 1}
    assert (await developer.ask(newest["url"], "DELETE")).status == 404
    assert (await developer.ask("/messages/", "DELETE")).json() == {"deleted": 2}
    assert await developer.find() == []
    # Ids go on, so that `after` keeps its meaning.
    await developer.send("ann@example.org")
    [later] = await developer.find(f"after={newest['id']}")
    assert later["id"] > newest["id"]


async def test_everything_is_forgotten_as_on_a_new_server(developer: _Developer) -> None:
    running = developer.running
    running.transport.answer(Reply.make(550, "5.1.1", "no such user"), Reply.make(451, "4.0.0", "later"))
    running.receiver.answer(*[500] * 20)
    rows = replace(ROWS, accounts=tuple(replace(one, outgoing_webhook=Webhook("http://app/")) for one in ROWS.accounts))
    await running.change(rows)
    for address in ("nobody@there.example", "later@there.example"):
        client = running.connect("submission")
        await client.hello()
        await client.log_in("ann@here.example", PASSWORD)
        content = b"From: <ann@here.example>\r\n\r\nHello\r\n"
        assert (await client.send("ann@here.example", address, content)).code == 250
        await client.quit()
        await trio.sleep(1)

    def counts(transaction: Transaction) -> tuple[int, int, int]:
        lists, calls = transaction.suppressions.list(None), transaction.webhooks.list(CallFilter())
        return len(lists), len(calls), transaction.queue.count()

    assert await running.store.read(counts) == (1, 2, 1)
    assert (await developer.ask("/messages/?everything=no", "DELETE")).status == 400
    assert (await developer.ask("/messages/?everything=yes", "DELETE")).status == 200
    assert await running.store.read(counts) == (0, 0, 0)
    assert await developer.find() == []


@pytest.mark.parametrize("path", ["7", "7/raw", "7/parts/0", "x", "0", "7/parts/x", "7/parts", "99999999999999999999"])
async def test_what_is_not_there_is_not_found(developer: _Developer, path: str) -> None:
    assert (await developer.ask(f"/messages/{path}")).status == 404


async def test_other_methods_are_refused(developer: _Developer) -> None:
    assert (await developer.ask("/messages/", "POST")).status == 405


async def test_parts_are_inert_files_under_the_senders_name(developer: _Developer) -> None:
    await developer.send("ann@example.org", content=LETTER)
    [shown] = await developer.find()
    answer = await developer.ask(shown["attachments"][1]["url"])
    assert answer.body == b"<script>"
    assert answer.header["content-disposition"] == "attachment; filename*=UTF-8''%C3%A4%22%0D%0A.html"
    assert (await developer.ask(f"{shown['url']}/parts/99")).status == 404


async def test_long_text_is_cut_and_its_part_has_all_of_it(
    developer: _Developer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivered, "SHOWN_TEXT_OCTETS", 4)
    await developer.send("ann@example.org")
    [shown] = await developer.find()
    assert (shown["text"], shown["is_cut"]) == ("Hell", True)
    assert (await developer.ask(f"{shown['url']}/parts/0")).body == b"Hello\r\n"


async def test_a_large_message_has_its_header_in_the_second_chunk_and_is_found(developer: _Developer) -> None:
    content = LETTER + b"x" * 70 + b"\r\n" + b"y\r\n" * 200_000
    await developer.send("ann@example.org", content=content)
    [shown] = await developer.find("subject=welcome")
    assert (await developer.ask(shown["raw_url"])).body.endswith(content)


async def test_browsers_get_pages_and_what_strangers_wrote_is_escaped(developer: _Developer) -> None:
    content = LETTER.replace(b"Subject: =?utf-8?q?Welcome_=C3=A4?=", b"Subject: <script>alert(2)</script>")
    await developer.send("ann@example.org", content=content)
    [shown] = await developer.find()
    for path in ("/messages/", "/messages/?to=%22%3E%3Cscript%3E", shown["url"]):
        page = await developer.ask(path, accept="text/html")
        assert page.header["content-type"].startswith("text/html")
        assert page.body.count(b"<script>") == 1, "its own"
        assert b"<script>alert" not in page.body
    assert b'sandbox="allow-popups allow-popups-to-escape-sandbox"' in page.body
    assert f"src=&quot;{shown['attachments'][0]['url']}&quot;".encode() in page.body
    assert page.body.index("Hällo".encode()) < page.body.index(b"<iframe")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:1080", 200),
        ("127.0.0.1:1080", 200),
        ("[::1]:1080", 200),
        ("app.localhost", 200),
        ("evil.example:1080", 421),
        ("localhost.evil.example", 421),
    ],
)
async def test_a_name_that_somebody_pointed_to_this_machine_is_refused(
    developer: _Developer, host: str, status: int
) -> None:
    assert (await developer.ask("/messages/", host=host)).status == status


async def test_what_an_account_sent_itself_is_not_delivered_mail(developer: _Developer) -> None:
    await developer.send("ann@example.org")

    def copy_to_sent(transaction: Transaction) -> None:
        [placed] = transaction.folders.recent()
        message = placed.message
        transaction.folders.add_message(
            placed.account,
            "Sent",
            message.content_id,
            size_octets=message.size_octets,
            received_at=message.received_at,
        )

    await developer.running.store.write(copy_to_sent, key="account:ann")
    assert len(await developer.find()) == 1


def test_a_header_field_is_looked_up_in_any_case() -> None:
    fields: dict[str, Any] = dict.fromkeys(ShownMessage.__struct_fields__)
    shown = ShownMessage(**{**fields, "headers": (("X-One", "1"), ("x-one", "2"))})
    assert shown.header("x-ONE") == "1"
    assert shown.header("x-two") is None
