"""Webhooks whose receiver said that it is gone (410): remembered until the webhook is changed.

Kept as values of the core's own under the name of a plugin that cannot exist. What is remembered is a digest of the
account, the URL and the secrets: with a new URL or secret the webhook is another one.
"""

from __future__ import annotations

import hashlib

from mailcrane.model.webhook import WebhookTarget
from mailcrane.store.transaction import Transaction

_OWNER = "mailcrane.webhook"


def disable(transaction: Transaction, account: str, target: WebhookTarget) -> None:
    """Post no further events to a target."""
    transaction.plugin_data.set(_OWNER, _key(account, target), transaction.now.isoformat().encode())


def is_disabled(transaction: Transaction, account: str, target: WebhookTarget) -> bool:
    """Whether a target is not posted to any more."""
    # Only a receiver with a secret can disable, so that others cost no look-up.
    return bool(target.secrets) and transaction.plugin_data.get(_OWNER, _key(account, target)) is not None


def enable(transaction: Transaction, account: str, target: WebhookTarget) -> bool:
    """Post events to a target again, those that are recorded from now on; False when it was not disabled."""
    return transaction.plugin_data.delete(_OWNER, _key(account, target))


def _key(account: str, target: WebhookTarget) -> str:
    parts = "\x00".join((account, target.url, *target.secrets))
    return "disabled:" + hashlib.sha256(parts.encode("utf-8", "replace")).hexdigest()
