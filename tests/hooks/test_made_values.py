"""Made-up values: sensible without a word, and every field can be said."""

from __future__ import annotations

from mailcrane.model.address import Mailbox
from mailcrane.model.receive import LocalDestination
from mailcrane.testing import made_entry, made_message, made_retired, made_suppression


async def test_a_made_message_has_the_recipients_and_octets_that_are_said() -> None:
    message = made_message("ann@here.example", "bob@here.example", octets=b"Subject: hi\r\n\r\n", transaction=7)
    assert [one.destination for one in message.recipients] == [LocalDestination("ann"), LocalDestination("bob")]
    assert b"".join([chunk async for chunk in message.content.chunks()]) == b"Subject: hi\r\n\r\n"
    assert message.transaction == 7


def test_a_made_retired_entry_tells_of_its_entry() -> None:
    entry = made_entry("ann@there.example", id=5)
    retired = made_retired(entry, event="failed", is_success=False)
    assert (retired.entry.id, retired.event, retired.is_success) == (5, "failed", False)
    assert made_retired().attempts[0].result is not None


def test_a_made_suppression_has_the_base_of_its_address() -> None:
    suppression = made_suppression("Ann+news@there.example", reason="moved")
    assert suppression.base_address == "ann@there.example"
    assert Mailbox.parse(suppression.original_address) == Mailbox.parse("Ann+news@there.example")
    assert suppression.reason == "moved"
