"""The shipped transports pass the suite that strangers run."""

from __future__ import annotations

from mailcrane.api import Transport
from mailcrane_conformance.transport import make_test, smtp
from mailcrane_transports.config import LocalConfig, SMTPConfig
from mailcrane_transports.local import open_local
from mailcrane_transports.smtp import open_smtp


async def make_smtp(host: str, port: int) -> Transport:
    return await open_smtp(SMTPConfig(host, port, no_starttls=True), lambda: "client.example")


async def make_local(host: str, port: int) -> Transport:
    return await open_local(LocalConfig(host, port), lambda: "client.example")


test_smtp = make_test(smtp(make_smtp))
test_local = make_test(smtp(make_local))
