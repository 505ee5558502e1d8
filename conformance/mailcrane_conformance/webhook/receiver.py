"""What an application that receives webhooks must do: the kit calls it as the server does, and as others might.

A receiver is a URL, with the secret that it verifies signatures with. Whether a call had an effect only its author can
see: with `Receiver.count_effects` the suite looks at that too, without it only at the status.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import trio
from msgspec.structs import replace

from mailcrane.api import OUTGOING_EVENT_KINDS, Event, EventKind
from mailcrane.api.http import GuardedClient, HTTPClientError
from mailcrane.testing import Posted, made_call, made_data, made_event
from mailcrane_conformance.kit import Behaviour, NotApplicable, Violation, require

_STANDARD = "Standard Webhooks 1.0.0"
_OTHER_SECRET = "whsec_b3RoZXIgc2VjcmV0IG90aGVyIHNlY3JldA=="


@dataclass(frozen=True)
class Receiver:
    """A receiver to test.

    Attributes:
        url: Where it takes calls.
        secret: ``whsec_...``; empty when it verifies no signatures.
        authorization: The ``Authorization`` header that it wants; empty for none.
        count_effects: Tells for how many events it has done something so far, if that can be known.
        seconds: What an answer may take. The server waits for 60.
    """

    url: str
    secret: str = ""
    authorization: str = ""
    count_effects: Callable[[], Awaitable[int]] | None = None
    seconds: float = 10.0

    async def post(self, call: Posted) -> int:
        """Make a call and return the status.

        Raises:
            Violation: there is no answer in time.
        """
        [status] = await self.post_at_once([call])
        return status

    async def post_at_once(self, calls: Sequence[Posted]) -> list[int]:
        """Make calls at the same time, over a connection each, and return the statuses in any order.

        Raises:
            Violation: one has no answer in time.
        """
        statuses: list[int] = []
        client = GuardedClient(allow_networks=("0.0.0.0/0", "::/0"))

        async def one(call: Posted) -> None:
            try:
                response = await client.post(call.url, headers=call.header, body=call.body, timeout=self.seconds)
            except HTTPClientError as error:
                raise Violation(f"no answer: {error}") from error
            statuses.append(response.status)

        try:
            async with trio.open_nursery() as nursery:
                for call in calls:
                    nursery.start_soon(one, call)
        finally:
            await client.aclose()
        return statuses

    def call(self, event: Event, *, secrets: tuple[str, ...] | None = None, **more: Any) -> Posted:
        """Make a correct call, or one that differs in what is given."""
        signed = ((self.secret,) if self.secret else ()) if secrets is None else secrets
        at = more.pop("at", None) or datetime.now(UTC)
        authorization = more.pop("authorization", self.authorization)
        return made_call(event, self.url, secrets=signed, authorization=authorization, at=at, **more)

    async def effects(self) -> int | None:
        """How many events had an effect, or None when nobody knows."""
        return None if self.count_effects is None else await self.count_effects()


_numbers = iter(range(1, 1_000_000_000))
_BEGUN = datetime.now(UTC).strftime("%Y%m%d%H%M%S%f")


def new_event(kind: EventKind = EventKind.DELIVERED, **data: Any) -> Event:
    """Make an event that no receiver has been told of yet."""
    number = next(_numbers)
    made = made_event(kind, id=f"evt_kit_{number}_{_BEGUN}", number=number, entry_id=number)
    return replace(made, data={**made_data(kind), "queue_msg_id": number, **data})


def _require_taken(status: int, signed: bool, what: str = "a correct call") -> None:
    is_taken = 200 <= status < 300 if signed else status == 200
    require(is_taken, f"{what} was answered {status}, not {'2xx' if signed else '200'}")


async def _take(receiver: Receiver, call: Posted, what: str = "a correct call") -> None:
    _require_taken(await receiver.post(call), bool(receiver.secret), what)


async def _refuse(receiver: Receiver, call: Posted, what: str) -> None:
    before = await receiver.effects()
    status = await receiver.post(call)
    require(400 <= status < 500, f"{what} was answered {status}, not 4xx")
    after = await receiver.effects()
    require(before == after, f"{what} had an effect")


def _require_secret(receiver: Receiver) -> None:
    if not receiver.secret:
        raise NotApplicable("the receiver verifies no signatures: no secret was given")


async def _takes(receiver: Receiver) -> None:
    before = await receiver.effects()
    await _take(receiver, receiver.call(new_event()))
    after = await receiver.effects()
    require(before is None or after == before + 1, f"one call made {(after or 0) - (before or 0)} effects")


async def _every_event(receiver: Receiver) -> None:
    for kind in sorted(OUTGOING_EVENT_KINDS):
        await _take(receiver, receiver.call(new_event(kind)), f"an event {kind.value}")


async def _odd_text(receiver: Receiver) -> None:
    for odd in ("", "\u00e9\u4e2d\U0001f600 <b>&amp;</b>", "x" * 10_000, "'; drop table users; --", "\u2028\\u0000"):
        event = new_event(EventKind.FAILED, subject=odd, error=odd, message_id=odd, extra={"key": odd})
        await _take(receiver, receiver.call(event), f"a subject {odd[:20]!r}")


async def _unknown_fields(receiver: Receiver) -> None:
    fields = {"Department": "letters", "Nested": {"list": [1, None, True]}}
    await _take(receiver, receiver.call(new_event(), fields=fields), "a payload with fields of a plugin")


async def _unknown_event(receiver: Receiver) -> None:
    call = receiver.call(new_event(), fields={"Event": "kit_unheard_of", "Data": {"key": "value"}})
    await _take(receiver, call, "an event of a kind that is not known yet")


async def _repeated(receiver: Receiver) -> None:
    event = new_event()
    await _take(receiver, receiver.call(event))
    before = await receiver.effects()
    await _take(receiver, receiver.call(event, attempt=2), "the same event again, with the same webhook-id")
    replayed = receiver.call(event, call_id=2)
    await _take(receiver, replayed, "a replay, with the same webhook-id and another X-Mox-Webhook-ID")
    after = await receiver.effects()
    require(before == after, "the same event again, with the same webhook-id, had another effect")


async def _concurrent(receiver: Receiver) -> None:
    before = await receiver.effects()
    for status in await receiver.post_at_once([receiver.call(new_event()) for _ in range(10)]):
        _require_taken(status, bool(receiver.secret), "one of ten calls at once")
    after = await receiver.effects()
    require(before is None or after == before + 10, f"ten calls at once made {(after or 0) - (before or 0)} effects")


async def _bad_signature(receiver: Receiver) -> None:
    _require_secret(receiver)
    await _refuse(receiver, receiver.call(new_event(), secrets=(_OTHER_SECRET,)), "a call signed with another secret")


async def _no_signature(receiver: Receiver) -> None:
    _require_secret(receiver)
    await _refuse(receiver, receiver.call(new_event(), secrets=()), "a call without a signature")


async def _other_body(receiver: Receiver) -> None:
    _require_secret(receiver)
    call = receiver.call(new_event())
    body = call.body.replace(b'"delivered"', b'"failed"')
    await _refuse(receiver, Posted(call.url, call.header, body), "a body that is not the one that was signed")


async def _other_id(receiver: Receiver) -> None:
    _require_secret(receiver)
    call = receiver.call(new_event())
    header = _with(call.header, "webhook-id", new_event().id)
    await _refuse(receiver, Posted(call.url, header, call.body), "a webhook-id that is not the one that was signed")


def _at(offset: timedelta, what: str) -> Callable[[Receiver], Awaitable[None]]:
    async def check(receiver: Receiver) -> None:
        _require_secret(receiver)
        await _refuse(receiver, receiver.call(new_event(), at=datetime.now(UTC) + offset), what)

    return check


async def _old_within_reason(receiver: Receiver) -> None:
    _require_secret(receiver)
    at = datetime.now(UTC) - timedelta(seconds=90)
    await _take(receiver, receiver.call(new_event(), at=at), "a call that was made a minute and a half ago")


async def _two_signatures(receiver: Receiver) -> None:
    _require_secret(receiver)
    call = receiver.call(new_event(), secrets=(_OTHER_SECRET, receiver.secret))
    await _take(receiver, call, "a call with two signatures, the second of which is right")


async def _authorization(receiver: Receiver) -> None:
    if not receiver.authorization:
        raise NotApplicable("the receiver wants no Authorization")
    await _refuse(receiver, receiver.call(new_event(), authorization=""), "a call without Authorization")


async def _garbage(receiver: Receiver) -> None:
    before = await receiver.effects()
    for body in (b"", b"not JSON", b"[]", b"\xff\xfe"):
        status = await receiver.post(receiver.call(new_event(), body=body))
        require(400 <= status < 500, f"the body {body!r} was answered {status}, not 4xx")
    require(before == await receiver.effects(), "a body that is no event had an effect")
    await _take(receiver, receiver.call(new_event()), "a correct call after garbage")


def _with(header: Mapping[str, str], name: str, value: str) -> dict[str, str]:
    return {**header, name: value}


_PAGE = "events.md"

BEHAVIOURS: tuple[Behaviour[Receiver], ...] = (
    Behaviour("webhook/takes", "a correct call is answered 200 (2xx where it is signed), in time", _PAGE, _takes),
    Behaviour("webhook/every-event", "so is every kind of event", _PAGE, _every_event),
    Behaviour("webhook/odd-text", "so are long, empty and foreign texts", _PAGE, _odd_text),
    Behaviour("webhook/unknown-fields", "fields that it does not know are passed over", _PAGE, _unknown_fields),
    Behaviour("webhook/unknown-event", "an event of a kind that it does not know is taken", _PAGE, _unknown_event),
    Behaviour(
        "webhook/repeated",
        "the same webhook-id again is answered well, and has no other effect",
        f"{_STANDARD}, idempotency",
        _repeated,
    ),
    Behaviour("webhook/concurrent", "ten calls at once are all taken", _PAGE, _concurrent),
    Behaviour(
        "webhook/bad-signature",
        "a call signed with another secret is refused",
        f"{_STANDARD}, signature",
        _bad_signature,
    ),
    Behaviour(
        "webhook/no-signature", "a call without a signature is refused", f"{_STANDARD}, signature", _no_signature
    ),
    Behaviour("webhook/other-body", "the signature is one of the body", f"{_STANDARD}, signature", _other_body),
    Behaviour("webhook/other-id", "the signature is one of the webhook-id", f"{_STANDARD}, signature", _other_id),
    Behaviour(
        "webhook/old",
        "a call whose timestamp is ten minutes old is refused, although its signature is right",
        f"{_STANDARD}, timestamp",
        _at(timedelta(minutes=-10), "a call that was signed ten minutes ago"),
    ),
    Behaviour(
        "webhook/future",
        "so is one whose timestamp lies ten minutes ahead",
        f"{_STANDARD}, timestamp",
        _at(timedelta(minutes=10), "a call that is signed for ten minutes from now"),
    ),
    Behaviour(
        "webhook/not-so-old",
        "a call that is a minute and a half old, within the tolerance, is taken",
        f"{_STANDARD}, timestamp",
        _old_within_reason,
    ),
    Behaviour(
        "webhook/two-signatures",
        "of several signatures one that is right is enough: secrets are changed so",
        f"{_STANDARD}, signature",
        _two_signatures,
    ),
    Behaviour(
        "webhook/authorization", "a call without the Authorization that it wants is refused", _PAGE, _authorization
    ),
    Behaviour("webhook/garbage", "a body that is no event is answered 4xx, and does no harm", _PAGE, _garbage),
)
