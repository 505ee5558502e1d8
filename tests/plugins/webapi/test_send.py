"""The method Send: what a request becomes, and what it is refused for."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mailcrane.model.address import Mailbox
from mailcrane.model.reply import Reply
from mailcrane.model.submission import SubmissionRefused
from mailcrane.testing.clock import START

from .conftest import API

YOU = [{"Address": "you@example.com"}]


async def test_a_message_is_submitted_and_the_answer_tells_its_entries(api: API) -> None:
    api.submissions.from_ids = ["id1", "id2", "id3"]
    answer = await api.send(
        To=[{"Name": "You", "Address": "You@Example.COM"}],
        CC=[{"Address": "cc@example.com"}],
        BCC=[{"Address": "bcc@example.com"}],
    )
    assert answer.status == 200
    message_id = api.submissions.message["Message-Id"]
    assert answer.body == (
        b'{"MessageID":"%s","Submissions":['
        b'{"Address":"You@Example.COM","QueueMsgID":100,"FromID":"id1"},'
        b'{"Address":"cc@example.com","QueueMsgID":101,"FromID":"id2"},'
        b'{"Address":"bcc@example.com","QueueMsgID":102,"FromID":"id3"}]}\n' % message_id.encode()
    )
    submission = api.submissions.taken[0]
    assert str(submission.reverse_path) == "me@example.org"
    assert [str(path) for path in submission.forward_paths] == ["You@example.com", "cc@example.com", "bcc@example.com"]
    assert submission.identity.account == "me"
    assert submission.transaction == 1
    assert submission.session.protocol == "http"
    assert "Bcc" not in api.submissions.message


async def test_each_call_is_a_session_of_its_own(api: API) -> None:
    await api.send()
    await api.send()
    first, second = api.submissions.taken
    assert first.session.id != second.session.id


async def test_without_an_author_it_is_the_account(api: API) -> None:
    await api.send()
    assert api.submissions.message["From"] == "Me Myself <me@example.org>"


async def test_everything_of_a_request_is_in_the_message(api: API) -> None:
    await api.send(
        From=[{"Name": "Ünï", "Address": "other@example.org"}],
        ReplyTo=[{"Address": "reply@example.org"}],
        MessageID="<given@example.org>",
        References=["<a@x>", "<b@x>"],
        Date="2025-02-03T04:05:06+01:00",
        Subject="Grüße",
        Text="text\n",
        HTML="<b>html</b>\n",
        Headers=[["X-One", "1"], ["X-Two", "2"]],
        Extra={"order": "42", "x-Y": ""},
        AttachedFiles=[{"Name": "a.txt", "ContentType": "text/plain", "Data": base64.b64encode(b"file").decode()}],
        InlineFiles=[{"ContentID": "<c>", "Data": "R0lGODdh"}],
        AlternativeFiles=[{"Name": "b.ics", "ContentType": "text/calendar", "Data": "QQ=="}],
    )
    message = api.submissions.message
    assert message["From"] == "Ünï <other@example.org>"
    assert message["Reply-To"] == "reply@example.org"
    assert message["Message-Id"] == "<given@example.org>"
    assert message["References"].split() == ["<a@x>", "<b@x>"]
    assert message["In-Reply-To"] == "<b@x>"
    assert message["Date"] == "Mon, 03 Feb 2025 04:05:06 +0100"
    assert message["Subject"] == "Grüße"
    assert (message["X-One"], message["X-Two"]) == ("1", "2")
    assert message.get_content_type() == "multipart/mixed"
    types = [part.get_content_type() for part in message.walk() if not part.is_multipart()]
    assert types == ["text/plain", "text/html", "text/calendar", "image/gif", "text/plain"]
    assert api.submissions.taken[0].extra == {"order": "42", "x-Y": ""}


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"Text": ""}, "missingBody"),
        ({"Text": None, "From": [YOU[0], YOU[0]]}, "missingBody"),
        ({"From": [YOU[0], YOU[0]], "To": [{"Address": "bad"}]}, "multipleFrom"),
        ({"From": [{"Address": "bad"}]}, "badAddress"),
        ({"From": YOU, "To": [{"Address": "bad"}]}, "badAddress"),
        ({"From": YOU, "CC": [{"Address": "a b@example.com"}]}, "badAddress"),
        ({"From": YOU, "BCC": [{"Address": ""}]}, "badAddress"),
        ({"From": YOU, "BCC": [None]}, "badAddress"),
        ({"From": YOU, "To": []}, "badFrom"),
        ({"From": [{"Address": "me@disabled.example"}], "To": []}, "domainDisabled"),
        ({"To": [], "ReplyTo": [{"Address": "bad"}]}, "noRecipients"),
        ({"To": None}, "noRecipients"),
        ({"ReplyTo": [{"Address": "bad"}], "Subject": "a\nb"}, "badAddress"),
        ({"Subject": "a\nb"}, "user"),
        ({"To": [{"Name": "a\tb", "Address": "you@example.com"}]}, "user"),
        ({"BCC": [{"Name": "a\nb", "Address": "you@example.com"}]}, "user"),
        ({"Headers": [["X\rY", "z"]]}, "user"),
        ({"MessageID": f"<{'a' * 1000}@example.org>"}, "user"),
        ({"BCC": [{"Name": "a" * 1000, "Address": "you@example.com"}]}, "user"),
        ({"Headers": [["X", "a\r\nBcc: other@example.com"]]}, "user"),
        ({"References": ["<a>\n"]}, "user"),
        ({"MessageID": "no-brackets@example.org"}, "malformedMessageID"),
        ({"MessageID": "<\n>"}, "user"),
        ({"AttachedFiles": [{"Data": "not base64!"}]}, "user"),
        ({"AttachedFiles": [{"Data": "QQ=", "Name": "x"}]}, "user"),
        ({"AttachedFiles": [{"Data": "QQ==", "ContentType": "text/\nplain"}]}, "user"),
        ({"AttachedFiles": [{"Data": "QQ==", "ContentID": "a\nb"}]}, "user"),
    ],
)
async def test_a_request_that_is_wrong_is_refused_with_its_code(api: API, request_: dict[str, Any], code: str) -> None:
    assert (await api.send(**request_)).code == code
    assert api.submissions.taken == []


@pytest.mark.parametrize(
    ("refused_with", "reply", "code"),
    [
        ("badFrom", Reply.make(550, "5.7.1", "no"), "badFrom"),
        ("messageTooLarge", Reply.make(552, "5.3.4", "no"), "messageTooLarge"),
        ("messageLimitReached", Reply.make(451, "4.7.1", "no"), "messageLimitReached"),
        ("server", Reply.make(451, "4.3.0", "no"), "server"),
        ("somethingElse", Reply.make(554, "5.6.0", "no"), "user"),
        ("somethingElse", Reply.make(451, "4.3.0", "no"), "server"),
    ],
)
async def test_what_the_queue_refuses_is_refused_with_its_code(
    api: API, refused_with: str, reply: Reply, code: str
) -> None:
    api.submissions.refusal = SubmissionRefused(refused_with, reply)
    assert (await api.send()).code == code


async def test_a_message_that_is_too_large_is_refused(api: API) -> None:
    answer = await api.send(Text="x" * 70 + "\n", AttachedFiles=[{"Data": "A" * 4_000_000}])
    assert answer.code == "messageTooLarge"


async def test_a_large_message_goes_in_pieces(api: API) -> None:
    octets = bytes(range(256)) * 4096
    answer = await api.send(AttachedFiles=[{"Name": "big", "Data": base64.b64encode(octets).decode()}])
    assert answer.status == 200
    (attachment,) = api.submissions.message.iter_attachments()
    assert attachment.get_payload(decode=True) == octets


@pytest.mark.parametrize(
    ("given", "require_tls"),
    [({}, None), ({"RequireTLS": None}, None), ({"RequireTLS": True}, True), ({"RequireTLS": False}, False)],
)
async def test_require_tls_is_passed_on(api: API, given: dict[str, Any], require_tls: bool | None) -> None:
    await api.send(**given)
    assert api.submissions.taken[0].require_tls is require_tls


async def test_a_future_release_is_at_most_60_days_ahead(api: API) -> None:
    await api.send(FutureRelease="2026-01-31T12:00:00.5Z")
    submission = api.submissions.taken[0]
    assert submission.release_at == datetime(2026, 1, 31, 12, 0, 0, 500_000, tzinfo=UTC)
    assert submission.future_release == "until;2026-01-31T12:00:00.500000Z"
    await api.send(FutureRelease="2001-01-01T00:00:00+02:00")
    assert api.submissions.taken[1].future_release == "until;2001-01-01T00:00:00+02:00"
    too_far = START + timedelta(days=60, seconds=30)
    assert (await api.send(FutureRelease=too_far.isoformat())).code == "user"


async def test_a_copy_for_sent_has_the_bcc_recipients(api: API) -> None:
    await api.send()
    await api.send(SaveSent=True)
    await api.send(SaveSent=True, BCC=[{"Name": "B", "Address": "bcc@example.com"}])
    copies = [submission.sent_copy for submission in api.submissions.taken]
    assert copies[0] is None
    assert copies[1] is not None
    assert copies[1].prefix == b""
    assert copies[2] is not None
    assert copies[2].prefix == b"Bcc: B <bcc@example.com>\r\n"


async def test_recipients_are_not_deduplicated(api: API) -> None:
    answer = await api.send(To=YOU, CC=YOU)
    assert [entry["QueueMsgID"] for entry in answer.json["Submissions"]] == [100, 101]


async def test_an_address_with_a_unicode_domain_is_answered_as_it_was_given(api: API) -> None:
    answer = await api.send(To=[{"Address": "you@bücher.example"}])
    assert answer.json["Submissions"][0]["Address"] == "you@bücher.example"
    assert api.submissions.taken[0].forward_paths == (Mailbox("you", "xn--bcher-kva.example"),)


# --- JSON as Go reads it ---


async def test_names_match_without_regard_to_case(api: API) -> None:
    answer = await api.call('{"to": [{"ADDRESS": "you@example.com"}], "tExT": "hi", "extra": {"Key": "v", "key": "w"}}')
    assert answer.status == 200
    assert api.submissions.taken[0].extra == {"Key": "v", "key": "w"}


@pytest.mark.parametrize("rest", [" ", "\n{}", "nonsense", "}", ", 1"])
async def test_what_follows_the_first_value_is_ignored(api: API, rest: str) -> None:
    assert (await api.call(json.dumps({"To": YOU, "Text": "x"}) + rest)).status == 200


async def test_null_stands_for_nothing(api: API) -> None:
    names = "From CC BCC ReplyTo MessageID References Date Subject HTML Extra Headers AlternativeFiles InlineFiles"
    names += " AttachedFiles RequireTLS FutureRelease SaveSent"
    assert (await api.send(**dict.fromkeys(names.split()))).status == 200
    assert (await api.send(text="again", Headers=[None, ["X-One"], ["X-Two", "2", "3"]][1:])).status == 200
    assert api.submissions.message["X-One"] == ""
    assert api.submissions.message["X-Two"] == "2"
    assert (await api.call(" null")).code == "missingBody"


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '"text"',
        "1",
        "nonsense",
        " ",
        '{"Unknown": 1}',
        '{"To": [{"Adress": "you@example.com"}]}',
        '{"Text": 1}',
        '{"Text": ["x"]}',
        '{"To": {"Address": "x"}}',
        '{"To": "you@example.com"}',
        '{"SaveSent": "true"}',
        '{"SaveSent": 1}',
        '{"Date": "yesterday"}',
        '{"Date": "2025-02-03T04:05:06"}',
        '{"Date": 5}',
        '{"Extra": {"a": 1}}',
        '{"Extra": ["a"]}',
        '{"Headers": [["a", 1]]}',
        '{"Headers": {"a": "b"}}',
        '{"Text": "a\nb"}',
        '{"Text": NaN}',
        "[" * 100_000,
        '{"to": ' * 3000,
        '{"Text": ' + "1" * 5000 + "}",
        "\ufeff{}",
    ],
)
async def test_json_that_is_wrong_is_a_protocol_error(api: API, text: str) -> None:
    assert (await api.call(text)).code == "protocol"


async def test_what_is_told_of_a_long_number_is_for_people_who_do_not_know_python(api: API) -> None:
    answer = await api.call('{"Text": ' + "9" * 5000 + "}")
    assert answer.json["Message"] == "parsing request: Expected `str | null`, got `int` - at `$.Text`"


@pytest.mark.parametrize("request_", [b'{"Text": "a\xff", "To": []}', rb'{"Text": "a\ud800", "To": []}'])
async def test_text_that_is_no_unicode_is_replaced(api: API, request_: bytes) -> None:
    assert (await api.call(request_.replace(b"[]", json.dumps(YOU).encode()))).status == 200
    assert api.submissions.message.get_content().rstrip() == "a\ufffd"
