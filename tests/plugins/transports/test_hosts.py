"""Which hosts take the mail of a domain, and which of their addresses is tried first."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from mailcrane.api import Attempt, Outcome, RecipientResult
from mailcrane.api.dns import MX, Answer, NotFound, RecordType, TemporaryFailure
from mailcrane.testing import FakeResolver
from mailcrane.testing.clock import START
from mailcrane_transports.addresses import dialed_before, find_addresses, in_order, of_families
from mailcrane_transports.dial import CannotConnect
from mailcrane_transports.hosts import NoHost, find_hosts


async def hosts(resolver: FakeResolver, domain: str = "example.org", **fields: Any) -> list[str]:
    options: dict[str, Any] = {"own_name": "mail.here.example", "is_local_domain": False, "shuffle": lambda _: None}
    return [host.name for host in await find_hosts(resolver, domain, **{**options, **fields})]


async def no_host(resolver: FakeResolver, domain: str = "example.org") -> RecipientResult:
    with pytest.raises(NoHost) as caught:
        await hosts(resolver, domain)
    return caught.value.result


def mx(resolver: FakeResolver, *records: tuple[int, str], domain: str = "example.org") -> None:
    resolver.add(domain, "MX", *records)


# --- MX records -----------------------------------------------------------------------------------------------------


async def test_hosts_are_asked_in_the_order_of_their_preference(resolver: FakeResolver) -> None:
    mx(resolver, (20, "b.example"), (10, "a.example"), (30, "c.example"))
    assert await hosts(resolver) == ["a.example", "b.example", "c.example"]


async def test_hosts_of_one_preference_come_in_an_order_of_chance(resolver: FakeResolver) -> None:
    mx(resolver, (10, "a.example"), (10, "b.example"), (5, "c.example"))

    def turn(records: list[MX]) -> None:
        records.reverse()

    assert await hosts(resolver, shuffle=turn) == ["c.example", "b.example", "a.example"]


async def test_without_mx_records_the_domain_itself_is_the_host(resolver: FakeResolver) -> None:
    resolver.add_host("example.org", "192.0.2.1")
    assert await hosts(resolver) == ["example.org"]


async def test_a_null_mx_fails_for_good(resolver: FakeResolver) -> None:
    mx(resolver, (0, ""))
    result = await no_host(resolver)
    assert result.outcome is Outcome.FAILED
    assert result.reply is not None
    assert (result.reply.code, result.reply.enhanced_status_code) == (556, "5.1.10")


async def test_a_null_mx_beside_others_counts_for_nothing(resolver: FakeResolver) -> None:
    mx(resolver, (0, ""), (10, "a.example"))
    assert await hosts(resolver) == ["a.example"]


async def test_records_whose_host_is_no_name_are_passed_over(resolver: FakeResolver) -> None:
    mx(resolver, (5, "192.0.2.1"), (7, "not a name"), (10, "_mx.example"))
    assert await hosts(resolver) == ["_mx.example"]


async def test_only_records_whose_host_is_no_name_fail_for_good(resolver: FakeResolver) -> None:
    mx(resolver, (5, "192.0.2.1"))
    result = await no_host(resolver)
    assert result.outcome is Outcome.FAILED
    assert "192.0.2.1" in result.error


async def test_a_domain_that_does_not_exist_fails_for_good(resolver: FakeResolver) -> None:
    result = await no_host(resolver, "nothing.example")
    assert result.outcome is Outcome.FAILED
    assert result.reply is not None
    assert result.reply.enhanced_status_code == "5.1.2"
    assert "nothing.example does not exist" in result.error


async def test_no_answer_of_dns_defers(resolver: FakeResolver) -> None:
    resolver.failing.add("example.org")
    result = await no_host(resolver)
    assert result.outcome is Outcome.DEFERRED
    assert "looking up MX of example.org" in result.error


# --- aliases --------------------------------------------------------------------------------------------------------


async def test_the_domain_an_alias_leads_to_counts(resolver: FakeResolver) -> None:
    resolver.add("www.example.org", "CNAME", "alias.example.org")
    resolver.add("alias.example.org", "CNAME", "example.org")
    mx(resolver, (10, "a.example"))
    assert await hosts(resolver, "www.example.org") == ["a.example"]


async def test_the_end_of_the_aliases_is_the_host_where_there_are_no_mx_records(resolver: FakeResolver) -> None:
    resolver.add("www.example.org", "CNAME", "web.example.org")
    resolver.add_host("web.example.org", "192.0.2.1")
    assert await hosts(resolver, "www.example.org") == ["web.example.org"]


async def test_an_alias_of_nothing_fails_for_good(resolver: FakeResolver) -> None:
    resolver.add("www.example.org", "CNAME", "gone.example.org")
    result = await no_host(resolver, "www.example.org")
    assert result.outcome is Outcome.FAILED
    assert "gone.example.org" in result.error


class OneStep(FakeResolver):
    """A server that does not follow aliases."""

    async def mx(self, name: str) -> Answer[MX]:
        try:
            alias = await self.cname(name)
        except NotFound:
            return await super().mx(name)
        raise NotFound(name, RecordType.MX, is_nxdomain=False, canonical_name=alias.records[0])


async def test_aliases_are_followed_where_the_server_does_not(resolver: FakeResolver) -> None:
    resolver = OneStep()
    for number in range(15):
        resolver.add(f"a{number}.example", "CNAME", f"a{number + 1}.example")
    mx(resolver, (10, "a.example"), domain="a15.example")
    assert await hosts(resolver, "a0.example") == ["a.example"]


@pytest.mark.parametrize("length", [2, 40])
async def test_aliases_in_a_circle_or_without_end_defer(length: int) -> None:
    resolver = OneStep()
    for number in range(length):
        resolver.add(f"a{number}.example", "CNAME", f"a{(number + 1) % length}.example")
    result = await no_host(resolver, "a0.example")
    assert result.outcome is Outcome.DEFERRED
    assert "a circle, or have no end" in result.error


# --- ourselves ------------------------------------------------------------------------------------------------------


async def test_hosts_at_our_own_preference_and_behind_are_left_out(resolver: FakeResolver) -> None:
    mx(resolver, (10, "a.example"), (20, "mail.here.example"), (20, "b.example"), (30, "c.example"))
    assert await hosts(resolver) == ["a.example"]


async def test_a_domain_whose_best_host_we_are_is_a_loop(resolver: FakeResolver) -> None:
    mx(resolver, (10, "mail.here.example"), (20, "b.example"))
    result = await no_host(resolver)
    assert result.outcome is Outcome.FAILED
    assert result.reply is not None
    assert result.reply.enhanced_status_code == "5.4.6"


async def test_a_domain_of_our_own_is_delivered_to_ourselves(resolver: FakeResolver) -> None:
    mx(resolver, (10, "mail.here.example"))
    assert await hosts(resolver, is_local_domain=True) == ["mail.here.example"]


# --- addresses ------------------------------------------------------------------------------------------------------


async def test_addresses_of_both_families_come_in_turn(resolver: FakeResolver) -> None:
    resolver.add_host("mx.example", "192.0.2.1", "192.0.2.2", "2001:db8::1")
    ips = await find_addresses(resolver, "mx.example", {4, 6})
    assert ips == ("2001:db8::1", "192.0.2.1", "192.0.2.2")
    assert await find_addresses(resolver, "mx.example", {4}) == ("192.0.2.1", "192.0.2.2")


async def test_a_family_without_an_answer_is_no_matter_when_the_other_has_addresses(resolver: FakeResolver) -> None:
    class OnlyIPv4Answers(FakeResolver):
        async def aaaa(self, name: str) -> Answer[str]:
            raise TemporaryFailure(name, RecordType.AAAA, "no answer")

    resolver = OnlyIPv4Answers()
    resolver.add_host("mx.example", "192.0.2.1")
    assert await find_addresses(resolver, "mx.example", {4, 6}) == ("192.0.2.1",)


async def test_a_family_that_is_slow_is_not_waited_for_when_the_other_has_addresses(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class SlowIPv6(FakeResolver):
        async def aaaa(self, name: str) -> Answer[str]:
            await trio.sleep(30)
            raise TemporaryFailure(name, RecordType.AAAA, "no answer")

    resolver = SlowIPv6()
    resolver.add_host("mx.example", "192.0.2.1")
    assert await find_addresses(resolver, "mx.example", {4, 6}) == ("192.0.2.1",)
    assert trio.current_time() == pytest.approx(5)


async def test_a_host_without_addresses_is_named(resolver: FakeResolver) -> None:
    resolver.add_host("mx.example", "192.0.2.1")
    with pytest.raises(CannotConnect, match=r"mx\.example has no IPv6 address"):
        await find_addresses(resolver, "mx.example", {6})
    resolver.failing.add("mx.example")
    with pytest.raises(CannotConnect, match=r"looking up .*AAAA of mx\.example"):
        await find_addresses(resolver, "mx.example", {4, 6})


V6, V4, V4B = "2001:db8::1", "192.0.2.1", "192.0.2.2"


@pytest.mark.parametrize(
    ("dialed", "wanted"),
    [
        ([], [V6, V4, V4B]),
        ([V6], [V4, V4B, V6]),
        ([V6, V4], [V6, V4, V4B]),
        ([V4B], [V6, V4B, V4]),
        ([V4B, V6], [V4B, V4, V6]),
        ([V4, V6, V4], [V6, V4B, V4]),
    ],
    ids=["first", "other family", "back", "the same again after the other", "greylisted", "least used"],
)
def test_addresses_are_ordered_by_what_was_dialed_before(dialed: list[str], wanted: list[str]) -> None:
    assert list(in_order([V6, V4, V4B], dialed)) == wanted


def test_a_host_of_one_family_is_tried_at_the_same_address_again_once() -> None:
    assert list(in_order([V4, V4B], [V4B])) == [V4B, V4]
    assert list(in_order([V4, V4B], [V4B, V4B])) == [V4, V4B]


def test_what_earlier_attempts_have_dialed_is_told_by_host() -> None:
    results = [
        RecipientResult(Outcome.DEFERRED, dialed=(("a.example", V6), ("b.example", V4))),
        RecipientResult(Outcome.DEFERRED, dialed=(("a.example", V4),)),
    ]
    attempts = [Attempt(number, START, "direct", result=result) for number, result in enumerate(results, 1)]
    assert dialed_before([*attempts, Attempt(3, START, "direct")], "a.example") == (V6, V4)


def test_only_addresses_of_the_families_are_left() -> None:
    assert of_families([V6, V4, V4B], {4}) == (V4, V4B)
