"""What a delivery carries: how plugins' changes are merged, and the octets that a transport reads.

Only the header can be changed, and only before signing. What is delivered is a header section of its own, kept with
the stored content, followed by the stored body.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from mailcrane.message.header import parse_header
from mailcrane.model.delivery import ContentEdit, DeliveryPreparation
from mailcrane.store.content import StoredContent


def merge_edits(edits: Sequence[ContentEdit]) -> ContentEdit:
    """Merge the answers of ``rewrite_content``, which are in the order of the plugins.

    The removals of all plugins are made before any field is added, so that no plugin removes what another one adds.
    """
    return ContentEdit(
        tuple(field for edit in edits for field in edit.prepend),
        tuple(dict.fromkeys(name.lower() for edit in edits for name in edit.remove)),
    )


def merge_preparations(preparations: Sequence[DeliveryPreparation]) -> DeliveryPreparation:
    """Merge the answers of ``prepare_delivery``: the first reply that puts the attempt off, and the notes of all."""
    return DeliveryPreparation(
        next((preparation.defer for preparation in preparations if preparation.defer is not None), None),
        tuple(note for preparation in preparations for note in preparation.notes),
    )


def apply_edit(header: bytes, edit: ContentEdit) -> bytes:
    """Return a header section with an edit made; what is not removed keeps its octets.

    Args:
        header: Up to and with the CRLF of its last field.
        edit: Its removals take all fields of a name.

    Raises:
        HeaderError: the header is longer than a limit.
    """
    if not edit.prepend and not edit.remove:
        return header
    removed = {name.lower() for name in edit.remove}
    kept: list[bytes] = []
    position = 0
    for field in parse_header(header, is_strict=False):
        if field.name.lower() in removed:
            kept.append(header[position : field.offset])
            position = field.end
    kept.append(header[position:])
    return b"".join([*(bytes(field) for field in edit.prepend), *kept])


class PreparedContent:
    """Stored content with a header section of its own; implements `mailcrane.model.delivery.OutgoingContent`."""

    def __init__(self, header: bytes, content: StoredContent, body_offset: int) -> None:
        """Put a header section in front of the body of stored content.

        Args:
            header: With the empty line that ends it.
            content: Where the body is.
            body_offset: Where it begins there: after the empty line.
        """
        self._header = header
        self._content = content
        self._body_offset = body_offset

    @property
    def header(self) -> bytes:
        """The header section with the empty line that ends it."""
        return self._header

    @property
    def body_offset(self) -> int:
        """Where the body begins in the stored content."""
        return self._body_offset

    @property
    def size_octets(self) -> int:
        """Length in octets, with CRLF line ends, before dot-stuffing."""
        return len(self._header) + self._content.size_octets - self._body_offset

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield all octets from the start. May be called again for another try."""
        yield self._header
        async with closing_chunks(self._content.chunks(self._body_offset)) as chunks:
            async for chunk in chunks:
                yield chunk


@contextlib.asynccontextmanager
async def closing_chunks(chunks: AsyncIterator[bytes]) -> AsyncIterator[AsyncIterator[bytes]]:
    """Close an iterator at the end, also one that was not read to its end: nobody else does before it is collected."""
    try:
        yield chunks
    finally:
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()
