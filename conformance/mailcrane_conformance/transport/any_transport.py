"""What every transport must do, whatever it speaks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import trio

from mailcrane.api import NULL_REVERSE_PATH, Mailbox, NotNow, Outcome, RecipientResult, Reply, ReversePath, Transport
from mailcrane_conformance.deliveries import CONTENT, KitContent, make_delivery
from mailcrane_conformance.kit import Behaviour, Violation, require
from mailcrane_conformance.transport.subject import (
    WAIT_SECONDS,
    Condition,
    Peer,
    Subject,
    deliver,
    require_outcomes,
)

_CONTRACT = "hooks.md, register_transport_types"
_LINE = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\r\n"
# A transport may be ahead of its peer by what sockets and pipes hold, and no more.
_AHEAD_OCTETS = 24 * 1024 * 1024


async def _require_content(peer: Peer, octets: bytes) -> None:
    messages = await peer.received()
    require(len(messages) == 1, f"the peer got {len(messages)} messages instead of one")
    got = messages[0].octets
    if got != octets:
        at = next(
            (at for at, (a, b) in enumerate(zip(got, octets, strict=False)) if a != b), min(len(got), len(octets))
        )
        raise Violation(
            f"the peer got {len(got)} octets, not the {len(octets)} that were handed over; from octet {at} on it is "
            f"{got[at : at + 20]!r}, not {octets[at : at + 20]!r}"
        )


def _unchanged(octets: bytes, *, has_8bit: bool = False) -> Callable[[Subject], Awaitable[None]]:
    async def check(subject: Subject) -> None:
        async with subject.opened() as (peer, transport):
            delivery = make_delivery(octets=octets, has_8bit=has_8bit)
            require_outcomes(await deliver(transport, delivery), Outcome.DELIVERED)
            await _require_content(peer, octets)

    return check


async def _streamed(subject: Subject) -> None:
    content = KitContent(_LINE * 1024, repeat=1024)  # 64 MB
    async with subject.opened(Condition.STUCK) as (peer, transport):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(deliver, transport, make_delivery(content=content))
            require(await peer.wait_until_busy(WAIT_SECONDS), "no delivery reached the peer")
            seen = -1
            while seen < content.octets_read < content.size_octets:
                seen = content.octets_read
                await trio.sleep(0.1)
            nursery.cancel_scope.cancel()
        require(
            content.octets_read <= _AHEAD_OCTETS,
            f"{content.octets_read >> 20} MB of the content were read while the peer took nothing",
        )


async def _reverse_path(subject: Subject) -> None:
    async with subject.opened() as (peer, transport):
        await deliver(transport, make_delivery(reverse_path=ReversePath(Mailbox.parse("bounce+7@sender.example"))))
        seen = [one.reverse_path for one in await peer.received()]
        require(seen == ["bounce+7@sender.example"], f"the peer was told of {seen}")


async def _null_reverse_path(subject: Subject) -> None:
    async with subject.opened() as (peer, transport):
        await deliver(transport, make_delivery(reverse_path=NULL_REVERSE_PATH))
        seen = [one.reverse_path for one in await peer.received()]
        require(seen == [""], f"the peer was told of {seen} where the null reverse-path was to be sent")


async def _results_in_order(subject: Subject) -> None:
    paths = ("one@peer.example", "two@peer.example", "three@peer.example", "four@peer.example")
    refused = {paths[1]: Condition.PERMANENT, paths[2]: Condition.TEMPORARY}
    async with subject.opened(refused=refused) as (peer, transport):
        results = await deliver(transport, make_delivery(*paths))
        require_outcomes(results, Outcome.DELIVERED, Outcome.FAILED, Outcome.DEFERRED, Outcome.DELIVERED)
        got = Counter(path for one in await peer.received() for path in one.forward_paths)
        require(got == {paths[0]: 1, paths[3]: 1}, f"the message came for {dict(got)}")


async def _one_result_each(subject: Subject) -> None:
    paths = tuple(f"r{number}@peer.example" for number in range(7))
    async with subject.opened() as (peer, transport):
        results = await transport.deliver(make_delivery(*paths))
        require(isinstance(results, Sequence), f"the results are a {type(results).__name__}, not a sequence")
        require(len(results) == len(paths), f"{len(results)} results came back for {len(paths)} forward-paths")
        for result in results:
            require(isinstance(result, RecipientResult), f"a result is a {type(result).__name__}")
        require_outcomes(results, *[Outcome.DELIVERED] * len(paths))
        got = Counter(path for one in await peer.received() for path in one.forward_paths)
        require(got == dict.fromkeys(paths, 1), f"the message came for {dict(got)}")


def _outcome_in(condition: Condition, wanted: Outcome) -> Callable[[Subject], Awaitable[None]]:
    async def check(subject: Subject) -> None:
        async with subject.opened(condition) as (_, transport):
            results = await deliver(transport, make_delivery("b@peer.example", "c@peer.example"))
            require_outcomes(results, wanted, wanted)
            require(
                not any(result.is_maybe_delivered for result in results),
                "marked as maybe delivered, but it was refused",
            )

    return check


async def _error_in_words(subject: Subject) -> None:
    async with subject.opened(Condition.PERMANENT) as (_, transport):
        [result] = await deliver(transport, make_delivery())
        require(bool(result.error), "a refused message has no error in words")
        reply = result.reply or Reply(599)
        require(reply.code // 100 == 5, f"the reply {reply} stands for a failure for good")


async def _nobody_listens(subject: Subject) -> None:
    async with subject.opened(Condition.DOWN) as (_, transport):
        [result] = await deliver(transport, make_delivery())
        require_outcomes([result], Outcome.DEFERRED)
        require(not result.is_maybe_delivered, "marked as maybe delivered although nobody was reached")
        require(bool(result.error), "a deferred message has no error in words")


async def _lost_within(subject: Subject) -> None:
    async with subject.opened(Condition.LOST_WITHIN) as (_, transport):
        [result] = await deliver(transport, make_delivery(octets=CONTENT + _LINE * 50_000))
        require_outcomes([result], Outcome.DEFERRED)
        require(not result.is_maybe_delivered, "marked as maybe delivered although the peer never had all of it")


async def _lost_after(subject: Subject) -> None:
    async with subject.opened(Condition.LOST_AFTER) as (_, transport):
        try:
            [result] = await transport.deliver(make_delivery())
        except Exception as error:
            raise Violation(f"raised {error!r}, so nobody learns that the message may have been delivered") from error
        require_outcomes([result], Outcome.DEFERRED)
        require(result.is_maybe_delivered, "not marked as maybe delivered although the peer had been given all of it")


async def _cancellation_closes(subject: Subject) -> None:
    async with subject.opened(Condition.SILENT) as (peer, transport):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(deliver, transport, make_delivery())
            require(await peer.wait_until_busy(WAIT_SECONDS), "no delivery reached the peer")
            await trio.sleep(0.05)
            nursery.cancel_scope.cancel()
        require(await peer.wait_until_idle(WAIT_SECONDS), "something of the delivery was left after the cancellation")


async def _cancelled_content_is_not_ended(subject: Subject) -> None:
    content = KitContent(_LINE * 2048, repeat=4, stalls_after_octets=len(_LINE) * 2048)
    async with subject.opened() as (peer, transport):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(deliver, transport, make_delivery(content=content))
            require(await peer.wait_until_busy(WAIT_SECONDS), "no delivery reached the peer")
            await trio.sleep(0.05)
            nursery.cancel_scope.cancel()
        await peer.wait_until_idle(WAIT_SECONDS)
        require(not await peer.received(), "half of a message was handed over as a whole one")


async def _concurrent(subject: Subject) -> None:
    results: dict[int, RecipientResult] = {}

    async def one(transport: Transport, number: int) -> None:
        octets = b"Subject: %d\r\n\r\nbody %d\r\n" % (number, number)
        [results[number]] = await _until_there_is_a_place(transport, f"r{number}@peer.example", octets)

    async with subject.opened() as (peer, transport):
        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(one, transport, number)
        require_outcomes([results[number] for number in range(8)], *[Outcome.DELIVERED] * 8)
        messages = await peer.received()
        got = Counter(path for message in messages for path in message.forward_paths)
        wanted = {f"r{number}@peer.example": 1 for number in range(8)}
        require(got == wanted, f"of eight deliveries to one recipient each, the peer got {dict(got)}")
        for message in messages:
            number = int(message.forward_paths[0][1:].partition("@")[0])
            require(
                message.octets == b"Subject: %d\r\n\r\nbody %d\r\n" % (number, number)
                and len(message.forward_paths) == 1,
                "deliveries that ran at the same time were mixed up",
            )


async def _one_after_another(subject: Subject) -> None:
    first = make_delivery("x@peer.example", reverse_path=ReversePath(Mailbox.parse("x@sender.example")))
    second = make_delivery("y@peer.example", octets=b"Subject: second\r\n\r\ntwo\r\n")
    refused = {"x@peer.example": Condition.PERMANENT}
    async with subject.opened(refused=refused) as (peer, transport):
        await deliver(transport, first)
        require_outcomes(await deliver(transport, second), Outcome.DELIVERED)
        seen = [(one.reverse_path, one.forward_paths, one.octets) for one in await peer.received()]
        require(
            seen == [("a@sender.example", ("y@peer.example",), b"Subject: second\r\n\r\ntwo\r\n")],
            f"after a delivery that was refused, the peer got {seen}",
        )


async def _again_after_failure(subject: Subject) -> None:
    async with subject.opened(Condition.LOST_AFTER) as (peer, transport):
        delivery = make_delivery()
        await deliver(transport, delivery)
        await peer.become(Condition.WELL, {})
        require_outcomes(await deliver(transport, delivery), Outcome.DELIVERED)
        require((await peer.received())[-1].octets == CONTENT, "the second try sent other octets")


async def _not_now(subject: Subject) -> None:
    told: dict[str, NotNow] = {}
    results: dict[str, RecipientResult] = {}

    async def one(transport: Transport, path: str) -> None:
        try:
            [results[path]] = await deliver(transport, make_delivery(path))
        except NotNow as not_now:
            told[path] = not_now

    async with subject.opened() as (peer, transport):
        paths = [f"r{number}@peer.example" for number in range(40)]
        async with trio.open_nursery() as nursery:
            for path in paths:
                nursery.start_soon(one, transport, path)
        got = Counter(path for one in await peer.received() for path in one.forward_paths)
        for path, not_now in told.items():
            require(path not in got, f"NotNow was raised for {path}, but the peer got the message")
            require(not_now.seconds > 0, f"NotNow says to look again in {not_now.seconds} s")
            require(bool(not_now.next_hop and not_now.reason), "NotNow names neither next hop nor reason")
            if not_now.wait_for_place is not None:
                with trio.move_on_after(WAIT_SECONDS) as limit:
                    await not_now.wait_for_place()
                require(not limit.cancelled_caught, "wait_for_place() does not return although nothing is under way")
        require_outcomes(list(results.values()), *[Outcome.DELIVERED] * len(results))


async def _closed_at_the_end(subject: Subject) -> None:
    async with subject.opened() as (peer, transport):
        require_outcomes(await deliver(transport, make_delivery()), Outcome.DELIVERED)
        with trio.move_on_after(WAIT_SECONDS) as limit:
            await transport.aclose()
        require(not limit.cancelled_caught, f"aclose() did not return in {WAIT_SECONDS:g} s")
        require(await peer.wait_until_idle(WAIT_SECONDS), "something was left open after aclose()")


async def _until_there_is_a_place(transport: Transport, path: str, octets: bytes) -> tuple[RecipientResult, ...]:
    while True:
        try:
            return await deliver(transport, make_delivery(path, octets=octets))
        except NotNow as not_now:
            with trio.move_on_after(min(not_now.seconds, 0.1)):
                await (not_now.wait_for_place or trio.sleep_forever)()


BEHAVIOURS: tuple[Behaviour[Subject], ...] = (
    Behaviour(
        "transport/octets-unchanged",
        "the peer gets the octets that were handed over, lines that begin with dots too",
        "RFC 5321 section 4.5.2",
        _unchanged(CONTENT + b".\r\n..two\r\n.one\r\n\r\n \t trailing \r\nend\r\n"),
    ),
    Behaviour(
        "transport/every-octet",
        "NUL, control characters and 8-bit octets come through, and nothing becomes a bare LF",
        _CONTRACT,
        _unchanged(
            CONTENT + bytes(octet for octet in range(256) if octet not in b"\r\n") + b"\r\n\r\n\t\r\n", has_8bit=True
        ),
    ),
    Behaviour(
        "transport/long-line",
        "a line of 5000 octets is not folded",
        _CONTRACT,
        _unchanged(CONTENT + b"x" * 5000 + b"\r\n"),
    ),
    Behaviour(
        "transport/large-content", "3 MB of content come through", _CONTRACT, _unchanged(CONTENT + _LINE * 50_000)
    ),
    Behaviour("transport/streamed", "content is read as the peer takes it, not ahead of it", _CONTRACT, _streamed),
    Behaviour("transport/reverse-path", "the peer is told the reverse-path", "RFC 5321 section 3.3", _reverse_path),
    Behaviour(
        "transport/null-reverse-path", "the null reverse-path stays null", "RFC 5321 section 4.5.5", _null_reverse_path
    ),
    Behaviour("transport/one-result-each", "many forward-paths have a result each", _CONTRACT, _one_result_each),
    Behaviour(
        "transport/results-in-order",
        "each forward-path has its own result, in order",
        "RFC 5321 section 3.3",
        _results_in_order,
    ),
    Behaviour(
        "transport/final-4yz",
        "a message that is refused for now (SMTP: a 4yz reply to the final dot) is deferred for all",
        "RFC 5321 section 4.2.1",
        _outcome_in(Condition.TEMPORARY, Outcome.DEFERRED),
    ),
    Behaviour(
        "transport/final-5yz",
        "a message that is refused for good (SMTP: a 5yz reply to the final dot) fails for all",
        "RFC 5321 section 4.2.1",
        _outcome_in(Condition.PERMANENT, Outcome.FAILED),
    ),
    Behaviour("transport/error-in-words", "a failure says why, and its reply is 5yz", _CONTRACT, _error_in_words),
    Behaviour("transport/nobody-listens", "a peer that cannot be reached defers", _CONTRACT, _nobody_listens),
    Behaviour("transport/lost-in-content", "a peer that goes away within the content defers", _CONTRACT, _lost_within),
    Behaviour(
        "transport/lost-after-final-dot",
        "a peer that goes away after all of the content is deferred as maybe delivered",
        "RFC 1047",
        _lost_after,
    ),
    Behaviour(
        "transport/cancellation-closes", "cancellation closes connection or process", _CONTRACT, _cancellation_closes
    ),
    Behaviour(
        "transport/cancelled-content-not-ended",
        "a delivery that is cancelled within the content does not end it as if it were whole",
        "RFC 5321 section 4.1.1.4",
        _cancelled_content_is_not_ended,
    ),
    Behaviour("transport/concurrent", "deliveries at the same time do not mix", _CONTRACT, _concurrent),
    Behaviour(
        "transport/one-after-another",
        "nothing of a delivery that was refused gets into the next one",
        "RFC 5321 section 4.1.4",
        _one_after_another,
    ),
    Behaviour(
        "transport/again", "the same delivery can be tried again after a failure", _CONTRACT, _again_after_failure
    ),
    Behaviour(
        "transport/not-now", "who raises NotNow has sent nothing, and says when to look again", _CONTRACT, _not_now
    ),
    Behaviour("transport/aclose", "aclose() leaves nothing open", _CONTRACT, _closed_at_the_end),
)
