"""Webhooks whose receiver said that it is gone (410): remembered until the webhook is changed or enabled again.

Kept as values of the core's own under the name of a plugin that cannot exist, one for an account and a URL. With
another URL or other secrets the webhook is another one.
"""

from __future__ import annotations

import functools
import hashlib
from datetime import datetime

import msgspec
from msgspec import Struct

from mailcrane.model.webhook import WebhookTarget
from mailcrane.store.transaction import Transaction

_OWNER = "mailcrane.webhook"
_PREFIX = "disabled:"


class DisabledWebhook(Struct, frozen=True):
    """A webhook that is not posted to any more.

    Attributes:
        secrets_digest: Of the secrets that were signed with.
        at: When the receiver said so.
    """

    account: str
    url: str
    secrets_digest: str
    at: datetime


_decode = msgspec.json.Decoder(DisabledWebhook).decode


def disable(transaction: Transaction, account: str, target: WebhookTarget) -> None:
    """Post no further events to a target."""
    value = DisabledWebhook(account, target.url, _digest(*target.secrets), transaction.now)
    transaction.plugin_data.set(_OWNER, _key(account, target.url), msgspec.json.encode(value))
    transaction.wake("dead webhooks")


def is_disabled(transaction: Transaction, account: str, target: WebhookTarget) -> bool:
    """Whether a target is not posted to any more."""
    # Only a receiver with a secret can disable, so that others cost no look-up.
    if not target.secrets:
        return False
    stored = transaction.plugin_data.get(_OWNER, _key(account, target.url))
    return stored is not None and _decode(stored).secrets_digest == _digest(*target.secrets)


def enable(transaction: Transaction, account: str, url: str) -> bool:
    """Post events to a URL again, those that are recorded from now on; False when it was not disabled."""
    transaction.wake("dead webhooks")
    return transaction.plugin_data.delete(_OWNER, _key(account, url))


def disabled_webhooks(transaction: Transaction) -> tuple[DisabledWebhook, ...]:
    """Return the webhooks that were disabled; one whose secrets were changed since is not disabled any more."""
    return tuple(_decode(value) for _, value in transaction.plugin_data.list(_OWNER, 0, prefix=_PREFIX))


def is_still_disabled(disabled: DisabledWebhook, target: WebhookTarget | None) -> bool:
    """Whether what was disabled is the webhook that the account has now, or is not known to be another one."""
    if target is None or target.url != disabled.url:
        return True
    return disabled.secrets_digest == _digest(*target.secrets)


def _key(account: str, url: str) -> str:
    return _PREFIX + _digest(account, url)


@functools.lru_cache(maxsize=1024)
def _digest(*parts: str) -> str:
    return hashlib.sha256("\x00".join(parts).encode("utf-8", "replace")).hexdigest()
