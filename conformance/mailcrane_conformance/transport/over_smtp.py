"""What a transport that speaks SMTP or LMTP must do with what its peer says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable

from mailcrane.api import Outcome, RecipientResult, Reply
from mailcrane_conformance.deliveries import make_delivery
from mailcrane_conformance.kit import Behaviour, NotApplicable, Violation, require
from mailcrane_conformance.peer import Script, ScriptedPeer
from mailcrane_conformance.transport.subject import WAIT_SECONDS, Subject, deliver, require_outcomes

_PATHS = tuple(f"r{number}@peer.example" for number in range(5))


def _require_good_manners(peer: ScriptedPeer) -> None:
    require(not peer.misdeeds, "; ".join(peer.misdeeds))


def _require_each_once(peer: ScriptedPeer, paths: tuple[str, ...]) -> None:
    got = Counter(path for one in peer.messages for path in one.forward_paths)
    require(got == dict.fromkeys(paths, 1), f"the message came for {dict(got)}")


def _outcome_when(script: Script, wanted: Outcome) -> Callable[[Subject], Awaitable[None]]:
    async def check(subject: Subject) -> None:
        async with subject.scripted(script) as (peer, transport):
            results = await deliver(transport, make_delivery("b@peer.example", "c@peer.example"))
            require_outcomes(results, wanted, wanted)
            require(not any(one.is_maybe_delivered for one in results), "marked as maybe delivered, but it was refused")
            _require_good_manners(peer)

    return check


async def _reply_is_kept(subject: Subject) -> None:
    script = Script(recipients={"b@peer.example": "550-5.1.1 nobody\r\n550 5.1.1 of that name"})
    async with subject.scripted(script) as (_, transport):
        [result] = await deliver(transport, make_delivery())
        reply = result.reply or Reply(0)
        require(reply.code == 550, f"the result's reply is {reply} where the peer said 550")
        require(reply.enhanced_status_code == "5.1.1", "the enhanced status code 5.1.1 is not in the result's reply")
        for line in ("nobody", "of that name"):
            require(line in reply.text, f"the peer's text {line!r} is not in the result's reply: {reply.text!r}")


async def _delivered(subject: Subject) -> None:
    async with subject.scripted(Script(final="252 2.0.0 taken as 4711")) as (peer, transport):
        require_outcomes(await deliver(transport, make_delivery()), Outcome.DELIVERED)
        _require_each_once(peer, ("b@peer.example",))


async def _all_refused(subject: Subject) -> None:
    script = Script(recipients={"b@peer.example": "550 5.1.1 no", "c@peer.example": "450 4.2.0 later"})
    async with subject.scripted(script) as (peer, transport):
        results = await deliver(transport, make_delivery("b@peer.example", "c@peer.example"))
        require_outcomes(results, Outcome.FAILED, Outcome.DEFERRED)
        sent = [one.octets for one in peer.transactions if one.octets]  # a lone final dot ends a pipelined DATA
        require(not sent, "content was sent although every forward-path was refused")


async def _data_2yz(subject: Subject) -> None:
    async with subject.scripted(Script(data="250 2.0.0 fine")) as (peer, transport):
        [result] = await deliver(transport, make_delivery())
        require(result.outcome is not Outcome.DELIVERED, "delivered, although no content was asked for")
        require(not peer.messages, "content was sent although it was not asked for")


async def _lost_at_greeting(subject: Subject) -> None:
    async with subject.scripted(Script(lose_connection_at="greeting")) as (_, transport):
        [result] = await deliver(transport, make_delivery())
        require_outcomes([result], Outcome.DEFERRED)
        require(not result.is_maybe_delivered, "marked as maybe delivered although nothing was said")


async def _closing(subject: Subject) -> None:
    script = Script(recipients={"c@peer.example": "421 4.3.2 closing"}, lingers_after_421=True)
    async with subject.scripted(script) as (peer, transport):
        results = await deliver(transport, make_delivery("b@peer.example", "c@peer.example"))
        # A transport may give each forward-path a transaction of its own; that of the first is over before.
        is_taken = any(one.forward_paths == ["b@peer.example"] and not one.refused for one in peer.messages)
        require_outcomes(results, Outcome.DELIVERED if is_taken else Outcome.DEFERRED, Outcome.DEFERRED)
        require(not any(one.is_maybe_delivered for one in results), "marked as maybe delivered without a final dot")
        require(await peer.wait_until_closed(WAIT_SECONDS), "the connection stayed open after 421")


async def _nonsense(subject: Subject) -> None:
    async with subject.scripted(Script(mail="here be dragons")) as (peer, transport):
        require_outcomes(await deliver(transport, make_delivery()), Outcome.DEFERRED)
        require(await peer.wait_until_closed(WAIT_SECONDS), "the connection stayed open after nonsense")


async def _slow_peer(subject: Subject) -> None:
    async with subject.scripted(Script(seconds_per_octet=0.001)) as (peer, transport):
        require_outcomes(await deliver(transport, make_delivery()), Outcome.DELIVERED)
        _require_each_once(peer, ("b@peer.example",))


async def _helo(subject: Subject) -> None:
    if subject.is_lmtp:
        raise NotApplicable("LMTP has no HELO")
    async with subject.scripted(Script(hello="502 5.5.1 what is EHLO")) as (peer, transport):
        require_outcomes(await deliver(transport, make_delivery()), Outcome.DELIVERED)
        require(not peer.messages[0].parameters, f"MAIL has {peer.messages[0].parameters} after HELO")


async def _no_pipelining(subject: Subject) -> None:
    async with subject.scripted(Script(extensions=("8BITMIME",))) as (peer, transport):
        results = await deliver(transport, make_delivery("b@peer.example", "c@peer.example"))
        require_outcomes(results, Outcome.DELIVERED, Outcome.DELIVERED)
        _require_good_manners(peer)


async def _limits(subject: Subject) -> None:
    script = Script(extensions=("PIPELINING", "LIMITS RCPTMAX=2"), max_recipients=2, too_many="503 5.5.1 told you")
    async with subject.scripted(script) as (peer, transport):
        results = await deliver(transport, make_delivery(*_PATHS))
        require_outcomes(results, *[Outcome.DELIVERED] * len(_PATHS))
        _require_each_once(peer, _PATHS)
        _require_good_manners(peer)


def _too_many(reply: str) -> Callable[[Subject], Awaitable[None]]:
    async def check(subject: Subject) -> None:
        async with subject.scripted(Script(max_recipients=2, too_many=reply)) as (peer, transport):
            results = await deliver(transport, make_delivery(*_PATHS))
            require_outcomes(results, *[Outcome.DELIVERED] * len(_PATHS))
            _require_each_once(peer, _PATHS)
            _require_good_manners(peer)

    return check


async def _closed_while_idle(subject: Subject) -> None:
    async with subject.scripted(Script(lose_connection_at="idle")) as (peer, transport):
        for path in _PATHS[:3]:
            require_outcomes(await deliver(transport, make_delivery(path)), Outcome.DELIVERED)
        _require_each_once(peer, _PATHS[:3])


async def _reset_between(subject: Subject) -> None:
    script = Script(recipients={"x@peer.example": "450 4.2.0 later"}, data="451 4.3.0 not yet")
    async with subject.scripted(script) as (peer, transport):
        require_outcomes(await deliver(transport, make_delivery("x@peer.example")), Outcome.DEFERRED)
        require_outcomes(await deliver(transport, make_delivery("y@peer.example")), Outcome.DEFERRED)
        peer.script = Script(is_lmtp=peer.script.is_lmtp)
        require_outcomes(await deliver(transport, make_delivery("z@peer.example")), Outcome.DELIVERED)
        _require_each_once(peer, ("z@peer.example",))
        _require_good_manners(peer)


async def _smtputf8_missing(subject: Subject) -> None:
    async with subject.scripted(Script(extensions=("PIPELINING", "8BITMIME"))) as (peer, transport):
        [result] = await deliver(transport, make_delivery("\u00e9@peer.example", needs_smtputf8=True))
        require_outcomes([result], Outcome.FAILED)
        code = result.reply.enhanced_status_code if result.reply else ""
        require(code == "5.6.7", f"the enhanced status code is {code!r}, not 5.6.7")
        require(not peer.messages, "the message was sent to a peer that does not offer SMTPUTF8")


async def _smtputf8_asked_for(subject: Subject) -> None:
    async with subject.scripted(Script()) as (peer, transport):
        delivery = make_delivery("\u00e9@peer.example", needs_smtputf8=True)
        require_outcomes(await deliver(transport, delivery), Outcome.DELIVERED)
        require("SMTPUTF8" in peer.messages[0].parameters, "MAIL lacks SMTPUTF8")
        _require_each_once(peer, ("\u00e9@peer.example",))


async def _smtputf8_not_needed(subject: Subject) -> None:
    async with subject.scripted(Script()) as (peer, transport):
        require_outcomes(await deliver(transport, make_delivery()), Outcome.DELIVERED)
        require("SMTPUTF8" not in peer.messages[0].parameters, "MAIL has SMTPUTF8 for a message that is ASCII")


async def _requiretls_missing(subject: Subject) -> None:
    async with subject.scripted(Script()) as (peer, transport):
        [result] = await deliver(transport, make_delivery(require_tls=True))
        require_outcomes([result], Outcome.FAILED)
        code = result.reply.enhanced_status_code if result.reply else ""
        require(code == "5.7.30", f"the enhanced status code is {code!r}, not 5.7.30")
        require(not peer.messages, "the message was sent to a peer that does not offer REQUIRETLS")


async def _eight_bit_as_is(subject: Subject) -> None:
    octets = "Subject: kit\r\n\r\nGr\u00fc\u00dfe\r\n".encode()
    async with subject.scripted(Script(extensions=("PIPELINING",))) as (peer, transport):
        [result] = await deliver(transport, make_delivery(octets=octets, has_8bit=True))
        require_outcomes([result], Outcome.DELIVERED)
        require([one.octets for one in peer.messages] == [octets], "8-bit content was changed")
        require(bool(result.notes), "nothing is noted on the attempt")
        require(
            not any("8BITMIME" in parameter for parameter in peer.messages[0].parameters),
            "BODY=8BITMIME was sent to a peer that does not offer it",
        )


async def _eight_bit_asked_for(subject: Subject) -> None:
    octets = "Subject: kit\r\n\r\nGr\u00fc\u00dfe\r\n".encode()
    async with subject.scripted(Script()) as (peer, transport):
        [result] = await deliver(transport, make_delivery(octets=octets, has_8bit=True))
        require_outcomes([result], Outcome.DELIVERED)
        require("BODY=8BITMIME" in peer.messages[0].parameters, "MAIL lacks BODY=8BITMIME")
        require(not result.notes, f"noted on the attempt, without a reason: {result.notes}")


async def _size_exceeded(subject: Subject) -> None:
    async with subject.scripted(Script(extensions=("PIPELINING", "SIZE 50"))) as (peer, transport):
        [result] = await deliver(transport, make_delivery())
        require_outcomes([result], Outcome.FAILED)
        require(not peer.messages, "the message was sent although it is larger than the peer's SIZE")


async def _lmtp_each_answer(subject: Subject) -> None:
    _require_lmtp(subject)
    finals = {_PATHS[1]: "550 5.2.2 full", _PATHS[2]: "451 4.3.0 later"}
    async with subject.scripted(Script(recipients={_PATHS[0]: "550 5.1.1 no"}, finals=finals)) as (_, transport):
        results = await deliver(transport, make_delivery(*_PATHS))
        wanted = (Outcome.FAILED, Outcome.FAILED, Outcome.DEFERRED, Outcome.DELIVERED, Outcome.DELIVERED)
        require_outcomes(results, *wanted)
        codes = [result.reply.enhanced_status_code if result.reply else "" for result in results]
        require(codes[:3] == ["5.1.1", "5.2.2", "4.3.0"], f"the results have the replies of others: {codes}")


async def _lmtp_lost_between(subject: Subject) -> None:
    _require_lmtp(subject)
    async with subject.scripted(Script(lose_connection_at="finals")) as (_, transport):
        results = await _results_or_violation(transport.deliver(make_delivery(*_PATHS[:3])))
        require_outcomes(results, Outcome.DELIVERED, Outcome.DEFERRED, Outcome.DEFERRED)
        maybe = [result.is_maybe_delivered for result in results]
        require(maybe == [False, True, True], f"maybe delivered are {maybe}, not those that had no reply")


async def _results_or_violation(under_way: Awaitable[tuple[RecipientResult, ...]]) -> tuple[RecipientResult, ...]:
    try:
        return await under_way
    except Exception as error:
        raise Violation(f"raised {error!r}, so the replies that came before are lost") from error


def _require_lmtp(subject: Subject) -> None:
    if not subject.is_lmtp:
        raise NotApplicable("the transport does not speak LMTP")


_DEFERRED, _FAILED = Outcome.DEFERRED, Outcome.FAILED
_CONTRACT = "hooks.md, register_transport_types"
_REPLIES = "RFC 5321 section 4.2.1"

BEHAVIOURS: tuple[Behaviour[Subject], ...] = (
    Behaviour(
        "transport/delivered", "any 2yz reply to the final dot is delivered", "RFC 5321 section 4.2.1", _delivered
    ),
    Behaviour(
        "transport/reply-kept",
        "the result has all lines of the peer's reply, and its enhanced status code",
        "RFC 5321 section 4.2.1, RFC 2034 section 4",
        _reply_is_kept,
    ),
    Behaviour(
        "transport/no-content-when-all-refused",
        "no content is sent when all forward-paths are refused",
        "RFC 5321 section 3.3, RFC 2920 section 3.1",
        _all_refused,
    ),
    Behaviour(
        "transport/greeting-4yz",
        "a 4yz greeting defers all",
        "RFC 5321 section 3.1",
        _outcome_when(Script(greeting="421 4.3.2 closing"), _DEFERRED),
    ),
    Behaviour(
        "transport/greeting-5yz",
        "a 5yz greeting fails all",
        "RFC 5321 section 3.1",
        _outcome_when(Script(greeting="554 5.7.1 not you"), _FAILED),
    ),
    Behaviour(
        "transport/mail-4yz",
        "a 4yz reply to MAIL defers all",
        _REPLIES,
        _outcome_when(Script(mail="451 4.3.0 later"), _DEFERRED),
    ),
    Behaviour(
        "transport/mail-5yz",
        "a 5yz reply to MAIL fails all",
        _REPLIES,
        _outcome_when(Script(mail="550 5.7.1 never"), _FAILED),
    ),
    Behaviour(
        "transport/data-4yz",
        "a 4yz reply to DATA defers all",
        _REPLIES,
        _outcome_when(Script(data="451 4.3.0 later"), _DEFERRED),
    ),
    Behaviour(
        "transport/data-5yz",
        "a 5yz reply to DATA fails all",
        _REPLIES,
        _outcome_when(Script(data="554 5.7.1 never"), _FAILED),
    ),
    Behaviour("transport/data-2yz", "a 2yz reply to DATA delivers nothing", "RFC 5321 section 4.1.1.4", _data_2yz),
    Behaviour(
        "transport/lost-at-greeting", "a connection lost before the greeting defers", _CONTRACT, _lost_at_greeting
    ),
    Behaviour(
        "transport/closing-421", "421 within a session defers all and closes it", "RFC 5321 section 3.8", _closing
    ),
    Behaviour("transport/nonsense", "a reply that is none defers, and the connection is closed", _REPLIES, _nonsense),
    Behaviour(
        "transport/slow-peer", "replies that come octet by octet are understood", "RFC 5321 section 4.5.3.2", _slow_peer
    ),
    Behaviour("transport/helo", "a peer that does not know EHLO is greeted with HELO", "RFC 5321 section 3.2", _helo),
    Behaviour(
        "transport/no-pipelining",
        "commands wait for replies where PIPELINING is not offered",
        "RFC 2920",
        _no_pipelining,
    ),
    Behaviour(
        "transport/limits-rcptmax",
        "a transaction has no more recipients than LIMITS RCPTMAX allows",
        "RFC 9422 section 4.2",
        _limits,
    ),
    Behaviour(
        "transport/too-many-452",
        "forward-paths beyond the peer's limit, refused with 452, are sent at once in another transaction",
        "RFC 5321 section 4.5.3.1.10",
        _too_many("452 4.5.3 too many recipients"),
    ),
    Behaviour(
        "transport/too-many-552",
        "552 to RCPT means the same as 452",
        "RFC 5321 section 4.5.3.1.10",
        _too_many("552 5.5.3 too many recipients"),
    ),
    Behaviour(
        "transport/closed-while-idle",
        "a peer that closes after each message gets the next one over another connection, at once",
        "RFC 5321 section 3.8",
        _closed_while_idle,
    ),
    Behaviour(
        "transport/reset-between",
        "a transaction that did not come to its content is over before another begins",
        "RFC 5321 section 4.1.4",
        _reset_between,
    ),
    Behaviour(
        "transport/smtputf8-missing",
        "SMTPUTF8 that the peer lacks fails with 5.6.7",
        "RFC 6531 section 3.5",
        _smtputf8_missing,
    ),
    Behaviour(
        "transport/smtputf8-asked-for",
        "SMTPUTF8 is asked for where the message needs it",
        "RFC 6531 section 3.4",
        _smtputf8_asked_for,
    ),
    Behaviour(
        "transport/smtputf8-not-needed",
        "SMTPUTF8 is not asked for where nothing needs it",
        "RFC 6531 section 3.4",
        _smtputf8_not_needed,
    ),
    Behaviour(
        "transport/requiretls-missing",
        "REQUIRETLS that the peer lacks fails with 5.7.30",
        "RFC 8689 section 4.2.1",
        _requiretls_missing,
    ),
    Behaviour(
        "transport/8bit-as-is",
        "8-bit content goes as it is to a peer without 8BITMIME, and that is noted",
        _CONTRACT,
        _eight_bit_as_is,
    ),
    Behaviour(
        "transport/8bit-asked-for",
        "8-bit content is announced to a peer with 8BITMIME",
        "RFC 6152 section 3",
        _eight_bit_asked_for,
    ),
    Behaviour(
        "transport/size-exceeded",
        "a message larger than the peer's SIZE fails unsent",
        "RFC 1870 section 6.1",
        _size_exceeded,
    ),
    Behaviour(
        "transport/lmtp-each-answer",
        "LMTP: each forward-path has the reply that came for it after the final dot",
        "RFC 2033 section 4.2",
        _lmtp_each_answer,
    ),
    Behaviour(
        "transport/lmtp-lost-between",
        "LMTP: a connection lost between the replies leaves those that came, and the others are maybe delivered",
        "RFC 2033 section 4.2",
        _lmtp_lost_between,
    ),
)
