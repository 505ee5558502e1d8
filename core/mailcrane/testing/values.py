"""Values of the vocabulary, made up; what a test does not care about has a sensible default."""

from __future__ import annotations

from typing import Any

from mailcrane.message.content import BytesContent
from mailcrane.model.address import Mailbox, ReversePath
from mailcrane.model.delivery import Delivery, Entry
from mailcrane.model.session import SessionInfo
from mailcrane.testing.clock import START

MESSAGE = b"From: <me@localhost>\r\nTo: <you@example.org>\r\nSubject: made up\r\n\r\nHello\r\n"


def made_entry(
    forward_path: str | Mailbox = "you@example.org",
    *,
    reverse_path: str | Mailbox | ReversePath = "me@localhost",
    **fields: Any,
) -> Entry:
    """Make a queue entry; `fields` are those of `Entry`. An empty reverse-path is the null one."""
    values: dict[str, Any] = {
        "id": 1,
        "base_id": 0,
        "account": "me",
        "queued_at": START,
        "due_at": START,
        "content_id": 1,
        "size_octets": 1000,
        "message_id": "<made@localhost>",
        "subject": "made up",
    }
    values.update(fields)
    if isinstance(reverse_path, str):
        reverse_path = Mailbox.parse(reverse_path) if reverse_path else ReversePath()
    path = reverse_path if isinstance(reverse_path, ReversePath) else ReversePath(reverse_path)
    if isinstance(forward_path, str):
        forward_path = Mailbox.parse(forward_path)
    return Entry(reverse_path=path, forward_path=forward_path, **values)


def made_delivery(*entries: Entry, octets: bytes = MESSAGE, **fields: Any) -> Delivery:
    """Make what a transport is handed, for one made-up entry by default; `fields` are those of `Delivery`."""
    entries = entries or (made_entry(),)
    values: dict[str, Any] = {"id": "1-1", "reverse_path": entries[0].reverse_path, "content": BytesContent(octets)}
    values.update(fields)
    return Delivery(entries=entries, **values)


def made_session(**fields: Any) -> SessionInfo:
    """Make a session of a server that connects from 192.0.2.1; `fields` are those of `SessionInfo`."""
    values: dict[str, Any] = {
        "id": "made",
        "protocol": "smtp",
        "listener": "smtp",
        "remote_ip": "192.0.2.1",
        "remote_port": 40000,
        "local_ip": "127.0.0.1",
        "local_port": 25,
        "ehlo": "client.example",
        "is_extended": True,
    }
    values.update(fields)
    return SessionInfo(**values)
