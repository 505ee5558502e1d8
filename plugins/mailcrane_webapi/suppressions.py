"""The methods of the suppression list, each over the account's own list."""

from __future__ import annotations

from mailcrane.api import (
    AddressError,
    AlreadySuppressed,
    Identity,
    Mailbox,
    NotSuppressed,
    Suppression,
    SuppressionService,
)
from mailcrane_webapi import wire
from mailcrane_webapi.wire import APIError


async def list_suppressions(service: SuppressionService, identity: Identity) -> wire.SuppressionListResponse:
    """Return the account's whole list."""
    return wire.SuppressionListResponse([_on_the_wire(one) for one in await service.list(identity.account)])


async def add_suppression(
    service: SuppressionService, identity: Identity, request: wire.SuppressionAddRequest, *, is_again: bool = False
) -> wire.SuppressionAddResponse:
    """Put an address on the list.

    Args:
        is_again: The same call was begun before and came to no answer, so that its effect may be there already.

    Raises:
        APIError: ``badAddress``, or ``error`` for an address that is on it.
    """
    address = _parse(request.email_address)
    try:
        await service.add(identity.account, address, is_manual=bool(request.manual), reason=request.reason or "")
    except AlreadySuppressed:
        if not is_again:
            raise APIError("error", "the address is on the suppression list already") from None
    return wire.SuppressionAddResponse()


async def remove_suppression(
    service: SuppressionService, identity: Identity, request: wire.SuppressionRemoveRequest, *, is_again: bool = False
) -> wire.SuppressionRemoveResponse:
    """Take an address off the list.

    Args:
        is_again: See `add_suppression`.

    Raises:
        APIError: ``badAddress``, or ``error`` for an address that is not on it.
    """
    address = _parse(request.email_address)
    try:
        await service.remove(identity.account, address)
    except NotSuppressed:
        if not is_again:
            raise APIError("error", "the address is not on the suppression list") from None
    return wire.SuppressionRemoveResponse()


async def is_suppressed(
    service: SuppressionService, identity: Identity, request: wire.SuppressionPresentRequest
) -> wire.SuppressionPresentResponse:
    """Say whether an address is on the list.

    Raises:
        APIError: ``badAddress``.
    """
    return wire.SuppressionPresentResponse(await service.is_suppressed(identity.account, _parse(request.email_address)))


def _parse(address: str | None) -> Mailbox:
    try:
        return Mailbox.parse(address or "")
    except AddressError as error:
        raise APIError("badAddress", f"parsing address: {error}") from None


def _on_the_wire(one: Suppression) -> wire.SuppressedAddress:
    return wire.SuppressedAddress(
        one.id,
        # In the server's own offset, as every instant of the API.
        one.created_at.astimezone(),
        one.account,
        one.base_address,
        one.original_address,
        one.is_manual,
        one.reason,
    )
