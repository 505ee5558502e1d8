from __future__ import annotations

import pytest

from mailcrane.model.address import Mailbox, ReversePath
from mailcrane.session import special
from mailcrane.session.special import SpecialTries, steps_of

ME = ReversePath(Mailbox("me", "localhost"))
HEADER = b"Message-Id: <1@localhost>\r\nSubject: hello\r\n\r\n"


def _codes(tries: SpecialTries, count: int, *local_parts: str, header: bytes = HEADER) -> list[int]:
    """The reply codes after so many final dots; 250 is accepted."""
    paths = [Mailbox(local_part, "example.org") for local_part in local_parts]
    failures = [tries.at_end_of_content(ME, paths, header) for _ in range(count)]
    return [250 if failure is None else failure.reply.code for failure in failures]


@pytest.mark.parametrize(
    ("local_part", "code", "delay"),
    [
        ("x-temperror", 451, 0.0),
        ("x-permerror", 550, 0.0),
        ("x-timeout", 451, 3600.0),
        ("x421", 421, 0.0),
        ("599", 599, 0.0),
        ("ann-421-550", 550, 0.0),
    ],
)
def test_the_end_of_a_local_part_names_the_failure_after_the_final_dot(
    local_part: str, code: int, delay: float
) -> None:
    failure = SpecialTries().at_end_of_content(ME, [Mailbox(local_part, "localhost")], HEADER)
    assert failure is not None
    assert failure.reply.code == code
    assert failure.reply.enhanced_status_code == f"{code // 100}.0.0"
    assert failure.delay == delay


@pytest.mark.parametrize(
    "local_part",
    ["mox", "x399", "x600", "41", "x\u0664\u0665\u0661", "451x0", "451x100", "451x2-", "451x-2", "timeoutx"],
)
def test_other_local_parts_do_not_fail(local_part: str) -> None:
    assert steps_of(local_part) == ()


def test_only_a_mailfrom_prefix_fails_at_mail() -> None:
    tries = SpecialTries()
    assert tries.at_mail(ReversePath(Mailbox("mailfrom-permerror", "localhost"))) is not None
    assert tries.at_mail(ReversePath(Mailbox("permerror", "localhost"))) is None
    assert tries.at_mail(ReversePath()) is None


def test_only_an_rcptto_prefix_fails_at_rcpt() -> None:
    tries = SpecialTries()
    assert tries.at_rcpt(ME, Mailbox("rcptto-450", "localhost")) is not None
    assert tries.at_rcpt(ME, Mailbox("x-450", "localhost")) is None


@pytest.mark.parametrize(
    ("local_part", "codes"),
    [
        ("ann-451x2", [451, 451, 250]),
        ("ann-temperrorx1", [451, 250]),
        ("ann-451x2-550", [451, 451, 550, 550, 550]),
        ("ann-421x1-450x2-permerrorx1", [421, 450, 450, 550, 250]),
    ],
)
def test_a_failure_with_a_number_comes_that_often(local_part: str, codes: list[int]) -> None:
    assert _codes(SpecialTries(), len(codes), local_part) == codes


def test_each_message_and_reverse_path_has_tries_of_its_own() -> None:
    tries = SpecialTries()
    assert _codes(tries, 1, "ann-451x1") == [451]
    assert _codes(tries, 1, "ann-451x1", header=b"Message-Id: <2@localhost>\r\n\r\n") == [451]
    assert _codes(tries, 1, "ann-451x1", header=b"Subject: hello\r\n\r\n") == [451]
    assert _codes(tries, 1, "ann-451x1", header=b"Subject: good bye\r\n\r\n") == [451]
    you = ReversePath(Mailbox("you", "localhost"))
    assert tries.at_end_of_content(you, [Mailbox("ann-451x1", "example.org")], HEADER) is not None
    assert _codes(tries, 1, "ann-451x1") == [250]


def test_what_was_accepted_begins_anew() -> None:
    assert _codes(SpecialTries(), 4, "ann-451x1") == [451, 250, 451, 250]


def test_recipients_of_one_message_have_their_turns_together() -> None:
    tries = SpecialTries()
    assert _codes(tries, 3, "ann-451x1", "bob-452x2") == [451, 452, 250]
    assert _codes(tries, 1, "bob-452x2") == [452]


def test_tries_are_counted_at_mail_and_rcpt_too_and_not_again_after_the_content() -> None:
    tries = SpecialTries()
    reverse_path = ReversePath(Mailbox("mailfrom-451x1", "localhost"))
    assert [tries.at_mail(reverse_path) is None for _ in range(3)] == [False, True, False]
    forward_path = Mailbox("rcptto-451x2", "localhost")
    assert [tries.at_rcpt(ME, forward_path) is None for _ in range(3)] == [False, False, True]
    assert tries.at_end_of_content(ME, [forward_path], HEADER) is None


def test_memory_is_bounded_and_the_oldest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(special, "_MAX_REMEMBERED", 2)
    tries = SpecialTries()
    for name in ("a", "b", "c"):
        assert _codes(tries, 1, f"{name}-451x1") == [451]
    assert _codes(tries, 1, "a-451x1") == [451]
    assert _codes(tries, 1, "c-451x1") == [250]
