"""What concerns all leased rows at once. The leases themselves are columns of what is leased."""

from __future__ import annotations

from mailcrane.store.records import Worker
from mailcrane.store.repository.queue import QueueRepository
from mailcrane.store.repository.webhooks import WebhooksRepository


class LeasesRepository:
    """Leases over queue and webhooks."""

    def __init__(self, queue: QueueRepository, webhooks: WebhooksRepository) -> None:
        self._queue = queue
        self._webhooks = webhooks

    def release_dead_boots(self, worker: Worker) -> int:
        """End all leases of other boots of the worker's machine, at its start; returns how many.

        A machine's former boot cannot be alive any more: the database belongs to one server per machine.
        """
        return self._queue.release_boots(worker) + self._webhooks.release_boots(worker)
