"""Reading and composing messages without I/O (provisional)."""

# ruff: noqa: PLC0414 - the alias is what tells a type checker that a name is re-exported.

from __future__ import annotations

from typing import TYPE_CHECKING

from mailcrane.api._lazy import lazy_names

if TYPE_CHECKING:
    from mailcrane.message.addresses import MAX_ADDRESSES as MAX_ADDRESSES
    from mailcrane.message.addresses import AddressListError as AddressListError
    from mailcrane.message.addresses import NamedMailbox as NamedMailbox
    from mailcrane.message.addresses import format_address as format_address
    from mailcrane.message.addresses import parse_address_list as parse_address_list
    from mailcrane.message.addresses import quote_phrase as quote_phrase
    from mailcrane.message.compose import Composition as Composition
    from mailcrane.message.compose import bcc_field as bcc_field
    from mailcrane.message.compose import compose as compose
    from mailcrane.message.content import BytesContent as BytesContent
    from mailcrane.message.date import format_date as format_date
    from mailcrane.message.date import parse_date as parse_date
    from mailcrane.message.draft import CompositionError as CompositionError
    from mailcrane.message.draft import Draft as Draft
    from mailcrane.message.draft import DraftFile as DraftFile
    from mailcrane.message.header import FIELD as FIELD
    from mailcrane.message.header import MAX_HEADER_FIELDS as MAX_HEADER_FIELDS
    from mailcrane.message.header import MAX_HEADER_OCTETS as MAX_HEADER_OCTETS
    from mailcrane.message.header import Field as Field
    from mailcrane.message.header import Header as Header
    from mailcrane.message.header import HeaderError as HeaderError
    from mailcrane.message.header import canonical_message_id as canonical_message_id
    from mailcrane.message.header import message_id as message_id
    from mailcrane.message.header import parse_header as parse_header
    from mailcrane.message.header import unfold as unfold
    from mailcrane.message.inspection import Inspection as Inspection
    from mailcrane.message.inspection import Inspector as Inspector
    from mailcrane.message.inspection import inspect as inspect
    from mailcrane.message.scanner import StructureScanner as StructureScanner
    from mailcrane.message.scanner import scan as scan
    from mailcrane.message.structure import Part as Part
    from mailcrane.message.structure import Structure as Structure
    from mailcrane.message.trace import new_message_id as new_message_id
    from mailcrane.message.trace import received_http as received_http
else:
    # A type checker sees the names above, and no others.
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "mailcrane.message.addresses": (
                "AddressListError",
                "MAX_ADDRESSES",
                "NamedMailbox",
                "format_address",
                "parse_address_list",
                "quote_phrase",
            ),
            "mailcrane.message.compose": ("Composition", "bcc_field", "compose"),
            "mailcrane.message.content": ("BytesContent",),
            "mailcrane.message.date": ("format_date", "parse_date"),
            "mailcrane.message.draft": ("CompositionError", "Draft", "DraftFile"),
            "mailcrane.message.header": (
                "FIELD",
                "Field",
                "Header",
                "HeaderError",
                "MAX_HEADER_FIELDS",
                "MAX_HEADER_OCTETS",
                "canonical_message_id",
                "message_id",
                "parse_header",
                "unfold",
            ),
            "mailcrane.message.inspection": ("Inspection", "Inspector", "inspect"),
            "mailcrane.message.scanner": ("StructureScanner", "scan"),
            "mailcrane.message.structure": ("Part", "Structure"),
            "mailcrane.message.trace": ("new_message_id", "received_http"),
        },
    )
