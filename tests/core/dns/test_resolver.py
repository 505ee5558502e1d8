"""Look-ups over a real server: records, what is not there, what is believed, what is kept, and who waits for whom."""

from __future__ import annotations

from typing import Any

import dns.flags
import pytest
import trio
import trio.testing

from mailcrane.config.static import DNSConfig
from mailcrane.dns.answer import MX, TLSA, NotFound, RecordType, TemporaryFailure
from mailcrane.dns.resolver import CachingResolver, Found
from mailcrane.dns.upstream import ServerUpstream


@pytest.fixture
def upstream(dns_server: Any) -> ServerUpstream:
    config = DNSConfig(servers=(dns_server.config_name,), timeout_seconds=1.0, server_timeout_seconds=0.2)
    return ServerUpstream(config)


@pytest.fixture
def resolver(upstream: ServerUpstream) -> CachingResolver:
    return CachingResolver(upstream)


# --- records --------------------------------------------------------------------------------------------------------


async def test_every_type_of_record_is_read(dns_server: Any, resolver: CachingResolver) -> None:
    dns_server.add("example.org", "MX", "10 MX.Example.org.", "20 mx2.example.org.")
    dns_server.add("example.org", "TXT", '"v=spf1 " "-all"')
    dns_server.add("mx.example.org", "A", "192.0.2.1")
    dns_server.add("mx.example.org", "AAAA", "2001:db8::1")
    dns_server.add("_25._tcp.mx.example.org", "TLSA", "3 1 1 " + "ab" * 32)
    dns_server.add("1.2.0.192.in-addr.arpa", "PTR", "mx.example.org.")
    dns_server.add("www.example.org", "CNAME", "example.org.")
    assert sorted((await resolver.mx("example.org")).records) == [MX(10, "mx.example.org"), MX(20, "mx2.example.org")]
    assert (await resolver.txt("example.org")).records == (b"v=spf1 -all",)
    assert (await resolver.a("mx.example.org")).records == ("192.0.2.1",)
    assert (await resolver.aaaa("mx.example.org")).records == ("2001:db8::1",)
    assert (await resolver.tlsa("_25._tcp.mx.example.org")).records == (TLSA(3, 1, 1, b"\xab" * 32),)
    assert (await resolver.ptr("192.0.2.1")).records == ("mx.example.org",)
    assert (await resolver.cname("www.example.org")).records == ("example.org",)


async def test_a_null_mx_has_an_empty_host(dns_server: Any, resolver: CachingResolver) -> None:
    dns_server.add("example.org", "MX", "0 .")
    assert (await resolver.mx("example.org")).records == (MX(0, ""),)


async def test_aliases_are_followed_and_the_canonical_name_told(dns_server: Any, resolver: CachingResolver) -> None:
    dns_server.add("www.example.org", "CNAME", "a.example.org.")
    dns_server.add("a.example.org", "CNAME", "b.example.org.")
    dns_server.add("b.example.org", "A", "192.0.2.1")
    answer = await resolver.a("www.example.org")
    assert (answer.records, answer.canonical_name) == (("192.0.2.1",), "b.example.org")


async def test_a_name_that_does_not_exist_is_told_from_one_without_such_records(
    dns_server: Any, resolver: CachingResolver
) -> None:
    dns_server.add("example.org", "A", "192.0.2.1")
    with pytest.raises(NotFound, match=r"MX of example\.org: no such record") as no_data:
        await resolver.mx("example.org")
    with pytest.raises(NotFound, match=r"MX of nothing\.example: no such name") as no_name:
        await resolver.mx("nothing.example")
    assert (no_data.value.is_nxdomain, no_name.value.is_nxdomain) == (False, True)


async def test_where_an_alias_leads_nowhere_its_end_is_told(dns_server: Any, resolver: CachingResolver) -> None:
    dns_server.add("www.example.org", "CNAME", "gone.example.org.")
    with pytest.raises(NotFound) as missing:
        await resolver.a("www.example.org")
    assert (missing.value.is_nxdomain, missing.value.canonical_name) == (True, "gone.example.org")


@pytest.mark.parametrize("name", ["a" * 64 + ".example.org", ".".join(["a" * 50] * 6), "a..example.org"])
async def test_a_name_that_cannot_be_asked_for_does_not_exist(
    dns_server: Any, resolver: CachingResolver, name: str
) -> None:
    with pytest.raises(NotFound) as missing:
        await resolver.a(name)
    assert missing.value.is_nxdomain
    assert dns_server.queries == []


async def test_no_search_list_is_used(dns_server: Any, resolver: CachingResolver) -> None:
    with pytest.raises(NotFound):
        await resolver.a("localhost")
    assert dns_server.queries == [("localhost", "A")]


async def test_what_does_not_fit_is_asked_for_again_over_tcp(dns_server: Any, resolver: CachingResolver) -> None:
    dns_server.truncated.add("example.org")
    dns_server.add("example.org", "A", "192.0.2.1")
    assert (await resolver.a("example.org")).records == ("192.0.2.1",)
    assert len(dns_server.queries) == 2


# --- failures -------------------------------------------------------------------------------------------------------


async def test_an_error_of_the_server_is_temporary_and_says_what_it_answered(
    dns_server: Any, resolver: CachingResolver
) -> None:
    dns_server.rcodes["example.org"] = "SERVFAIL"
    with pytest.raises(TemporaryFailure, match=r"MX of example\.org: .*127\.0\.0\.1.* answered SERVFAIL"):
        await resolver.mx("example.org")


async def test_silence_is_temporary_once_the_time_is_over(dns_server: Any, resolver: CachingResolver) -> None:
    dns_server.silent.add("example.org")
    with pytest.raises(TemporaryFailure, match="no answer in 1 s"):
        await resolver.mx("example.org")


async def test_the_next_server_is_asked_when_one_is_silent(dns_server: Any) -> None:
    dead = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
    await dead.bind(("127.0.0.1", 0))
    dns_server.add("example.org", "A", "192.0.2.1")
    servers = (f"127.0.0.1:{dead.getsockname()[1]}", dns_server.config_name)
    try:
        resolver = CachingResolver(ServerUpstream(DNSConfig(servers, server_timeout_seconds=0.1)))
        assert (await resolver.a("example.org")).records == ("192.0.2.1",)
    finally:
        dead.close()


async def test_a_failure_is_not_kept(dns_server: Any, resolver: CachingResolver) -> None:
    dns_server.rcodes["example.org"] = "SERVFAIL"
    with pytest.raises(TemporaryFailure):
        await resolver.a("example.org")
    del dns_server.rcodes["example.org"]
    dns_server.add("example.org", "A", "192.0.2.1")
    assert (await resolver.a("example.org")).records == ("192.0.2.1",)


# --- what is believed -----------------------------------------------------------------------------------------------


async def test_a_server_on_loopback_is_believed_that_an_answer_is_authentic(
    dns_server: Any, resolver: CachingResolver
) -> None:
    dns_server.add("example.org", "A", "192.0.2.1")
    assert not (await resolver.a("example.org")).is_authentic
    dns_server.add("example.net", "A", "192.0.2.1")
    dns_server.flags = dns.flags.AD
    assert (await resolver.a("example.net")).is_authentic
    with pytest.raises(NotFound) as missing:
        await resolver.a("nothing.example")
    assert missing.value.is_authentic
    assert dns_server.query_flags[-1] & dns.flags.AD


async def test_another_server_is_believed_only_when_it_is_trusted(
    dns_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailcrane.dns.upstream._is_loopback", lambda address: False)
    dns_server.flags = dns.flags.AD
    dns_server.add("example.org", "A", "192.0.2.1")
    servers = (dns_server.config_name,)
    assert not (await CachingResolver(ServerUpstream(DNSConfig(servers))).a("example.org")).is_authentic
    trusting = DNSConfig(servers, trusted=("127.0.0.1",))
    assert (await CachingResolver(ServerUpstream(trusting)).a("example.org")).is_authentic


# --- what is kept ---------------------------------------------------------------------------------------------------


async def test_an_answer_is_kept_for_its_time_to_live(dns_server: Any, upstream: ServerUpstream) -> None:
    now = 0.0
    resolver = CachingResolver(upstream, now=lambda: now)
    dns_server.add("example.org", "A", "192.0.2.1", ttl=300)
    await resolver.a("example.org")
    now = 299.0
    await resolver.a("example.org")
    assert len(dns_server.queries) == 1
    now = 300.0
    await resolver.a("example.org")
    assert len(dns_server.queries) == 2


async def test_that_there_is_nothing_is_kept_as_long_as_the_zone_says(
    dns_server: Any, upstream: ServerUpstream
) -> None:
    now = 0.0
    resolver = CachingResolver(upstream, now=lambda: now)
    for _ in range(2):
        with pytest.raises(NotFound):
            await resolver.a("nothing.example")
    assert len(dns_server.queries) == 1
    now = 60.0
    with pytest.raises(NotFound):
        await resolver.a("nothing.example")
    assert len(dns_server.queries) == 2


async def test_that_there_is_nothing_is_not_kept_when_nobody_says_for_how_long(
    dns_server: Any, resolver: CachingResolver
) -> None:
    dns_server.has_soa = False
    for _ in range(2):
        with pytest.raises(NotFound):
            await resolver.a("nothing.example")
    assert len(dns_server.queries) == 2


async def test_the_answers_used_least_recently_go_when_there_are_too_many(
    dns_server: Any, upstream: ServerUpstream
) -> None:
    resolver = CachingResolver(upstream, cache_size=2)
    for name in ("a.example", "b.example", "c.example"):
        dns_server.add(name, "A", "192.0.2.1")
    for name in ("a.example", "b.example", "a.example", "c.example", "a.example", "b.example"):
        await resolver.a(name)
    assert [name for name, _ in dns_server.queries] == ["a.example", "b.example", "c.example", "b.example"]


# --- who waits for whom ---------------------------------------------------------------------------------------------


async def test_those_who_ask_the_same_at_once_share_one_query(dns_server: Any, resolver: CachingResolver) -> None:
    dns_server.add("example.org", "A", "192.0.2.1", ttl=0)
    dns_server.gate = trio.Event()
    answers: list[object] = []

    async def ask() -> None:
        answers.append((await resolver.a("example.org")).records)

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked(0.02)
        dns_server.gate.set()
    assert answers == [("192.0.2.1",)] * 10
    assert len(dns_server.queries) == 1


class _Gated:
    """An upstream that answers when it is let."""

    def __init__(self) -> None:
        self.queries = 0
        self.gate = trio.Event()
        self.failure: TemporaryFailure | None = None

    async def query(self, name: str, record_type: RecordType) -> Found:
        self.queries += 1
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return Found(NotFound(name, record_type, is_nxdomain=True), 0.0)


async def test_when_the_one_who_asks_is_cancelled_another_asks(autojump_clock: trio.testing.MockClock) -> None:
    upstream = _Gated()
    resolver = CachingResolver(upstream)
    ended: list[str] = []

    async def ask(name: str, scope: trio.CancelScope) -> None:
        with scope:
            with pytest.raises(NotFound):
                await resolver.a("example.org")
            ended.append(name)

    async with trio.open_nursery() as nursery:
        first = trio.CancelScope()
        nursery.start_soon(ask, "first", first)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(ask, "second", trio.CancelScope())
        nursery.start_soon(ask, "third", trio.CancelScope())
        await trio.testing.wait_all_tasks_blocked()
        first.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert upstream.queries == 2
        upstream.gate.set()
    assert sorted(ended) == ["second", "third"]


async def test_a_failure_is_shared_with_those_who_wait(autojump_clock: trio.testing.MockClock) -> None:
    upstream = _Gated()
    upstream.failure = TemporaryFailure("example.org", RecordType.A, "no luck")
    resolver = CachingResolver(upstream)
    failures = 0

    async def ask() -> None:
        nonlocal failures
        with pytest.raises(TemporaryFailure, match="no luck"):
            await resolver.a("example.org")
        failures += 1

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        upstream.gate.set()
    assert (failures, upstream.queries) == (3, 1)
