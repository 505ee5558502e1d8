"""Multipart forms: files beside the request, bounds, and a large upload."""

from __future__ import annotations

import json
import os
import tracemalloc
from collections.abc import Iterator, Sequence

import pytest

from mailcrane.http.dispatch import Dispatcher, Mount
from mailcrane.model.submission import Submission, SubmissionAccepted, SubmittedEntry
from mailcrane.testing.clock import Clock
from mailcrane.testing.hooks import plugin_services, running_plugins
from mailcrane_webapi.plugin import WebAPIPlugin

from .conftest import API, Answer, Logins, Submissions, Suppressions

REQUEST = json.dumps({"To": [{"Address": "you@example.com"}], "Text": "hi"}).encode()
TYPE = b"multipart/form-data; boundary=limit"


def part(name: str, octets: bytes, *, file_name: str | None = None, headers: Sequence[str] = ()) -> bytes:
    disposition = f'Content-Disposition: form-data; name="{name}"'
    if file_name is not None:
        disposition += f'; filename="{file_name}"'
    head = "\r\n".join([disposition, *headers])
    return b"--limit\r\n" + head.encode() + b"\r\n\r\n" + octets + b"\r\n"


def multipart(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--limit--\r\n"


async def post(api: API, body: bytes | Sequence[bytes]) -> Answer:
    return await api.ask("POST", "/webapi/v0/Send", body, content_type=TYPE)


async def test_a_multipart_form_needs_no_files(api: API) -> None:
    assert (await post(api, multipart(part("request", REQUEST)))).status == 200


async def test_files_travel_with_the_message(api: API) -> None:
    body = multipart(
        part("attachedfile", b"%PDF-1", file_name="C:\\x\\a.pdf"),
        part("attachedfile", b"second", file_name="b.bin", headers=["Content-Type: application/x-b"]),
        part("inlinefile", b"GIF87a", file_name="i.gif", headers=["Content-ID: <cid@x>", "Content-Type: image/gif"]),
        part("request", REQUEST),
        part("alternativefile", b"BEGIN:VCALENDAR", file_name="ü.ics", headers=["Content-Type: text/calendar"]),
    )
    for size in (7, 100_000):
        answer = await post(api, [body[at : at + size] for at in range(0, len(body), size)])
        assert answer.status == 200
        message = api.submissions.message
        files = [file for file in message.walk() if file.get_filename()]
        assert [(file.get_content_type(), file.get_filename(), file.get_content_disposition()) for file in files] == [
            ("text/calendar", "ü.ics", "inline"),
            ("image/gif", "i.gif", "inline"),
            ("application/pdf", "a.pdf", "attachment"),
            ("application/x-b", "b.bin", "attachment"),
        ]
        assert files[1]["Content-ID"] == "<cid@x>"
        assert files[3].get_payload(decode=True) == b"second"


async def test_files_in_json_come_before_those_in_the_form(api: API) -> None:
    request = json.dumps({**json.loads(REQUEST), "AttachedFiles": [{"Name": "json", "Data": "QQ=="}]}).encode()
    await post(api, multipart(part("attachedfile", b"x", file_name="form"), part("request", request)))
    assert [file.get_filename() for file in api.submissions.message.iter_attachments()] == ["json", "form"]


async def test_files_above_200_kb_are_whole_too(api: API) -> None:
    first, second = os.urandom(150_000), os.urandom(500_000)
    body = multipart(
        part("attachedfile", first, file_name="1"),
        part("attachedfile", second, file_name="2"),
        part("request", REQUEST),
    )
    assert (await post(api, [body[at : at + 65536] for at in range(0, len(body), 65536)])).status == 200
    octets = [file.get_payload(decode=True) for file in api.submissions.message.iter_attachments()]
    assert octets == [first, second]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        b"--limit--\r\n",
        part("request", REQUEST),
        multipart(part("other", REQUEST)),
        multipart(part("request", b"")),
        multipart(part("request", REQUEST, file_name="request.json")),
        b"--limit\r\nnonsense\r\n\r\nx\r\n--limit--\r\n",
        multipart(part("request", REQUEST, headers=["X: " + "y" * 20_000])),
        multipart(part("request", REQUEST, headers=["X: y"] * 100)),
        multipart(*[part("x", b"")] * 1001, part("request", REQUEST)),
        multipart(part("x", bytes(11_000_000)), part("request", REQUEST)),
    ],
)
async def test_a_form_that_is_wrong_is_a_protocol_error(api: API, body: bytes) -> None:
    assert (await post(api, body)).code == "protocol"


async def test_a_form_that_is_wrong_is_not_the_operators_to_know(api: API, caplog: pytest.LogCaptureFixture) -> None:
    assert (await post(api, b"--other\r\n")).status == 400
    assert not [record for record in caplog.records if record.name.startswith("python_multipart")]


async def test_files_larger_than_a_message_may_be_are_refused(api: API) -> None:
    body = multipart(part("attachedfile", bytes(4_000_001), file_name="x"), part("request", REQUEST))
    assert (await post(api, [body[at : at + 65536] for at in range(0, len(body), 65536)])).code == "messageTooLarge"


async def test_an_upload_of_200_mb_does_not_grow_memory(api: API) -> None:
    class Upload(Sequence[bytes]):
        """Pieces that are made when they are asked for."""

        def __len__(self) -> int:
            return 3200

        def __getitem__(self, at: int) -> bytes:  # type: ignore[override]
            if at >= 3200:
                raise IndexError
            return part("attachedfile", b"", file_name="x")[:-2] if at == 0 else piece

        def __iter__(self) -> Iterator[bytes]:
            return (self[at] for at in range(3200))

    piece = bytes(65536)
    upload = Upload()
    tracemalloc.start()
    try:
        answer = await post(api, upload)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert answer.code == "messageTooLarge"
    assert peak < 5_000_000


async def test_a_message_with_large_files_is_never_held_whole() -> None:
    class Counting(Submissions):
        size_octets = 0

        async def submit(self, submission: Submission) -> SubmissionAccepted:
            async for chunk in submission.content.chunks():
                assert len(chunk) <= 256 * 1024
                self.size_octets += len(chunk)
            assert self.size_octets == submission.content.size_octets
            return SubmissionAccepted("<1@x>", (SubmittedEntry(submission.forward_paths[0], 1),))

    counting = Counting()
    services = plugin_services(clock=Clock())
    services.logins, services.submissions = Logins(), counting
    body = multipart(
        part("request", REQUEST), *(part("attachedfile", bytes(8_000_000), file_name=str(n)) for n in range(3))
    )
    pieces = [body[at : at + 65536] for at in range(0, len(body), 65536)]
    async with running_plugins(WebAPIPlugin, services=services) as host:
        ((_, registered),) = host.hooks.register_http_apps()
        mount = Mount(registered.default_path, registered.service, registered.make(), registered.is_internal)
        api = API(Dispatcher([mount], listener="web"), Logins(), counting, Suppressions())
        tracemalloc.start()
        try:
            assert (await post(api, pieces)).status == 200
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert counting.size_octets > 32_000_000
    assert peak < 4_000_000
