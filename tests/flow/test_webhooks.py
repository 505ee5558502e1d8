"""From a submitted message to the webhook that tells what became of it."""

from __future__ import annotations

import trio
import trio.testing
from msgspec.structs import replace

from mailcrane.config.rows import Webhook
from mailcrane.model.reply import Reply
from mailcrane.testing.in_memory import PASSWORD, ROWS, RunningServer, server

URL = "https://hooks.there.example/mail"
WITH_WEBHOOK = replace(ROWS, accounts=(replace(ROWS.accounts[0], outgoing_webhook=Webhook(URL)), *ROWS.accounts[1:]))
CONTENT = b"From: ann@here.example\r\nSubject: news\r\nX-Mox-Extra-Order: 17\r\n\r\nHello.\r\n"


async def submit(running: RunningServer) -> None:
    client = running.connect("submission")
    await client.hello()
    await client.log_in("ann@here.example", PASSWORD)
    assert (await client.send("ann@here.example", "you@there.example", CONTENT)).code == 250
    await client.quit()


async def test_a_delivered_message_is_told_of(autojump_clock: trio.testing.MockClock) -> None:
    async with server(rows=WITH_WEBHOOK) as running:
        await submit(running)
        await trio.sleep(10)
        (call,) = running.receiver.calls
    assert call.url == URL
    assert call.header["X-Mox-Webhook-Attempt"] == "1"
    payload = call.payload
    assert (payload["Event"], payload["Subject"], payload["Extra"]) == ("delivered", "news", {"Order": "17"})


async def test_a_delay_and_a_failure_are_told_of(autojump_clock: trio.testing.MockClock) -> None:
    async with server(rows=WITH_WEBHOOK) as running:
        running.transport.answer(Reply.make(451, "4.7.1", "come back later"), Reply.make(550, "5.1.1", "no such user"))
        await submit(running)
        await trio.sleep(3600)
        told = [call.payload for call in running.receiver.calls]
    assert [payload["Event"] for payload in told] == ["delayed", "failed"]
    assert (told[1]["SMTPCode"], told[1]["SMTPEnhancedCode"]) == (550, "5.1.1")


async def test_a_receiver_that_is_away_is_called_again(autojump_clock: trio.testing.MockClock) -> None:
    async with server(rows=WITH_WEBHOOK) as running:
        running.receiver.answer(0, 503)
        await submit(running)
        await trio.sleep(600)
        attempts = [call.header["X-Mox-Webhook-Attempt"] for call in running.receiver.calls]
    assert attempts == ["1", "2", "3"]
