"""The API on services that record, reached through the dispatcher as requests reach it."""

from __future__ import annotations

import base64
import email
import email.policy
import json
import urllib.parse
from collections.abc import AsyncIterator, Sequence
from email.message import EmailMessage
from typing import Any

import pytest

from mailcrane.http.app import Message
from mailcrane.http.dispatch import Dispatcher, Mount
from mailcrane.model.address import Mailbox
from mailcrane.model.receive import Identity
from mailcrane.model.reply import Reply
from mailcrane.model.session import SessionInfo
from mailcrane.model.submission import (
    LoginRefused,
    Submission,
    SubmissionAccepted,
    SubmissionRefused,
    SubmittedEntry,
)
from mailcrane.model.suppression import AlreadySuppressed, NotSuppressed, Suppression, base_address
from mailcrane.testing.clock import START, Clock
from mailcrane.testing.hooks import plugin_services, running_plugins
from mailcrane_webapi.plugin import WebAPIPlugin

AUTHORIZATION = (b"authorization", b"Basic " + base64.b64encode(b"me@example.org:secret"))
FORM = b"application/x-www-form-urlencoded"


class Logins:
    def __init__(self) -> None:
        self.attempts: list[tuple[SessionInfo, str, str]] = []
        self.refusal: LoginRefused | None = None

    async def log_in(self, session: SessionInfo, login: str, password: str) -> Identity:
        self.attempts.append((session, login, password))
        if self.refusal is not None:
            raise self.refusal
        if (login, password) != ("me@example.org", "secret"):
            raise LoginRefused("badcreds", Reply.make(535, "5.7.8", "bad credentials"))
        return Identity("me", login, "Me Myself")


class Submissions:
    def __init__(self) -> None:
        self.taken: list[Submission] = []
        self.octets: list[bytes] = []
        self.refusal: Exception | None = None
        self.from_ids: Sequence[str] = ()

    def check_author(self, identity: Identity, author: Mailbox) -> None:
        if author.domain == "disabled.example":
            raise SubmissionRefused("domainDisabled", Reply.make(450, "4.2.1", "domain is disabled"))
        if author.domain != "example.org":
            raise SubmissionRefused("badFrom", Reply.make(550, "5.7.1", "not your address"))

    async def submit(self, submission: Submission) -> SubmissionAccepted:
        if self.refusal is not None:
            raise self.refusal
        self.octets.append(b"".join([chunk async for chunk in submission.content.chunks()]))
        assert len(self.octets[-1]) == submission.content.size_octets
        assert self.octets[-1].startswith(submission.content.header + b"\r\n")
        self.taken.append(submission)
        message = email.message_from_bytes(self.octets[-1])
        entries = [
            SubmittedEntry(path, 100 + position, self.from_ids[position] if self.from_ids else "")
            for position, path in enumerate(submission.forward_paths)
        ]
        return SubmissionAccepted(message["Message-Id"], tuple(entries))

    @property
    def message(self) -> EmailMessage:
        """The last message."""
        message = email.message_from_bytes(self.octets[-1], policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        return message


class Suppressions:
    def __init__(self) -> None:
        self.rows: list[Suppression] = []

    async def list(self, account: str) -> tuple[Suppression, ...]:
        return tuple(row for row in self.rows if row.account == account)

    async def add(self, account: str, address: Mailbox, *, is_manual: bool, reason: str) -> Suppression:
        if await self.is_suppressed(account, address):
            raise AlreadySuppressed
        row = Suppression(
            len(self.rows) + 1,
            account,
            base_address(address),
            str(address),
            START,
            is_manual=is_manual,
            reason=reason,
        )
        self.rows.append(row)
        return row

    async def remove(self, account: str, address: Mailbox) -> None:
        if not await self.is_suppressed(account, address):
            raise NotSuppressed
        self.rows = [row for row in self.rows if (row.account, row.base_address) != (account, base_address(address))]

    async def is_suppressed(self, account: str, address: Mailbox) -> bool:
        return (account, base_address(address)) in {(row.account, row.base_address) for row in self.rows}


class Answer:
    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        assert self.headers["content-type"] == "application/json; charset=utf-8"
        assert self.body.endswith(b"\n")
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of an error."""
        assert self.status == 400
        assert list(self.json) == ["Code", "Message"]
        assert self.json["Message"]
        return str(self.json["Code"])


class API:
    def __init__(
        self, dispatcher: Dispatcher, logins: Logins, submissions: Submissions, suppressions: Suppressions
    ) -> None:
        self.dispatcher = dispatcher
        self.logins = logins
        self.submissions = submissions
        self.suppressions = suppressions

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes | Sequence[bytes] = b"",
        *,
        content_type: bytes | None = FORM,
        headers: Sequence[tuple[bytes, bytes]] = (AUTHORIZATION,),
        **fields: Any,
    ) -> Answer:
        answer = Answer()
        chunks = [body] if isinstance(body, bytes) else list(body)

        async def receive() -> Message:
            if not chunks:
                return {"type": "http.disconnect"}
            chunk = chunks.pop(0)
            return {"type": "http.request", "body": chunk, "more_body": bool(chunks)}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
            else:
                answer.body += message["body"]

        types = [] if content_type is None else [(b"content-type", content_type)]
        scope = {
            "type": "http",
            "http_version": "1.1",
            "asgi": {"version": "3.0", "spec_version": "2.1"},
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b"mail.example.org"), *types, *headers],
            "client": ("192.0.2.1", 1234),
            "server": ("127.0.0.1", 80),
            "extensions": {},
            **fields,
        }
        await self.dispatcher(scope, receive, send)
        return answer

    async def call(self, request: str | bytes, method: str = "Send", **fields: Any) -> Answer:
        """Call a method with a text that stands for JSON."""
        return await self.ask("POST", f"/webapi/v0/{method}", urlencoded(request), **fields)

    async def send(self, **request: Any) -> Answer:
        """Call Send with the fields of a request; the usual ones are there."""
        usual = {"To": [{"Address": "you@example.com"}], "Subject": "hello", "Text": "hi\n"}
        return await self.call(json.dumps({**usual, **request}))


def urlencoded(request: str | bytes) -> bytes:
    return urllib.parse.urlencode({"request": request}).encode()


@pytest.fixture
async def api() -> AsyncIterator[API]:
    services = plugin_services(hostname="mail.example.org", clock=Clock())
    logins, submissions, suppressions = Logins(), Submissions(), Suppressions()
    services.logins, services.submissions, services.suppressions = logins, submissions, suppressions
    config = {"webapi": {"max_message_octets": 4_000_000}}
    async with running_plugins(WebAPIPlugin, config=config, services=services) as host:
        ((plugin, registered),) = host.hooks.register_http_apps()
        assert (plugin, registered.service, registered.default_path) == ("webapi", "webapi", "/webapi/")
        mount = Mount(registered.default_path, registered.service, registered.make(), registered.is_internal)
        yield API(Dispatcher([mount], listener="web"), logins, submissions, suppressions)
