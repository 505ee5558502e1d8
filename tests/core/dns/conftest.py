"""A DNS server on loopback, over UDP and TCP, that answers what a test tells it to."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
import trio

_SOA = "a.root. nobody.root. 1 3600 600 86400 60"


class DNSServer:
    """Answers from a list of records; a name that is not in it does not exist.

    Attributes:
        rrsets: Name, seconds to live, type and records.
        queries: Name and type of each query.
        flags: Set in answers, beside the usual ones.
        rcodes: Names that are answered with an error.
        silent: Names that are not answered.
        truncated: Names that are answered in full over TCP only.
        has_soa: Whether answers without records say for how long.
    """

    def __init__(self) -> None:
        self.address, self.port = "127.0.0.1", 0
        self.rrsets: list[tuple[str, int, str, tuple[str, ...]]] = []
        self.queries: list[tuple[str, str]] = []
        self.query_flags: list[int] = []
        self.flags = 0
        self.rcodes: dict[str, str] = {}
        self.silent: set[str] = set()
        self.truncated: set[str] = set()
        self.has_soa = True
        self.gate: trio.Event | None = None

    @property
    def config_name(self) -> str:
        return f"{self.address}:{self.port}"

    def add(self, name: str, kind: str, *records: str, ttl: int = 300) -> None:
        self.rrsets.append((name, ttl, kind, records))

    def answer(self, wire: bytes, *, is_tcp: bool) -> bytes | None:
        query = dns.message.from_wire(wire)
        [question] = query.question
        name, kind = question.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(question.rdtype)
        self.queries.append((name, kind))
        self.query_flags.append(int(query.flags))
        if name in self.silent:
            return None
        response = dns.message.make_response(query, recursion_available=True)
        response.flags |= self.flags
        if name in self.rcodes:
            response.set_rcode(dns.rcode.from_text(self.rcodes[name]))
            return response.to_wire()
        if name in self.truncated and not is_tcp:
            response.flags |= dns.flags.TC
            return response.to_wire()
        is_known = False
        while True:
            found = [one for one in self.rrsets if one[0] == name]
            is_known = bool(found)
            alias = next((one for one in found if one[2] == "CNAME" and kind != "CNAME"), None)
            for owner, ttl, its_kind, records in found:
                if its_kind in {kind, "CNAME"}:
                    response.answer.append(dns.rrset.from_text(f"{owner}.", ttl, "IN", its_kind, *records))
            if alias is None:
                break
            name = alias[3][0].rstrip(".")
        if not is_known:
            response.set_rcode(dns.rcode.NXDOMAIN)
        if not any(rrset.rdtype == question.rdtype for rrset in response.answer) and self.has_soa:
            response.authority.append(dns.rrset.from_text(".", 60, "IN", "SOA", _SOA))
        return response.to_wire()

    async def serve_udp(self, socket: trio.socket.SocketType) -> None:
        while True:
            try:
                wire, peer = await socket.recvfrom(65535)
            except trio.ClosedResourceError:
                return
            if self.gate is not None:
                await self.gate.wait()
            answer = self.answer(wire, is_tcp=False)
            if answer is not None:
                await socket.sendto(answer, peer)

    async def serve_tcp(self, stream: trio.SocketStream) -> None:
        async with stream:
            wire = await stream.receive_some(65535)
            answer = self.answer(wire[2:], is_tcp=True)
            if answer is not None:
                await stream.send_all(len(answer).to_bytes(2, "big") + answer)


@pytest.fixture
async def dns_server(nursery: trio.Nursery) -> AsyncIterator[DNSServer]:
    """A server on a free port of loopback."""
    server = DNSServer()
    [listener] = await trio.open_tcp_listeners(0, host=server.address)
    server.port = listener.socket.getsockname()[1]
    udp = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
    with contextlib.closing(udp), contextlib.closing(listener.socket):
        await udp.bind((server.address, server.port))
        nursery.start_soon(server.serve_udp, udp)
        nursery.start_soon(trio.serve_listeners, server.serve_tcp, [listener])
        yield server
