"""What a data directory holds after a server is gone, and whether that is what was promised.

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

from load import Ledger, Message, body_of, token_of
from mailcrane.model.clock import SystemClock
from mailcrane.model.delivery import Attempt, Entry, Outcome
from mailcrane.model.event import OUTGOING_EVENT_KINDS, Event, EventKind
from mailcrane.model.retired import Retired
from mailcrane.model.webhook import RetiredCall, WebhookCall
from mailcrane.store.records import CallFilter, QueueFilter, RetiredCallFilter, RetiredFilter
from mailcrane.store.sqlite import open_sqlite
from mailcrane.store.transaction import Transaction
from peers import Receiver, Sink

DATABASE = "mailcrane.db"
ACCOUNTS = ("ann", "bob", "")
_ALL = 1_000_000
_SUBJECT = re.compile(rb"^Subject: (\w+)\r$", re.MULTILINE)


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


async def read_state(data_dir: Path, scratch: Path) -> State:
    """Read what a server that is gone left in its data directory, from a copy in ``scratch``."""
    _copy(data_dir, scratch)
    async with await open_sqlite(str(scratch / DATABASE), SystemClock(), inline=True) as store:
        return await store.read(_read)


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
    return state


def _check_content(transaction: Transaction, state: State, content_id: int, token: str) -> str:
    octets, index = b"", 0
    while chunk := transaction.content.read_chunk(content_id, index):
        octets += chunk
        index += 1
    subject = _SUBJECT.search(octets)
    found = subject.group(1).decode() if subject else "?"
    if (token and found != token) or not octets.endswith(body_of(found)):
        state.spoiled.append(f"{token or found}: {octets[:300]!r} {len(octets)}")
    return found


def problems(
    state: State, ledger: Ledger, sink: Sink, receiver: Receiver, told: list[str], *, is_at_rest: bool
) -> list[str]:
    """Return what was promised and does not hold; empty when all does.

    Args:
        state: After the server is gone.
        ledger: What the clients were answered.
        sink: What the next hop took.
        receiver: What it was called for.
        told: Ids of the events that the plugin was told of.
        is_at_rest: Whether the server had done before all that was due.
    """
    found = [f"content is not what was sent: {what}" for what in state.spoiled]
    found += [f"next hop got something else than was sent for {path}" for path in sink.spoiled]
    found += [f"more than one entry for {path}" for path in state.repeated]
    for message in ledger.messages.values():
        found += _problems_of_message(message, state, sink, is_at_rest=is_at_rest)
    unknown = {*state.copies, *map(token_of, [*state.entries, *state.retired])} - {*ledger.messages}
    found += [f"nobody sent {token}" for token in unknown]
    found += _problems_of_events(state)
    found += _problems_of_webhooks(state, receiver, is_at_rest=is_at_rest)
    ids = {event.id for event in state.events}
    found += [f"plugin was told of {one}, which is not stored" for one in set(told) - ids]
    if is_at_rest:
        found += [f"plugin is behind at account {account!r}" for account in state.behind]
        found += [f"plugin was not told of {one}" for one in ids - set(told) - state.dead]
    return found


def _problems_of_message(message: Message, state: State, sink: Sink, *, is_at_rest: bool) -> list[str]:
    what = f"{message.way} {message.token}"
    if message.way == "folder":
        copies = state.copies[message.token]
        if message.is_answered and not copies:
            return [f"{what} was answered and is lost"]
        return [f"{what} is in the folder {copies} times"] if copies > 1 else []
    present = [path for path in message.paths if path in state.entries or path in state.retired]
    found = []
    if message.is_answered and len(present) != len(message.paths):
        found.append(f"{what} was answered and is lost; there is {present} of {message.paths}")
    elif present and len(present) != len(message.paths):
        found.append(f"{what} is there for some recipients only: {present}")
    for path in message.paths:
        found += [f"{what}: {path}: {problem}" for problem in _problems_of_path(path, state, sink, is_at_rest)]
    return found


def _problems_of_path(path: str, state: State, sink: Sink, is_at_rest: bool) -> list[str]:
    taken = sink.accepted[path]
    retired, queued = state.retired.get(path), state.entries.get(path)
    if retired is None and queued is None:
        return [f"delivered {taken} times and not stored"] if taken else []
    if retired is not None:
        interrupted = sum(attempt.result is None for attempt in retired.attempts)
        # The first that fails puts the address on the list for all of them: they differ after the hyphen.
        is_hard = path.startswith("hard")
        allowed = {EventKind.FAILED, EventKind.SUPPRESSED} if is_hard else {EventKind.DELIVERED}
        found = [] if retired.event in allowed else [f"retired as {retired.event}"]
        most = 0 if is_hard else 1 + interrupted
        if not min(1, most) <= taken <= most:
            found.append(f"retired as {retired.event}, delivered {taken} times, interrupted {interrupted} times")
        return found
    assert queued is not None
    entry, attempts = queued
    found = []
    if taken > len(attempts):
        found.append(f"delivered {taken} times in {len(attempts)} attempts")
    if is_at_rest:
        if entry.due_at <= state.at or not attempts:
            found.append(f"is not attempted although due at {entry.due_at}")
        outcomes = {attempt.result.outcome for attempt in attempts if attempt.result is not None}
        if outcomes - ({Outcome.DEFERRED} if path.startswith("soft") else set()):
            found.append(f"waits after {attempts}")
    return found


def _problems_of_events(state: State) -> list[str]:
    found = []
    for account in ACCOUNTS:
        numbers = [event.number for event in state.events if event.account == account]
        if numbers != list(range(1, len(numbers) + 1)):
            found.append(f"feed of {account!r} has a hole: {numbers}")
    kinds = Counter((event.entry_id, event.kind) for event in state.events)
    # Notifications of failures, which nobody sent, are stored for the account that sends.
    stored = sum(event.kind is EventKind.MESSAGE_STORED and event.account == "bob" for event in state.events)
    if stored != state.copies.total():
        found.append(f"{state.copies.total()} messages in the folder, {stored} events")
    expected: Counter[tuple[int, EventKind]] = Counter()
    for retired in state.retired.values():
        deferred = sum(_is_deferred(attempt) for attempt in retired.attempts)
        expected.update(_expected(retired.entry.id, deferred, EventKind(retired.event)))
    for entry, attempts in state.entries.values():
        expected.update(_expected(entry.id, sum(map(_is_deferred, attempts)), None))
    expected.update((retired.call.entry_id, EventKind.WEBHOOK_RETIRED) for retired in state.retired_calls)
    settling = {entry.id for entry, attempts in state.entries.values() if attempts and attempts[-1].result is not None}
    # Which of several failures at one address puts it on the list depends on their order.
    for key in {*expected, *kinds} - {key for key in kinds if not key[0] or key[1] is EventKind.SUPPRESSION_CHANGED}:
        # What the transport reported may be stored, and what it means not yet.
        if kinds[key] != expected[key] and not (key[0] in settling and kinds[key] == expected[key] - 1):
            found.append(f"entry {key[0]} has {kinds[key]} events {key[1]}, not {expected[key]}")
    return found


def _expected(entry_id: int, deferred: int, end: EventKind | None) -> dict[tuple[int, EventKind], int]:
    counts = {
        EventKind.MESSAGE_QUEUED: 1,
        EventKind.DELAYED: deferred,
        EventKind.ATTEMPT_FINISHED: deferred + (end is not None),
    }
    if end is not None:
        counts |= {end: 1, EventKind.ENTRY_RETIRED: 1}
    return {(entry_id, kind): count for kind, count in counts.items() if count}


def _is_deferred(attempt: Attempt) -> bool:
    return attempt.result is not None and attempt.result.outcome is Outcome.DEFERRED


def _problems_of_webhooks(state: State, receiver: Receiver, *, is_at_rest: bool) -> list[str]:
    found = [f"{one} told of two things" for one in receiver.contradictions]
    outgoing = {
        event.id: (event.entry_id, event.kind.value) for event in state.events if event.kind in OUTGOING_EVENT_KINDS
    }
    for one, told in receiver.told.items():
        if outgoing.get(one) != told:
            found.append(f"webhook {one} told of {told}, stored is {outgoing.get(one)}")
    queued = Counter(call.event_id for call in state.calls)
    done = {retired.call.event_id for retired in state.retired_calls}
    made = queued + Counter(retired.call.event_id for retired in state.retired_calls)
    found += [f"{count} calls for {one}" for one, count in made.items() if count > 1]
    found += [f"{one} is taken for called" for one in done if one not in receiver.told]
    for one in outgoing:
        if one not in receiver.told and one not in queued and one not in state.pending:
            found.append(f"no webhook for {one}")
        if one in queued and one in state.pending:
            found.append(f"{one} is pending although its call is queued")
    if is_at_rest:
        found += [f"{one} is still pending" for one in state.pending]
        found += [f"call {call.id} is due at {call.due_at}" for call in state.calls if call.due_at <= state.at]
    return found
