"""What an operator should know of webhooks: calls that were given up, and webhooks that their receivers disabled."""

from __future__ import annotations

import trio

from mailcrane.observe import metrics
from mailcrane.observe.health import Health, State
from mailcrane.observe.log import get_log
from mailcrane.store.errors import StoreClosed, StoreError, StoreFailed
from mailcrane.store.store import Store
from mailcrane.store.transaction import Transaction
from mailcrane.webhook.disabled import DisabledWebhook, disabled_webhooks, is_still_disabled
from mailcrane.webhook.ending import DirectorySource
from mailcrane.webhook.targets import own_target

log = get_log(__name__)

TOPIC = "dead webhooks"

_TROUBLE_SECONDS = 5.0
_MAX_NAMED = 5

_dead = metrics.Gauge("mailcrane_webhook_dead_calls", "Webhook calls that were given up and not replayed since.")


def present_disabled(transaction: Transaction, directory: DirectorySource) -> tuple[DisabledWebhook, ...]:
    """Return the webhooks that are disabled now; those that were changed since are not."""
    return tuple(
        found
        for found in disabled_webhooks(transaction)
        if is_still_disabled(found, own_target(directory(), found.account, transaction.now))
    )


async def watch_trouble(store: Store, directory: DirectorySource, health: Health) -> None:
    """Keep health and metrics up to date until cancelled.

    That a receiver does not answer is no fault of the server, so health tells of it and stays well.
    """
    while True:
        seen = store.wakeups.version(TOPIC)
        try:
            count, disabled = await store.read(
                lambda transaction: (transaction.webhooks.count_dead(), present_disabled(transaction, directory))
            )
        except (StoreFailed, StoreClosed):
            raise
        except StoreError as error:
            log.error("webhooks cannot be watched", problem=str(error), again_in_seconds=_TROUBLE_SECONDS)
            await trio.sleep(_TROUBLE_SECONDS)
            continue
        _dead.set(count)
        health.set("webhooks", State.OK, _words(count, disabled), is_vital=False)
        await store.wakeups.wait(TOPIC, seen=seen)


def _words(count: int, disabled: tuple[DisabledWebhook, ...]) -> str:
    parts = []
    if count:
        calls = "1 call was" if count == 1 else f"{count} calls were"
        parts.append(f"{calls} given up: see `mailcrane queue webhook dead`")
    if disabled:
        names = ", ".join(one.account for one in disabled[:_MAX_NAMED])
        more = f" and {len(disabled) - _MAX_NAMED} more" if len(disabled) > _MAX_NAMED else ""
        parts.append(f"disabled by their receivers, of {names}{more}: see `mailcrane queue webhook disabled`")
    return "; ".join(parts)
