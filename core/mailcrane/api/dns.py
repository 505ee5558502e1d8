"""Names in DNS (provisional). A plugin's resolver is `PluginContext.resolver`."""

# ruff: noqa: PLC0414 - the alias is what tells a type checker that a name is re-exported.

from __future__ import annotations

from typing import TYPE_CHECKING

from mailcrane.api._lazy import lazy_names

if TYPE_CHECKING:
    from mailcrane.dns.answer import MX as MX
    from mailcrane.dns.answer import TLSA as TLSA
    from mailcrane.dns.answer import Answer as Answer
    from mailcrane.dns.answer import LookupFailed as LookupFailed
    from mailcrane.dns.answer import NotFound as NotFound
    from mailcrane.dns.answer import RecordType as RecordType
    from mailcrane.dns.answer import Resolver as Resolver
    from mailcrane.dns.answer import TemporaryFailure as TemporaryFailure
else:
    # A type checker sees the names above, and no others.
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "mailcrane.dns.answer": (
                "Answer",
                "LookupFailed",
                "MX",
                "NotFound",
                "RecordType",
                "Resolver",
                "TLSA",
                "TemporaryFailure",
            ),
        },
    )
