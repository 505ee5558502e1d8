"""Values of the vocabulary, made up; what a test does not care about has a sensible default."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from mailcrane.message.content import BytesContent
from mailcrane.model.address import Mailbox, ReversePath
from mailcrane.model.delivery import Attempt, Delivery, Entry, RecipientResult
from mailcrane.model.receive import LocalDestination, ReceivedMessage, Recipient
from mailcrane.model.reply import Reply
from mailcrane.model.retired import Retired
from mailcrane.model.session import SessionInfo
from mailcrane.model.suppression import Suppression, base_address
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


def made_message(*forward_paths: str, octets: bytes = MESSAGE, **fields: Any) -> ReceivedMessage:
    """Make a message that a server handed over, for one local recipient by default.

    Args:
        forward_paths: Each is placed in the account that its local part names.
        octets: The content.
        fields: Those of `ReceivedMessage`.
    """
    paths = [Mailbox.parse(path) for path in forward_paths or ("you@example.org",)]
    values: dict[str, Any] = {
        "session": made_session(),
        "transaction": 1,
        "reverse_path": ReversePath(Mailbox("me", "localhost")),
        "recipients": tuple(Recipient(path, LocalDestination(path.local_part)) for path in paths),
        "content": BytesContent(octets),
        "received_at": START,
    }
    values.update(fields)
    return ReceivedMessage(**values)


def made_retired(entry: Entry | None = None, **fields: Any) -> Retired:
    """Make a retired entry that was delivered at its only attempt; `fields` are those of `Retired`."""
    result = RecipientResult.from_reply(Reply(250, "2.0.0", ("taken",)))
    values: dict[str, Any] = {
        "event": "delivered",
        "is_success": True,
        "retired_at": START,
        "keep_until": START + timedelta(days=1),
        "attempts": (Attempt(1, START, "direct", timedelta(seconds=1), result),),
    }
    values.update(fields)
    return Retired(entry or made_entry(), **values)


def made_suppression(address: str = "you@example.org", **fields: Any) -> Suppression:
    """Make what is on the suppression list of the account ``me``; `fields` are those of `Suppression`."""
    mailbox = Mailbox.parse(address)
    values: dict[str, Any] = {
        "id": 1,
        "account": "me",
        "base_address": base_address(mailbox),
        "original_address": str(mailbox),
        "created_at": START,
    }
    values.update(fields)
    return Suppression(**values)


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
