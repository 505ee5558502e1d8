import ipaddress

import pytest

from mailcrane.session.settings import SessionSettings

SETTINGS = SessionSettings(
    "relay",
    "smtp",
    "mail.here.example",
    relay_networks=tuple(map(ipaddress.ip_network, ("192.0.2.0/25", "198.51.100.7/32", "2001:db8::/33", "0.0.0.0/32"))),
    relay_account="ann",
)


@pytest.mark.parametrize(
    ("address", "may_relay"),
    [
        ("192.0.2.0", True),
        ("192.0.2.127", True),
        ("192.0.2.128", False),
        ("198.51.100.7", True),
        ("198.51.100.6", False),
        ("::ffff:192.0.2.1", True),
        ("2001:db8:7fff::1", True),
        ("2001:db8:8000::1", False),
        ("::1", False),
    ],
)
def test_clients_in_the_networks_may_relay(address: str, may_relay: bool) -> None:
    assert SETTINGS.may_relay(address) is may_relay


def test_without_an_account_nobody_may_relay() -> None:
    networks = (ipaddress.ip_network("0.0.0.0/0"),)
    assert not SessionSettings("x", "smtp", "mail.here.example", relay_networks=networks).may_relay("192.0.2.1")
