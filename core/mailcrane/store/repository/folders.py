"""Folders, messages in them, and the changes that sessions are told of.

Every change takes the account's next modification sequence and leaves a row in ``changes``. An expunged message keeps
its row and its content until `release_expunged`, so that a session that has not seen the change can still read it.
"""

from __future__ import annotations

import builtins
from collections.abc import Collection, Sequence
from datetime import datetime

import msgspec

from mailcrane.store.errors import ResyncNeeded, StoreError
from mailcrane.store.records import Change, ChangeKind, Folder, PlacedMessage, StoredMessage
from mailcrane.store.repository.accounts import Accounts
from mailcrane.store.repository.content import ContentRepository
from mailcrane.store.repository.message_rows import (
    FOLDER,
    MESSAGE,
    ROLE_BIT,
    canonical_keywords,
    counts_of,
    flag_bits,
    flag_names,
    folder_of,
    message_of,
    role_names,
    words_of,
)
from mailcrane.store.sql import SQL, Row, Unit, to_us

_encode = msgspec.json.Encoder().encode


class FoldersRepository:
    """Folders and messages of accounts."""

    def __init__(self, sql: SQL, unit: Unit, accounts: Accounts, content: ContentRepository) -> None:
        self._sql = sql
        self._unit = unit
        self._accounts = accounts
        self._content = content

    # --- folders ------------------------------------------------------------------------------------------------

    def list(self, account: str) -> builtins.list[Folder]:
        """Return the folders of an account in the order of their names."""
        rows = self._sql.rows(
            f"SELECT {FOLDER} FROM folders f JOIN accounts a ON a.id = f.account_id WHERE a.name = ? ORDER BY f.name",
            (account,),
        )
        return [folder_of(row) for row in rows]

    def get(self, account: str, name: str) -> Folder | None:
        """Return a folder by name, or None."""
        row = self._sql.row(
            f"SELECT {FOLDER} FROM folders f JOIN accounts a ON a.id = f.account_id WHERE a.name = ? AND f.name = ?",
            (account, name),
        )
        return None if row is None else folder_of(row)

    def with_special_use(self, account: str, special_use: str) -> Folder | None:
        """Return the folder of an account that holds a role of `SPECIAL_USES`, or None."""
        return next((folder for folder in self.list(account) if special_use in folder.special_uses), None)

    def create(self, account: str, name: str, *, special_uses: Collection[str] = ()) -> Folder:
        """Make a folder, or return the one that exists. A role that is given is taken from the folder that had it.

        Raises:
            UnknownAccount: there is none of this name.
        """
        folder = self.get(account, name)
        if folder is None:
            self._insert_folder(account, name, *self._accounts.next_modseq(account))
        if special_uses:
            self.set_special_uses(account, name, special_uses)
        folder = self.get(account, name)
        assert folder is not None, "it was made in this unit"
        return folder

    def set_special_uses(self, account: str, name: str, special_uses: Collection[str]) -> None:
        """Give a folder exactly these roles, taking them from the folders that had them.

        Raises:
            StoreError: there is no such folder, or no such role.
        """
        if not set(special_uses) <= ROLE_BIT.keys():
            raise StoreError(f"no such special use in {sorted(special_uses)}")
        bits = sum(ROLE_BIT[role] for role in set(special_uses))
        folder = self.get(account, name)
        if folder is None:
            raise StoreError(f"no folder {name!r} in account {account!r}")
        account_id, modseq = self._accounts.next_modseq(account)
        changed = self._sql.rows(
            "UPDATE folders SET special_uses = special_uses & ~CAST(? AS BIGINT), modseq = ?"
            " WHERE account_id = ? AND id <> ? AND special_uses & ? <> 0 RETURNING id",
            (bits, modseq, account_id, folder.id, bits),
        )
        self._sql.run("UPDATE folders SET special_uses = ?, modseq = ? WHERE id = ?", (bits, modseq, folder.id))
        self._changed(
            account,
            account_id,
            modseq,
            ChangeKind.FOLDER_CHANGED,
            [(folder_id, 0, 0) for folder_id in [folder.id, *(row[0] for row in changed)]],
        )

    # --- messages -----------------------------------------------------------------------------------------------

    def add_message(
        self,
        account: str,
        folder: str,
        content_id: int,
        *,
        size_octets: int,
        received_at: datetime,
        flags: Collection[str] = (),
        keywords: Collection[str] = (),
        prefix: bytes = b"",
    ) -> StoredMessage:
        """Put a message into a folder, which is made where it does not exist.

        Args:
            account: Name of the account.
            folder: Name of the folder.
            content_id: The message holds a reference to it.
            size_octets: Of the content, without the prefix.
            received_at: What IMAP calls the internal date.
            flags: Some of `FLAGS`, in any case.
            keywords: In any case.
            prefix: Header fields of this copy only, in front of the content.

        Raises:
            UnknownAccount: there is no such account.
            UnknownContent: there is no such content.
            StoreError: a flag is unknown.
        """
        bits = flag_bits(flags)
        words = canonical_keywords(keywords)
        size = size_octets + len(prefix)
        account_id, modseq = self._accounts.next_modseq(account)
        row = self._take_uid(account_id, folder, modseq, bits, size)
        if row is None:
            self._insert_folder(account, folder, account_id, modseq)
            _, modseq = self._accounts.next_modseq(account)
            row = self._take_uid(account_id, folder, modseq, bits, size)
            assert row is not None, "the folder was made in this unit"
        folder_id, uid, known = row
        if words:
            self._add_folder_keywords(folder_id, known, words)
        self._content.retain(content_id)
        now = self._unit.now
        inserted = self._sql.row(
            "INSERT INTO messages (account_id, folder_id, uid, modseq, created_modseq, content_id, flags, keywords,"
            " received_at, saved_at, size_octets, prefix) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
            (
                account_id,
                folder_id,
                uid,
                modseq,
                modseq,
                content_id,
                bits,
                _encode(words) if words else b"",
                to_us(received_at),
                self._unit.now_us,
                size,
                prefix,
            ),
        )
        assert inserted is not None, "RETURNING gives the row that was written"
        message_id: int = inserted[0]
        self._changed(account, account_id, modseq, ChangeKind.MESSAGE_ADDED, [(folder_id, message_id, uid)])
        self._unit.wake("messages")
        return StoredMessage(
            message_id,
            folder_id,
            uid,
            modseq,
            modseq,
            content_id,
            flag_names(bits),
            words,
            received_at,
            now,
            size,
            prefix,
        )

    def message(self, message_id: int) -> StoredMessage | None:
        """Return a message that is not expunged, or None."""
        row = self._sql.row(
            f"SELECT {MESSAGE} FROM messages m JOIN accounts a ON a.id = m.account_id"
            " WHERE m.id = ? AND m.is_expunged = 0 AND a.name IS NOT NULL",
            (message_id,),
        )
        return None if row is None else message_of(row)

    def messages(
        self, account: str, folder: str, *, after_uid: int = 0, limit: int = 1000
    ) -> builtins.list[StoredMessage]:
        """Return messages of a folder in the order of their UIDs, those after a UID."""
        rows = self._sql.rows(
            f"SELECT {MESSAGE} FROM messages m JOIN folders f ON f.id = m.folder_id"
            " JOIN accounts a ON a.id = f.account_id"
            " WHERE a.name = ? AND f.name = ? AND m.uid > ? AND m.is_expunged = 0 ORDER BY m.uid LIMIT ?",
            (account, folder, after_uid, limit),
        )
        return [message_of(row) for row in rows]

    def recent(
        self, *, after_id: int = 0, before_id: int | None = None, limit: int = 100
    ) -> builtins.list[PlacedMessage]:
        """Return messages of all folders of all accounts, the newest first.

        Args:
            after_id: Those with a higher id.
            before_id: Those with a lower id; None for all.
            limit: The most messages.
        """
        before, bound = ("", ()) if before_id is None else (" AND m.id < ?", (before_id,))
        rows = self._sql.rows(
            f"SELECT a.name, f.name, f.special_uses, {MESSAGE} FROM messages m JOIN folders f ON f.id = m.folder_id"
            " JOIN accounts a ON a.id = m.account_id"
            f" WHERE m.id > ?{before} AND m.is_expunged = 0 AND a.name IS NOT NULL ORDER BY m.id DESC LIMIT ?",
            (after_id, *bound, limit),
        )
        return [PlacedMessage(row[0], row[1], role_names(row[2]), message_of(row[3:])) for row in rows]

    def set_flags(
        self,
        account: str,
        message_ids: Sequence[int],
        *,
        add: Collection[str] = (),
        remove: Collection[str] = (),
        add_keywords: Collection[str] = (),
        remove_keywords: Collection[str] = (),
    ) -> builtins.list[StoredMessage]:
        """Change flags and keywords; returns the messages that changed, which share one modification sequence.

        Messages of other accounts and expunged ones are passed over.

        Raises:
            UnknownAccount: there is no such account.
            StoreError: a flag is unknown.
        """
        bits_on, bits_off = flag_bits(add), flag_bits(remove)
        words_on, words_off = canonical_keywords(add_keywords), set(canonical_keywords(remove_keywords))
        account_id = self._accounts.id_of(account)
        changed = []
        for message in self._live(account_id, message_ids):
            bits = flag_bits(message.flags)
            words = tuple(sorted((set(message.keywords) | set(words_on)) - words_off))
            new_bits = (bits | bits_on) & ~bits_off
            if new_bits == bits and words == message.keywords:
                continue
            changed.append((message, bits, new_bits, words))
        if not changed:
            return []
        _, modseq = self._accounts.next_modseq(account)
        for message, bits, new_bits, words in changed:
            self._sql.run(
                "UPDATE messages SET flags = ?, keywords = ?, modseq = ? WHERE id = ?",
                (new_bits, _encode(words) if words else b"", modseq, message.id),
            )
            self._count(message.folder_id, modseq, bits, new_bits)
            if words_on:
                known = self._sql.row("SELECT keywords FROM folders WHERE id = ?", (message.folder_id,))
                assert known is not None, "a message has its folder"
                self._add_folder_keywords(message.folder_id, known[0], words_on)
        self._changed(
            account,
            account_id,
            modseq,
            ChangeKind.FLAGS_CHANGED,
            [(message.folder_id, message.id, message.uid) for message, *_ in changed],
        )
        return [
            msgspec.structs.replace(message, flags=flag_names(new_bits), keywords=words, modseq=modseq)
            for message, _, new_bits, words in changed
        ]

    def expunge(self, account: str, message_ids: Sequence[int]) -> builtins.list[StoredMessage]:
        """Take messages out of their folders; returns those that were there, which share one modification sequence.

        Raises:
            UnknownAccount: there is no such account.
        """
        account_id = self._accounts.id_of(account)
        expunged = self._live(account_id, message_ids)
        if not expunged:
            return []
        _, modseq = self._accounts.next_modseq(account)
        for message in expunged:
            bits = flag_bits(message.flags)
            self._sql.run(
                "UPDATE messages SET is_expunged = 1, modseq = ? WHERE id = ?",
                (modseq, message.id),
            )
            self._sql.run(
                "UPDATE folders SET total = total - ?, deleted = deleted - ?, unread = unread - ?, unseen = unseen - ?,"
                " size_octets = size_octets - ?, modseq = ? WHERE id = ?",
                (*counts_of(bits), message.size_octets, modseq, message.folder_id),
            )
        self._changed(
            account,
            account_id,
            modseq,
            ChangeKind.MESSAGE_EXPUNGED,
            [(message.folder_id, message.id, message.uid) for message in expunged],
        )
        return [msgspec.structs.replace(message, modseq=modseq) for message in expunged]

    def release_expunged(self, account: str, modseq: int, *, limit: int = 1000) -> int:
        """Forget messages that were expunged up to a modification sequence, with their content; returns how many.

        Args:
            account: Name of the account.
            modseq: What every live session of the account has seen.
            limit: The most messages.
        """
        rows = self._sql.rows(
            "SELECT m.id, m.content_id FROM messages m JOIN accounts a ON a.id = m.account_id"
            " WHERE a.name = ? AND m.is_expunged = 1 AND m.modseq <= ? LIMIT ?",
            (account, modseq, limit),
        )
        for message_id, content_id in rows:
            self._sql.run("DELETE FROM messages WHERE id = ?", (message_id,))
            self._content.release(content_id)
        return len(rows)

    def accounts_with_expunged(self) -> builtins.list[str]:
        """Return the accounts for which `release_expunged` has something to do."""
        rows = self._sql.rows(
            "SELECT DISTINCT a.name FROM messages m JOIN accounts a ON a.id = m.account_id"
            " WHERE m.is_expunged = 1 AND a.name IS NOT NULL"
        )
        return [name for (name,) in rows]

    # --- changes ------------------------------------------------------------------------------------------------

    def modseq(self, account: str) -> int:
        """Return the modification sequence of an account's last change; 1 before the first.

        Raises:
            UnknownAccount: there is no such account.
        """
        row = self._sql.row("SELECT modseq FROM accounts WHERE id = ?", (self._accounts.id_of(account),))
        assert row is not None, "the id was read in this transaction"
        return int(row[0])

    def changes(self, account: str, since_modseq: int, *, limit: int = 1000) -> builtins.list[Change]:
        """Return an account's changes after a modification sequence, in order.

        Those that share a sequence are never cut apart: there may be more than `limit` for the sake of the last one.

        Raises:
            UnknownAccount: there is no such account.
            ResyncNeeded: changes this old are not kept.
        """
        account_id = self._accounts.id_of(account)
        kept = self._sql.row("SELECT changes_after FROM accounts WHERE id = ?", (account_id,))
        assert kept is not None, "the id was read in this transaction"
        if since_modseq < kept[0]:
            raise ResyncNeeded(kept[0])
        last = self._sql.row(
            "SELECT modseq FROM changes WHERE account_id = ? AND modseq > ? ORDER BY modseq, item LIMIT 1 OFFSET ?",
            (account_id, since_modseq, limit - 1),
        )
        end = "" if last is None else " AND modseq <= ?"
        rows = self._sql.rows(
            "SELECT modseq, kind, folder_id, message_id, uid FROM changes"
            f" WHERE account_id = ? AND modseq > ?{end} ORDER BY modseq, item",
            (account_id, since_modseq, *(() if last is None else last)),
        )
        return [Change(modseq, ChangeKind(kind), *ids) for modseq, kind, *ids in rows]

    def purge_changes(self, before: datetime, *, keep_per_account: int = 1_000_000, limit: int = 1000) -> int:
        """Remove changes older than an instant, and those above a number per account; returns how many.

        A reader that has not seen the removed ones is told to resynchronise.
        """
        # `changes_after` bounds where to look, so that no index by time has to be kept for every change.
        rows = self._sql.rows(
            "SELECT c.account_id, c.modseq, c.item FROM accounts a JOIN changes c ON c.account_id = a.id"
            " AND c.modseq <= a.changes_after + ? WHERE c.at < ? LIMIT ?",
            (limit, to_us(before), limit),
        )
        # Sequences rise without gaps, so that their distance bounds the number of rows without counting them.
        rows += self._sql.rows(
            "SELECT c.account_id, c.modseq, c.item FROM accounts a JOIN changes c ON c.account_id = a.id"
            " WHERE a.modseq - a.changes_after > ? AND c.modseq <= a.modseq - ? LIMIT ?",
            (keep_per_account, keep_per_account, limit),
        )
        self._sql.run_many("DELETE FROM changes WHERE account_id = ? AND modseq = ? AND item = ?", rows)
        last: dict[int, int] = {}
        for account_id, modseq, _ in rows:
            last[account_id] = max(modseq, last.get(account_id, 0))
        self._sql.run_many(
            "UPDATE accounts SET changes_after = ? WHERE id = ? AND changes_after < ?",
            [(modseq, account_id, modseq) for account_id, modseq in last.items()],
        )
        return len(rows)

    # --- inside -------------------------------------------------------------------------------------------------

    def _insert_folder(self, account: str, name: str, account_id: int, modseq: int) -> None:
        row = self._sql.row(
            "INSERT INTO folders (account_id, name, uid_validity, modseq, created_modseq) VALUES (?, ?, ?, ?, ?)"
            " RETURNING id",
            (account_id, name, self._accounts.next_uid_validity(account_id), modseq, modseq),
        )
        assert row is not None, "RETURNING gives the row that was written"
        self._changed(account, account_id, modseq, ChangeKind.FOLDER_ADDED, [(row[0], 0, 0)])

    def _take_uid(self, account_id: int, folder: str, modseq: int, bits: int, size: int) -> Row | None:
        return self._sql.row(
            "UPDATE folders SET uid_next = uid_next + 1, modseq = ?, total = total + ?, deleted = deleted + ?,"
            " unread = unread + ?, unseen = unseen + ?, size_octets = size_octets + ? WHERE account_id = ? AND name = ?"
            " RETURNING id, uid_next - 1, keywords",
            (modseq, *counts_of(bits), size, account_id, folder),
        )

    def _add_folder_keywords(self, folder_id: int, known: bytes, words: tuple[str, ...]) -> None:
        before = set(words_of(known))
        if not before.issuperset(words):
            self._sql.run(
                "UPDATE folders SET keywords = ? WHERE id = ?", (_encode(sorted(before.union(words))), folder_id)
            )

    def _count(self, folder_id: int, modseq: int, old: int, new: int) -> None:
        differences = [after - before for before, after in zip(counts_of(old), counts_of(new), strict=True)]
        self._sql.run(
            "UPDATE folders SET total = total + ?, deleted = deleted + ?, unread = unread + ?, unseen = unseen + ?,"
            " modseq = ? WHERE id = ?",
            (*differences, modseq, folder_id),
        )

    def _live(self, account_id: int, message_ids: Sequence[int]) -> builtins.list[StoredMessage]:
        rows = [
            self._sql.row(
                f"SELECT {MESSAGE} FROM messages m WHERE m.id = ? AND m.account_id = ? AND m.is_expunged = 0",
                (message_id, account_id),
            )
            for message_id in dict.fromkeys(message_ids)
        ]
        return [message_of(row) for row in rows if row is not None]

    def _changed(
        self,
        account: str,
        account_id: int,
        modseq: int,
        kind: ChangeKind,
        items: builtins.list[tuple[int, int, int]],
    ) -> None:
        """Write change rows for triples of folder, message and UID, and wake the account's sessions."""
        self._sql.run_many(
            "INSERT INTO changes (account_id, modseq, item, kind, folder_id, message_id, uid, at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (account_id, modseq, item, kind.value, folder_id, message_id, uid, self._unit.now_us)
                for item, (folder_id, message_id, uid) in enumerate(items)
            ],
        )
        self._unit.wake(f"account:{account}")
