"""Clients that send mail until the server is gone, and the ledger of what they were answered."""

from __future__ import annotations

import base64
import json
import random
import urllib.parse
from dataclasses import dataclass
from string import digits

import trio

from lines import Lines

LOGIN, PASSWORD = "ann@here.example", "correct horse"

DOMAINS = {"soft": "soft.example", "direct": "direct.example", "fail": "held.example", "drop": "held.example"}
"""Of the kinds of forward-paths that are not at ``sink.example``."""
# How often each kind is chosen: taken at once, by the sink or by the host of its domain; put off; refused, one address
# or one after another; what the plugin fails at; taken without a reply; met by a connection that is gone.
_WEIGHTS = {"ok": 46, "direct": 16, "soft": 12, "hard": 8, "gone": 4, "trouble": 5, "cut": 4, "lost": 5}
FOLDER_ADDRESS = "bob@here.example"
_CREDENTIALS = base64.b64encode(f"{LOGIN}:{PASSWORD}".encode()).decode()

_LINE = "A mail crane held out the mail bag to the night train.\r\n"
_LARGE_LINES = 5500  # 300 KB: more than one chunk


def body_of(token: str) -> bytes:
    """Return the body of the message of a token."""
    lines = _LARGE_LINES if token.startswith("L") else 4
    return f"{token} begins\r\n{_LINE * lines}{token} ends\r\n".encode()


def kind_of(path: str) -> str:
    """Return what a forward-path's beginning says of what becomes of it."""
    return path.partition("-")[0].rstrip(digits)


def token_of(path: str) -> str:
    """Return the token of a message from one of its forward-paths: ``kind-token.number@domain``."""
    return path.partition("@")[0].partition("-")[2].partition(".")[0]


@dataclass
class Message:
    """A message as its client knows it.

    Attributes:
        way: ``folder``, ``relay`` or ``send``.
        paths: Its forward-paths.
        is_answered: Whether the client was told 250 or 200.
        answer: Of the API; it must be the same whenever the call is repeated.
    """

    token: str
    way: str
    paths: tuple[str, ...]
    is_answered: bool = False
    answer: bytes = b""


class Ledger:
    """Every message that was begun to be sent, by token.

    Attributes:
        refusals: Replies that were neither positive nor the end of the connection.
        replays: How often the operator began to have all events posted again.
        is_operated: Whether the operator's last orders were carried out to their end.
    """

    def __init__(self, seed: str) -> None:
        self.messages: dict[str, Message] = {}
        self.refusals: list[str] = []
        self.replays = 0
        self.is_operated = False
        self._choose = random.Random(seed)

    @property
    def answered(self) -> int:
        """How many messages were answered."""
        return sum(message.is_answered for message in self.messages.values())

    def to_repeat(self) -> list[Message]:
        """Return the calls that an honest client would repeat, and the last few that were answered."""
        sent = [message for message in self.messages.values() if message.way == "send"]
        answered = [message for message in sent if message.is_answered]
        return [message for message in sent if not message.is_answered] + answered[-3:]

    def begin(self, way: str, *, is_large: bool = False, kind: str = "") -> Message:
        """Make up a message; ``kind`` is how its forward-path begins, which tells the next hop what to do."""
        token = f"{'L' if is_large else 't'}{len(self.messages) + 1}"
        if way == "folder":
            paths: tuple[str, ...] = (FOLDER_ADDRESS,)
        else:
            kind = kind or self._choose.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
            # Several recipients share their content and its signature.
            count = 2 if way == "send" and self._choose.random() < 0.3 else 1
            domain = DOMAINS.get(kind, "sink.example")
            # Up to the hyphen they are one address for the suppression list.
            prefix = f"{kind}{len(self.messages)}" if kind in {"gone", "sulk"} else kind
            paths = tuple(f"{prefix}-{token}.{number}@{domain}" for number in range(count))
        message = self.messages[token] = Message(token, way, paths)
        return message


async def speak_smtp(
    port: int, ledger: Ledger, way: str, *, messages: int, is_large: bool = False, kind: str = "", abort_every: int = 0
) -> None:
    """Send messages over one connection, one after another, until so many are sent or the server is gone.

    Args:
        port: Of the listener.
        ledger: Is told of each message and its answer.
        way: ``folder`` or ``relay``.
        messages: How many are sent.
        is_large: Whether they are more than one chunk of content.
        kind: See `Ledger.begin`.
        abort_every: Every so many messages the connection is closed in the middle of one, and opened again.
    """
    number = 0
    try:
        while number < messages:
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                lines = await greet(stream)
                while number < messages:
                    number += 1
                    message = ledger.begin(way, is_large=is_large, kind=kind)
                    if abort_every and number % abort_every == 0:
                        await send_message(stream, lines, ledger, message, is_whole=False)
                        break
                    await send_message(stream, lines, ledger, message)
    except (OSError, trio.BrokenResourceError, _ServerIsGone):
        return


async def greet(stream: trio.SocketStream) -> Lines:
    """Begin an SMTP session."""
    lines = Lines(stream)
    await _replies(lines, 1)
    await stream.send_all(b"EHLO client.example\r\n")
    await _replies(lines, 1)
    return lines


async def send_message(
    stream: trio.SocketStream, lines: Lines, ledger: Ledger, message: Message, *, is_whole: bool = True
) -> None:
    """Send a message in an SMTP session, and note its answer."""
    path = message.paths[0]
    await stream.send_all(f"MAIL FROM:<{LOGIN}>\r\nRCPT TO:<{path}>\r\nDATA\r\n".encode())
    replies = await _replies(lines, 3)
    if [reply[:3] for reply in replies] != ["250", "250", "354"]:
        ledger.refusals.append(" | ".join(replies))
        raise _ServerIsGone
    content = f"From: <{LOGIN}>\r\nTo: <{path}>\r\nSubject: {message.token}\r\n\r\n".encode() + body_of(message.token)
    if not is_whole:
        await stream.send_all(content)
        return
    await stream.send_all(content + b".\r\n")
    (reply,) = await _replies(lines, 1)
    if reply.startswith("250 "):
        message.is_answered = True
    else:
        ledger.refusals.append(reply)


async def _replies(lines: Lines, count: int) -> list[str]:
    replies: list[str] = []
    while len(replies) < count:
        line = await lines.until(b"\r\n")
        if not line:
            raise _ServerIsGone
        if line[3:4] != b"-":
            replies.append(line.decode().strip())
    return replies


async def speak_http(port: int, ledger: Ledger, *, messages: int) -> None:
    """Call Send over one connection, until so many are sent or the server is gone; first what an earlier life left."""
    try:
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            lines = Lines(stream)
            for message in ledger.to_repeat():
                await call_send(stream, lines, ledger, message)
            for _ in range(messages):
                await call_send(stream, lines, ledger, ledger.begin("send"))
    except (OSError, trio.BrokenResourceError, _ServerIsGone):
        return


async def call_send(stream: trio.SocketStream, lines: Lines, ledger: Ledger, message: Message) -> None:
    """Call Send over a connection that stays open, with the token for idempotency key, and note the answer."""
    request = {
        "To": [{"Address": path} for path in message.paths],
        "Subject": message.token,
        "Text": body_of(message.token).decode(),
    }
    body = urllib.parse.urlencode({"request": json.dumps(request)}).encode()
    head = (
        f"POST /webapi/v0/Send HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Basic {_CREDENTIALS}\r\n"
        f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n"
        f"Idempotency-Key: {message.token}\r\n\r\n"
    )
    await stream.send_all(head.encode() + body)
    response = await lines.until(b"\r\n\r\n")
    if not response:
        raise _ServerIsGone
    length = int(response.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
    answer = await lines.octets(length)
    if response.startswith(b"HTTP/1.1 200 ") and len(answer) == length:
        if message.answer not in (b"", answer):
            ledger.refusals.append(f"{message.token} was answered {message.answer!r}, and then {answer!r}")
        message.is_answered, message.answer = True, answer
    else:
        ledger.refusals.append(f"{response[9:12].decode()} {answer.decode()}")


class _ServerIsGone(Exception):
    pass
