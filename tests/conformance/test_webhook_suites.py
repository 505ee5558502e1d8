"""The webhook suites find what they are there to find, for receivers and for senders; our server is a good sender."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import trio
from msgspec.structs import replace

from mailcrane.api import Secret, SystemClock
from mailcrane.api.http import GuardedClient
from mailcrane.config.rows import Webhook
from mailcrane.model.event import EventKind
from mailcrane.testing import PASSWORD, ROWS, RunningServer, server
from mailcrane_conformance import webhook as suite
from mailcrane_conformance.kit import Answer, Behaviour, Result

from .plain_receiver import (
    AUTHORIZATION,
    SECRET,
    PlainReceiver,
    PlainSender,
    ReceiverFaults,
    SenderFaults,
    running_receiver,
)


@dataclass(frozen=True)
class ReceiverMutant:
    """A receiver with one fault; `also` is what else cannot be so with it."""

    faults: ReceiverFaults
    also: frozenset[str] = frozenset()


RECEIVERS: dict[str, ReceiverMutant] = {
    "takes": ReceiverMutant(ReceiverFaults(acts_twice=True), frozenset({"concurrent"})),
    "every-event": ReceiverMutant(ReceiverFaults(only_delivered=True)),
    "odd-text": ReceiverMutant(ReceiverFaults(ascii_only=True)),
    "unknown-fields": ReceiverMutant(ReceiverFaults(strict_fields=True)),
    "unknown-event": ReceiverMutant(ReceiverFaults(known_events_only=True)),
    "repeated": ReceiverMutant(ReceiverFaults(forgets_ids=True)),
    "concurrent": ReceiverMutant(ReceiverFaults(one_at_a_time=True)),
    "bad-signature": ReceiverMutant(ReceiverFaults(believes_all=True), frozenset({"other-body", "other-id"})),
    "no-signature": ReceiverMutant(ReceiverFaults(unsigned_is_fine=True)),
    "other-body": ReceiverMutant(ReceiverFaults(ignores_body=True)),
    "other-id": ReceiverMutant(ReceiverFaults(ignores_id=True)),
    "old": ReceiverMutant(ReceiverFaults(ignores_age=True)),
    "future": ReceiverMutant(ReceiverFaults(ignores_future=True)),
    "not-so-old": ReceiverMutant(ReceiverFaults(impatient=True)),
    "two-signatures": ReceiverMutant(ReceiverFaults(first_signature_only=True)),
    "authorization": ReceiverMutant(ReceiverFaults(ignores_authorization=True)),
    "garbage": ReceiverMutant(ReceiverFaults(crashes_on_garbage=True)),
}

SENDERS: dict[str, tuple[SenderFaults, frozenset[str]]] = {
    "request": (SenderFaults(no_content_type=True), frozenset()),
    "numbers": (SenderFaults(counts_from_zero=True), frozenset({"repeats"})),
    "schema": (SenderFaults(number_as_text=True), frozenset()),
    "order": (SenderFaults(sorts_fields=True), frozenset()),
    "event-name": (SenderFaults(own_event_name=True), frozenset()),
    "instant": (SenderFaults(local_time=True), frozenset()),
    "signature": (SenderFaults(signs_body_only=True), frozenset()),
    "timestamp": (SenderFaults(old_timestamp=True), frozenset()),
    "ids": (SenderFaults(same_id=True), frozenset()),
    "once": (SenderFaults(sends_twice=True), frozenset({"ids"})),
    "repeats": (SenderFaults(new_id_on_repeat=True), frozenset()),
}


def subject(receiver: PlainReceiver) -> suite.Receiver:
    return suite.Receiver(receiver.url, SECRET, AUTHORIZATION, receiver.count)


def failed(results: Sequence[Result]) -> set[str]:
    return {result.id.partition("/")[2] for result in results if result.answer is Answer.FAILED}


def test_every_behaviour_has_a_mutant_an_id_of_its_own_a_sentence_and_a_reference() -> None:
    every: list[Behaviour[Any]] = [*suite.BEHAVIOURS, *suite.SENDER_BEHAVIOURS]
    mutants = [
        *(f"webhook/{name}" for name in RECEIVERS),
        *(f"webhook-sender/{name}" for name in SENDERS),
    ]
    assert sorted(mutants) == sorted(one.id for one in every)
    assert len({one.id for one in every}) == len(every)
    assert all(one.sentence and one.reference for one in every)


async def test_a_good_receiver_passes() -> None:
    async with running_receiver(ReceiverFaults()) as receiver:
        results = await suite.run(subject(receiver))
    assert failed(results) == set(), "\n".join(map(str, results))


@pytest.mark.parametrize(("name", "mutant"), RECEIVERS.items())
async def test_a_wrong_receiver_fails_its_behaviour_and_what_goes_with_it(name: str, mutant: ReceiverMutant) -> None:
    async with running_receiver(mutant.faults) as receiver:
        results = await suite.run(subject(receiver))
    assert failed(results) == {name, *mutant.also}, "\n".join(map(str, results))


async def test_a_good_sender_passes() -> None:
    sender = PlainSender(SenderFaults())
    results = await suite.run_sender(suite.Sender(sender.tell, sender.hurry))
    assert failed(results) == set(), "\n".join(map(str, results))


@pytest.mark.parametrize("name", SENDERS)
async def test_a_wrong_sender_fails_its_behaviour_and_what_goes_with_it(name: str) -> None:
    faults, also = SENDERS[name]
    sender = PlainSender(faults)
    results = await suite.run_sender(suite.Sender(sender.tell, sender.hurry))
    assert failed(results) == {name, *also}, "\n".join(map(str, results))


async def test_what_nothing_is_known_of_is_skipped_with_the_reason() -> None:
    async with running_receiver(ReceiverFaults()) as receiver:
        [result] = await suite.run(suite.Receiver(receiver.url, authorization=AUTHORIZATION), ["old"])
    assert result.answer is Answer.SKIPPED
    assert "no secret was given" in result.explanation


async def test_the_server_is_a_good_sender(monkeypatch: pytest.MonkeyPatch) -> None:
    # The receiver looks at its clock, which is that of the day.
    monkeypatch.setattr("mailcrane.testing.in_memory.Clock", SystemClock)
    client = GuardedClient(allow_networks=("127.0.0.0/8",))

    async def tell(url: str, secret: str, count: int) -> None:
        ann = replace(ROWS.accounts[0], outgoing_webhook=Webhook(url, secrets=(Secret(secret),)))
        async with server(rows=replace(ROWS, accounts=(ann, *ROWS.accounts[1:]))) as running:
            running.receiver.post = client.post  # type: ignore[method-assign]
            session = running.connect("submission")
            await session.hello()
            await session.log_in("ann@here.example", PASSWORD)
            for number in range(count):
                content = b"From: <ann@here.example>\r\nSubject: %d\r\n\r\nHello\r\n" % number
                reply = await session.send("ann@here.example", f"r{number}@there.example", content)
                assert reply.is_positive
            while not await done(running, count):  # noqa: ASYNC110 - the rows tell
                await trio.sleep(0.02)

    async def done(running: RunningServer, count: int) -> bool:
        events = await running.events("ann")
        return sum(event.kind is EventKind.WEBHOOK_RETIRED for event in events) == count

    try:
        results = await suite.run_sender(suite.Sender(tell))
    finally:
        await client.aclose()
    assert failed(results) == set(), "\n".join(map(str, results))
    skipped = [result.id for result in results if result.answer is Answer.SKIPPED]
    assert skipped == ["webhook-sender/repeats"]
