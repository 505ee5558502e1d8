"""The code of ``docs/how-to/receive-webhooks.md`` verifies what a server posts."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from msgspec.structs import replace
from standardwebhooks import WebhookVerificationError

import mailcrane
from mailcrane.config.rows import Webhook
from mailcrane.observe.secret import Secret
from mailcrane.testing import PASSWORD, ROWS, server
from mailcrane.testing.receiver import Posted
from mailcrane.webhook.signature import signature_headers

PAGE = Path(mailcrane.__file__).parents[2] / "docs" / "how-to" / "receive-webhooks.md"
OLD, NEW = ("whsec_" + text * 8 for text in ("b2xk", "bmV3"))
ACCOUNT = replace(
    ROWS.accounts[0], outgoing_webhook=Webhook("https://shop.example/", secrets=(Secret(NEW), Secret(OLD)))
)
CONTENT = b"From: ann@here.example\r\nSubject: <news>\r\n\r\nHello.\r\n"


@pytest.fixture
def code() -> dict[str, Any]:
    """Run the code blocks of the page and return what they define."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 2
    names: dict[str, Any] = {"SECRET": OLD}
    for block in blocks:
        exec(compile(block, PAGE.name, "exec"), names)
    return names


async def posted() -> Posted:
    async with server(rows=replace(ROWS, accounts=(ACCOUNT, *ROWS.accounts[1:]))) as running:
        client = running.connect("submission")
        await client.hello()
        await client.log_in("ann@here.example", PASSWORD)
        assert (await client.send("ann@here.example", "you@there.example", CONTENT)).code == 250
        await client.quit()
        await trio.sleep(10)
        (call,) = running.receiver.calls
    return call


async def test_both_ways_to_verify_take_a_call_during_an_overlap(
    code: dict[str, Any], autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = await posted()
    monkeypatch.setattr(time, "time", lambda: float(call.header["webhook-timestamp"]))
    for secret in (OLD, NEW):
        assert code["is_signed"](call.body, call.header, secret)
    assert not code["is_signed"](call.body + b" ", call.header, OLD)
    assert not code["is_signed"](call.body, call.header, "whsec_" + "b3Ro" * 8)
    # The library reads the clock of the machine, not that of the test: the same body is signed as of now.
    fresh = call.header | signature_headers(call.header["webhook-id"], call.body, (NEW, OLD), at=datetime.now(UTC))
    assert code["receive"](call.body, fresh)["Subject"] == "<news>"
    with pytest.raises(WebhookVerificationError):
        code["receive"](call.body + b" ", fresh)


async def test_an_old_call_is_not_taken(code: dict[str, Any], autojump_clock: trio.testing.MockClock) -> None:
    call = await posted()
    old = str(int(time.time()) - 301)
    assert not code["is_signed"](call.body, call.header | {"webhook-timestamp": old}, OLD)
    # What a stranger may post is refused, not an error of the receiver's.
    assert not code["is_signed"](call.body, {}, OLD)
    assert not code["is_signed"](call.body, call.header | {"webhook-signature": "v1,é"}, OLD)
    assert not code["is_signed"](call.body, call.header | {"webhook-timestamp": "soon"}, OLD)
