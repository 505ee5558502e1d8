"""Operations on the signing secrets of an account's webhook: rotate, list, remove.

Rotating puts a new secret first; the one before signs beside it for a while, so that the receiver can go over at any
moment in between without refusing a call.
"""

from __future__ import annotations

import base64
import hashlib
import secrets as random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import replace

from mailcrane.admin.administration import Administration
from mailcrane.admin.errors import AdminError
from mailcrane.admin.time_filter import parse_duration
from mailcrane.config.rows import Configuration, RetiringSecret, Webhook
from mailcrane.observe.secret import NO_SECRET, Secret

_SECRET_OCTETS = 32
_KEPT_FOR = "48h"


class RotateSecret(Struct, frozen=True, forbid_unknown_fields=True):
    """Sign with a new secret, and with those before for a while."""

    account: Annotated[str, Meta(description="Name of the account.")]
    keep_for: Annotated[str, Meta(description="How long earlier secrets sign as well; `0` ends them now.")] = _KEPT_FOR
    secret: Annotated[Secret, Meta(description="The new secret; one is made when it is empty.")] = NO_SECRET


class ListSecrets(Struct, frozen=True, forbid_unknown_fields=True):
    """List the secrets of an account's webhook."""

    account: Annotated[str, Meta(description="Name of the account.")]


class RemoveSecrets(Struct, frozen=True, forbid_unknown_fields=True):
    """Sign no longer with a secret, or with all but the newest."""

    account: Annotated[str, Meta(description="Name of the account.")]
    fingerprint: Annotated[str, Meta(description="Of the secret; empty removes all but the newest.")] = ""


class SecretRotated(Struct, frozen=True):
    """The new secret, which is told this once. `kept_until` is None when no earlier one signs."""

    secret: Secret
    fingerprint: str
    kept_until: datetime | None


class SecretRow(Struct, frozen=True):
    """A secret.

    Attributes:
        fingerprint: The beginning of the SHA-256 of its text, in hexadecimal.
        until: When it signs no longer; None for never.
    """

    fingerprint: str
    until: datetime | None


class SecretList(Struct, frozen=True):
    """The secrets that sign now, the newest first."""

    url: str
    secrets: tuple[SecretRow, ...]


class SecretsRemoved(Struct, frozen=True):
    """The fingerprints of the secrets that were removed."""

    fingerprints: tuple[str, ...]


async def rotate_secret(administration: Administration, request: RotateSecret) -> SecretRotated:
    """Put a new secret in front; calls that are queued are signed with it, too."""
    keep = parse_duration(request.keep_for)
    if keep < timedelta(0):
        raise AdminError("bad_value", f'"{request.keep_for}" is before now')
    new = request.secret or _make_secret()
    now = await administration.store.read(lambda transaction: transaction.now)
    until = now + keep

    def edit(webhook: Webhook) -> Webhook:
        if new in webhook.secrets:
            raise AdminError("exists", "that is the present secret")
        old = [RetiringSecret(secret, until) for secret in webhook.secrets] if keep else []
        still = [
            RetiringSecret(one.secret, min(one.until, until)) for one in webhook.retiring_secrets if one.until > now
        ]
        return replace(webhook, secrets=(new,), retiring_secrets=(*old, *(still if keep else ())))

    changed = await _change(administration, "webhook_secret_rotate", request.account, edit)
    return SecretRotated(new, fingerprint_of(new), until if changed.retiring_secrets else None)


async def list_secrets(administration: Administration, request: ListSecrets) -> SecretList:
    """List the secrets that sign now, the newest first, by their fingerprints."""
    webhook = _webhook(await administration.configuration(), request.account)
    now = await administration.store.read(lambda transaction: transaction.now)
    rows = [SecretRow(fingerprint_of(secret), None) for secret in webhook.secrets]
    rows += [SecretRow(fingerprint_of(one.secret), one.until) for one in webhook.retiring_secrets if one.until > now]
    return SecretList(webhook.url, tuple(rows))


async def remove_secrets(administration: Administration, request: RemoveSecrets) -> SecretsRemoved:
    """Remove a secret, or all but the newest; those whose time is over go as well."""
    removed: list[str] = []

    def edit(webhook: Webhook) -> Webhook:
        def is_kept(secret: Secret) -> bool:
            if request.fingerprint:
                return fingerprint_of(secret) != request.fingerprint
            return secret == webhook.secrets[0] if webhook.secrets else False

        kept = tuple(secret for secret in webhook.secrets if is_kept(secret))
        retiring = tuple(one for one in webhook.retiring_secrets if is_kept(one.secret))
        left = {fingerprint_of(secret) for secret in (*kept, *(one.secret for one in retiring))}
        all_secrets = (*webhook.secrets, *(one.secret for one in webhook.retiring_secrets))
        removed[:] = [mark for mark in map(fingerprint_of, all_secrets) if mark not in left]
        if not removed and request.fingerprint:
            raise AdminError(
                "not_found",
                f'there is no secret "{request.fingerprint}"; `mailcrane webhook secret list` shows them',
            )
        return replace(webhook, secrets=kept, retiring_secrets=retiring)

    await _change(administration, "webhook_secret_remove", request.account, edit)
    return SecretsRemoved(tuple(removed))


def fingerprint_of(secret: Secret) -> str:
    """Return what a secret is called where it is not to be seen."""
    return hashlib.sha256(secret.reveal().encode()).hexdigest()[:12]


def _make_secret() -> Secret:
    return Secret("whsec_" + base64.b64encode(random.token_bytes(_SECRET_OCTETS)).decode())


def _webhook(configuration: Configuration, account: str) -> Webhook:
    known = next((one for one in configuration.accounts if one.name == account), None)
    if known is None:
        raise AdminError("not_found", f'there is no account "{account}"')
    if known.outgoing_webhook is None:
        raise AdminError("not_found", f'account "{account}" has no webhook')
    return known.outgoing_webhook


async def _change(
    administration: Administration, operation: str, account: str, edit: Callable[[Webhook], Webhook]
) -> Webhook:
    def edit_all(configuration: Configuration) -> Configuration:
        webhook = edit(_webhook(configuration, account))
        accounts = tuple(
            replace(one, outgoing_webhook=webhook) if one.name == account else one for one in configuration.accounts
        )
        return replace(configuration, accounts=accounts)

    return _webhook(await administration.change(operation, edit_all), account)
