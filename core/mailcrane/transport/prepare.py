"""Content made ready for a transport: rewritten by plugins, signed, and kept for the entries that share it.

Signing is the last change of content. It happens at the first attempt rather than when a message is queued, because
mail may be held or scheduled for weeks, and a signature ends; it is made anew when more than half of its time is over,
or when one of its selectors is not signed with any more.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import trio
from msgspec import Struct

from mailcrane.config.directory import Directory
from mailcrane.model.delivery import Entry, OutgoingContent
from mailcrane.observe.log import get_log
from mailcrane.plugin.caller import Hooks
from mailcrane.store.content import Opening, StoredContent
from mailcrane.store.errors import CommitFailed, DiskFull
from mailcrane.store.records import PreparedHeader
from mailcrane.store.store import Store
from mailcrane.store.transaction import Transaction
from mailcrane.transport.content import PreparedContent, apply_edit, merge_edits
from mailcrane.transport.sign import has_selectors, sign

log = get_log(__name__)


class Prepared(Struct, frozen=True):
    """Content as it is handed to a transport.

    Attributes:
        content: To be read while sending.
        content_id: Of the stored content that it was made from.
        variant: Tells apart what is prepared differently for the same content.
        to_store: The header that is to be kept for later attempts; None when it is kept already or is the stored one.
    """

    content: OutgoingContent
    content_id: int
    variant: str
    to_store: PreparedHeader | None = None

    def store(self, transaction: Transaction) -> None:
        """Keep the header for later attempts, in the unit of whoever calls."""
        if self.to_store is not None:
            transaction.content.set_prepared(self.content_id, self.variant, self.to_store)


class Preview(Struct, frozen=True):
    """How an entry's content travels: the header, then the stored content from an offset.

    Attributes:
        header: With the empty line that ends it; empty where the stored one travels.
        is_made_now: It was not kept from an attempt, so that its signatures will be others.
    """

    header: bytes
    stored_offset: int
    is_made_now: bool


class ContentPreparer:
    """Prepares content.

    Args:
        directory: Gives the look-ups of the newest configuration.
        now: The store's clock.
    """

    def __init__(
        self, *, store: Store, hooks: Hooks, directory: Callable[[], Directory], now: Callable[[], datetime]
    ) -> None:
        self._store = store
        self._hooks = hooks
        self._directory = directory
        self._now = now
        # While content that several entries share is being prepared: the others wait for it instead of signing too.
        self._busy: dict[tuple[int, str], trio.Lock] = {}

    async def prepare(self, entry: Entry, transport: str, opening: Opening | None = None) -> Prepared:
        """Prepare the content of an entry for a transport.

        Content of one entry alone is not stored here: that is left to the unit that knows whether there will be
        another attempt (`Prepared.store`).

        Args:
            entry: Its content is prepared.
            transport: Name of the transport.
            opening: Of the content, where it was read before; it is read here when None.

        Raises:
            HookFailed: a plugin failed in ``rewrite_content``.
            UnknownContent: the content is gone.
        """
        # Without plugins that rewrite, all transports get the same.
        variant = transport if self._hooks.rewrite_content.implementations else ""
        if not entry.base_id:
            return await self._prepare(entry, transport, variant, opening)
        key = (entry.content_id, variant)
        lock = self._busy.setdefault(key, trio.Lock())
        try:
            async with lock:
                prepared = await self._prepare(entry, transport, variant, opening)
                if prepared.to_store is not None:
                    try:
                        await self._store.write(prepared.store, key="queue")
                    except (DiskFull, CommitFailed) as error:
                        # The next one makes it anew, which is better than to hold up mail.
                        log.warning("a prepared header cannot be kept", entry=entry.id, problem=str(error))
                    else:
                        prepared = Prepared(prepared.content, entry.content_id, variant)
                return prepared
        finally:
            if not lock.statistics().tasks_waiting and not lock.locked():
                self._busy.pop(key, None)

    async def preview(self, entry: Entry, transport: str) -> Preview:
        """Return with which header an entry was sent last, or would be now; nothing is stored.

        Raises:
            HookFailed: a plugin failed in ``rewrite_content``.
            UnknownContent: the content is gone.
        """
        variant = transport if self._hooks.rewrite_content.implementations else ""
        prepared = await self._prepare(entry, transport, variant, None)
        content = prepared.content
        if not isinstance(content, PreparedContent):
            return Preview(b"", 0, is_made_now=False)
        return Preview(content.header, content.body_offset, is_made_now=prepared.to_store is not None)

    async def _prepare(self, entry: Entry, transport: str, variant: str, opening: Opening | None) -> Prepared:
        if opening is None:
            content = await StoredContent.open(self._store, entry.content_id)
        else:
            content = StoredContent.opened(self._store, opening)
        kept = await self._kept(entry, variant)
        if kept is not None:
            return Prepared(PreparedContent(kept.header, content, kept.body_offset), entry.content_id, variant)
        header = content.header
        if self._hooks.rewrite_content.implementations:
            edits = await self._hooks.rewrite_content(entry=entry, content=content, transport=transport)
            header = apply_edit(header, merge_edits([edit for _, edit in edits]))
        ready = await sign(header, content, self._directory(), self._now())
        if ready is None:
            if header == content.header:
                return Prepared(content, entry.content_id, variant)
            ready = PreparedHeader(header + b"\r\n", content.info.body_offset)
        return Prepared(PreparedContent(ready.header, content, ready.body_offset), entry.content_id, variant, ready)

    async def _kept(self, entry: Entry, variant: str) -> PreparedHeader | None:
        """Return the header that was prepared before and may still be used."""
        if not entry.base_id and entry.attempts == 1:
            return None  # Nobody can have prepared it: that saves a read for most messages.
        kept = await self._store.read(lambda transaction: transaction.content.prepared(entry.content_id, variant))
        if kept is None or (kept.renew_at is not None and self._now() >= kept.renew_at):
            return None
        return kept if has_selectors(self._directory(), kept.selectors) else None
