"""Notifications: who gets them, and that none keeps an entry from ending."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from mailcrane.config.directory import Directory
from mailcrane.config.rows import Account, Configuration, Domain
from mailcrane.model.delivery import Outcome, RecipientResult
from mailcrane.model.reply import Reply
from mailcrane.queue.schedule import last_due_at, next_due_at
from mailcrane.retire import bounce as bounce_module
from mailcrane.retire.bounce import failure_bounce, place
from mailcrane.retire.notice import Why, delay_words, failure_words
from mailcrane.store.records import ContentDraft
from mailcrane.store.sqlite import open_sqlite
from mailcrane.testing.clock import START, Clock
from mailcrane.testing.values import made_entry

ROWS = Configuration(domains=(Domain("localhost"),), accounts=(Account("me", "localhost"),))
RESULT = RecipientResult(Outcome.FAILED, error="no route")


async def test_a_notification_for_an_account_that_has_gone_is_left_out_and_undoes_nothing() -> None:
    async with await open_sqlite(":memory:", Clock(), inline=True) as store:
        await store.write(lambda tx: tx.configuration.replace(ROWS, expected_version=0), key="config")
        made = await failure_bounce(store, Directory(ROWS), made_entry(), RESULT, why=Why.NO_REPLY)
        assert made is not None
        assert [event.account for event in await store.write(lambda tx: place(tx, made), key="queue")] == ["me"]
        await store.write(lambda tx: tx.configuration.replace(Configuration(), expected_version=1), key="config")
        assert await store.write(lambda tx: place(tx, made), key="queue") == []


async def test_when_the_account_is_gone_and_nobody_is_postmaster_nobody_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with await open_sqlite(":memory:", Clock(), inline=True) as store:
        assert await failure_bounce(store, Directory(Configuration()), made_entry(), RESULT, why=Why.UNCLEAR) is None
    assert "nobody can be told of an entry" in caplog.text


async def test_what_is_told_of_a_message_whose_content_is_gone_has_two_parts() -> None:
    async with await open_sqlite(":memory:", Clock(), inline=True) as store:
        await store.write(lambda tx: tx.configuration.replace(ROWS, expected_version=0), key="config")
        made = await failure_bounce(store, Directory(ROWS), made_entry(content_id=4711), RESULT, why=Why.NO_REPLY)
    assert made is not None
    assert b"rfc822-headers" not in made.octets
    assert b"\r\nStatus: 5.4.7 (no route)\r\n" in made.octets


async def test_only_the_header_of_the_original_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    octets = b"Subject: x\r\n\r\n" + b"y" * 100 + b"\r\n"
    async with await open_sqlite(":memory:", Clock(), inline=True) as store:
        await store.write(lambda tx: tx.configuration.replace(ROWS, expected_version=0), key="config")
        info = await store.write(lambda tx: tx.content.add(octets, ContentDraft(14)), key="queue")
        made = await failure_bounce(store, Directory(ROWS), made_entry(content_id=info.id), RESULT, why=Why.NO_REPLY)
    assert made is not None
    assert b"\r\n\r\nSubject: x\r\n" in made.octets
    assert b"yyy" not in made.octets


@pytest.mark.parametrize("why", Why, ids=lambda why: why.name.lower())
def test_every_failure_says_what_to_do(why: Why) -> None:
    words = failure_words(made_entry(attempts=3), RESULT, why)
    assert "What you can do: " in words
    assert "It was tried 3 times." in words
    assert max(map(len, words.splitlines())) <= 72


@pytest.mark.parametrize(
    ("remote_mta", "said"),
    [
        ("mx.example (192.0.2.1)", "The reason: the receiving server mx.example (192.0.2.1) answered: 556"),
        ("", "The reason: 556 5.1.10 takes no mail"),
    ],
)
def test_only_what_a_server_said_is_said_to_be_its_answer(remote_mta: str, said: str) -> None:
    result = RecipientResult.from_reply(Reply.make(556, "5.1.10", "takes no mail"), remote_mta=remote_mta)
    assert said in failure_words(made_entry(), result, Why.ADDRESS)


def test_a_subject_with_line_ends_stays_on_its_line() -> None:
    words = failure_words(made_entry(subject="a\r\nb\x00c" + "d" * 5000), RESULT, Why.UNCLEAR)
    (line,) = [line for line in words.splitlines() if "Subject:" in line]
    assert line.startswith("    Subject: a b c")
    assert len(line) < 1100


def test_the_last_attempt_of_a_delay_is_announced_in_words() -> None:
    words = delay_words(made_entry(attempts=7), RESULT, give_up_at=START, attempts_left=1)
    assert "It was tried 7 times, and is tried once more" in " ".join(words.split())


@pytest.mark.parametrize(("attempts", "most"), [(1, 8), (5, 8), (7, 8), (5, 20), (8, 8)])
def test_the_last_attempt_is_when_the_schedule_comes_to_it(attempts: int, most: int) -> None:
    entry = made_entry(attempts=attempts, last_attempt_at=START)
    due_at = next_due_at(entry)
    at = due_at
    for number in range(attempts + 1, most):
        at = next_due_at(made_entry(attempts=number, last_attempt_at=at))
    assert last_due_at(entry, due_at, most) == at
    if (attempts, most) == (5, 8):
        # Two hours, four, eight: the reference says 28 whatever the schedule.
        assert timedelta(hours=13.9) < at - START < timedelta(hours=14.1)


def test_the_module_names_when_a_delay_is_told() -> None:
    assert bounce_module.DELAYED_AFTER == 5
    page = Path(__file__).parents[3] / "docs/explanation/bounces.md"
    assert "after the fifth attempt that failed" in page.read_text()
