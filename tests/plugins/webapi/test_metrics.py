"""What is counted of calls."""

from __future__ import annotations

import pytest

from mailcrane.model.reply import Reply
from mailcrane.model.submission import SubmissionRefused
from mailcrane_webapi.metrics import DURATION, ERRORS, RESULTS, SUBMISSIONS

from .conftest import API


async def test_a_call_is_counted_with_its_result_and_how_long_it_took(api: API) -> None:
    before = {result: RESULTS.value("Send", result) for result in ("ok", "badauth", "badFrom", "protocol", "internal")}
    timed = DURATION.count("Send")
    await api.send()
    await api.call("{}", headers=())
    await api.send(From=[{"Address": "you@example.com"}])
    await api.call("nonsense")
    api.submissions.refusal = RuntimeError("a fault")
    await api.send()
    assert {result: RESULTS.value("Send", result) - count for result, count in before.items()} == dict.fromkeys(
        before, 1
    )
    assert DURATION.count("Send") - timed == 4


@pytest.mark.parametrize(
    ("code", "reply", "result"),
    [
        ("badFrom", 550, "badfrom"),
        ("domainDisabled", 450, "domaindisabled"),
        ("messageLimitReached", 451, "messagelimiterror"),
        ("recipientLimitReached", 451, "recipientlimiterror"),
        ("sentOverQuota", 452, "storesenterror"),
        ("server", 451, "queueerror"),
    ],
)
async def test_a_submission_is_counted_with_its_result(api: API, code: str, reply: int, result: str) -> None:
    counts = [SUBMISSIONS.value("ok"), SUBMISSIONS.value(result), ERRORS.value("submit")]
    await api.send()
    api.submissions.refusal = SubmissionRefused(code, Reply.make(reply, f"{reply // 100}.0.0", "no"))
    await api.send()
    expected = [counts[0] + 1, counts[1] + 1, counts[2] + (code == "server")]
    assert [SUBMISSIONS.value("ok"), SUBMISSIONS.value(result), ERRORS.value("submit")] == expected
