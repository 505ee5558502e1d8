"""How a plugin is tested: one hook at a time with made-up arguments."""

from pathlib import Path

from pigeonhole.plugin import PigeonholePlugin
from pigeonhole.transport import PigeonholeConfig, PigeonholeTransport

from mailcrane.api import Mailbox, Outcome, RouteChoice
from mailcrane.testing import ask, made_delivery, made_entry

CONFIG = {"domains": ["pigeons.example"]}


async def test_our_domain_goes_to_the_pigeonholes() -> None:
    entry = made_entry(forward_path=Mailbox.parse("ann@pigeons.example"))
    answer = await ask(PigeonholePlugin, "select_route", CONFIG, entry=entry)
    assert answer == RouteChoice("pigeonholes", "pigeonhole domain")


async def test_other_domains_are_left_to_others() -> None:
    entry = made_entry(forward_path=Mailbox.parse("ann@elsewhere.example"))
    assert await ask(PigeonholePlugin, "select_route", CONFIG, entry=entry) is None


async def test_a_message_lies_in_its_pigeonhole(tmp_path: Path) -> None:
    transport = PigeonholeTransport(PigeonholeConfig(str(tmp_path)))
    entry = made_entry(id=4, forward_path=Mailbox.parse("ann@pigeons.example"))
    [result] = await transport.deliver(made_delivery(entry, octets=b"Subject: coo\r\n\r\ncoo\r\n"))
    assert result.outcome is Outcome.DELIVERED
    assert (tmp_path / "ann" / "4.eml").read_bytes() == b"Subject: coo\r\n\r\ncoo\r\n"


async def test_a_local_part_cannot_leave_the_folder(tmp_path: Path) -> None:
    transport = PigeonholeTransport(PigeonholeConfig(str(tmp_path)))
    entry = made_entry(forward_path=Mailbox.parse('"../escaped"@pigeons.example'))
    [result] = await transport.deliver(made_delivery(entry))
    assert result.outcome is Outcome.FAILED
    assert list(tmp_path.parent.glob("escaped")) == []
