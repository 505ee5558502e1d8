"""``mailcrane queue dump`` writes the octets that a transport gets."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from msgspec.structs import replace

from mailcrane.admin.errors import AdminError
from mailcrane.admin.hold_rules import AddHoldRule, add_hold_rule
from mailcrane.admin.queue_changes import SetHold, set_hold
from mailcrane.admin.queue_dump import DumpHeader, DumpPiece, dump_header, dump_piece
from mailcrane.config.rows import DKIMKey
from mailcrane.message.dkim_keys import generate_key
from mailcrane.observe.secret import Secret
from mailcrane.testing import PASSWORD, ROWS, RunningServer, server

HEADER = b"From: ann@here.example\r\nSubject: news\r\n\r\n"


async def submit(running: RunningServer, content: bytes) -> None:
    client = running.connect("submission")
    await client.hello()
    await client.log_in("ann@here.example", PASSWORD)
    assert (await client.send("ann@here.example", "you@there.example", content)).code == 250
    await client.quit()
    await trio.testing.wait_all_tasks_blocked()


async def dumped(running: RunningServer, entry_id: int) -> tuple[bytes, bool]:
    administration = running.server.administration()
    head = await dump_header(administration, DumpHeader(entry_id))
    stored, piece = b"", 0
    while (octets := (await dump_piece(administration, DumpPiece(entry_id, piece))).octets) is not None:
        stored += octets
        piece += 1
    return head.header + stored[head.stored_offset :], head.is_made_now


@pytest.mark.parametrize("lines", [1, 20_000])
async def test_it_is_what_the_next_hop_gets(autojump_clock: trio.testing.MockClock, lines: int) -> None:
    content = HEADER + b"A line of thirty-two octets ....\r\n" * lines
    async with server() as running:
        administration = running.server.administration()
        await add_hold_rule(administration, AddHoldRule())
        await submit(running, content)
        octets, is_made_now = await dumped(running, 1)
        await set_hold(administration, SetHold(is_held=False, is_all=True))
        await trio.testing.wait_all_tasks_blocked()
        (delivered,) = running.transport.deliveries
        with pytest.raises(AdminError, match="it went when the entry left the queue"):
            await dumped(running, 1)
    assert octets == delivered.octets
    assert octets.endswith(content)
    assert not is_made_now


async def test_a_message_that_was_not_sent_yet_is_signed_for_the_dump_only(
    autojump_clock: trio.testing.MockClock,
) -> None:
    key = DKIMKey("here.example", "one", "ed25519", Secret(generate_key("ed25519")))
    async with server(rows=replace(ROWS, dkim_keys=(key,))) as running:
        await add_hold_rule(running.server.administration(), AddHoldRule())
        await submit(running, HEADER + b"Hello.\r\n")
        octets, is_made_now = await dumped(running, 1)
        (entry,) = await running.entries()
        kept = await running.store.read(lambda transaction: transaction.content.prepared(entry.content_id, ""))
    assert octets.startswith(b"DKIM-Signature: ")
    assert octets.endswith(b"\r\n\r\nHello.\r\n")
    assert (is_made_now, kept) == (True, None)
