"""The shipped transports pass the kit that strangers run."""

from __future__ import annotations

import pytest
import trio

from mailcrane.api import Transport
from mailcrane_conformance.kit import Answer
from mailcrane_conformance.transport import BEHAVIOURS, run
from mailcrane_transports.config import LocalConfig, SMTPConfig
from mailcrane_transports.local import open_local
from mailcrane_transports.smtp import open_smtp


async def make_smtp(host: str, port: int) -> Transport:
    return await open_smtp(SMTPConfig(host, port, no_starttls=True), lambda: "client.example")


async def make_local(host: str, port: int) -> Transport:
    return await open_local(LocalConfig(host, port), lambda: "client.example")


@pytest.mark.parametrize("behaviour", [behaviour.id for behaviour in BEHAVIOURS])
@pytest.mark.parametrize("make", [make_smtp, make_local], ids=["smtp", "local"])
async def test_the_transport_kit_finds_nothing(make: object, behaviour: str) -> None:
    with trio.fail_after(20):
        [result] = await run(make, [behaviour])  # type: ignore[arg-type]
    assert result.answer is Answer.PASSED, result
