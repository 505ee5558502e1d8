"""Delivering to the hosts of a domain: one after another, TLS and plaintext, what is never sent, ourselves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from msgspec.structs import replace

from mailcrane.api import Attempt, NotNow, Outcome, RecipientResult, Reply, TLSUse
from mailcrane.api.tls import PolicyUnknown, TLSMode, TLSPolicy
from mailcrane.api.transport import LeftAlone
from mailcrane.run.localserve import has_ipv6
from mailcrane.testing import FakeResolver
from mailcrane.testing.clock import START
from mailcrane.tls.context import ServerTLS, UnknownServerName
from mailcrane_conformance.transport import make_delivery
from mailcrane_transports.config import DirectConfig
from mailcrane_transports.direct import DirectTransport, open_direct
from mailcrane_transports.home import Home

OpenTo = Callable[..., Awaitable[DirectTransport]]
Opened = Callable[[DirectTransport], DirectTransport]

needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


@pytest.fixture
def open_direct_to(home: Home, opened: Opened) -> OpenTo:
    """Opens a transport for the port of a peer."""

    async def open_it(peer: Any, **fields: Any) -> DirectTransport:
        return opened(await open_direct(DirectConfig(port=peer.port, **fields), home))

    return open_it


@pytest.fixture
async def mx1(peer: Any, resolver: FakeResolver) -> Any:
    """The best host of peer.example."""
    resolver.add("peer.example", "MX", (10, "mx1.peer.example"))
    resolver.add_host("mx1.peer.example", peer.host)
    return peer


@pytest.fixture
async def mx2(make_peer: Any, mx1: Any, resolver: FakeResolver) -> Any:
    """Its backup, at the same port of another address."""
    other = await make_peer("127.0.0.2", mx1.port)
    resolver.add("peer.example", "MX", (20, "mx2.peer.example"))
    resolver.add_host("mx2.peer.example", other.host)
    return other


def contents(*peers: Any) -> list[int]:
    return [len(peer.contents) for peer in peers]


# --- which host -----------------------------------------------------------------------------------------------------


async def test_mail_goes_to_the_best_host(mx1: Any, mx2: Any, open_direct_to: OpenTo) -> None:
    [result] = await (await open_direct_to(mx1)).deliver(make_delivery())
    assert result.outcome is Outcome.DELIVERED
    assert result.remote_mta == "mx1.peer.example (127.0.0.1)"
    assert result.dialed == (("mx1.peer.example", "127.0.0.1"),)
    assert contents(mx1, mx2) == [1, 0]


async def test_an_address_literal_needs_no_look_up(peer: Any, resolver: FakeResolver, open_direct_to: OpenTo) -> None:
    [result] = await (await open_direct_to(peer)).deliver(make_delivery("b@[127.0.0.1]"))
    assert result.outcome is Outcome.DELIVERED
    assert result.remote_mta == "127.0.0.1 (127.0.0.1)"
    assert resolver.lookups == []


async def test_domains_with_configured_addresses_need_no_look_up(
    peer: Any, resolver: FakeResolver, open_direct_to: OpenTo
) -> None:
    transport = await open_direct_to(peer, domain_ips={"peer.example": ("127.0.0.1",)})
    [result] = await transport.deliver(make_delivery())
    assert result.outcome is Outcome.DELIVERED
    assert resolver.lookups == []


async def test_a_domain_without_a_host_is_not_connected_to(peer: Any, open_direct_to: OpenTo) -> None:
    [result] = await (await open_direct_to(peer)).deliver(make_delivery("b@nothing.example"))
    assert result.outcome is Outcome.FAILED
    assert peer.lines == []


async def test_the_next_host_is_asked_when_one_cannot_be_reached(
    mx1: Any, mx2: Any, resolver: FakeResolver, open_direct_to: OpenTo
) -> None:
    resolver.remove("mx1.peer.example", "A")
    resolver.add_host("mx1.peer.example", "127.0.0.3")
    [result] = await (await open_direct_to(mx1)).deliver(make_delivery())
    assert result.outcome is Outcome.DELIVERED
    assert result.remote_mta == "mx2.peer.example (127.0.0.2)"
    [note] = result.notes
    assert note.startswith(f"mx1.peer.example: cannot connect to port {mx1.port} of 127.0.0.3: connection refused")


async def test_the_next_host_is_asked_for_the_forward_paths_that_one_defers(
    mx1: Any, mx2: Any, open_direct_to: OpenTo
) -> None:
    mx1.replies["RCPT"] = ["250 ok", "550 5.1.1 nobody", "451 4.3.0 later"]
    paths = [f"{name}@peer.example" for name in "abc"]
    results = await (await open_direct_to(mx1)).deliver(make_delivery(*paths))
    assert [result.outcome for result in results] == [Outcome.DELIVERED, Outcome.FAILED, Outcome.DELIVERED]
    assert [line for line in mx2.lines[0] if line.startswith("RCPT")] == ["RCPT TO:<c@peer.example>"]
    assert results[2].notes == ("mx1.peer.example (127.0.0.1): RCPT: 451 4.3.0 later",)


async def deliver_two(transport: DirectTransport, mx1: Any) -> tuple[RecipientResult, ...]:
    """Deliver to one forward-path that the best host takes and to one that it defers."""
    mx1.replies["RCPT"] = ["250 ok", "451 4.3.0 later"]
    return await transport.deliver(make_delivery("a@peer.example", "b@peer.example"))


async def test_a_backup_that_closes_at_starttls_takes_nothing_back_from_those_who_have_the_message(
    mx1: Any, mx2: Any, certificate: Any, open_direct_to: OpenTo
) -> None:
    mx2.tls = ServerTLS([certificate[1]], unknown_server_name=UnknownServerName.FALL_BACK)
    mx2.extensions = ("STARTTLS",)
    mx2.replies["STARTTLS"] = ["421 4.3.2 going down"]
    results = await deliver_two(await open_direct_to(mx1), mx1)
    assert [result.outcome for result in results] == [Outcome.DELIVERED, Outcome.DEFERRED]
    assert results[1].error == "STARTTLS was refused: 421 4.3.2 going down"


class FaultyPolicies:
    """A provider of policies that has a fault for one host."""

    def __init__(self, host: str) -> None:
        self.host = host

    async def policy(self, domain: str, host: str) -> TLSPolicy:
        if host == self.host:
            raise KeyError(host)
        return TLSPolicy(TLSMode.OPPORTUNISTIC)


async def test_a_fault_of_ours_at_the_backup_takes_nothing_back_from_those_who_have_the_message(
    mx1: Any, mx2: Any, home: Home, opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    faulty = replace(home, policies=FaultyPolicies("mx2.peer.example"))
    transport = opened(await open_direct(DirectConfig(port=mx1.port), faulty))
    results = await deliver_two(transport, mx1)
    assert [result.outcome for result in results] == [Outcome.DELIVERED, Outcome.DEFERRED]
    assert results[1].error == "internal error: KeyError"
    assert "results so far are kept" in caplog.text


async def test_a_fault_of_ours_before_anybody_has_the_message_is_raised(mx1: Any, home: Home, opened: Opened) -> None:
    faulty = replace(home, policies=FaultyPolicies("mx1.peer.example"))
    transport = opened(await open_direct(DirectConfig(port=mx1.port), faulty))
    with pytest.raises(KeyError):
        await transport.deliver(make_delivery())


async def test_those_who_have_the_message_are_known_when_the_delivery_is_cancelled_at_the_backup(
    mx1: Any, mx2: Any, open_direct_to: OpenTo
) -> None:
    mx2.gate = trio.Event()
    transport = await open_direct_to(mx1)
    results: list[tuple[RecipientResult, ...]] = []
    async with trio.open_nursery() as deliveries:

        async def deliver() -> None:
            results.append(await deliver_two(transport, mx1))

        deliveries.start_soon(deliver)
        await mx2.wait_for_contents(1)
        deliveries.cancel_scope.cancel()
    [(first, second)] = results
    assert first.outcome is Outcome.DELIVERED
    assert (second.outcome, second.is_maybe_delivered) == (Outcome.DEFERRED, True)


async def test_a_host_that_fails_for_good_is_the_last(mx1: Any, mx2: Any, open_direct_to: OpenTo) -> None:
    mx1.replies["greeting"] = ["554 5.3.2 no mail here"]
    [result] = await (await open_direct_to(mx1)).deliver(make_delivery())
    assert result.outcome is Outcome.FAILED
    assert result.error == "greeting: 554 5.3.2 no mail here"
    assert mx2.lines == []


async def test_what_may_be_delivered_is_not_sent_to_another_host(mx1: Any, mx2: Any, open_direct_to: OpenTo) -> None:
    mx1.replies["."] = [None]
    [result] = await (await open_direct_to(mx1)).deliver(make_delivery())
    assert result.outcome is Outcome.DEFERRED
    assert result.is_maybe_delivered
    assert mx2.lines == []


async def test_when_all_hosts_defer_the_last_word_and_those_before_are_kept(
    mx1: Any, mx2: Any, open_direct_to: OpenTo
) -> None:
    mx1.replies["RCPT"] = ["451 4.3.0 one"]
    mx2.replies["RCPT"] = ["451 4.3.0 two"]
    [result] = await (await open_direct_to(mx1)).deliver(make_delivery())
    assert result.outcome is Outcome.DEFERRED
    assert result.reply == Reply.make(451, "4.3.0", "two")
    assert result.notes == ("mx1.peer.example (127.0.0.1): RCPT: 451 4.3.0 one",)
    assert result.dialed == (("mx1.peer.example", "127.0.0.1"), ("mx2.peer.example", "127.0.0.2"))


async def test_a_host_that_is_too_small_fails_for_good(mx1: Any, mx2: Any, open_direct_to: OpenTo) -> None:
    mx1.extensions = ("SIZE 10",)
    [result] = await (await open_direct_to(mx1)).deliver(make_delivery())
    assert result.outcome is Outcome.FAILED
    assert result.reply is not None
    assert result.reply.enhanced_status_code == "5.3.4"
    assert mx2.lines == []


async def test_smtputf8_is_looked_for_at_every_host(mx1: Any, mx2: Any, open_direct_to: OpenTo) -> None:
    mx1.extensions = ("8BITMIME",)
    transport = await open_direct_to(mx1)
    [result] = await transport.deliver(make_delivery("é@peer.example"))
    assert result.outcome is Outcome.DELIVERED
    assert contents(mx1, mx2) == [0, 1]


async def test_smtputf8_that_every_host_lacks_fails_for_good(mx1: Any, mx2: Any, open_direct_to: OpenTo) -> None:
    mx1.extensions = mx2.extensions = ("8BITMIME",)
    [result] = await (await open_direct_to(mx1)).deliver(make_delivery("é@peer.example"))
    assert result.outcome is Outcome.FAILED
    assert result.reply is not None
    assert result.reply.enhanced_status_code == "5.6.7"


async def test_smtputf8_that_one_host_lacks_and_another_may_have_defers(
    mx1: Any, mx2: Any, open_direct_to: OpenTo
) -> None:
    mx1.extensions = ("8BITMIME",)
    mx2.replies["greeting"] = ["421 4.3.2 closing"]
    [result] = await (await open_direct_to(mx1)).deliver(make_delivery("é@peer.example"))
    assert result.outcome is Outcome.DEFERRED


# --- address families -----------------------------------------------------------------------------------------------


@pytest.fixture
async def both(make_peer: Any, resolver: FakeResolver) -> tuple[Any, Any]:
    """peer.example at an IPv6 and at an IPv4 address."""
    v4 = await make_peer()
    v6 = await make_peer("::1", v4.port)
    resolver.add_host("peer.example", v6.host, v4.host)
    return v6, v4


def attempt(number: int, *ips: str) -> Attempt:
    dialed = tuple(("peer.example", ip) for ip in ips)
    return Attempt(number, START, "direct", result=RecipientResult(Outcome.DEFERRED, dialed=dialed))


@needs_ipv6
async def test_another_attempt_comes_from_the_other_family(both: tuple[Any, Any], open_direct_to: OpenTo) -> None:
    v6, v4 = both
    transport = await open_direct_to(v4, idle_seconds=0.0)
    delivery = make_delivery()
    await transport.deliver(delivery)
    assert contents(v6, v4) == [1, 0]
    await transport.deliver(replace(delivery, attempt=2, attempts_before=(attempt(1, "::1"),)))
    assert contents(v6, v4) == [1, 1]


@needs_ipv6
@pytest.mark.parametrize(("field", "wanted"), [("disable_ipv6", [0, 1]), ("disable_ipv4", [1, 0])])
async def test_a_family_can_be_disabled(
    both: tuple[Any, Any], open_direct_to: OpenTo, field: str, wanted: list[int]
) -> None:
    await (await open_direct_to(both[1], **{field: True})).deliver(make_delivery())
    assert contents(*both) == wanted


@needs_ipv6
async def test_a_refusal_for_policy_by_a_host_of_both_families_defers_once(
    both: tuple[Any, Any], open_direct_to: OpenTo
) -> None:
    v6, v4 = both
    transport = await open_direct_to(v4)
    v6.replies["MAIL"] = ["550 5.7.25 no reverse name"]
    [first] = await transport.deliver(make_delivery())
    assert first.outcome is Outcome.DEFERRED
    assert "the other address family is tried next" in first.error
    v4.replies["MAIL"] = ["550 5.7.1 go away"]
    second = replace(make_delivery(), attempt=2, attempts_before=(attempt(1, "::1"),))
    [result] = await (await open_direct_to(v4)).deliver(second)
    assert result.outcome is Outcome.FAILED


async def test_a_refusal_for_policy_by_a_host_of_one_family_fails(mx1: Any, open_direct_to: OpenTo) -> None:
    mx1.replies["MAIL"] = ["550 5.7.25 no reverse name"]
    [result] = await (await open_direct_to(mx1)).deliver(make_delivery())
    assert result.outcome is Outcome.FAILED


async def test_connections_come_from_the_configured_address(mx1: Any, open_direct_to: OpenTo) -> None:
    transport = await open_direct_to(mx1, local_ips=("127.0.0.9",))
    await transport.deliver(make_delivery())
    assert mx1.clients == ["127.0.0.9"]


async def test_the_configured_name_is_said_in_ehlo(mx1: Any, open_direct_to: OpenTo) -> None:
    await (await open_direct_to(mx1, ehlo_name="out.here.example")).deliver(make_delivery())
    assert mx1.lines[0][0] == "EHLO out.here.example"


# --- TLS ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def tls_mx1(mx1: Any, certificate: Any) -> Any:
    mx1.tls = ServerTLS([certificate[1]], unknown_server_name=UnknownServerName.FALL_BACK)
    mx1.tls_extensions = mx1.extensions
    mx1.extensions = ("STARTTLS",)
    return mx1


async def test_tls_is_used_where_it_is_offered_with_any_certificate(tls_mx1: Any, open_direct_to: OpenTo) -> None:
    [result] = await (await open_direct_to(tls_mx1)).deliver(make_delivery())
    assert result.outcome is Outcome.DELIVERED
    assert result.tls is not None
    assert (result.tls.version, result.tls.is_verified, result.tls.is_fallback) == ("TLSv1.3", False, False)
    assert "not trusted" in result.tls.problem


async def test_plaintext_is_spoken_at_once_when_tls_does_not_work(tls_mx1: Any, open_direct_to: OpenTo) -> None:
    tls_mx1.breaks_handshake = True
    [result] = await (await open_direct_to(tls_mx1)).deliver(make_delivery())
    assert result.outcome is Outcome.DELIVERED
    assert result.tls is not None
    assert (result.tls.version, result.tls.is_offered, result.tls.is_fallback) == ("", True, True)
    assert "TLS handshake failed" in result.tls.problem
    assert [line.partition(" ")[0] for line in tls_mx1.lines[1]][:2] == ["EHLO", "MAIL"]


async def test_a_host_without_tls_is_noted(mx1: Any, open_direct_to: OpenTo) -> None:
    [result] = await (await open_direct_to(mx1)).deliver(make_delivery())
    assert result.tls == TLSUse(is_of_domain=True, asked="opportunistic")


class Policies:
    """A provider that says the same of every host."""

    def __init__(self, answer: TLSPolicy | Reply | PolicyUnknown) -> None:
        self.answer = answer

    async def policy(self, domain: str, host: str) -> TLSPolicy | Reply:
        if isinstance(self.answer, PolicyUnknown):
            raise self.answer
        return self.answer


ENFORCED = TLSPolicy(TLSMode.VERIFIED, "mta-sts")


@pytest.fixture
def open_with(home: Home, opened: Opened) -> OpenTo:
    """Opens a transport with a provider of policies."""

    async def open_it(peer: Any, answer: TLSPolicy | Reply | PolicyUnknown) -> DirectTransport:
        return opened(await open_direct(DirectConfig(port=peer.port), replace(home, policies=Policies(answer))))

    return open_it


async def test_a_policy_that_wants_a_good_certificate_is_kept(tls_mx1: Any, mx2: Any, open_with: OpenTo) -> None:
    [result] = await (await open_with(tls_mx1, ENFORCED)).deliver(make_delivery())
    assert result.outcome is Outcome.DEFERRED
    assert contents(tls_mx1, mx2) == [0, 0]
    assert "does not offer STARTTLS, which is required by mta-sts" in result.error
    assert "TLS handshake failed" in result.notes[0]


async def test_a_host_that_a_policy_excludes_is_not_connected_to(mx1: Any, open_with: OpenTo) -> None:
    transport = await open_with(mx1, Reply.make(550, "5.7.10", "host is not named by the policy"))
    [result] = await transport.deliver(make_delivery())
    assert result.outcome is Outcome.DEFERRED
    assert "not named by the policy" in result.error
    assert mx1.lines == []


async def test_a_policy_that_is_not_known_now_defers_unsent(mx1: Any, open_with: OpenTo) -> None:
    [result] = await (await open_with(mx1, PolicyUnknown("no answer for _mta-sts"))).deliver(make_delivery())
    assert result.outcome is Outcome.DEFERRED
    assert result.error == "no answer for _mta-sts"
    assert mx1.lines == []


@pytest.mark.parametrize("policy", [ENFORCED, PolicyUnknown("no answer"), Reply.make(550, "5.7.10", "not named")])
async def test_tls_required_no_sets_a_policy_aside(
    tls_mx1: Any, open_with: OpenTo, policy: TLSPolicy | Reply | PolicyUnknown
) -> None:
    [result] = await (await open_with(tls_mx1, policy)).deliver(make_delivery(require_tls=False))
    assert result.outcome is Outcome.DELIVERED


async def test_requiretls_without_a_policy_that_verifies_fails_unsent(
    tls_mx1: Any, mx2: Any, open_direct_to: OpenTo
) -> None:
    [result] = await (await open_direct_to(tls_mx1)).deliver(make_delivery(require_tls=True))
    assert result.outcome is Outcome.FAILED
    assert result.reply is not None
    assert (result.reply.code, result.reply.enhanced_status_code) == (554, "5.7.30")
    assert tls_mx1.lines == mx2.lines == []


# --- ourselves ------------------------------------------------------------------------------------------------------


async def test_a_host_that_turns_out_to_be_ourselves_is_a_loop(mx1: Any, open_direct_to: OpenTo) -> None:
    mx1.replies["EHLO"] = ["250 client.example"]
    [result] = await (await open_direct_to(mx1)).deliver(make_delivery())
    assert result.outcome is Outcome.FAILED
    assert result.reply is not None
    assert result.reply.enhanced_status_code == "5.4.6"
    assert mx1.contents == []


async def test_mail_for_a_domain_of_our_own_is_given_to_ourselves(
    peer: Any, resolver: FakeResolver, open_direct_to: OpenTo
) -> None:
    resolver.add("here.example", "MX", (10, "client.example"))
    resolver.add_host("client.example", peer.host)
    peer.replies["EHLO"] = ["250 client.example"]
    [result] = await (await open_direct_to(peer)).deliver(make_delivery("b@here.example"))
    assert result.outcome is Outcome.DELIVERED


# --- limits ---------------------------------------------------------------------------------------------------------


async def test_a_full_host_is_not_passed_over_for_its_backup(mx1: Any, mx2: Any, open_direct_to: OpenTo) -> None:
    transport = await open_direct_to(mx1, messages_per_second=1.0)
    await transport.deliver(make_delivery())
    with pytest.raises(NotNow) as limit:
        await transport.deliver(make_delivery())
    assert limit.value.next_hop == "mx1.peer.example"
    assert contents(mx1, mx2) == [1, 0]


async def test_a_host_of_the_same_preference_takes_what_a_full_one_cannot(
    mx1: Any, make_peer: Any, resolver: FakeResolver, open_direct_to: OpenTo
) -> None:
    other = await make_peer("127.0.0.2", mx1.port)
    resolver.add("peer.example", "MX", (10, "mx2.peer.example"))
    resolver.add_host("mx2.peer.example", other.host)
    transport = await open_direct_to(mx1, messages_per_second=1.0)
    for _ in range(2):
        [result] = await transport.deliver(make_delivery())
        assert result.outcome is Outcome.DELIVERED
    assert contents(mx1, other) == [1, 1]
    with pytest.raises(NotNow):
        await transport.deliver(make_delivery())


async def test_a_host_that_is_left_alone_is_passed_over_for_its_backup(
    mx1: Any, mx2: Any, resolver: FakeResolver, open_direct_to: OpenTo
) -> None:
    resolver.remove("mx1.peer.example", "A")
    resolver.add_host("mx1.peer.example", "127.0.0.3")
    transport = await open_direct_to(mx1)
    for _ in range(3):
        [result] = await transport.deliver(make_delivery())
        assert result.outcome is Outcome.DELIVERED
    assert len(mx2.contents) == 3
    # After the first attempt it was not dialed any more.
    assert result.notes == ()


async def test_when_every_host_is_left_alone_nothing_is_tried(
    mx1: Any, resolver: FakeResolver, open_direct_to: OpenTo
) -> None:
    resolver.remove("mx1.peer.example", "A")
    resolver.add_host("mx1.peer.example", "127.0.0.3")
    transport = await open_direct_to(mx1)
    [result] = await transport.deliver(make_delivery())
    assert result.outcome is Outcome.DEFERRED
    with pytest.raises(LeftAlone, match="connection refused"):
        await transport.deliver(make_delivery())
