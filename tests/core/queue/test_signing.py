"""Content is signed at the first attempt, once for the entries that share it, and anew when it is time."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import dkim
import pytest
import trio

from mailcrane.api import ContentEdit, HeaderField, Plugin, hookimpl
from mailcrane.config.rows import DKIMKey
from mailcrane.message.dkim_keys import dns_record, generate_key
from mailcrane.model.delivery import Outcome, RecipientResult
from mailcrane.observe.secret import Secret
from mailcrane.store.errors import DiskFull
from mailcrane.transport.sign import sign

PEM = generate_key("rsa")
DEFERRED = RecipientResult(Outcome.DEFERRED, error="later")


def key(**fields: Any) -> DKIMKey:
    values: dict[str, Any] = {"domain": "example.org", "selector": "s1", "algorithm": "rsa"}
    return DKIMKey(private_key_pem=Secret(PEM), **{**values, **fields})


def is_verified(octets: bytes) -> bool:
    def look_up(name: bytes, timeout: int = 5) -> bytes:
        return dns_record(PEM).encode()

    return bool(dkim.verify(octets, dnsfunc=look_up))


def signature(octets: bytes) -> bytes:
    return octets.partition(b"From:")[0]


class Stamps(Plugin):
    """Puts a field in front, another one at each question."""

    name = "stamps"
    asked = 0

    @hookimpl
    async def rewrite_content(self, transport: str) -> ContentEdit:
        Stamps.asked += 1
        return ContentEdit((HeaderField("X-Stamp", f"{transport} {Stamps.asked}"),))


@pytest.fixture
async def signing(world: Any) -> Any:
    """The queue, with a key for example.org."""
    # The verifier looks at the machine's clock, by which a signature of the mock clock would be over.
    await world.configure(dkim_keys=(key(expiration_seconds=0),))
    Stamps.asked = 0
    return world


async def test_what_is_delivered_has_a_signature_that_verifies(signing: Any) -> None:
    await signing.queue()
    await signing.run_for(seconds=1)
    [octets] = signing.transport.octets
    assert octets.startswith(b"DKIM-Signature: v=1; a=rsa-sha256;")
    assert is_verified(octets)
    assert signing.transport.deliveries[0].content.size_octets == len(octets)


async def test_large_content_is_signed_in_pieces(signing: Any) -> None:
    octets = b"From: <ann@example.org>\r\nSubject: large\r\n\r\n" + b"0123456789abcdef\r\n" * 50_000
    await signing.queue(octets=octets)
    await signing.run_for(seconds=1)
    assert is_verified(signing.transport.octets[0])
    assert signing.transport.octets[0].endswith(octets)


async def test_content_of_another_domain_is_delivered_as_it_is(signing: Any) -> None:
    octets = b"From: <ann@example.com>\r\n\r\nHello\r\n"
    await signing.queue(octets=octets)
    await signing.run_for(seconds=1)
    assert signing.transport.octets == [octets]


@pytest.mark.parametrize(
    "octets",
    [
        b"Subject: nobody\r\n\r\nHello\r\n",
        b"From: <ann@example.org>\r\nFrom: <bob@example.org>\r\n\r\nHello\r\n",
        b"From: nonsense <<\r\n\r\nHello\r\n",
        b"\r\nonly a body\r\n",
    ],
)
async def test_content_without_one_author_is_delivered_unsigned(signing: Any, octets: bytes) -> None:
    await signing.queue(octets=octets)
    await signing.run_for(seconds=1)
    assert signing.transport.octets == [octets]


async def test_entries_that_share_content_share_its_signature(signing: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = 0

    async def count(*arguments: Any) -> Any:
        nonlocal made
        made += 1
        return await sign(*arguments)

    monkeypatch.setattr("mailcrane.transport.prepare.sign", count)
    await signing.queue(*[f"you@d{number}.example" for number in range(5)])
    await signing.run_for(seconds=1)
    assert made == 1
    assert len(signing.transport.octets) == 5
    assert len(set(signing.transport.octets)) == 1
    # What was prepared goes with the content.
    assert await signing.store.read(lambda transaction: transaction.content.prepared(1, "")) is None


async def test_a_signature_that_cannot_be_kept_holds_up_no_delivery(
    signing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = signing.store.write

    async def full(unit: Any, *, key: str) -> Any:
        if getattr(unit, "__qualname__", "") == "Prepared.store":
            raise DiskFull("no space left")
        return await write(unit, key=key)

    monkeypatch.setattr(signing.store, "write", full)
    await signing.queue("you@d1.example", "you@d2.example")
    await signing.run_for(seconds=1)
    assert len(signing.transport.octets) == 2
    assert all(is_verified(octets) for octets in signing.transport.octets)


async def test_a_signature_is_kept_for_the_next_attempt(signing: Any) -> None:
    await signing.queue()
    signing.transport.acts = [DEFERRED]
    await signing.run_for(minutes=10)
    first, second = signing.transport.octets
    assert first == second


async def test_a_signature_is_renewed_when_half_of_its_time_is_over(signing: Any) -> None:
    await signing.configure(dkim_keys=(key(expiration_seconds=3600),))
    await signing.queue()
    signing.transport.acts = [DEFERRED] * 3
    await signing.run_for(hours=1)
    octets = signing.transport.octets
    assert len(octets) == 4
    assert octets[0] == octets[1] == octets[2]  # after 7.5 and 22.5 minutes
    assert signature(octets[3]) != signature(octets[0])  # after 52.5 minutes
    assert octets[3].count(b"DKIM-Signature") == 1


async def test_a_signature_is_renewed_when_its_selector_is_gone(signing: Any) -> None:
    await signing.queue()
    signing.transport.acts = [DEFERRED]
    async with signing.running():
        await trio.sleep(60)
        await signing.configure(dkim_keys=(key(selector="s2"),))
        await trio.sleep(600)
    assert [b"s=s1;" in octets for octets in signing.transport.octets] == [True, False]


async def test_a_key_that_cannot_be_loaded_defers(world: Any) -> None:
    await world.configure(dkim_keys=(DKIMKey("example.org", "s1", "rsa", Secret("-----BEGIN PRIVATE KEY-----\nno\n")),))
    [entry_id] = await world.queue()
    await world.run_for(seconds=1)
    [attempt] = await world.attempts(entry_id)
    assert attempt.result.outcome is Outcome.DEFERRED
    assert world.transport.deliveries == []


async def test_rewriting_comes_before_signing_and_is_kept_with_it(signing: Any) -> None:
    await signing.queue()
    signing.transport.acts = [DEFERRED]
    async with signing.plugins(Stamps):
        await signing.run_for(minutes=10)
    assert Stamps.asked == 1
    first, second = signing.transport.octets
    assert first == second
    assert b"\r\nX-Stamp: fake 1\r\nFrom:" in first
    assert is_verified(first)


async def test_transports_do_not_share_what_was_rewritten_for_one_of_them(signing: Any) -> None:
    other = type(signing.transport)()
    signing.transports.add("other", other)
    [entry_id] = await signing.queue()
    signing.transport.acts = [DEFERRED]
    async with signing.plugins(Stamps), signing.running():
        await trio.sleep(60)
        await signing.write(lambda transaction: transaction.queue.update(entry_id, transport="other"))
        await trio.sleep(600)
    assert b"X-Stamp: fake 1" in signing.transport.octets[0]
    assert b"X-Stamp: other 2" in other.octets[0]


async def test_a_key_that_comes_later_signs_the_next_attempt(world: Any) -> None:
    await world.queue()
    world.transport.acts = [DEFERRED]
    async with world.running():
        await trio.sleep(60)
        await world.configure(dkim_keys=(key(),))
        await trio.sleep(timedelta(minutes=10).total_seconds())
    assert [octets.startswith(b"DKIM-Signature") for octets in world.transport.octets] == [False, True]
