"""Folders and messages as rows: what is selected, how it is read, and how flags and counts are kept."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from mailcrane.store.errors import StoreError
from mailcrane.store.records import FLAGS, SPECIAL_USES, Folder, StoredMessage
from mailcrane.store.sql import Row, from_us

FOLDER = (
    "f.id, f.name, f.uid_validity, f.uid_next, f.modseq, f.special_uses, f.keywords, f.total, f.deleted, f.unread,"
    " f.unseen, f.size_octets"
)
MESSAGE = (
    "m.id, m.folder_id, m.uid, m.modseq, m.created_modseq, m.content_id, m.flags, m.keywords, m.received_at,"
    " m.saved_at, m.size_octets, m.prefix"
)

_BIT = {flag: 1 << index for index, flag in enumerate(FLAGS)}
_BIT_OF_LOWER = {flag.lower(): bit for flag, bit in _BIT.items()}
_SEEN = _BIT["\\Seen"]
_DELETED = _BIT["\\Deleted"]
ROLE_BIT = {role: 1 << index for index, role in enumerate(SPECIAL_USES)}

_words_decoder = msgspec.json.Decoder(tuple[str, ...])


def flag_bits(flags: Collection[str]) -> int:
    """Return flags, in any case, as they are stored.

    Raises:
        StoreError: a flag is unknown.
    """
    bits = 0
    for flag in flags:
        bit = _BIT.get(flag) or _BIT_OF_LOWER.get(flag.lower())
        if bit is None:
            raise StoreError(f"no such flag: {flag!r}")
        bits |= bit
    return bits


def flag_names(bits: int) -> tuple[str, ...]:
    """Return stored flags by name."""
    return tuple(flag for flag, bit in _BIT.items() if bits & bit) if bits else ()


def canonical_keywords(keywords: Collection[str]) -> tuple[str, ...]:
    """Return keywords in lower case, sorted."""
    return tuple(sorted({keyword.lower() for keyword in keywords})) if keywords else ()


def words_of(stored: bytes) -> tuple[str, ...]:
    """Return stored keywords."""
    return _words_decoder.decode(stored) if stored else ()


def counts_of(bits: int) -> tuple[int, int, int, int]:
    """Return what a message with these flags adds to total, deleted, unread and unseen."""
    is_deleted, is_seen = bool(bits & _DELETED), bool(bits & _SEEN)
    return int(not is_deleted), int(is_deleted), int(not is_seen and not is_deleted), int(not is_seen)


def role_names(bits: int) -> tuple[str, ...]:
    """Return the stored special uses of a folder by name."""
    return tuple(role for role, bit in ROLE_BIT.items() if bits & bit)


def folder_of(row: Row) -> Folder:
    """Return the folder of a row of `FOLDER`."""
    fields: list[Any] = list(row)
    fields[5] = role_names(fields[5])
    fields[6] = words_of(fields[6])
    return Folder(*fields)


def message_of(row: Row) -> StoredMessage:
    """Return the message of a row of `MESSAGE`."""
    (
        message_id,
        folder_id,
        uid,
        modseq,
        created_modseq,
        content_id,
        flags,
        words,
        received_at,
        saved_at,
        size,
        prefix,
    ) = row
    return StoredMessage(
        message_id,
        folder_id,
        uid,
        modseq,
        created_modseq,
        content_id,
        flag_names(flags),
        words_of(words),
        from_us(received_at),
        from_us(saved_at),
        size,
        prefix,
    )
