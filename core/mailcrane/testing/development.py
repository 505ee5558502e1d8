"""A development server for the tests of an application: a process of its own, asked over HTTP.

    with running_localserve() as mailcrane:
        signup("ann@example.org", smtp=mailcrane.smtp)
        assert "Welcome" in mailcrane.wait_for_message(to="ann@example.org").subject

`mailcrane.testing.pytest` has it as a fixture. Nothing here sleeps or looks again and again: the server answers when
there is what was asked for. Only the standard library and msgspec are imported, so that a test run starts as fast as
before.
"""

from __future__ import annotations

import contextlib
import http.client
import select
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec

from mailcrane.run.shown import (
    Reached,
    ShownMessage,
    ShownMessages,
    ShownPart,
    ShownWebhook,
    ShownWebhooks,
)

T = TypeVar("T")

START_SECONDS = 60.0
"""A server that is not ready by then is a failure; on a busy machine it takes a few seconds."""

_ANSWER_SECONDS = 30.0
_STOP_SECONDS = 15.0
_LISTED = 20


class NothingArrived(AssertionError):
    """What a test waited for did not come; the message lists what did."""


class ServerFailed(RuntimeError):
    """The development server did not start, ended, or refused a request; the message has the end of its log."""


class HostPort(NamedTuple):
    """Where a protocol is spoken."""

    host: str
    port: int


class DevelopmentServer:
    """A running development server, as an application's test sees it.

    Attributes:
        smtp: Takes mail for every recipient, without a login; what it accepted is there at once.
        submission: Takes mail with `login` and `password` into the queue, which delivers it here within moments.
        submissions: The same with TLS from the start; `certificate` is to be trusted.
        webapi_url: Base of the sending API; `login` and `password` are for HTTP basic authentication.
        login: Of the one account.
        password: Of the one account.
        webhook_secret: Signs webhooks (Standard Webhooks).
        messages_url: Where people look at messages.
        hooks_url: Where webhooks are caught, and where people look at them.
        directory: With ``mailcrane.toml``, for ``mailcrane --config``, and ``localserve.log``.
        certificate: PEM file.
    """

    def __init__(self, reached: Reached) -> None:
        """Ask a server that runs.

        Args:
            reached: What ``mailcrane localserve --json`` printed.
        """
        self.smtp = HostPort(*reached.smtp)
        self.submission = HostPort(*reached.submission)
        self.submissions = HostPort(*reached.submissions)
        self.webapi_url = reached.webapi_url
        self.login = reached.login
        self.password = reached.password
        self.webhook_secret = reached.webhook_secret
        self.messages_url = reached.messages_url
        self.hooks_url = reached.hooks_url
        self.directory = Path(reached.directory)
        self.certificate = Path(reached.certificate)

    # --- messages -------------------------------------------------------------------------------------------------

    def wait_for_message(
        self, *, to: str = "", from_: str = "", subject: str = "", message_id: str = "", timeout: float = 10.0
    ) -> ShownMessage:
        """Return the newest message that matches, as soon as there is one.

        Args:
            to: The recipient of the envelope, in any case.
            from_: The envelope's reverse-path or the author, in any case.
            subject: A part of the subject, in any case.
            message_id: With or without angle brackets.
            timeout: Seconds, at most 300.

        Raises:
            NothingArrived: there is none in time.
        """
        __tracebackhide__ = True
        return self.wait_for_messages(1, to=to, from_=from_, subject=subject, message_id=message_id, timeout=timeout)[0]

    def wait_for_messages(
        self,
        count: int,
        *,
        to: str = "",
        from_: str = "",
        subject: str = "",
        message_id: str = "",
        timeout: float = 10.0,
    ) -> list[ShownMessage]:
        """Return the messages that match, newest first, as soon as there are so many; a hundred at most.

        Raises:
            NothingArrived: there are fewer in time.
        """
        __tracebackhide__ = True
        search = {"to": to, "from": from_, "subject": subject, "message_id": message_id}
        found = self._find_messages(search, count=count, timeout=timeout)
        if len(found) < count:
            raise NothingArrived(self._what_arrived(_wanted(count, "message", search), timeout))
        return found

    def messages(self, *, to: str = "", from_: str = "", subject: str = "", message_id: str = "") -> list[ShownMessage]:
        """Return the messages that match and are there now, newest first; a hundred at most."""
        return self._find_messages({"to": to, "from": from_, "subject": subject, "message_id": message_id})

    def raw(self, message: ShownMessage) -> bytes:
        """Return all octets of a message."""
        return self._request("GET", self._url(message.raw_url))

    def octets(self, part: ShownPart) -> bytes:
        """Return the decoded octets of an attachment."""
        return self._request("GET", self._url(part.url))

    # --- webhooks -------------------------------------------------------------------------------------------------

    def wait_for_webhook(
        self, *, event: str = "", to: str = "", message_id: str = "", timeout: float = 10.0
    ) -> ShownWebhook:
        """Return the newest webhook that matches, as soon as there is one.

        Args:
            event: Such as ``delivered``, ``delayed`` or ``failed``.
            to: The recipient that it tells of, in any case.
            message_id: With or without angle brackets.
            timeout: Seconds, at most 300.

        Raises:
            NothingArrived: there is none in time.
        """
        __tracebackhide__ = True
        search = {"event": event, "to": to, "message_id": message_id}
        found = self._find_webhooks(search, timeout=timeout)
        if not found:
            raise NothingArrived(self._what_arrived(_wanted(1, "webhook", search), timeout))
        return found[0]

    def webhooks(self, *, event: str = "", to: str = "", message_id: str = "") -> list[ShownWebhook]:
        """Return the webhooks that match and are there now, newest first."""
        return self._find_webhooks({"event": event, "to": to, "message_id": message_id})

    @contextlib.contextmanager
    def webhooks_sent_to(self, url: str) -> Iterator[None]:
        """Post webhooks to an application instead of catching them, for the length of the block.

        They are signed with `webhook_secret`, and posted again after a second where the application does not take them.

        Args:
            url: On a loopback address.
        """
        before = self._set_webhook(url)
        try:
            yield
        finally:
            self._set_webhook(before)

    # --- for asynchronous tests -----------------------------------------------------------------------------------

    async def wait_for_message_async(
        self,
        *,
        to: str = "",
        from_: str = "",
        subject: str = "",
        message_id: str = "",
        timeout: float = 10.0,  # noqa: ASYNC109 - the server keeps the time
    ) -> ShownMessage:
        """Do as `wait_for_message`, in a thread, so that tasks of the test go on (asyncio and trio)."""
        return await _in_thread(
            lambda: self.wait_for_message(to=to, from_=from_, subject=subject, message_id=message_id, timeout=timeout)
        )

    async def wait_for_webhook_async(
        self,
        *,
        event: str = "",
        to: str = "",
        message_id: str = "",
        timeout: float = 10.0,  # noqa: ASYNC109 - the server keeps the time
    ) -> ShownWebhook:
        """Do as `wait_for_webhook`, in a thread, so that tasks of the test go on (asyncio and trio)."""
        return await _in_thread(
            lambda: self.wait_for_webhook(event=event, to=to, message_id=message_id, timeout=timeout)
        )

    # --- between tests ---------------------------------------------------------------------------------------------

    def clear(self) -> None:
        """Forget all messages and webhooks, what is still queued, and the suppression list: as on a new server.

        A message that is being delivered at this moment, and the webhook of one that just was, may still come.
        """
        self._request("DELETE", f"{self.messages_url}?everything=yes")
        self._request("DELETE", self.hooks_url)

    # --- inside -----------------------------------------------------------------------------------------------------

    def _set_webhook(self, url: str) -> str:
        """Say where webhooks go, over the control socket; returns where they went."""
        # Operators' things, which few tests need, take a while to import.
        from mailcrane.admin import configuration as operations  # noqa: PLC0415
        from mailcrane.admin.client import ControlClient  # noqa: PLC0415
        from mailcrane.config import declarative  # noqa: PLC0415
        from mailcrane.observe.secret import Secret  # noqa: PLC0415

        with ControlClient(self.directory / "data" / "control") as client:
            exported = client.call("config_export", operations.ExportConfiguration(), operations.Exported)
            rows = declarative.parse(exported.toml.reveal())
            [(account, webhook)] = [
                (account, account.outgoing_webhook) for account in rows.accounts if account.outgoing_webhook is not None
            ]
            changed = msgspec.structs.replace(account, outgoing_webhook=msgspec.structs.replace(webhook, url=url))
            accounts = tuple(changed if one is account else one for one in rows.accounts)
            toml = declarative.dump(msgspec.structs.replace(rows, accounts=accounts))
            client.call("config_apply", operations.ApplyConfiguration(Secret(toml)), operations.Difference)
        return webhook.url

    def _find_messages(
        self, search: dict[str, str], *, count: int = 1, timeout: float = 0.0, limit: int = 100
    ) -> list[ShownMessage]:
        query = urlencode({**search, "count": count, "timeout": timeout, "limit": limit})
        octets = self._request("GET", f"{self.messages_url}?{query}", wait=timeout)
        return list(msgspec.json.decode(octets, type=ShownMessages).messages)

    def _find_webhooks(self, search: dict[str, str], *, timeout: float = 0.0) -> list[ShownWebhook]:
        query = urlencode({**search, "timeout": timeout})
        octets = self._request("GET", f"{self.hooks_url}?{query}", wait=timeout)
        return list(msgspec.json.decode(octets, type=ShownWebhooks).webhooks)

    def _url(self, path: str) -> str:
        parts = urlsplit(self.messages_url)
        return f"{parts.scheme}://{parts.netloc}{path}"

    def _request(self, method: str, url: str, *, wait: float = 0.0) -> bytes:
        parts = urlsplit(url)
        # Not urllib.request, which would ask a proxy that the environment names.
        connection = http.client.HTTPConnection(parts.netloc, timeout=wait + _ANSWER_SECONDS)
        try:
            connection.request(method, f"{parts.path}?{parts.query}" if parts.query else parts.path)
            response = connection.getresponse()
            octets = response.read()
        except OSError as error:
            raise ServerFailed(f"the development server does not answer: {error}\n{_log_of(self.directory)}") from error
        finally:
            connection.close()
        if response.status == http.client.BAD_REQUEST:
            raise ValueError(octets.decode().strip())
        if response.status != http.client.OK:
            raise ServerFailed(f"{method} {url}: {response.status} {octets[:500].decode('utf-8', 'replace').strip()}")
        return octets

    def _what_arrived(self, wanted: str, timeout: float) -> str:
        messages, webhooks = self._find_messages({}, limit=_LISTED), self._find_webhooks({})
        lines = [f"no {wanted} within {timeout:g} seconds"]
        lines += _listed("message", [_message_line(one) for one in messages])
        lines += _listed("webhook", [_webhook_line(one) for one in webhooks[:_LISTED]])
        if not messages and not webhooks:
            lines.append(f"Does the application send to {self.smtp.host}:{self.smtp.port} (or to {self.webapi_url})?")
        lines.append(f"The server's log: {self.directory / 'localserve.log'}")
        return "\n".join(lines)


@contextlib.contextmanager
def running_localserve(directory: str | Path | None = None) -> Iterator[DevelopmentServer]:
    """Run a development server on free ports, as a process of its own, for the length of the block.

    It also ends when this process does, however that happens.

    Args:
        directory: For its data; a temporary one, removed afterwards, where none is given.

    Raises:
        ServerFailed: it did not start.
    """
    with contextlib.ExitStack() as stack:
        if directory is None:
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="mailcrane-"))
        path = Path(directory)
        path.mkdir(parents=True, exist_ok=True)
        log = stack.enter_context((path / "localserve.log").open("wb"))
        command = [sys.executable, "-m", "mailcrane", "localserve", "--dir", str(path), "--ip", "127.0.0.1"]
        process = subprocess.Popen(
            [*command, "--free-ports", "--json", "--until-eof"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )
        stack.callback(_end, process)
        yield DevelopmentServer(_wait_until_ready(process, path))


def _wait_until_ready(process: subprocess.Popen[bytes], directory: Path) -> Reached:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], START_SECONDS)
    line = process.stdout.readline() if ready else b""
    if not line:
        problem = "ended" if ready else f"was not ready after {START_SECONDS:g} seconds"
        raise ServerFailed(f"mailcrane localserve {problem}\n{_log_of(directory)}")
    return msgspec.json.decode(line, type=Reached)


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    # The end of its standard input tells it to stop.
    process.stdin.close()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


def _log_of(directory: Path) -> str:
    """Return the end of a server's log; of a server that was not started here there is none."""
    try:
        text = (directory / "localserve.log").read_text("utf-8", "replace")
    except OSError:
        return ""
    return "".join(text.splitlines(keepends=True)[-20:])


def _wanted(count: int, noun: str, search: dict[str, str]) -> str:
    conditions = " ".join(f"{name}={value!r}" for name, value in search.items() if value)
    number = f"{count} {noun}s" if count > 1 else noun
    return f"{number} with {conditions}" if conditions else number


def _listed(noun: str, lines: Sequence[str]) -> list[str]:
    if not lines:
        return [f"No {noun} arrived at all."]
    return [f"The {noun}s that arrived, newest first:", *(f"  {line}" for line in lines)]


def _message_line(message: ShownMessage) -> str:
    at = f"{message.received_at.astimezone():%H:%M:%S}"
    author = ", ".join(one.address for one in message.from_) or message.reverse_path or "<>"
    return f"{at} to={message.forward_path} from={author} subject={message.subject!r}"


def _webhook_line(call: ShownWebhook) -> str:
    fields = call.payload if isinstance(call.payload, dict) else {}
    error = f" error={fields['Error']!r}" if fields.get("Error") else ""
    return f"{call.at.astimezone():%H:%M:%S} event={call.event} to={call.to} message_id={call.message_id}{error}"


async def _in_thread(call: Callable[[], T]) -> T:
    import asyncio  # noqa: PLC0415 - with trio below, the two that need it only now and then

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        import trio  # noqa: PLC0415

        return await trio.to_thread.run_sync(call, abandon_on_cancel=True)
    return await asyncio.to_thread(call)
