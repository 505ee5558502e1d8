"""Carries out calls, once for each idempotency key.

A call with a key claims it first. Send commits the claim's end together with the message; the other methods store it
right after their work, and a call that takes over from one that died between the two finds the work done.
"""

from __future__ import annotations

from typing import cast

import msgspec
from msgspec import Struct

from mailcrane.api import (
    Claim,
    ClaimLost,
    Identity,
    KeyInUse,
    KeyReused,
    PluginContext,
    Remembered,
    SessionInfo,
    SubmissionAccepted,
)
from mailcrane_webapi import suppressions, wire
from mailcrane_webapi.form import Form
from mailcrane_webapi.keys import fingerprint
from mailcrane_webapi.methods import Method
from mailcrane_webapi.send import Sender, send_response
from mailcrane_webapi.wire import APIError, encode

_LOST_RETRY_SECONDS = 5

_accepted_decoder = msgspec.json.Decoder(SubmissionAccepted)


class Call(Struct, frozen=True):
    """One call, checked as far as its JSON goes.

    Attributes:
        request: Of the type that the method takes.
        key: Empty for none.
    """

    session: SessionInfo
    identity: Identity
    method: Method
    request: Struct
    form: Form
    key: str = ""


class Calls:
    """Carries out the methods."""

    def __init__(self, context: PluginContext, *, max_message_octets: int) -> None:
        self._context = context
        self._sender = Sender(context, max_message_octets=max_message_octets)

    async def answer(self, call: Call) -> bytes:
        """Carry out a call, or find what an equal one was answered; returns the body of the response.

        Raises:
            APIError: nothing was done, save with the code ``sentOverQuota``.
        """
        if not call.key or call.method.is_reading:
            return encode(await self._carry_out(call, None))
        claim = await self._claim(call)
        if isinstance(claim, Remembered):
            self._context.log.info("call answered as before", session=call.session.id, account=call.identity.account)
            return _again(call, claim)
        try:
            response = await self._carry_out(call, claim)
            body = encode(response)
            if call.method.name != "Send":
                await self._context.idempotency.complete(claim, body)
            return body
        except ClaimLost:
            raise APIError(
                "idempotencyKeyInUse",
                "another call with this key has taken over from this one",
                status=409,
                retry_after_seconds=_LOST_RETRY_SECONDS,
            ) from None
        except BaseException:
            # It failed, so it may be tried again; what was committed with its result stays.
            await self._context.idempotency.release(claim)
            raise

    async def _claim(self, call: Call) -> Claim | Remembered:
        if call.form.is_large:
            known_by = await self._context.run_in_thread(fingerprint, call.method, call.request, call.form)
        else:
            known_by = fingerprint(call.method, call.request, call.form)
        try:
            return await self._context.idempotency.claim(call.identity.account, call.key, known_by)
        except KeyReused:
            raise APIError("idempotencyKeyReused", "this key was used for another request", status=409) from None
        except KeyInUse as error:
            raise APIError(
                "idempotencyKeyInUse",
                "a call with this key is under way",
                status=409,
                retry_after_seconds=error.retry_after_seconds,
            ) from None

    async def _carry_out(self, call: Call, claim: Claim | None) -> Struct:
        identity = call.identity
        is_again = claim is not None and claim.is_again
        match call.request:
            case wire.SendRequest() as request:
                return await self._sender.send(call.session, identity, request, call.form, claim)
            case wire.SuppressionListRequest():
                return await suppressions.list_suppressions(self._context.suppressions, identity)
            case wire.SuppressionAddRequest() as request:
                return await suppressions.add_suppression(
                    self._context.suppressions, identity, request, is_again=is_again
                )
            case wire.SuppressionRemoveRequest() as request:
                return await suppressions.remove_suppression(
                    self._context.suppressions, identity, request, is_again=is_again
                )
            case wire.SuppressionPresentRequest() as request:
                return await suppressions.is_suppressed(self._context.suppressions, identity, request)
        raise AssertionError(f"{call.method.name} is listed, and nobody carries it out")


def _again(call: Call, remembered: Remembered) -> bytes:
    if call.method.name != "Send":
        return remembered.result
    # The requests are equal, so the answer is made of the same things.
    accepted = _accepted_decoder.decode(remembered.result)
    return encode(send_response(cast(wire.SendRequest, call.request), accepted))
