"""SMTP without I/O: the client's side of a dialog, grammar, extensions (provisional)."""

# ruff: noqa: PLC0414 - the alias is what tells a type checker that a name is re-exported.

from __future__ import annotations

from typing import TYPE_CHECKING

from mailcrane.api._lazy import lazy_names

if TYPE_CHECKING:
    from mailcrane.smtp.client import NEED_DATA as NEED_DATA
    from mailcrane.smtp.client import AuthChallenge as AuthChallenge
    from mailcrane.smtp.client import AuthDone as AuthDone
    from mailcrane.smtp.client import ClientConnection as ClientConnection
    from mailcrane.smtp.client import ClientEvent as ClientEvent
    from mailcrane.smtp.client import ClientSignal as ClientSignal
    from mailcrane.smtp.client import ContentDone as ContentDone
    from mailcrane.smtp.client import EnvelopeDone as EnvelopeDone
    from mailcrane.smtp.client import Greeting as Greeting
    from mailcrane.smtp.client import HelloDone as HelloDone
    from mailcrane.smtp.client import QuitDone as QuitDone
    from mailcrane.smtp.client import ResetDone as ResetDone
    from mailcrane.smtp.client import StartTLSDone as StartTLSDone
    from mailcrane.smtp.errors import ConnectionLost as ConnectionLost
    from mailcrane.smtp.errors import LocalProtocolError as LocalProtocolError
    from mailcrane.smtp.errors import RemoteProtocolError as RemoteProtocolError
    from mailcrane.smtp.extensions import Extensions as Extensions
    from mailcrane.smtp.grammar import GrammarError as GrammarError
    from mailcrane.smtp.grammar import encode_xtext as encode_xtext
    from mailcrane.smtp.grammar import parse_date_time as parse_date_time
    from mailcrane.smtp.grammar import parse_forward_path as parse_forward_path
    from mailcrane.smtp.grammar import parse_mailbox as parse_mailbox
    from mailcrane.smtp.grammar import parse_reverse_path as parse_reverse_path
    from mailcrane.smtp.grammar import parse_xtext as parse_xtext
    from mailcrane.smtp.replies import encode_reply as encode_reply
else:
    # A type checker sees the names above, and no others.
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "mailcrane.smtp.client": (
                "AuthChallenge",
                "AuthDone",
                "ClientConnection",
                "ClientEvent",
                "ClientSignal",
                "ContentDone",
                "EnvelopeDone",
                "Greeting",
                "HelloDone",
                "NEED_DATA",
                "QuitDone",
                "ResetDone",
                "StartTLSDone",
            ),
            "mailcrane.smtp.errors": ("ConnectionLost", "LocalProtocolError", "RemoteProtocolError"),
            "mailcrane.smtp.extensions": ("Extensions",),
            "mailcrane.smtp.grammar": (
                "GrammarError",
                "encode_xtext",
                "parse_date_time",
                "parse_forward_path",
                "parse_mailbox",
                "parse_reverse_path",
                "parse_xtext",
            ),
            "mailcrane.smtp.replies": ("encode_reply",),
        },
    )
