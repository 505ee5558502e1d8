"""Where an account's own events go, and what its calls are signed with at a moment."""

from __future__ import annotations

from datetime import datetime

import msgspec

from mailcrane.config.directory import Directory
from mailcrane.config.rows import Webhook
from mailcrane.model.webhook import WebhookCall, WebhookTarget


def own_target(directory: Directory, account: str, at: datetime) -> WebhookTarget | None:
    """Return the target that an account has configured, with the secrets of a moment; None without one."""
    known = directory.account(account)
    webhook = None if known is None else known.outgoing_webhook
    if webhook is None:
        return None
    return WebhookTarget(
        webhook.url,
        webhook.authorization.reveal(),
        signing_secrets(webhook, at),
        webhook.events,
        webhook.mode,
    )


def signing_secrets(webhook: Webhook, at: datetime) -> tuple[str, ...]:
    """Return the secrets that a webhook signs with, the newest first: its own, and retiring ones until their time."""
    retiring = (old.secret for old in webhook.retiring_secrets if old.until > at)
    return tuple(secret.reveal() for secret in (*webhook.secrets, *retiring))


def with_present_secrets(call: WebhookCall, directory: Directory, at: datetime) -> WebhookCall:
    """Return a call that is signed with what its account signs with now, not with what it did when it was queued.

    A call may wait for a day and more, and its receiver may have gone over to another secret since. Where the account
    posts somewhere else by now, or the target is a plugin's, what was queued stays.
    """
    own = own_target(directory, call.account, at)
    if own is None or own.url != call.target.url or own.secrets == call.target.secrets:
        return call
    return msgspec.structs.replace(call, target=msgspec.structs.replace(call.target, secrets=own.secrets))
