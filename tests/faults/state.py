"""What a data directory holds after a server is gone.

A killed server's files are copied and the copy is opened, so that nothing but the server's next start touches them.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from load import body_of, token_of
from mailcrane.model.clock import SystemClock
from mailcrane.model.delivery import Attempt, Entry
from mailcrane.model.event import Event
from mailcrane.model.retired import Retired
from mailcrane.model.suppression import Suppression
from mailcrane.model.webhook import RetiredCall, WebhookCall
from mailcrane.store.records import CallFilter, QueueFilter, RetiredCallFilter, RetiredFilter
from mailcrane.store.sqlite import open_sqlite
from mailcrane.store.transaction import Transaction

DATABASE = "mailcrane.db"
ACCOUNTS = ("ann", "bob", "")
_ALL = 1_000_000
_SUBJECT = re.compile(rb"^Subject: (\w+)\r$", re.MULTILINE)
_RECIPIENT = re.compile(rb"^Final-Recipient: rfc822; ?(\S+)\r$", re.MULTILINE)
_ACTION = re.compile(rb"^Action: (\w+)\r$", re.MULTILINE)


@dataclass
class State:
    """What is stored.

    Attributes:
        at: When it was read.
        copies: How often each message is in the folder, by token.
        spoiled: Tokens of messages whose stored content is not what was sent.
        entries: The queue with the attempts of each entry, by forward-path.
        retired: By forward-path.
        repeated: Forward-paths that there is more than one entry, or retired entry, of.
        events: Of all accounts.
        pending: Ids of the events that wait for webhook calls to be made of them.
        calls: Queued webhook calls.
        retired_calls: Those that are done.
        behind: Accounts that the plugin was not told all events of.
        dead: Ids of the events that were set aside for the plugin.
        notices: How often the sender was told of each forward-path, by path and action.
        suppressed: The sender's suppression list.
        failures: How many failures in a row are counted, by address.
        counted: What the sending limit of the account counts: messages, and recipients for the first time.
        keys: Keys of calls, and whether each has its answer.
        known_tls: Domains of which it is remembered what their hosts offer.
        dead_calls: How many webhook calls were given up and are on the list of those.
    """

    at: datetime
    copies: Counter[str] = field(default_factory=Counter)
    spoiled: list[str] = field(default_factory=list)
    entries: dict[str, tuple[Entry, tuple[Attempt, ...]]] = field(default_factory=dict)
    retired: dict[str, Retired] = field(default_factory=dict)
    repeated: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    pending: set[str] = field(default_factory=set)
    calls: list[WebhookCall] = field(default_factory=list)
    retired_calls: list[RetiredCall] = field(default_factory=list)
    behind: list[str] = field(default_factory=list)
    dead: set[str] = field(default_factory=set)
    notices: Counter[tuple[str, str]] = field(default_factory=Counter)
    suppressed: list[Suppression] = field(default_factory=list)
    failures: dict[str, int] = field(default_factory=dict)
    counted: tuple[int, int] = (0, 0)
    keys: dict[str, bool] = field(default_factory=dict)
    known_tls: set[str] = field(default_factory=set)
    dead_calls: int = 0


async def read_state(data_dir: Path, scratch: Path) -> State:
    """Read what a server that is gone left in its data directory, from a copy in ``scratch``."""
    _copy(data_dir, scratch)
    async with await open_sqlite(str(scratch / DATABASE), SystemClock(), inline=True) as store:
        state = await store.read(_read)
    connection = sqlite3.connect(scratch / DATABASE)
    try:
        _read_rows(connection, state)
    finally:
        connection.close()
    return state


def _copy(data_dir: Path, scratch: Path) -> None:
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    for name in (DATABASE, f"{DATABASE}-wal"):
        if (data_dir / name).exists():
            shutil.copy(data_dir / name, scratch / name)


def is_at_rest(data_dir: Path, plugin: str) -> bool:
    """Whether a running server has nothing under way and nothing that is due."""
    now = time.time_ns() // 1000
    connection = sqlite3.connect(f"file:{data_dir / DATABASE}?mode=ro", uri=True)
    try:
        (is_busy,) = connection.execute(
            "SELECT EXISTS (SELECT 1 FROM entries WHERE lease_until IS NOT NULL OR pick_at <= ?)"
            " OR EXISTS (SELECT 1 FROM calls WHERE lease_until IS NOT NULL OR pick_at <= ?)"
            " OR EXISTS (SELECT 1 FROM events WHERE is_pending = 1)"
            " OR EXISTS (SELECT 1 FROM accounts a LEFT JOIN plugin_positions p ON p.account_id = a.id"
            "  AND p.plugin = ? WHERE a.event_number > COALESCE(p.number, 0))",
            (now, now, plugin),
        ).fetchone()
    finally:
        connection.close()
    return not is_busy


def _read(transaction: Transaction) -> State:
    state = State(datetime.now(UTC))
    if transaction.folders.get("bob", "Inbox") is not None:
        for message in transaction.folders.messages("bob", "Inbox", limit=_ALL):
            state.copies[_check_content(transaction, state, message.content_id, "")] += 1
    for entry in transaction.queue.list(QueueFilter(limit=_ALL)):
        path = str(entry.forward_path)
        _check_content(transaction, state, entry.content_id, token_of(path))
        if path in state.entries:
            state.repeated.append(path)
        state.entries[path] = (entry, transaction.queue.attempts(entry.id))
    for retired in transaction.retired.list(RetiredFilter(limit=_ALL)):
        path = str(retired.entry.forward_path)
        if path in state.retired or path in state.entries:
            state.repeated.append(path)
        state.retired[path] = retired
    for account in ACCOUNTS:
        state.events += transaction.events.feed(account, 0, _ALL)
    state.pending = {event.id for event in transaction.events.outgoing_pending(_ALL)}
    state.calls = transaction.webhooks.list(CallFilter(limit=_ALL))
    state.retired_calls = transaction.webhooks.retired_list(RetiredCallFilter(limit=_ALL))
    state.behind = list(transaction.events.accounts_behind("witness"))
    state.dead = {letter.event.id for letter in transaction.events.dead("witness", limit=_ALL)}
    _read_notices(transaction, state)
    state.suppressed = transaction.suppressions.list("ann")
    state.counted = transaction.outgoing.sent("ann")
    state.dead_calls = transaction.webhooks.count_dead()
    return state


def _read_notices(transaction: Transaction, state: State) -> None:
    if transaction.folders.get("ann", "Inbox") is None:
        return
    for message in transaction.folders.messages("ann", "Inbox", limit=_ALL):
        octets = _content(transaction, message.content_id)
        recipient, action = _RECIPIENT.search(octets), _ACTION.search(octets)
        if recipient is None or action is None:
            state.spoiled.append(f"notification: {octets[:300]!r}")
        else:
            state.notices[recipient.group(1).decode(), action.group(1).decode()] += 1


def _read_rows(connection: sqlite3.Connection, state: State) -> None:
    """Read what no repository lists."""
    rows = connection.execute("SELECT forward_local || '@' || destination, in_a_row FROM recipient_failures")
    state.failures = dict(rows.fetchall())
    rows = connection.execute("SELECT key, result IS NOT NULL FROM idempotency")
    state.keys = {key: bool(has_answer) for key, has_answer in rows}
    state.known_tls = {domain for (domain,) in connection.execute("SELECT domain FROM recipient_tls")}


def _content(transaction: Transaction, content_id: int) -> bytes:
    octets, index = b"", 0
    while chunk := transaction.content.read_chunk(content_id, index):
        octets += chunk
        index += 1
    return octets


def _check_content(transaction: Transaction, state: State, content_id: int, token: str) -> str:
    octets = _content(transaction, content_id)
    subject = _SUBJECT.search(octets)
    found = subject.group(1).decode() if subject else "?"
    if (token and found != token) or not octets.endswith(body_of(found)):
        state.spoiled.append(f"{token or found}: {octets[:300]!r} {len(octets)}")
    return found
