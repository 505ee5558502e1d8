"""A queue that is full before the server starts: entries written through the store, in large units."""

from __future__ import annotations

import functools
from pathlib import Path

import trio

from mailcrane.model.address import Mailbox, ReversePath
from mailcrane.model.clock import SystemClock
from mailcrane.store.records import ContentDraft, NewEntry
from mailcrane.store.sqlite import open_sqlite
from mailcrane.store.transaction import Transaction

DOMAINS = 50
_IN_ONE_UNIT = 2000
_OCTETS = 4096
_HEADER = b"From: bench@bench.example\r\nTo: user@example.net\r\nSubject: backlog\r\n\r\n"


def fill(data: Path, entries: int) -> None:
    """Queue messages of 4 KB for 50 domains in turn, due at once; those of one unit share their content."""
    trio.run(_fill, data, entries)


async def _fill(data: Path, entries: int) -> None:
    line = b"x" * 62 + b"\r\n"
    octets = (_HEADER + line * _OCTETS)[: _OCTETS - 2] + b"\r\n"
    sender = ReversePath(Mailbox.parse("bench@bench.example"))
    paths = [Mailbox.parse(f"user@a1-{1 + number}.example") for number in range(DOMAINS)]

    def add(transaction: Transaction, most: int) -> None:
        content = transaction.content.add(octets, ContentDraft(len(_HEADER)))
        for number in range(most):
            path = paths[number % DOMAINS]
            transaction.queue.add([NewEntry("bench", sender, path, content.id, content.size_octets, transaction.now)])

    async with await open_sqlite(str(data / "mailcrane.db"), SystemClock()) as store:
        for done in range(0, entries, _IN_ONE_UNIT):
            most = min(_IN_ONE_UNIT, entries - done)
            await store.write(functools.partial(add, most=most), key="queue")
