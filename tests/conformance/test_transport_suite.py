"""The transport suite finds what it is there to find: a good transport passes, and for each id there is a mutant."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from mailcrane.api import Mailbox, Outcome
from mailcrane_conformance import transport as suite
from mailcrane_conformance.kit import Answer, Result

from .plain_transport import Faults, PlainTransport


@dataclass(frozen=True)
class Mutant:
    """A transport with one fault.

    Attributes:
        also: What else cannot be so with this fault.
    """

    faults: Faults
    also: frozenset[str] = frozenset()
    is_lmtp: bool = False


_made: list[PlainTransport] = []


@pytest.fixture(autouse=True)
def _close_what_mutants_leave_open() -> Iterator[None]:
    yield
    while _made:
        for stream in _made.pop().leaked:
            if (descriptor := stream.socket.detach()) >= 0:
                os.close(descriptor)


def subject(mutant: Mutant) -> suite.Subject:
    async def make(host: str, port: int) -> PlainTransport:
        transport = PlainTransport(host, port, mutant.faults, is_lmtp=mutant.is_lmtp)
        _made.append(transport)
        return transport

    return suite.lmtp(make) if mutant.is_lmtp else suite.smtp(make)


def wrong(where: str, outcome: Outcome, *also: str) -> Mutant:
    return Mutant(Faults(take_for=((where, outcome),)), frozenset(also))


_D, _F = Outcome.DEFERRED, Outcome.FAILED

MUTANTS: dict[str, Mutant] = {
    "octets-unchanged": Mutant(Faults(no_stuffing=True)),
    "every-octet": Mutant(Faults(drop_nul=True)),
    "long-line": Mutant(Faults(fold_lines=True)),
    "large-content": Mutant(Faults(cut_large=True)),
    "streamed": Mutant(Faults(read_ahead=True)),
    "reverse-path": Mutant(Faults(drop_subaddress=True)),
    "null-reverse-path": Mutant(Faults(null_as="postmaster@sender.example")),
    "delivered": Mutant(Faults(lie_about_delivery=True)),
    "one-result-each": Mutant(Faults(results_of_six=True)),
    "results-in-order": Mutant(Faults(reverse_results=True)),
    "final-4yz": wrong("final-4yz", _F),
    "final-5yz": wrong("final-5yz", _D),
    "error-in-words": Mutant(Faults(no_error=True)),
    "nobody-listens": Mutant(Faults(fail_when_refused_connection=True)),
    "lost-in-content": Mutant(Faults(maybe_in_content=True)),
    "lost-after-final-dot": Mutant(Faults(raise_when_lost=True)),
    "cancellation-closes": Mutant(Faults(leak_on_cancel=True)),
    "cancelled-content-not-ended": Mutant(Faults(end_content_on_cancel=True)),
    "concurrent": Mutant(Faults(shared_state=True)),
    "one-after-another": Mutant(Faults(keep_sender=True)),
    "again": Mutant(Faults(one_shot=True)),
    "not-now": Mutant(Faults(not_now_after_sending=True)),
    "aclose": Mutant(Faults(leave_open=True)),
    "reply-kept": Mutant(Faults(drop_enhanced_code=True)),
    "no-content-when-all-refused": Mutant(Faults(send_to_nobody=True)),
    "greeting-4yz": wrong("greeting-4yz", _F),
    "greeting-5yz": wrong("greeting-5yz", _D),
    "mail-4yz": wrong("mail-4yz", _F),
    "mail-5yz": wrong("mail-5yz", _D),
    "data-4yz": wrong("data-4yz", _F, "reset-between"),
    "data-5yz": wrong("data-5yz", _D),
    "data-2yz": Mutant(Faults(believe_data_2yz=True)),
    "lost-at-greeting": Mutant(Faults(maybe_at_greeting=True)),
    "closing-421": wrong("closing-4yz", _F),
    "nonsense": Mutant(Faults(stay_after_nonsense=True)),
    "slow-peer": Mutant(Faults(impatient=True)),
    "helo": Mutant(Faults(no_helo=True)),
    "no-pipelining": Mutant(Faults(always_pipeline=True)),
    "limits-rcptmax": Mutant(Faults(ignore_limits=True)),
    "too-many-452": Mutant(Faults(defer_too_many=True)),
    "too-many-552": Mutant(Faults(fail_552=True)),
    "closed-while-idle": Mutant(Faults(reuse=True, reuse_blindly=True)),
    "reset-between": Mutant(Faults(reuse=True, reuse_without_reset=True), frozenset({"one-after-another"})),
    "smtputf8-missing": Mutant(Faults(ignore_smtputf8=True)),
    "smtputf8-asked-for": Mutant(Faults(never_ask_smtputf8=True)),
    "smtputf8-not-needed": Mutant(Faults(always_ask_smtputf8=True)),
    "requiretls-missing": Mutant(Faults(ignore_requiretls=True)),
    "8bit-as-is": Mutant(Faults(silent_about_8bit=True)),
    "8bit-asked-for": Mutant(Faults(never_ask_8bit=True)),
    "size-exceeded": Mutant(Faults(ignore_size=True)),
    "lmtp-each-answer": Mutant(Faults(one_final_for_all=True), is_lmtp=True),
    "lmtp-lost-between": Mutant(Faults(forget_finals_when_lost=True), is_lmtp=True),
}

MORE_MUTANTS: dict[str, Mutant] = {
    "reply-kept": Mutant(Faults(first_line_only=True)),
    "closing-421": Mutant(Faults(stay_after_421=True)),
}


def failed(results: Sequence[Result]) -> set[str]:
    return {result.id.removeprefix("transport/") for result in results if result.answer is Answer.FAILED}


@pytest.mark.parametrize("is_lmtp", [False, True], ids=["smtp", "lmtp"])
async def test_a_plain_transport_passes(is_lmtp: bool) -> None:
    results = await suite.run(subject(Mutant(Faults(), is_lmtp=is_lmtp)))
    assert failed(results) == set(), "\n".join(map(str, results))


def test_every_behaviour_has_a_mutant_an_id_of_its_own_a_sentence_and_a_reference() -> None:
    ids = [behaviour.id for behaviour in suite.BEHAVIOURS]
    assert sorted(f"transport/{name}" for name in MUTANTS) == sorted(ids)
    assert len(set(ids)) == len(ids)
    assert all(behaviour.sentence and behaviour.reference for behaviour in suite.BEHAVIOURS)


@pytest.mark.parametrize(("name", "mutant"), [*MUTANTS.items(), *MORE_MUTANTS.items()])
async def test_a_mutant_is_caught_by_its_behaviour(name: str, mutant: Mutant) -> None:
    [result] = await suite.run(subject(mutant), [name])
    assert result.answer is Answer.FAILED, result


@pytest.mark.slow
@pytest.mark.parametrize(("name", "mutant"), [*MUTANTS.items(), *MORE_MUTANTS.items()])
async def test_a_mutant_fails_nothing_but_its_behaviour_and_what_goes_with_it(name: str, mutant: Mutant) -> None:
    results = await suite.run(subject(mutant))
    assert failed(results) == {name, *mutant.also}, "\n".join(map(str, results))


async def test_what_needs_lmtp_is_skipped_for_smtp_and_the_result_says_why() -> None:
    [result] = await suite.run(subject(Mutant(Faults())), ["transport/lmtp-each-answer"])
    assert result.answer is Answer.SKIPPED
    assert result.explanation == "the transport does not speak LMTP"


def test_a_mailbox_of_the_kit_is_a_mailbox_of_the_server() -> None:
    assert suite.make_delivery().forward_paths == (Mailbox.parse("b@peer.example"),)
