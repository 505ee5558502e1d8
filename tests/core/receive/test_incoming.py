"""Messages that servers hand over, with plugins that have their say."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from mailcrane.message.scanner import scan
from mailcrane.model.message import HeaderField
from mailcrane.model.receive import Assessment, Judgement, Placement, ReceivedMessage, Verdict
from mailcrane.model.reply import Reply
from mailcrane.plugin.base import Plugin
from mailcrane.plugin.policy import hookimpl
from mailcrane.receive.content import moved
from mailcrane.store.errors import DiskFull
from mailcrane.testing.in_memory import RunningServer, server

MESSAGE = b"From: <you@there.example>\r\nSubject: hi\r\n\r\nHello.\r\n"


class Filter(Plugin):
    """Does as the subject of a message says."""

    name = "filter"

    @hookimpl
    async def assess_message(self, message: ReceivedMessage) -> list[Assessment]:
        return [Assessment("subject", message.content.header.rpartition(b"Subject: ")[2].strip().decode())]

    @hookimpl
    async def judge_message(self, recipient: Any, assessments: Any) -> Judgement | None:
        word = next((one.result for one in assessments), "")
        if recipient.destination.account == "bob" and word.startswith("bob"):
            word = word.removeprefix("bob ")
        if word == "refuse":
            return Judgement(Verdict.REFUSE, "test", Reply.make(554, "5.7.9", "no"))
        if word == "defer":
            return Judgement(Verdict.DEFER, "test")
        if word == "junk":
            return Judgement(Verdict.QUARANTINE, "test")
        if word == "bug":
            raise RuntimeError("a bug")
        return None

    @hookimpl
    async def add_header_fields(self, assessments: Any) -> list[HeaderField]:
        return [HeaderField("X-Subject", assessments[0].result), HeaderField("X-Bad", "1\r\nBcc: all@there.example")]

    @hookimpl
    async def place_message(self, recipient: Any, judgement: Judgement) -> Placement | None:
        if recipient.forward_path.local_part.endswith("+list"):
            return Placement("Lists", ("\\Seen",), ("$list",))
        return None


async def send(running: RunningServer, subject: str, *forward_paths: str) -> Reply:
    # Strangers give one recipient in a transaction.
    client = running.connect("relay" if len(forward_paths) > 1 else "smtp")
    await client.hello()
    content = MESSAGE.replace(b"hi", subject.encode())
    return await client.send("you@there.example", list(forward_paths or ("ann@here.example",)), content)


async def test_an_accepted_message_has_the_fields_that_plugins_add(autojump_clock: trio.testing.MockClock) -> None:
    async with server(Filter) as running:
        assert (await send(running, "hello")).code == 250
        (octets,) = await running.read("ann")
    assert b"\r\nX-Subject: hello\r\nFrom:" in octets
    assert b"Bcc" not in octets


async def test_a_plugin_places_a_message(autojump_clock: trio.testing.MockClock) -> None:
    async with server(Filter) as running:
        assert (await send(running, "hello", "ann+list@here.example")).code == 250
        (message,) = await running.store.read(lambda transaction: transaction.folders.messages("ann", "Lists"))
    assert message.flags == ("\\Seen",)
    assert message.keywords == ("$list",)


async def test_quarantine_goes_to_its_folder(autojump_clock: trio.testing.MockClock) -> None:
    async with server(Filter) as running:
        assert (await send(running, "junk")).code == 250
        assert len(await running.read("ann", "Junk")) == 1


@pytest.mark.parametrize(("subject", "code"), [("refuse", 554), ("defer", 451), ("bug", 451)])
async def test_what_is_not_accepted_is_answered_so_and_not_stored(
    subject: str, code: int, autojump_clock: trio.testing.MockClock
) -> None:
    async with server(Filter) as running:
        assert (await send(running, subject)).code == code
        assert await running.read("ann") == []
        assert (await send(running, "hello")).code == 250


@pytest.mark.parametrize(("subject", "code"), [("bob refuse", 554), ("bob defer", 451)])
async def test_one_reply_for_different_outcomes_is_true_for_everybody(
    subject: str, code: int, autojump_clock: trio.testing.MockClock
) -> None:
    async with server(Filter) as running:
        assert (await send(running, subject, "ann@here.example", "bob@here.example")).code == code
        assert await running.read("ann") == []
        assert await running.read("bob") == []


async def test_each_recipient_gets_a_message_and_content_is_stored_once(autojump_clock: trio.testing.MockClock) -> None:
    async with server() as running:
        assert (await send(running, "hello", "ann@here.example", "bob@here.example", "bob+x@here.example")).code == 250
        messages = await running.store.read(
            lambda transaction: [
                *transaction.folders.messages("ann", "Inbox"),
                *transaction.folders.messages("bob", "Inbox"),
            ]
        )
        (event,) = await running.events("ann")
    assert len(messages) == 3
    assert len({message.content_id for message in messages}) == 1
    assert event.data == {
        "message_id": "",
        "folder": "Inbox",
        "uid": 1,
        "size_octets": messages[0].size_octets,
        "reverse_path": "you@there.example",
    }


@pytest.mark.parametrize(
    ("error", "code", "enhanced"), [(DiskFull("full"), 452, "4.3.1"), (RuntimeError("a bug"), 451, "4.3.0")]
)
async def test_our_own_fault_is_transient(
    error: Exception,
    code: int,
    enhanced: str,
    autojump_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise error

    async with server() as running:
        with monkeypatch.context() as patch:
            patch.setattr(running.store, "write", fail)
            reply = await send(running, "hello")
        assert (reply.code, reply.enhanced_status_code) == (code, enhanced)
        assert (await send(running, "hello")).code == 250


def test_the_structure_of_staged_content_is_moved_behind_the_trace_fields() -> None:
    message = (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\none\r\n--b\r\n"
        b"Content-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\ntwo\r\n--b--\r\n"
    )
    prefix = b"Received: from here\r\n"
    assert moved(scan(message), len(prefix)) == scan(prefix + message)
