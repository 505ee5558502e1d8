import pytest

from mailcrane.model.address import Mailbox
from mailcrane.session.special import failure_at_data, failure_at_mail, failure_at_rcpt


@pytest.mark.parametrize(
    ("local_part", "code", "delay"),
    [
        ("x-temperror", 451, 0.0),
        ("x-permerror", 550, 0.0),
        ("x-timeout", 451, 3600.0),
        ("x421", 421, 0.0),
        ("599", 599, 0.0),
    ],
)
def test_the_end_of_a_local_part_names_the_failure_after_the_final_dot(
    local_part: str, code: int, delay: float
) -> None:
    failure = failure_at_data(Mailbox(local_part, "localhost"))
    assert failure is not None
    assert failure.reply.code == code
    assert failure.reply.enhanced_status_code == f"{code // 100}.0.0"
    assert failure.delay == delay


@pytest.mark.parametrize("local_part", ["mox", "x399", "x600", "41", "x\u0664\u0665\u0661"])
def test_other_local_parts_do_not_fail(local_part: str) -> None:
    assert failure_at_data(Mailbox(local_part, "localhost")) is None


def test_only_a_mailfrom_prefix_fails_at_mail() -> None:
    assert failure_at_mail(Mailbox("mailfrom-permerror", "localhost")) is not None
    assert failure_at_mail(Mailbox("permerror", "localhost")) is None
    assert failure_at_mail(None) is None


def test_only_an_rcptto_prefix_fails_at_rcpt() -> None:
    assert failure_at_rcpt(Mailbox("rcptto-450", "localhost")) is not None
    assert failure_at_rcpt(Mailbox("x-450", "localhost")) is None
