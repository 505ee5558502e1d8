"""A DNS server for benchmarks: ``dns_stub.py PORT``, on loopback.

``a1-7.example`` has one mail exchanger, ``mx.a1-7.example``, and that has one address, 127.0.1.7: where `smtp_sink.c`
listens. Nothing else exists.
"""

from __future__ import annotations

import re
import socket
import sys

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

_NAME = re.compile(r"(mx\.)?a(\d+)-(\d+)\.example\.")
_TTL_SECONDS = 3600


def answer(query: dns.message.Message) -> dns.message.Message:
    """Return what is answered to a query."""
    response = dns.message.make_response(query)
    response.flags |= dns.flags.RA
    question = query.question[0]
    found = _NAME.fullmatch(question.name.to_text().lower())
    if found is None:
        response.set_rcode(dns.rcode.NXDOMAIN)
        return response
    is_host, network, host = found.groups()
    if question.rdtype == dns.rdatatype.MX and not is_host:
        text = f"10 mx.{question.name}"
    elif question.rdtype == dns.rdatatype.A and is_host:
        text = f"127.0.{network}.{host}"
    else:
        # RFC 2308: for how long it is good that there is nothing.
        start = f"ns.example. admin.example. 1 3600 600 86400 {_TTL_SECONDS}"
        response.authority.append(dns.rrset.from_text("example.", _TTL_SECONDS, "IN", "SOA", start))
        return response
    response.answer.append(dns.rrset.from_text(question.name, _TTL_SECONDS, "IN", question.rdtype, text))
    return response


def _serve(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", port))
        while True:
            octets, client = server.recvfrom(4096)
            server.sendto(answer(dns.message.from_wire(octets)).to_wire(), client)


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
