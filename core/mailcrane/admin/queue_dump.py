"""The message of an entry as it travels, header and body, in pieces that fit the control socket."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from mailcrane.admin.administration import Administration
from mailcrane.admin.errors import AdminError
from mailcrane.admin.queue_filter import MAX_ID
from mailcrane.model.delivery import Attempt, Entry, RecipientResult
from mailcrane.plugin.caller import Hooks
from mailcrane.plugin.errors import HookFailed
from mailcrane.route.select import select_transport
from mailcrane.store.errors import UnknownContent
from mailcrane.store.transaction import Transaction
from mailcrane.transport.prepare import ContentPreparer


class DumpHeader(Struct, frozen=True, forbid_unknown_fields=True):
    """Ask for the header of an entry's message."""

    id: Annotated[int, Meta(ge=1, le=MAX_ID, description="Id of the entry.")]


class DumpedHeader(Struct, frozen=True):
    """What is put in front of the stored content, from `stored_offset` on, to have the message as it travels.

    Attributes:
        header: With the empty line that ends it; empty where the stored one travels. In base64 on the wire.
        is_made_now: It was not made for an attempt yet, so that its signatures will be others.
    """

    header: bytes
    stored_offset: int
    is_made_now: bool


class DumpPiece(Struct, frozen=True, forbid_unknown_fields=True):
    """Ask for a piece of the stored content of an entry's message."""

    id: Annotated[int, Meta(ge=1, le=MAX_ID, description="Id of the entry.")]
    piece: Annotated[int, Meta(ge=0, le=MAX_ID, description="Number of the piece, from 0.")]


class DumpedPiece(Struct, frozen=True):
    """A piece of the stored content; null behind the last. In base64 on the wire."""

    octets: bytes | None


async def dump_header(administration: Administration, request: DumpHeader) -> DumpedHeader:
    """Return the header with which an entry was sent last, or would be sent now. Nothing is stored."""
    (entry, attempts), now = await administration.store.read(
        lambda transaction: (_read(transaction, request.id), transaction.now)
    )
    directory = await administration.directory()
    hooks = administration.hooks or Hooks()
    transport = next((attempt.transport for attempt in reversed(attempts) if attempt.transport), "")
    if not transport:
        # Plugins that route are not asked: nothing is being sent.
        route = await select_transport(
            Hooks(),
            directory,
            entry,
            transports=administration.static.transports,
            default_transport=administration.static.queue.default_transport,
        )
        transport = "" if isinstance(route, RecipientResult) else route.transport
    preparer = ContentPreparer(store=administration.store, hooks=hooks, directory=lambda: directory, now=lambda: now)
    try:
        preview = await preparer.preview(entry, transport)
    except UnknownContent:
        raise _gone(request.id) from None
    except HookFailed as failure:
        raise AdminError("plugin_failed", f"a plugin failed to prepare the message: {failure}") from None
    return DumpedHeader(preview.header, preview.stored_offset, preview.is_made_now)


async def dump_piece(administration: Administration, request: DumpPiece) -> DumpedPiece:
    """Return a piece of the stored content of an entry's message."""

    def read(transaction: Transaction) -> bytes | None:
        entry, _ = _read(transaction, request.id)
        if transaction.content.get(entry.content_id) is None:
            raise _gone(request.id)
        return transaction.content.read_chunk(entry.content_id, request.piece)

    return DumpedPiece(await administration.store.read(read))


def _read(transaction: Transaction, entry_id: int) -> tuple[Entry, tuple[Attempt, ...]]:
    entry = transaction.queue.get(entry_id)
    if entry is not None:
        return entry, transaction.queue.attempts(entry_id)
    retired = transaction.retired.get(entry_id)
    if retired is None:
        raise AdminError("not_found", f"there is no entry {entry_id} in the queue, nor is it kept")
    return retired.entry, retired.attempts


def _gone(entry_id: int) -> AdminError:
    return AdminError(
        "not_found", f"the message of entry {entry_id} is not kept: it went when the entry left the queue"
    )
