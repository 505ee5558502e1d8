"""What the store takes only after a long while: longer than leases last, and across crashes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import trio

from mailcrane.model.delivery import Outcome, RecipientResult
from mailcrane.model.event import EventKind
from mailcrane.model.reply import Reply

DEFERRED = RecipientResult.from_reply(Reply.make(451, "4.3.0", "later"))
REFUSED = RecipientResult.from_reply(Reply.make(550, "5.1.1", "nobody"))


@pytest.mark.parametrize("result", [RecipientResult(Outcome.DELIVERED), REFUSED], ids=["delivered", "refused"])
async def test_a_disk_that_is_full_for_longer_than_a_lease_delivers_nothing_again(
    world: Any, result: RecipientResult
) -> None:
    """The next attempt would be due by then, and the lease of the one that was made is over."""
    free_at = world.clock.now() + timedelta(minutes=31)

    def fail(keys: object) -> None:
        if world.transport.deliveries and world.clock.now() < free_at:
            raise OSError("no space")

    world.faults.before_commit = fail
    world.transport.acts = [result]
    [entry_id] = await world.queue()
    await world.run_for(minutes=60)
    assert len(world.transport.deliveries) == 1
    assert await world.entry(entry_id) is None


async def notices(world: Any) -> int:
    return len(await world.events(EventKind.MESSAGE_STORED))


async def test_the_sender_is_told_once_that_it_takes_long(world: Any) -> None:
    world.transport.acts = [DEFERRED] * 7
    await world.queue()
    await world.run_for(minutes=110)
    assert (len(world.transport.deliveries), await notices(world)) == (4, 0)
    await world.run_for("second", minutes=900)
    assert (len(world.transport.deliveries), await notices(world)) == (8, 1)


async def test_a_crash_in_the_attempt_after_which_the_sender_is_told_puts_that_off_to_the_next(world: Any) -> None:
    async def hang(delivery: Any) -> Any:
        await trio.sleep_forever()

    world.transport.acts = [*[DEFERRED] * 4, hang, DEFERRED, DEFERRED]
    await world.queue()
    await world.run_for(minutes=130)
    assert (len(world.transport.deliveries), await notices(world)) == (5, 0)
    await world.run_for("second", minutes=260)
    assert (len(world.transport.deliveries), await notices(world)) == (6, 1)
    await world.run_for("third", minutes=900)
    assert (len(world.transport.deliveries), await notices(world)) == (8, 1)
