"""Results of calls that the store takes only after longer than a lease."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import trio


async def test_a_disk_that_is_full_for_longer_than_a_lease_posts_nothing_again(world: Any) -> None:
    free_at = world.clock.now() + timedelta(minutes=31)

    def fail(keys: object) -> None:
        if world.client.posted and world.clock.now() < free_at:
            raise OSError("no space")

    world.faults.before_commit = fail
    await world.record()
    await world.run_for(minutes=60)
    assert len(world.client.posted) == 1
    assert await world.queued() == []
    (retired,) = await world.retired()
    assert retired.is_success


async def test_a_call_that_is_due_again_before_its_end_is_noted_is_made_again(world: Any) -> None:
    async def lose_lease() -> int:
        """As another process may, which takes what it finds for left behind."""
        await world.store.write(lambda tx: tx.webhooks.release_boots(world.make_caller("other")._worker), key="x")
        await world.store.write(lambda tx: tx.webhooks.reschedule(1, tx.now), key="x")
        await trio.sleep(2)
        return 200

    world.client.acts = [lose_lease]
    await world.record(entry_id=0)
    async with world.running() as caller:
        await trio.sleep(60)
        assert caller.under_way == 0
    assert world.client.attempts == [("1", "1"), ("1", "2")]
    assert await world.queued() == []
