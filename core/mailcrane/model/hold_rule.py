"""Hold rules: which new entries wait in the queue until somebody releases them."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from mailcrane.model.address import domain_to_unicode


class HoldRule(Struct, frozen=True):
    """A rule; an entry is held when every field that is set is equal. A rule without fields holds everything.

    Attributes:
        account: Name of the account that submitted.
        sender_domain: Of the reverse-path, as A-labels; an entry with the null reverse-path has none.
        recipient_domain: Of the forward-path, as A-labels or an address literal.
    """

    id: int
    created_at: datetime
    account: str = ""
    sender_domain: str = ""
    recipient_domain: str = ""

    def matches(self, account: str, sender_domain: str, recipient_domain: str) -> bool:
        """Return whether an entry with these is held."""
        return (
            self.account in ("", account)
            and self.sender_domain in ("", sender_domain)
            and self.recipient_domain in ("", recipient_domain)
        )

    def __str__(self) -> str:
        """Return the rule in words, such as ``hold rule 3 (of account ann, to example.net)``."""
        parts = []
        if self.account:
            parts.append(f"of account {self.account}")
        if self.sender_domain:
            parts.append(f"from {domain_to_unicode(self.sender_domain)}")
        if self.recipient_domain:
            parts.append(f"to {domain_to_unicode(self.recipient_domain)}")
        return f"hold rule {self.id} ({', '.join(parts) or 'everything'})"
