"""The shipped transports pass the kit that strangers run."""

from __future__ import annotations

import trio

from mailcrane.api import Transport
from mailcrane.testing import FakeResolver
from mailcrane_conformance.transport import make_test, smtp
from mailcrane_transports.config import DirectConfig, LocalConfig, SMTPConfig, SubmissionConfig
from mailcrane_transports.direct import open_direct
from mailcrane_transports.home import Home
from mailcrane_transports.relay import open_local, open_smtp


def home() -> Home:
    # Each case runs in a loop of its own, in which no nursery outlives the transport.
    return Home(trio.lowlevel.spawn_system_task, lambda: "client.example", FakeResolver(), lambda domain: False)


async def make_smtp(host: str, port: int) -> Transport:
    return await open_smtp(SMTPConfig(host, port, no_starttls=True), home())


async def make_submission(host: str, port: int) -> Transport:
    return await open_smtp(SubmissionConfig(host, port, no_starttls=True), home())


async def make_direct(host: str, port: int) -> Transport:
    return await open_direct(DirectConfig(port=port, domain_ips={"peer.example": (host,)}), home())


async def make_local(host: str, port: int) -> Transport:
    return await open_local(LocalConfig(host, port), home())


test_smtp = make_test(smtp(make_smtp))
test_submission = make_test(smtp(make_submission))
test_direct = make_test(smtp(make_direct))
test_local = make_test(smtp(make_local))
