"""Edits and preparations are merged, and edits change nothing but what they name."""

from __future__ import annotations

from mailcrane.model.delivery import ContentEdit, DeliveryPreparation
from mailcrane.model.message import HeaderField
from mailcrane.model.reply import Reply
from mailcrane.transport.content import apply_edit, merge_edits, merge_preparations

HEADER = (
    b"Received: by x\r\n\tfor y\r\nSubject:  Hello \r\nX-One: 1\r\nsubject: again\r\nnonsense line\r\nTo: <b@x>\r\n"
)
NIGHT, DAY = Reply.make(451, "4.7.1", "night"), Reply.make(450, "4.2.1", "day")


def test_removals_of_all_come_before_additions_in_the_order_of_the_plugins() -> None:
    first = ContentEdit((HeaderField("X-One", "1"),), ("X-Two",))
    second = ContentEdit((HeaderField("X-Two", "2"),), ("x-one", "x-two"))
    merged = merge_edits([first, second])
    assert merged.prepend == (HeaderField("X-One", "1"), HeaderField("X-Two", "2"))
    assert merged.remove == ("x-two", "x-one")


def test_what_is_not_removed_keeps_its_octets() -> None:
    edited = apply_edit(HEADER, ContentEdit((HeaderField("X-New", "n"),), ("SUBJECT",)))
    assert edited == b"X-New: n\r\nReceived: by x\r\n\tfor y\r\nX-One: 1\r\nnonsense line\r\nTo: <b@x>\r\n"


def test_a_folded_field_is_removed_whole() -> None:
    assert apply_edit(HEADER, ContentEdit(remove=("received",))).startswith(b"Subject:")


def test_an_empty_edit_changes_nothing() -> None:
    assert apply_edit(HEADER, ContentEdit()) is HEADER
    assert apply_edit(HEADER, merge_edits([])) is HEADER


def test_the_first_reply_counts_and_all_notes_are_kept() -> None:
    merged = merge_preparations(
        [DeliveryPreparation(notes=("a",)), DeliveryPreparation(NIGHT, ("b",)), DeliveryPreparation(DAY, ("c",))]
    )
    assert merged == DeliveryPreparation(NIGHT, ("a", "b", "c"))


def test_nobodys_preparation_puts_nothing_off() -> None:
    assert merge_preparations([]) == DeliveryPreparation()
