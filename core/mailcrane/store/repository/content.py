"""Content: stored once, immutable, counted by its users, in chunks.

References are counted by the repositories that make them: a message in a folder and a queue entry each hold one.
Content that nothing refers to is removed in the unit that drops its last reference; content that never got one, and
staged content whose message never came, by `sweep`.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from mailcrane.model.message import ContentInfo
from mailcrane.store.errors import AlreadyStored, StoreError, UnknownContent
from mailcrane.store.records import CHUNK_OCTETS, ContentDraft, PreparedHeader, StoredContentRow
from mailcrane.store.sql import SQL, Row, Unit, from_us, to_us

# Chunks are keyed by one number, so that they need one B-tree only and new ones are always added at its end.
_CHUNKS_PER_CONTENT = 1 << 16

_INFO = "id, size_octets, body_offset, message_id, subject, has_8bit, needs_smtputf8"


class ContentRepository:
    """Stored content and the headers prepared for its delivery."""

    def __init__(self, sql: SQL, unit: Unit) -> None:
        self._sql = sql
        self._unit = unit

    def add(self, octets: bytes, draft: ContentDraft, *, origin: str = "") -> ContentInfo:
        """Store content that is held in memory. It has no reference yet.

        Args:
            octets: All of it.
            draft: What the scanner says of it.
            origin: Names the transaction that it came in, as ``session:transaction``; empty for none.

        Raises:
            AlreadyStored: content of this origin is there; nothing of the unit should be stored a second time.
        """
        row = self._sql.row(
            "INSERT INTO contents (refs, created_at, origin, size_octets, body_offset, message_id, subject, has_8bit,"
            " needs_smtputf8, structure) VALUES (0, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (origin) WHERE origin IS NOT NULL DO NOTHING RETURNING id",
            (self._unit.now_us, origin or None, len(octets), *_draft_columns(draft)),
        )
        if row is None:
            raise self._already_stored(origin)
        content_id: int = row[0]
        if len(octets) <= CHUNK_OCTETS:
            self._put_chunk(content_id, 0, octets)
        else:
            for index, start in enumerate(range(0, len(octets), CHUNK_OCTETS)):
                self._put_chunk(content_id, index, octets[start : start + CHUNK_OCTETS])
        return _info(content_id, len(octets), draft)

    # --- staged: while it arrives -------------------------------------------------------------------------------

    def stage_begin(self) -> int:
        """Make room for content that arrives; returns the id that it will have."""
        row = self._sql.row(
            "INSERT INTO contents (refs, created_at, staged_at) VALUES (0, ?, ?) RETURNING id",
            (self._unit.now_us, self._unit.now_us),
        )
        assert row is not None, "RETURNING gives the row that was written"
        return int(row[0])

    def stage_append(self, staged_id: int, index: int, octets: bytes) -> None:
        """Store a chunk of staged content.

        Args:
            staged_id: From `stage_begin`.
            index: From 1, without gaps; chunk 0 is written by `adopt`.
            octets: At most `CHUNK_OCTETS`.

        Raises:
            UnknownContent: it is not staged: swept because nothing came for too long, or adopted.
        """
        if not 1 <= index < _CHUNKS_PER_CONTENT or len(octets) > CHUNK_OCTETS:
            raise StoreError("staged chunks are numbered from 1 and bounded")
        self._touch_staged(staged_id)
        self._put_chunk(staged_id, index, octets)

    def adopt(
        self, staged_id: int, draft: ContentDraft, *, prefix: bytes, size_octets: int, origin: str = ""
    ) -> ContentInfo:
        """Make staged content stored content, with octets in front of what arrived. It has no reference yet.

        Args:
            staged_id: From `stage_begin`; stays the content's id.
            draft: Of prefix and staged octets together.
            prefix: Trace fields and other added header fields; not empty.
            size_octets: Of prefix and staged octets together.
            origin: As in `add`.

        Raises:
            AlreadyStored: content of this origin is there.
            UnknownContent: there is no staged content of this id.
        """
        if not prefix or len(prefix) > CHUNK_OCTETS:
            raise StoreError("the prefix of staged content is neither empty nor longer than a chunk")
        if origin and self._sql.row("SELECT 1 FROM contents WHERE origin = ?", (origin,)) is not None:
            raise self._already_stored(origin)
        changed = self._sql.run(
            "UPDATE contents SET staged_at = NULL, origin = ?, size_octets = ?, body_offset = ?, message_id = ?,"
            " subject = ?, has_8bit = ?, needs_smtputf8 = ?, structure = ? WHERE id = ? AND staged_at IS NOT NULL",
            (origin or None, size_octets, *_draft_columns(draft), staged_id),
        )
        if not changed:
            raise UnknownContent(f"no staged content {staged_id}")
        self._put_chunk(staged_id, 0, prefix)
        return _info(staged_id, size_octets, draft)

    def stage_drop(self, staged_id: int) -> None:
        """Remove staged content that is not wanted any more; what was adopted or swept stays as it is."""
        if self._sql.row("SELECT 1 FROM contents WHERE id = ? AND staged_at IS NOT NULL", (staged_id,)) is not None:
            self._remove(staged_id)

    # --- references ---------------------------------------------------------------------------------------------

    def retain(self, content_id: int, count: int = 1) -> None:
        """Count references more.

        Raises:
            UnknownContent: there is none of this id, or it is only staged.
        """
        if not self._sql.run(
            "UPDATE contents SET refs = refs + ? WHERE id = ? AND staged_at IS NULL", (count, content_id)
        ):
            raise UnknownContent(f"no content {content_id}")

    def release(self, content_id: int) -> None:
        """Count a reference less, and remove the content with its last one."""
        row = self._sql.row("UPDATE contents SET refs = refs - 1 WHERE id = ? RETURNING refs", (content_id,))
        if row is not None and row[0] <= 0:
            self._remove(content_id)

    def sweep(self, *, before: datetime, limit: int = 100) -> int:
        """Remove content without references that nothing was added to since an instant; returns how many."""
        rows = self._sql.rows(
            "SELECT id FROM contents WHERE refs = 0 AND COALESCE(staged_at, created_at) < ? LIMIT ?",
            (to_us(before), limit),
        )
        for (content_id,) in rows:
            self._remove(content_id)
        return len(rows)

    # --- reading ------------------------------------------------------------------------------------------------

    def get(self, content_id: int) -> StoredContentRow | None:
        """Return what is known of content, or None when there is none of this id or it is only staged."""
        row = self._sql.row(
            f"SELECT {_INFO}, structure FROM contents WHERE id = ? AND staged_at IS NULL", (content_id,)
        )
        return None if row is None else StoredContentRow(_info_of_row(row), row[7])

    def find(self, origin: str) -> ContentInfo | None:
        """Return the content of an origin, or None."""
        row = self._sql.row(f"SELECT {_INFO} FROM contents WHERE origin = ?", (origin,))
        return None if row is None else _info_of_row(row)

    def read_chunk(self, content_id: int, index: int) -> bytes | None:
        """Return a chunk; None past the last one. Chunks are at most `CHUNK_OCTETS` long, and may be shorter."""
        row = self._sql.row(
            "SELECT octets FROM content_chunks WHERE id = ?", (content_id * _CHUNKS_PER_CONTENT + index,)
        )
        return None if row is None else row[0]

    # --- prepared headers ---------------------------------------------------------------------------------------

    def prepared(self, content_id: int, variant: str) -> PreparedHeader | None:
        """Return the header that was prepared for the delivery of content, or None."""
        row = self._sql.row(
            "SELECT header, body_offset, renew_at, selectors FROM prepared_headers"
            " WHERE content_id = ? AND variant = ?",
            (content_id, variant),
        )
        if row is None:
            return None
        header, body_offset, renew_at, selectors = row
        return PreparedHeader(
            header, body_offset, from_us(renew_at), msgspec.json.decode(selectors, type=tuple[str, ...])
        )

    def set_prepared(self, content_id: int, variant: str, prepared: PreparedHeader) -> None:
        """Store or replace a prepared header; it goes with its content.

        Args:
            content_id: Of stored content.
            variant: Tells apart what is delivered differently, such as per transport.
            prepared: The header.

        Raises:
            UnknownContent: there is no such content.
        """
        if self._sql.row("SELECT 1 FROM contents WHERE id = ?", (content_id,)) is None:
            raise UnknownContent(f"no content {content_id}")
        self._sql.run(
            "INSERT INTO prepared_headers (content_id, variant, header, body_offset, renew_at, selectors)"
            " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (content_id, variant) DO UPDATE SET header = excluded.header,"
            " body_offset = excluded.body_offset, renew_at = excluded.renew_at, selectors = excluded.selectors",
            (
                content_id,
                variant,
                prepared.header,
                prepared.body_offset,
                to_us(prepared.renew_at),
                msgspec.json.encode(prepared.selectors),
            ),
        )

    # --- inside -------------------------------------------------------------------------------------------------

    def _put_chunk(self, content_id: int, index: int, octets: bytes) -> None:
        self._sql.run(
            "INSERT INTO content_chunks (id, octets) VALUES (?, ?)",
            (content_id * _CHUNKS_PER_CONTENT + index, octets),
        )

    def _touch_staged(self, staged_id: int) -> None:
        changed = self._sql.run(
            "UPDATE contents SET staged_at = ? WHERE id = ? AND staged_at IS NOT NULL",
            (self._unit.now_us, staged_id),
        )
        if not changed:
            raise UnknownContent(f"no staged content {staged_id}")

    def _already_stored(self, origin: str) -> AlreadyStored:
        info = self.find(origin)
        assert info is not None, "the origin was found in this unit"
        return AlreadyStored(info)

    def _remove(self, content_id: int) -> None:
        first = content_id * _CHUNKS_PER_CONTENT
        self._sql.run(
            "DELETE FROM content_chunks WHERE id >= ? AND id < ?",
            (first, first + _CHUNKS_PER_CONTENT),
        )
        self._sql.run("DELETE FROM prepared_headers WHERE content_id = ?", (content_id,))
        self._sql.run("DELETE FROM contents WHERE id = ?", (content_id,))


def _draft_columns(draft: ContentDraft) -> tuple[int, str, str, int, int, bytes]:
    return (
        draft.body_offset,
        draft.message_id,
        draft.subject,
        int(draft.has_8bit),
        int(draft.needs_smtputf8),
        draft.structure,
    )


def _info(content_id: int, size_octets: int, draft: ContentDraft) -> ContentInfo:
    return ContentInfo(
        content_id,
        size_octets,
        draft.body_offset,
        draft.message_id,
        draft.subject,
        draft.has_8bit,
        draft.needs_smtputf8,
    )


def _info_of_row(row: Row) -> ContentInfo:
    return ContentInfo(row[0], row[1], row[2], row[3], row[4], bool(row[5]), bool(row[6]))
