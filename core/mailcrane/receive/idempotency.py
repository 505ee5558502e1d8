"""Claims of keys for calls that an application may repeat, over the store, so that they hold across restarts.

A claim is a row with a lease. The work commits together with its result (`mailcrane.receive.submission`), so after a
crash either both are there or neither. A call that finds the key claimed waits for the other's end.
"""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from typing import Final

import trio

from mailcrane.model.clock import Clock
from mailcrane.model.idempotency import Claim, KeyInUse, Remembered
from mailcrane.observe.log import get_log
from mailcrane.store.errors import StoreError
from mailcrane.store.records import Worker
from mailcrane.store.repository.idempotency import TOPIC, UnderWay
from mailcrane.store.store import Store
from mailcrane.store.transaction import Transaction

log = get_log(__name__)

WAIT_SECONDS: Final = 30.0
# Longer than a call takes. One that takes longer still finds its claim lost when it commits, and stores nothing.
_LEASE: Final = timedelta(minutes=5)
# Another process cannot wake us.
_LOOK_AGAIN_SECONDS: Final = 1.0
_RELEASE_SECONDS: Final = 5.0
_LONGEST_RETRY_SECONDS: Final = 30


class IdempotencyKeys:
    """Implements `mailcrane.model.idempotency.IdempotencyService`.

    Args:
        worker: Who claims.
        clock: The server's.
    """

    def __init__(self, store: Store, *, worker: Worker, clock: Clock) -> None:
        self._store = store
        self._worker = worker
        self._clock = clock

    async def free_dead(self) -> int:
        """End the leases of this machine's earlier boots; returns how many. To be called before calls are taken."""
        worker = self._worker
        return await self._store.write(lambda transaction: transaction.idempotency.free(worker), key="idempotency")

    async def claim(self, account: str, key: str, fingerprint: bytes) -> Claim | Remembered:
        """Claim a key, or return what is remembered; waits up to 30 s for a call that is under way.

        Raises:
            KeyReused: the key has another fingerprint.
            KeyInUse: the call under way did not end in time.
        """
        token = secrets.token_hex(16)
        deadline = trio.current_time() + WAIT_SECONDS

        def claim(transaction: Transaction) -> Claim | Remembered | UnderWay:
            return transaction.idempotency.claim(
                account, key, fingerprint, token=token, lease=_LEASE, worker=self._worker
            )

        while True:
            seen = self._store.wakeups.version(TOPIC)
            try:
                found = await self._store.write(claim, key=f"account:{account}")
            except trio.Cancelled:
                # The unit may be committed all the same.
                await self.release(Claim(account, key, token))
                raise
            if not isinstance(found, UnderWay):
                return found
            if trio.current_time() >= deadline:
                raise KeyInUse(self._retry_after(found.until))
            with trio.move_on_at(min(deadline, trio.current_time() + _LOOK_AGAIN_SECONDS)):
                await self._store.wakeups.wait(TOPIC, seen=seen)

    async def complete(self, claim: Claim, result: bytes) -> None:
        """Remember a result for 24 hours.

        Raises:
            ClaimLost: it is another's by now.
        """
        await self._store.write(
            lambda transaction: transaction.idempotency.complete(claim, result), key=f"account:{claim.account}"
        )

    async def release(self, claim: Claim) -> None:
        """Forget a claim whose call failed, also where the caller is cancelled; a result that is stored stays."""
        try:
            with trio.move_on_after(_RELEASE_SECONDS, shield=True):
                await self._store.write(
                    lambda transaction: transaction.idempotency.release(claim), key=f"account:{claim.account}"
                )
        except StoreError as error:
            # The end of the lease does the same, later.
            log.warning("a claim could not be released", account=claim.account, problem=str(error))

    def _retry_after(self, until: datetime) -> int:
        seconds = (until - self._clock.now()).total_seconds()
        return max(1, min(_LONGEST_RETRY_SECONDS, round(seconds)))
