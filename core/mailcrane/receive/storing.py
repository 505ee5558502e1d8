"""A message made ready to be stored: trace fields in front, inspected, so that the unit has nothing left to compute."""

from __future__ import annotations

from mailcrane.message.content import BytesContent
from mailcrane.message.inspection import inspect
from mailcrane.model.message import Content, ContentInfo
from mailcrane.receive.content import LargeContent, moved
from mailcrane.store.records import ContentDraft
from mailcrane.store.transaction import Transaction


class Storable:
    """Content with its trace fields; `store` is called inside a unit, perhaps more than once.

    Attributes:
        draft: What is known of it.
        size_octets: Of trace fields and message.
    """

    __slots__ = ("_octets", "_origin", "_prefix", "_staged_id", "draft", "size_octets")

    def __init__(self, draft: ContentDraft, size_octets: int, origin: str) -> None:
        self.draft = draft
        self.size_octets = size_octets
        self._origin = origin
        self._octets = b""
        self._prefix = b""
        self._staged_id = 0

    def store(self, transaction: Transaction) -> ContentInfo:
        """Store the content; it has no reference yet.

        Raises:
            AlreadyStored: this message was stored before.
        """
        if self._staged_id:
            return transaction.content.adopt(
                self._staged_id, self.draft, prefix=self._prefix, size_octets=self.size_octets, origin=self._origin
            )
        return transaction.content.add(self._octets, self.draft, origin=self._origin)

    @staticmethod
    async def make(prefix: bytes, content: Content, *, origin: str) -> Storable:
        """Put trace fields in front of content and inspect the whole.

        Args:
            prefix: Whole header fields; not empty.
            content: As it arrived.
            origin: Names the transaction that it came in, for ever.
        """
        if isinstance(content, LargeContent):
            seen = content.inspection
            draft = ContentDraft(
                seen.body_offset + len(prefix),
                seen.message_id or inspect(prefix).message_id,
                seen.subject,
                seen.has_8bit or not prefix.isascii(),
                seen.needs_smtputf8 or not prefix.isascii(),
                moved(seen.structure, len(prefix)).pack(),
            )
            storable = Storable(draft, content.size_octets + len(prefix), origin)
            storable._staged_id, storable._prefix = content.staged_id, prefix
            return storable
        if isinstance(content, BytesContent):
            octets = prefix + content.octets
        else:
            octets = prefix + b"".join([chunk async for chunk in content.chunks()])
        found = inspect(octets)
        draft = ContentDraft(
            found.body_offset,
            found.message_id,
            found.subject,
            found.has_8bit,
            found.needs_smtputf8,
            found.structure.pack(),
        )
        storable = Storable(draft, len(octets), origin)
        storable._octets = octets
        return storable


def origin_of(session_id: str, transaction: int) -> str:
    """Name a transaction for ever, so that its message is stored once."""
    return f"{session_id}:{transaction}"
