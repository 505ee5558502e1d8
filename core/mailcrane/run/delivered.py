"""Reads what was delivered on this machine: messages of all accounts, found by header and envelope, then shown whole.

Folders that hold what an account has written itself are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

from msgspec import Struct

from mailcrane.message.addresses import AddressListError, parse_address_list
from mailcrane.message.body import decoded_body, decoded_size, decoded_text, written_parts
from mailcrane.message.header import Header, HeaderError, message_id, parse_header
from mailcrane.message.structure import Part, Structure
from mailcrane.run.shown import ShownAddress, ShownMessage, ShownPart
from mailcrane.store.records import CallFilter, PlacedMessage, QueueFilter, StoredContentRow
from mailcrane.store.transaction import Transaction

SCANNED_MESSAGES = 2000
"""A search looks at so many of the newest messages at most."""

SHOWN_TEXT_OCTETS = 256 * 1024
"""Longer text and HTML are cut."""

# What is read of a message to show it; parts that begin later are listed without their octets.
_READ_OCTETS = 32 * 1024 * 1024
_STEP = 100
_OWN_FOLDERS = frozenset({"\\Sent", "\\Drafts"})


class Search(Struct, frozen=True):
    """What messages must have; an empty text is not looked at.

    Attributes:
        to: The forward-path; without regard to case.
        from_: The reverse-path or an address of From; without regard to case.
        subject: A part of the subject; without regard to case.
        message_id: With or without angle brackets.
        after: Lower bound of the id, itself not included.
        before: Upper bound of the id, itself not included; 0 is none.
    """

    to: str = ""
    from_: str = ""
    subject: str = ""
    message_id: str = ""
    after: int = 0
    before: int = 0

    @property
    def needs_header(self) -> bool:
        """Whether the header has to be read."""
        return bool(self.to or self.from_ or self.subject or self.message_id)


class Found(Struct, frozen=True):
    """What a search came to.

    Attributes:
        ids: Of messages that match, the highest first.
        last_id: The highest id that was looked at; `Search.after` where there was none.
        more: Whether there may be older ones that match.
    """

    ids: tuple[int, ...]
    last_id: int
    more: bool


def find(transaction: Transaction, search: Search, limit: int) -> Found:
    """Find the newest messages that match."""
    ids: list[int] = []
    last_id, scanned, before = search.after, 0, search.before or None
    while scanned < SCANNED_MESSAGES:
        step = transaction.folders.recent(after_id=search.after, before_id=before, limit=_STEP)
        for placed in step:
            last_id = max(last_id, placed.message.id)
            if _is_delivered(placed) and _matches(transaction, placed, search):
                if len(ids) == limit:
                    return Found(tuple(ids), last_id, more=True)
                ids.append(placed.message.id)
        if len(step) < _STEP:
            return Found(tuple(ids), last_id, more=False)
        before = step[-1].message.id
        scanned += len(step)
    return Found(tuple(ids), last_id, more=True)


def show(transaction: Transaction, message_ids: Sequence[int], root: str) -> list[ShownMessage]:
    """Return messages whole, in the order of their ids as given; those that are gone are left out.

    Args:
        root: The path that the service is mounted at, without a slash at the end.
    """
    shown = []
    for number in message_ids:
        placed = _get(transaction, number)
        if placed is not None:
            shown.append(_show(transaction, placed, root))
    return shown


def raw(transaction: Transaction, number: int) -> bytes | None:
    """Return all octets of a message, or None where there is none."""
    placed = _get(transaction, number)
    if placed is None:
        return None
    return placed.message.prefix + b"".join(_chunks(transaction, placed.message.content_id))


def part(transaction: Transaction, number: int, part_number: int) -> tuple[Part, bytes] | None:
    """Return a part of a message with its decoded octets, or None where there is none."""
    placed = _get(transaction, number)
    if placed is None:
        return None
    parts = list(_structure(transaction, placed).root.walk())
    if part_number >= len(parts):
        return None
    octets = b"".join(_chunks(transaction, placed.message.content_id))
    return parts[part_number], decoded_body(octets, parts[part_number])


def delete_some(transaction: Transaction, *, number: int | None = None, limit: int = 500) -> int:
    """Take messages out of their folders; returns how many.

    Args:
        number: Only this one; None for the newest.
        limit: The most messages.
    """
    if number is None:
        found = transaction.folders.recent(limit=limit)
    else:
        placed = _get(transaction, number)
        found = [] if placed is None else [placed]
    by_account: dict[str, list[int]] = {}
    for one in found:
        by_account.setdefault(one.account, []).append(one.message.id)
    return sum(len(transaction.folders.expunge(account, ids)) for account, ids in by_account.items())


def forget_some(transaction: Transaction, *, limit: int = 500) -> int:
    """Forget what would make a server differ from a new one, besides messages: entries in the queue and webhook calls,
    of which no more events come, and suppression lists; returns how much.

    Args:
        limit: The most rows of each kind.
    """
    entries = transaction.queue.list(QueueFilter(limit=limit))
    calls = transaction.webhooks.list(CallFilter(limit=limit))
    suppressions = transaction.suppressions.list(None, limit=limit)
    for entry in entries:
        transaction.queue.remove(entry.id)
    for call in calls:
        transaction.webhooks.retire(call.id, None, None, is_success=False)
    for suppression in suppressions:
        transaction.suppressions.remove(suppression.account, suppression.base_address)
    failures = transaction.suppressions.purge_failures(transaction.now + timedelta(seconds=1), limit=limit)
    return len(entries) + len(calls) + len(suppressions) + failures


# --- inside ---------------------------------------------------------------------------------------------------------


def _get(transaction: Transaction, number: int) -> PlacedMessage | None:
    found = transaction.folders.recent(after_id=number - 1, before_id=number + 1, limit=1)
    return found[0] if found else None


def _is_delivered(placed: PlacedMessage) -> bool:
    return _OWN_FOLDERS.isdisjoint(placed.special_uses)


def _matches(transaction: Transaction, placed: PlacedMessage, search: Search) -> bool:
    if not search.needs_header:
        return True
    header = _header(placed, _read(transaction, placed.message.content_id, _row(transaction, placed).info.body_offset))
    if search.to and search.to.lower() not in _recipients(header):
        return False
    if search.from_ and search.from_.lower() not in {
        _bare(header.get("return-path") or ""),
        *(address.address.lower() for address in _addresses(header, "from")),
    }:
        return False
    if search.subject and search.subject.lower() not in header.decoded("subject").lower():
        return False
    return not search.message_id or _bare(search.message_id) == _bare(header.get("message-id") or "")


def _recipients(header: Header) -> set[str]:
    """Whom this copy was for: the forward-path, or where none was noted the addresses that it is written to."""
    forward_path = header.get("delivered-to")
    if forward_path:
        return {forward_path.lower()}
    return {address.address.lower() for name in ("to", "cc") for address in _addresses(header, name)}


def _show(transaction: Transaction, placed: PlacedMessage, root: str) -> ShownMessage:
    message = placed.message
    octets = _read(transaction, message.content_id, _READ_OCTETS)
    header = _header(placed, octets)
    structure = _structure(transaction, placed)
    written = written_parts(structure.root)
    url = f"{root}/{message.id}"
    text, html = (_text(octets, one) for one in written)
    return ShownMessage(
        id=message.id,
        account=placed.account,
        folder=placed.folder,
        received_at=message.received_at,
        reverse_path=(header.get("return-path") or "").strip("<>"),
        forward_path=header.get("delivered-to") or "",
        message_id=message_id(header.get("message-id") or ""),
        subject=header.decoded("subject"),
        from_=_addresses(header, "from"),
        to=_addresses(header, "to"),
        cc=_addresses(header, "cc"),
        reply_to=_addresses(header, "reply-to"),
        text=text,
        html=html,
        is_cut=any(one is not None and decoded_size(octets, one) > SHOWN_TEXT_OCTETS for one in written),
        attachments=tuple(_other_parts(structure.root, {id(one) for one in written}, url)),
        headers=tuple((field.name, field.decoded) for field in header),
        size_octets=message.size_octets,
        url=url,
        raw_url=f"{url}/raw",
    )


def _other_parts(root: Part, shown: set[int], url: str) -> Iterator[ShownPart]:
    parts = list(root.walk())
    # What is inside an attached message belongs to that message.
    inside = {id(one) for outer in parts if outer.message is not None for one in outer.message.walk()}
    for number, one in enumerate(parts):
        if one.is_multipart or id(one) in shown or id(one) in inside:
            continue
        yield ShownPart(
            number=number,
            content_type=one.content_type if one.media_type else "text/plain",
            file_name=one.file_name,
            disposition=one.disposition,
            content_id=one.content_id.strip("<>"),
            size_octets=one.size_octets,
            url=f"{url}/parts/{number}",
        )


def _text(octets: bytes, part_: Part | None) -> str:
    return "" if part_ is None else decoded_text(octets, part_, max_octets=SHOWN_TEXT_OCTETS)


def _addresses(header: Header, name: str) -> tuple[ShownAddress, ...]:
    try:
        parsed = parse_address_list(header.get(name) or "")
    except AddressListError:
        return ()
    return tuple(ShownAddress(one.name, str(one.mailbox)) for one in parsed)


def _bare(text: str) -> str:
    return text.strip().strip("<>").lower()


def _header(placed: PlacedMessage, octets: bytes) -> Header:
    try:
        return parse_header(placed.message.prefix + octets, is_strict=False)
    except HeaderError:
        # Longer than we read; the fields that we added ourselves are still there.
        return parse_header(placed.message.prefix, is_strict=False)


def _row(transaction: Transaction, placed: PlacedMessage) -> StoredContentRow:
    row = transaction.content.get(placed.message.content_id)
    assert row is not None, "a message in a folder holds its content"
    return row


def _structure(transaction: Transaction, placed: PlacedMessage) -> Structure:
    return Structure.unpack(_row(transaction, placed).structure)


def _read(transaction: Transaction, content_id: int, octets_wanted: int) -> bytes:
    """Return content as far as so many octets, or a little further."""
    octets = bytearray()
    for chunk in _chunks(transaction, content_id):
        octets += chunk
        if len(octets) >= octets_wanted:
            break
    return bytes(octets)


def _chunks(transaction: Transaction, content_id: int) -> Iterator[bytes]:
    index = 0
    while chunk := transaction.content.read_chunk(content_id, index):
        yield chunk
        index += 1
