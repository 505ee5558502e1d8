"""Writing what must not be lost, however long the store cannot take it.

What a transport or the receiver of a webhook answered is known nowhere else: dropping it because the disk is full for
a minute would deliver the message, or post the call, again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import trio

from mailcrane.observe.log import get_log
from mailcrane.store.errors import CommitFailed, DiskFull
from mailcrane.store.store import Store
from mailcrane.store.transaction import Transaction

T = TypeVar("T")

log = get_log(__name__)

_FIRST_WAIT_SECONDS = 1.0
_LONGEST_WAIT_SECONDS = 60.0
_COMMIT_SECONDS = 60.0


async def write_persistently(store: Store, unit: Callable[[Transaction], T], *, key: str) -> T:
    """Write a unit, again and again while the store cannot take it (a full disk, a failed commit).

    Raises:
        StoreFailed, StoreClosed: the store will not take anything any more.
    """
    wait = _FIRST_WAIT_SECONDS
    while True:
        try:
            # Shielded, so that a server that stops does not forget what it was told last.
            with trio.move_on_after(_COMMIT_SECONDS, shield=True):
                return await store.write(unit, key=key)
            log.error("the store does not answer", again_in_seconds=wait)
        except (DiskFull, CommitFailed) as error:
            log.error("cannot be stored yet", problem=str(error), again_in_seconds=wait)
        await trio.sleep(wait)
        wait = min(2 * wait, _LONGEST_WAIT_SECONDS)
