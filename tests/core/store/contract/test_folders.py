"""Folders and messages: UIDs, counts, modification sequences, changes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from mailcrane.store.errors import ResyncNeeded, StoreError, UnknownAccount
from mailcrane.store.housekeeping import sweep
from mailcrane.store.records import ChangeKind, Folder, StoredMessage
from mailcrane.store.store import Store
from mailcrane.store.transaction import Transaction


async def add(store: Store, make: Any, folder: str = "Inbox", **options: Any) -> StoredMessage:
    def unit(transaction: Transaction) -> StoredMessage:
        content_id = make.content(transaction)
        return transaction.folders.add_message(
            "bob", folder, content_id, size_octets=16, received_at=transaction.now, **options
        )

    return await store.write(unit, key="account:bob")


async def folder_of(store: Store, name: str = "Inbox") -> Folder:
    folder = await store.read(lambda tx: tx.folders.get("bob", name))
    assert folder is not None
    return folder


async def test_messages_get_rising_uids_and_modification_sequences_from_2(store: Store, make: Any) -> None:
    first, second = await add(store, make), await add(store, make)
    assert (first.uid, second.uid) == (1, 2)
    changes = await store.read(lambda tx: tx.folders.changes("bob", 0))
    assert [(change.modseq, change.kind) for change in changes] == [
        (2, ChangeKind.FOLDER_ADDED),
        (3, ChangeKind.MESSAGE_ADDED),
        (4, ChangeKind.MESSAGE_ADDED),
    ]
    assert await store.read(lambda tx: tx.folders.modseq("bob")) == second.modseq == 4
    assert (await folder_of(store)).uid_next == 3
    assert store.wakeups.version("account:bob") > 0


async def test_a_message_comes_back_as_it_was_added(store: Store, make: Any) -> None:
    message = await add(store, make, flags=["\\seen", "$Junk"], keywords=["Foo", "bar"], prefix=b"Delivered-To: b\r\n")
    assert message.flags == ("\\Seen", "$Junk")
    assert message.keywords == ("bar", "foo")
    assert message.size_octets == 16 + 17
    assert await store.read(lambda tx: tx.folders.message(message.id)) == message
    assert await store.read(lambda tx: tx.folders.messages("bob", "Inbox")) == [message]
    assert (await folder_of(store)).keywords == ("bar", "foo")


async def test_uid_validity_rises_with_every_folder(store: Store, make: Any, held_clock: Any) -> None:
    await add(store, make)
    await add(store, make, folder="Archive")
    first, second = await folder_of(store), await folder_of(store, "Archive")
    assert second.uid_validity == first.uid_validity + 1 > held_clock.at.timestamp() / 2 - 1


async def test_counts_follow_flags_and_expunges(store: Store, make: Any) -> None:
    first, second = await add(store, make), await add(store, make, flags=["\\Seen"])

    async def counts() -> tuple[int, ...]:
        folder = await folder_of(store)
        return (folder.total, folder.deleted, folder.unread, folder.unseen, folder.size_octets)

    assert await counts() == (2, 0, 1, 1, 32)
    ids = [first.id, second.id, 99]
    changed = await store.write(lambda tx: tx.folders.set_flags("bob", ids, add=["\\Deleted"]), key="account:bob")
    assert [message.flags for message in changed] == [("\\Deleted",), ("\\Seen", "\\Deleted")]
    assert changed[0].modseq == changed[1].modseq
    assert await counts() == (0, 2, 0, 1, 32)
    assert await store.write(lambda tx: tx.folders.set_flags("bob", ids, add=["\\Deleted"]), key="account:bob") == []
    await store.write(
        lambda tx: tx.folders.set_flags("bob", ids, remove=["\\Deleted"], add=["\\Seen"], add_keywords=["Work"]),
        key="account:bob",
    )
    assert await counts() == (2, 0, 0, 0, 32)
    assert (await folder_of(store)).keywords == ("work",)
    expunged = await store.write(lambda tx: tx.folders.expunge("bob", [first.id]), key="account:bob")
    assert [message.uid for message in expunged] == [1]
    assert await counts() == (1, 0, 0, 0, 16)
    assert await store.write(lambda tx: tx.folders.expunge("bob", [first.id]), key="account:bob") == []


async def test_an_expunged_message_keeps_its_content_until_it_is_released(store: Store, make: Any) -> None:
    message = await add(store, make)
    await store.write(lambda tx: tx.folders.expunge("bob", [message.id]), key="account:bob")
    assert await store.read(lambda tx: tx.folders.message(message.id)) is None
    assert await store.read(lambda tx: tx.content.get(message.content_id)) is not None
    assert await store.write(lambda tx: tx.folders.release_expunged("bob", message.modseq), key="account:bob") == 0
    assert await sweep(store) == 1
    assert await store.read(lambda tx: tx.content.get(message.content_id)) is None
    changes = await store.read(lambda tx: tx.folders.changes("bob", message.modseq))
    assert [(change.kind, change.uid) for change in changes] == [(ChangeKind.MESSAGE_EXPUNGED, 1)]
    assert (await add(store, make)).uid == 2


async def test_a_role_is_held_by_one_folder(store: Store) -> None:
    await store.write(lambda tx: tx.folders.create("bob", "Sent", special_uses=["\\Sent"]), key="account:bob")
    await store.write(
        lambda tx: tx.folders.create("bob", "Out", special_uses=["\\Sent", "\\Archive"]), key="account:bob"
    )
    assert (await folder_of(store, "Sent")).special_uses == ()
    found = await store.read(lambda tx: tx.folders.with_special_use("bob", "\\Sent"))
    assert found is not None
    assert (found.name, set(found.special_uses)) == ("Out", {"\\Sent", "\\Archive"})
    with pytest.raises(StoreError):
        await store.write(lambda tx: tx.folders.set_special_uses("bob", "Out", ["\\Nonsense"]), key="account:bob")
    with pytest.raises(StoreError):
        await store.write(lambda tx: tx.folders.set_special_uses("bob", "None", ["\\Sent"]), key="account:bob")


async def test_changes_that_share_a_sequence_are_not_cut_apart(store: Store, make: Any) -> None:
    ids = [(await add(store, make)).id for _ in range(4)]
    start = await store.read(lambda tx: tx.folders.modseq("bob"))
    await store.write(lambda tx: tx.folders.set_flags("bob", ids, add=["\\Seen"]), key="account:bob")
    changes = await store.read(lambda tx: tx.folders.changes("bob", start, limit=2))
    assert [change.message_id for change in changes] == ids


async def test_a_reader_of_changes_that_are_not_kept_is_told_to_resynchronise(
    store: Store, make: Any, held_clock: Any
) -> None:
    for _ in range(3):
        await add(store, make)
    held_clock.move(days=31)
    last = await add(store, make)
    assert await sweep(store) == 4
    with pytest.raises(ResyncNeeded) as caught:
        await store.read(lambda tx: tx.folders.changes("bob", 1))
    oldest = caught.value.oldest_modseq
    changes = await store.read(lambda tx: tx.folders.changes("bob", oldest))
    assert [change.message_id for change in changes] == [last.id]


async def test_changes_are_kept_up_to_a_number_per_account(store: Store, make: Any) -> None:
    for _ in range(10):
        await add(store, make)

    def purge(transaction: Transaction) -> int:
        return transaction.folders.purge_changes(transaction.now - timedelta(days=1), keep_per_account=4, limit=3)

    while await store.write(purge, key="account:bob"):
        pass
    end = await store.read(lambda tx: tx.folders.modseq("bob"))
    assert len(await store.read(lambda tx: tx.folders.changes("bob", end - 4))) == 4
    with pytest.raises(ResyncNeeded):
        await store.read(lambda tx: tx.folders.changes("bob", end - 5))


async def test_an_unknown_flag_or_account_is_refused(store: Store, make: Any) -> None:
    with pytest.raises(StoreError, match="flag"):
        await add(store, make, flags=["\\Nonsense"])
    with pytest.raises(UnknownAccount):
        await store.read(lambda tx: tx.folders.modseq("nobody"))
    assert await store.read(lambda tx: tx.folders.list("bob")) == []


async def test_recent_messages_of_all_folders_come_newest_first_and_wake_those_who_wait(
    store: Store, make: Any
) -> None:
    ids = [(await add(store, make, folder)).id for folder in ("Inbox", "Sent", "Inbox")]
    assert store.wakeups.version("messages") > 0
    recent = await store.read(lambda tx: tx.folders.recent())
    assert [(one.account, one.folder, one.message.id) for one in recent] == [
        ("bob", "Inbox", ids[2]),
        ("bob", "Sent", ids[1]),
        ("bob", "Inbox", ids[0]),
    ]
    some = await store.read(lambda tx: tx.folders.recent(after_id=ids[0], before_id=ids[2]))
    assert [one.message.id for one in some] == [ids[1]]
    assert len(await store.read(lambda tx: tx.folders.recent(limit=1))) == 1
    await store.write(lambda tx: tx.folders.expunge("bob", [ids[2]]), key="account:bob")
    assert [one.message.id for one in await store.read(lambda tx: tx.folders.recent())] == [ids[1], ids[0]]


async def test_recent_messages_come_with_the_roles_of_their_folder(store: Store, make: Any) -> None:
    await add(store, make, "Mine")
    await store.write(lambda tx: tx.folders.set_special_uses("bob", "Mine", ["\\Sent"]), key="account:bob")
    [one] = await store.read(lambda tx: tx.folders.recent())
    assert one.special_uses == ("\\Sent",)
