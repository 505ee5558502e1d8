"""The transport kit: what a transport that speaks SMTP to a next hop must do, shown with a scripted peer.

A transport is handed to the kit as a function of the peer's host and port that makes one; it must be set up to go on
without TLS when the peer offers none. Every behaviour opens transports of its own and closes them.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime

import trio

from mailcrane.api import (
    NULL_REVERSE_PATH,
    Delivery,
    Entry,
    Mailbox,
    Outcome,
    RecipientResult,
    Reply,
    ReversePath,
    Transport,
)
from mailcrane_conformance.kit import Behaviour, Result, Violation, require, run_kit
from mailcrane_conformance.peer import Script, ScriptedPeer, scripted_peer

TransportFactory = Callable[[str, int], Awaitable[Transport]]

_CONTENT = b"From: a@sender.example\r\nTo: b@peer.example\r\nSubject: kit\r\n\r\nThe bag hangs on the crane.\r\n"
_WAIT_SECONDS = 2.0


class KitContent:
    """Octets of a delivery, handed out in small chunks; counts how often they were asked for."""

    def __init__(self, octets: bytes, chunk_octets: int = 65536) -> None:
        self._octets = octets
        self._chunk_octets = chunk_octets

    @property
    def size_octets(self) -> int:
        """Length of the content."""
        return len(self._octets)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the octets."""
        for start in range(0, len(self._octets), self._chunk_octets):
            await trio.lowlevel.checkpoint()
            yield self._octets[start : start + self._chunk_octets]


def make_delivery(
    *forward_paths: str,
    octets: bytes = _CONTENT,
    reverse_path: ReversePath | None = None,
    has_8bit: bool = False,
    needs_smtputf8: bool = False,
    require_tls: bool | None = None,
) -> Delivery:
    """Make a delivery of one message to some forward-paths, ``b@peer.example`` when none is given."""
    sender = reverse_path or ReversePath(Mailbox.parse("a@sender.example"))
    at = datetime(2026, 1, 1, tzinfo=UTC)
    entries = tuple(
        Entry(
            id=number,
            base_id=1,
            account="kit",
            queued_at=at,
            reverse_path=sender,
            forward_path=Mailbox.parse(path),
            content_id=1,
            size_octets=len(octets),
            message_id="<kit@sender.example>",
            subject="kit",
            due_at=at,
            has_8bit=has_8bit,
            needs_smtputf8=needs_smtputf8,
            require_tls=require_tls,
        )
        for number, path in enumerate(forward_paths or ("b@peer.example",), 1)
    )
    return Delivery(
        id="kit",
        entries=entries,
        reverse_path=sender,
        content=KitContent(octets),
        has_8bit=has_8bit,
        needs_smtputf8=needs_smtputf8,
        require_tls=require_tls,
    )


async def run(make: TransportFactory, only: Sequence[str] = ()) -> list[Result]:
    """Try the behaviours of the kit on a transport and return a result for each.

    Raises:
        ValueError: ``only`` has an id that the kit lacks.
    """
    return await run_kit(BEHAVIOURS, make, only)


@contextlib.asynccontextmanager
async def _opened(make: TransportFactory, script: Script) -> AsyncIterator[tuple[ScriptedPeer, Transport]]:
    async with scripted_peer(script) as peer:
        transport = await make(peer.host, peer.port)
        try:
            yield peer, transport
        finally:
            with trio.move_on_after(_WAIT_SECONDS, shield=True):
                await transport.aclose()


async def _deliver(transport: Transport, delivery: Delivery) -> tuple[RecipientResult, ...]:
    """Deliver as the server does: a raise defers all recipients."""
    try:
        results = await transport.deliver(delivery)
    except Exception as error:
        return tuple(RecipientResult(Outcome.DEFERRED, error=repr(error)) for _ in delivery.entries)
    require(
        len(results) == len(delivery.entries),
        f"{len(results)} results came back for {len(delivery.entries)} forward-paths",
    )
    return tuple(results)


def _outcomes(results: Sequence[RecipientResult]) -> str:
    return " ".join(result.outcome.value for result in results)


def _require_outcomes(results: Sequence[RecipientResult], *wanted: Outcome) -> None:
    require(
        [result.outcome for result in results] == list(wanted),
        f"expected {' '.join(wanted)}, got {_outcomes(results)} ({'; '.join(result.error for result in results)})",
    )


def _the_message(peer: ScriptedPeer) -> bytes:
    require(len(peer.messages) == 1, f"the peer got {len(peer.messages)} messages instead of one")
    return peer.messages[0].octets or b""


async def _octets_unchanged(make: TransportFactory) -> None:
    octets = _CONTENT + b".\r\n..two\r\n.one\r\n\r\n \t trailing \r\nend\r\n"
    async with _opened(make, Script()) as (peer, transport):
        _require_outcomes(await _deliver(transport, make_delivery(octets=octets)), Outcome.DELIVERED)
        require(_the_message(peer) == octets, "the peer got other octets than were handed over")


async def _large_content(make: TransportFactory) -> None:
    octets = _CONTENT + b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\r\n" * 50_000
    async with _opened(make, Script()) as (peer, transport):
        _require_outcomes(await _deliver(transport, make_delivery(octets=octets)), Outcome.DELIVERED)
        require(_the_message(peer) == octets, "the peer got other octets than the 3 MB that were handed over")


async def _reverse_path(make: TransportFactory) -> None:
    async with _opened(make, Script()) as (peer, transport):
        await _deliver(transport, make_delivery())
        seen = [one.reverse_path for one in peer.transactions]
        require(seen == ["a@sender.example"], f"MAIL named {seen}")


async def _null_reverse_path(make: TransportFactory) -> None:
    async with _opened(make, Script()) as (peer, transport):
        await _deliver(transport, make_delivery(reverse_path=NULL_REVERSE_PATH))
        seen = [one.reverse_path for one in peer.transactions]
        require(seen == [""], f"MAIL named {seen} where the null reverse-path was to be sent")


async def _delivered_on_2yz(make: TransportFactory) -> None:
    async with _opened(make, Script(final="250 2.0.0 taken as 4711")) as (peer, transport):
        results = await _deliver(transport, make_delivery())
        _require_outcomes(results, Outcome.DELIVERED)
        _the_message(peer)


async def _reply_is_kept(make: TransportFactory) -> None:
    script = Script(recipients={"b@peer.example": "550 5.1.1 nobody of that name"})
    async with _opened(make, script) as (_, transport):
        [result] = await _deliver(transport, make_delivery())
        reply = result.reply or Reply(0)
        require(reply.code == 550, f"the result's reply is {reply} where the peer said 550")
        require(reply.enhanced_status_code == "5.1.1", "the enhanced status code 5.1.1 is not in the result's reply")
        require("nobody of that name" in reply.text, f"the peer's text is not in the result's reply: {reply.text!r}")


async def _results_in_order(make: TransportFactory) -> None:
    paths = ("one@peer.example", "two@peer.example", "three@peer.example", "four@peer.example")
    script = Script(recipients={paths[1]: "550 5.1.1 no", paths[2]: "450 4.2.0 later"})
    async with _opened(make, script) as (peer, transport):
        results = await _deliver(transport, make_delivery(*paths))
        _require_outcomes(results, Outcome.DELIVERED, Outcome.FAILED, Outcome.DEFERRED, Outcome.DELIVERED)
        got = {path for one in peer.messages for path in one.forward_paths}
        require(got == {paths[0], paths[3]}, f"the message came for {sorted(got)}")


async def _all_refused(make: TransportFactory) -> None:
    script = Script(recipients={"b@peer.example": "550 5.1.1 no", "c@peer.example": "450 4.2.0 later"})
    async with _opened(make, script) as (peer, transport):
        results = await _deliver(transport, make_delivery("b@peer.example", "c@peer.example"))
        _require_outcomes(results, Outcome.FAILED, Outcome.DEFERRED)
        sent = [one.octets for one in peer.transactions if one.octets]  # a lone final dot ends a pipelined DATA
        require(not sent, "content was sent although every forward-path was refused")


def _outcome_when(script: Script, wanted: Outcome) -> Callable[[TransportFactory], Awaitable[None]]:
    async def check(make: TransportFactory) -> None:
        async with _opened(make, script) as (_, transport):
            results = await _deliver(transport, make_delivery("b@peer.example", "c@peer.example"))
            _require_outcomes(results, wanted, wanted)

    return check


def _lost_before_final_dot(point: str) -> Callable[[TransportFactory], Awaitable[None]]:
    async def check(make: TransportFactory) -> None:
        octets = _CONTENT + b"0123456789abcdef\r\n" * 200_000 if point == "content" else _CONTENT
        async with _opened(make, Script(lose_connection_at=point)) as (_, transport):
            [result] = await _deliver(transport, make_delivery(octets=octets))
            _require_outcomes([result], Outcome.DEFERRED)
            require(not result.is_maybe_delivered, "marked as maybe delivered although no final dot was sent")

    return check


async def _lost_after_final_dot(make: TransportFactory) -> None:
    async with _opened(make, Script(lose_connection_at="final")) as (_, transport):
        try:
            [result] = await transport.deliver(make_delivery())
        except Exception as error:
            raise Violation(f"raised {error!r}, so nobody learns that the message may have been delivered") from error
        _require_outcomes([result], Outcome.DEFERRED)
        require(result.is_maybe_delivered, "not marked as maybe delivered although the final dot had been sent")


async def _nobody_listens(make: TransportFactory) -> None:
    async with scripted_peer() as peer:
        host, port = peer.host, peer.port
    transport = await make(host, port)
    try:
        _require_outcomes(await _deliver(transport, make_delivery()), Outcome.DEFERRED)
    finally:
        await transport.aclose()


async def _cancellation_closes(make: TransportFactory) -> None:
    async with _opened(make, Script(stay_silent_at="MAIL")) as (peer, transport):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_deliver, transport, make_delivery())
            require(await peer.wait_for_connection(_WAIT_SECONDS), "no connection was made")
            await trio.sleep(0.05)
            nursery.cancel_scope.cancel()
        require(await peer.wait_until_closed(_WAIT_SECONDS), "the connection stayed open after the cancellation")


async def _smtputf8_missing(make: TransportFactory) -> None:
    async with _opened(make, Script(extensions=("PIPELINING", "8BITMIME"))) as (peer, transport):
        delivery = make_delivery("\u00e9@peer.example", needs_smtputf8=True)
        [result] = await _deliver(transport, delivery)
        _require_outcomes([result], Outcome.FAILED)
        code = result.reply.enhanced_status_code if result.reply else ""
        require(code == "5.6.7", f"the enhanced status code is {code!r}; RFC 6531 section 3.5 asks for 5.6.7")
        require(not peer.messages, "the message was sent to a peer that does not offer SMTPUTF8")


async def _smtputf8_asked_for(make: TransportFactory) -> None:
    async with _opened(make, Script()) as (peer, transport):
        delivery = make_delivery("\u00e9@peer.example", needs_smtputf8=True)
        _require_outcomes(await _deliver(transport, delivery), Outcome.DELIVERED)
        require("SMTPUTF8" in peer.messages[0].parameters, "MAIL lacks SMTPUTF8")


async def _requiretls_missing(make: TransportFactory) -> None:
    async with _opened(make, Script()) as (peer, transport):
        [result] = await _deliver(transport, make_delivery(require_tls=True))
        _require_outcomes([result], Outcome.FAILED)
        code = result.reply.enhanced_status_code if result.reply else ""
        require(code == "5.7.30", f"the enhanced status code is {code!r}; RFC 8689 section 4.2.1 asks for 5.7.30")
        require(not peer.messages, "the message was sent to a peer that does not offer REQUIRETLS")


async def _eight_bit_as_is(make: TransportFactory) -> None:
    octets = "Subject: kit\r\n\r\nGr\u00fc\u00dfe\r\n".encode()
    async with _opened(make, Script(extensions=("PIPELINING",))) as (peer, transport):
        [result] = await _deliver(transport, make_delivery(octets=octets, has_8bit=True))
        _require_outcomes([result], Outcome.DELIVERED)
        require(_the_message(peer) == octets, "8-bit content was changed")
        require(bool(result.notes), "nothing is noted on the attempt")
        require(
            not any("8BITMIME" in parameter for parameter in peer.messages[0].parameters),
            "BODY=8BITMIME was sent to a peer that does not offer it",
        )


async def _size_exceeded(make: TransportFactory) -> None:
    async with _opened(make, Script(extensions=("PIPELINING", "SIZE 50"))) as (peer, transport):
        [result] = await _deliver(transport, make_delivery())
        _require_outcomes([result], Outcome.FAILED)
        require(not peer.messages, "the message was sent although it is larger than the peer's SIZE")


async def _concurrent(make: TransportFactory) -> None:
    results: dict[int, RecipientResult] = {}

    async def one(transport: Transport, number: int) -> None:
        octets = b"Subject: %d\r\n\r\nbody %d\r\n" % (number, number)
        [results[number]] = await _deliver(transport, make_delivery(f"r{number}@peer.example", octets=octets))

    async with _opened(make, Script(recipients={"r3@peer.example": "550 5.1.1 no"})) as (peer, transport):
        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(one, transport, number)
        wanted = [Outcome.FAILED if number == 3 else Outcome.DELIVERED for number in range(8)]
        _require_outcomes([results[number] for number in range(8)], *wanted)
        for message in peer.messages:
            number = int(message.forward_paths[0][1:].partition("@")[0])
            require(
                message.octets == b"Subject: %d\r\n\r\nbody %d\r\n" % (number, number)
                and len(message.forward_paths) == 1,
                "deliveries that ran at the same time were mixed up",
            )


async def _again_after_failure(make: TransportFactory) -> None:
    async with _opened(make, Script(lose_connection_at="final")) as (peer, transport):
        delivery = make_delivery()
        await _deliver(transport, delivery)
        peer.script = Script()
        _require_outcomes(await _deliver(transport, delivery), Outcome.DELIVERED)
        require(peer.messages[-1].octets == _CONTENT, "the second try sent other octets")


_DEFERRED, _FAILED = Outcome.DEFERRED, Outcome.FAILED

BEHAVIOURS: tuple[Behaviour[TransportFactory], ...] = (
    Behaviour("octets-unchanged", "the peer gets the octets that were handed over", _octets_unchanged),
    Behaviour("large-content", "3 MB of content come through", _large_content),
    Behaviour("reverse-path", "MAIL names the reverse-path", _reverse_path),
    Behaviour("null-reverse-path", "the null reverse-path is sent as <>", _null_reverse_path),
    Behaviour("delivered", "a 2yz reply to the final dot is delivered", _delivered_on_2yz),
    Behaviour("reply-kept", "the result has the peer's reply with its enhanced status code", _reply_is_kept),
    Behaviour("results-in-order", "each forward-path has a result, in order", _results_in_order),
    Behaviour("no-content-when-all-refused", "no content is sent when all forward-paths are refused", _all_refused),
    Behaviour("greeting-4yz", "a 4yz greeting defers", _outcome_when(Script(greeting="421 4.3.2 closing"), _DEFERRED)),
    Behaviour(
        "greeting-5yz",
        "a 5yz greeting fails all",
        _outcome_when(Script(greeting="554 5.7.1 not you"), _FAILED),
    ),
    Behaviour("mail-4yz", "a 4yz reply to MAIL defers all", _outcome_when(Script(mail="451 4.3.0 later"), _DEFERRED)),
    Behaviour("mail-5yz", "a 5yz reply to MAIL fails all", _outcome_when(Script(mail="550 5.7.1 never"), _FAILED)),
    Behaviour("data-4yz", "a 4yz reply to DATA defers all", _outcome_when(Script(data="451 4.3.0 later"), _DEFERRED)),
    Behaviour("data-5yz", "a 5yz reply to DATA fails all", _outcome_when(Script(data="554 5.7.1 never"), _FAILED)),
    Behaviour(
        "final-4yz", "a 4yz reply to the final dot defers all", _outcome_when(Script(final="452 4.3.1 full"), _DEFERRED)
    ),
    Behaviour(
        "final-5yz", "a 5yz reply to the final dot fails all", _outcome_when(Script(final="554 5.6.0 no"), _FAILED)
    ),
    Behaviour("lost-at-greeting", "a connection lost before the greeting defers", _lost_before_final_dot("greeting")),
    Behaviour("lost-in-content", "a connection lost within the content defers", _lost_before_final_dot("content")),
    Behaviour(
        "lost-after-final-dot",
        "a connection lost after the final dot is deferred as maybe delivered",
        _lost_after_final_dot,
    ),
    Behaviour("nobody-listens", "a refused connection defers", _nobody_listens),
    Behaviour("cancellation-closes", "cancellation closes the connection", _cancellation_closes),
    Behaviour("smtputf8-missing", "SMTPUTF8 that the peer lacks fails with 5.6.7", _smtputf8_missing),
    Behaviour("smtputf8-asked-for", "SMTPUTF8 is asked for where the message needs it", _smtputf8_asked_for),
    Behaviour("requiretls-missing", "REQUIRETLS that the peer lacks fails with 5.7.30", _requiretls_missing),
    Behaviour("8bit-as-is", "8-bit content goes as it is to a peer without 8BITMIME, and is noted", _eight_bit_as_is),
    Behaviour("size-exceeded", "a message larger than the peer's SIZE fails unsent", _size_exceeded),
    Behaviour("concurrent", "deliveries at the same time do not mix", _concurrent),
    Behaviour("again", "the same delivery can be tried again after a failure", _again_after_failure),
)
