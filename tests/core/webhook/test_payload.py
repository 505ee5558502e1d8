from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
import standardwebhooks

from mailcrane.model.event import EventKind
from mailcrane.model.webhook import CallResult, WebhookCall, WebhookFields, WebhookTarget
from mailcrane.testing.clock import START
from mailcrane.testing.hooks import made_event
from mailcrane.webhook.attempt import metric_label
from mailcrane.webhook.examples import EXAMPLES
from mailcrane.webhook.payload import (
    encode_payload,
    format_instant,
    is_wanted,
    make_payload,
    merge_fields,
    merge_targets,
)
from mailcrane.webhook.schedule import INTERVALS, MAX_ATTEMPTS, is_exhausted, next_due_at
from mailcrane.webhook.signature import signature_headers

_URL = "https://app.example/hook"


def test_a_payload_is_exactly_what_the_wire_wants() -> None:
    event = made_event(
        EventKind.FAILED,
        entry_id=7,
        data={
            "queue_msg_id": 7,
            "from_id": "abc",
            "message_id": "<1@example.org>",
            "subject": "a & b",
            "smtp_code": 550,
            "smtp_enhanced_code": "5.1.1",
            "error": "no <such> user\n",
            "extra": {"z": "1", "a": "é\u2028"},
            "suppressing": True,
        },
    )
    queued_at = datetime(2026, 1, 2, 3, 4, 5, 120000, tzinfo=UTC)
    text = encode_payload(make_payload(event, queued_at=queued_at, zone=timezone(timedelta(hours=1))))
    assert text == (
        '{"Version":0,"Event":"failed","DSN":false,"Suppressing":true,"QueueMsgID":7,"FromID":"abc",'
        '"MessageID":"\\u003c1@example.org\\u003e","Subject":"a \\u0026 b",'
        '"WebhookQueued":"2026-01-02T04:04:05.12+01:00","SMTPCode":550,"SMTPEnhancedCode":"5.1.1",'
        '"Error":"no \\u003csuch\\u003e user\\n","Extra":{"a":"é\\u2028","z":"1"}}'
    )


def test_extra_is_an_object_when_there_is_none() -> None:
    payload = make_payload(made_event(data={"extra": None}), queued_at=START)
    assert payload["Extra"] == {}
    assert payload["QueueMsgID"] == 1


def test_text_that_is_not_unicode_is_still_posted() -> None:
    assert encode_payload({"Subject": "a\udc80"}) == '{"Subject":"a?"}'


@pytest.mark.parametrize(
    ("instant", "text"),
    [
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05Z"),
        (datetime(2026, 1, 2, 3, 4, 5, 1, tzinfo=UTC), "2026-01-02T03:04:05.000001Z"),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(-timedelta(hours=3, minutes=30))), "2026-01-02T03:04:05-03:30"),
    ],
)
def test_instants_are_rfc_3339(instant: datetime, text: str) -> None:
    assert format_instant(instant, instant.tzinfo) == text
    assert datetime.fromisoformat(format_instant(instant)) == instant


def test_fields_of_plugins_come_last_and_replace_nothing() -> None:
    payload = {"Version": 0, "Event": "failed"}
    merged = merge_fields(
        payload,
        [
            ("one", WebhookFields({"event": "x", "Mine": 1, "Bad": object(), "": 1, "NaN": float("nan")})),
            ("two", WebhookFields({"MINE": 2, "Other": {"a": [1]}})),
        ],
    )
    assert merged == {"Version": 0, "Event": "failed", "Mine": 1, "Other": {"a": [1]}}
    assert list(merged) == ["Version", "Event", "Mine", "Other"]
    assert payload == {"Version": 0, "Event": "failed"}


def test_targets_are_put_together_by_url() -> None:
    own, same, other = WebhookTarget(_URL, "a"), WebhookTarget(_URL, "b"), WebhookTarget("http://x.example/")
    bad = [
        WebhookTarget("ftp://x"),
        WebhookTarget("https://"),
        WebhookTarget("http://[x"),
        WebhookTarget(_URL, "a\r\nb"),
    ]
    answers = [("", own), ("one", same), ("two", other), *(("three", target) for target in bad)]
    assert merge_targets(answers) == (own, other)


def test_a_target_is_told_of_the_events_that_it_names() -> None:
    event = made_event(EventKind.DELAYED)
    assert is_wanted(WebhookTarget(_URL), event)
    assert is_wanted(WebhookTarget(_URL, events=("failed", "delayed")), event)
    assert not is_wanted(WebhookTarget(_URL, events=("failed",)), event)


def test_a_signature_is_the_one_of_standard_webhooks() -> None:
    # The example of the specification's reference libraries.
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    at = datetime.fromtimestamp(1614265330, UTC)
    headers = signature_headers("msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}', [secret], at=at)
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_the_official_library_takes_a_signature_of_any_of_several_secrets() -> None:
    secrets = ["whsec_" + base64.b64encode(bytes([number] * 32)).decode() for number in range(3)]
    body = encode_payload(make_payload(made_event(data={"subject": "für <dich>"}), queued_at=START)).encode()
    headers = signature_headers("evt_1_1_a", body, secrets, at=datetime.now(UTC))
    for secret in secrets:
        assert standardwebhooks.Webhook(secret).verify(body, headers)["Subject"] == "für <dich>"
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(secrets[0]).verify(body + b" ", headers)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(secrets[0]).verify(body, headers | {"webhook-id": "evt_1_2_a"})


def test_every_secret_signs() -> None:
    secrets = ["whsec_" + base64.b64encode(b"one").decode(), "not base64!"]
    headers = signature_headers("id", b"body", secrets, at=START)
    signed = f"id.{headers['webhook-timestamp']}.body".encode()
    expected = [
        "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        for key in (b"one", b"not base64!")
    ]
    assert headers["webhook-signature"].split(" ") == expected
    assert "webhook-signature" not in signature_headers("id", b"body", [], at=START)


def _call(attempts: int, call_id: int = 1) -> WebhookCall:
    return WebhookCall(
        call_id, "ann", "evt_1_1", "failed", 1, WebhookTarget(_URL), "{}", START, START, attempts=attempts
    )


def test_retries_come_later_and_later_and_end() -> None:
    minutes = [interval / timedelta(minutes=1) for interval in INTERVALS]
    assert minutes == [1, 2, 4, 7.5, 15, 30, 60, 120, 240, 480, 960]
    assert MAX_ATTEMPTS == 12
    for attempt in range(1, 15):
        for call_id in range(1, 50):
            due_at = next_due_at(_call(attempt, call_id), START)
            interval = INTERVALS[min(attempt, 11) - 1]
            assert abs((due_at - START) / interval - 1) <= 0.010001
    assert len({next_due_at(_call(1, call_id), START) for call_id in range(50)}) > 20
    assert [is_exhausted(_call(attempt)) for attempt in (11, 12, 13)] == [False, True, True]


def test_a_shorter_first_wait_makes_all_of_them_shorter() -> None:
    for attempt, seconds in [(1, 1), (2, 2), (4, 7.5)]:
        wait = next_due_at(_call(attempt), START, timedelta(seconds=1)) - START
        assert abs(wait.total_seconds() / seconds - 1) <= 0.010001


def test_payloads_are_json() -> None:
    text = encode_payload(make_payload(made_event(), queued_at=START))
    assert json.loads(text)["Event"] == "delivered"


@pytest.mark.parametrize(("code", "label"), [(200, "200"), (404, "404"), (599, "5xx"), (299, "2xx"), (0, "error")])
def test_results_are_counted_by_registered_codes_and_classes_of_others(code: int, label: str) -> None:
    assert metric_label(CallResult(START, timedelta(0), code == 200, code)) == label


def test_the_examples_have_the_fields_of_the_wire_in_its_order() -> None:
    wire = list(make_payload(made_event(), queued_at=START))
    for name in ("outgoing-delivered", "outgoing-dsn-failed"):
        assert list(EXAMPLES[name]) == wire
