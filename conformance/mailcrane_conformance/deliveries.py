"""What the transport suite hands to a transport: deliveries, and content that can be watched while it is read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import trio

from mailcrane.api import Delivery, Entry, Mailbox, OutgoingContent, ReversePath

CONTENT = b"From: a@sender.example\r\nTo: b@peer.example\r\nSubject: kit\r\n\r\nThe bag hangs on the crane.\r\n"

_CHUNK_OCTETS = 65536


class KitContent:
    """Octets of a delivery, handed out in chunks.

    Attributes:
        octets_read: How many were handed out, over all readings.
    """

    def __init__(self, octets: bytes, *, repeat: int = 1, stalls_after_octets: int | None = None) -> None:
        """Hold content.

        Args:
            octets: The content, or a piece of it.
            repeat: How often the piece follows itself; the whole is never in memory.
            stalls_after_octets: Hand out so many, at least, and then nothing more, for ever.
        """
        self._octets = octets
        self._repeat = repeat
        self._stalls_after_octets = stalls_after_octets
        self.octets_read = 0

    @property
    def size_octets(self) -> int:
        """Length of the content."""
        return len(self._octets) * self._repeat

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the octets."""
        for _ in range(self._repeat):
            for start in range(0, len(self._octets), _CHUNK_OCTETS):
                if self._stalls_after_octets is not None and self.octets_read >= self._stalls_after_octets:
                    await trio.sleep_forever()
                await trio.lowlevel.checkpoint()
                chunk = self._octets[start : start + _CHUNK_OCTETS]
                self.octets_read += len(chunk)
                yield chunk


def make_delivery(
    *forward_paths: str,
    octets: bytes = CONTENT,
    content: OutgoingContent | None = None,
    reverse_path: ReversePath | None = None,
    has_8bit: bool = False,
    needs_smtputf8: bool = False,
    require_tls: bool | None = None,
) -> Delivery:
    """Make a delivery of one message to some forward-paths, ``b@peer.example`` when none is given.

    Args:
        content: In the place of ``octets``.
    """
    sender = reverse_path or ReversePath(Mailbox.parse("a@sender.example"))
    handed = KitContent(octets) if content is None else content
    at = datetime(2026, 1, 1, tzinfo=UTC)
    entries = tuple(
        Entry(
            id=number,
            base_id=1,
            account="kit",
            queued_at=at,
            reverse_path=sender,
            forward_path=Mailbox.parse(path),
            content_id=1,
            size_octets=handed.size_octets,
            message_id="<kit@sender.example>",
            subject="kit",
            due_at=at,
            has_8bit=has_8bit,
            needs_smtputf8=needs_smtputf8,
            require_tls=require_tls,
        )
        for number, path in enumerate(forward_paths or ("b@peer.example",), 1)
    )
    return Delivery(
        id="kit",
        entries=entries,
        reverse_path=sender,
        content=handed,
        has_8bit=has_8bit,
        needs_smtputf8=needs_smtputf8,
        require_tls=require_tls,
    )
