"""SMTP replies and enhanced status codes (RFC 5321 section 4.2, RFC 3463)."""

from __future__ import annotations

import re

from msgspec import Struct

_ENHANCED = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?:\s|\Z)")


class Reply(Struct, frozen=True):
    """One SMTP reply.

    Attributes:
        code: 200 to 599.
        enhanced_status_code: Such as ``5.1.1``; empty where none was given.
        lines: The text, one item per line, without codes and line ends.
    """

    code: int
    enhanced_status_code: str = ""
    lines: tuple[str, ...] = ()

    @classmethod
    def make(cls, code: int, enhanced_status_code: str, text: str) -> Reply:
        """Make a reply from a text that may have several lines."""
        return cls(code, enhanced_status_code, tuple(text.split("\n")))

    @classmethod
    def from_lines(cls, code: int, lines: tuple[str, ...]) -> Reply:
        """Make a reply from received lines, taking an enhanced status code off them where its class fits the code."""
        found = _ENHANCED.match(lines[0]) if lines else None
        if found is None or found.group(1) != str(code)[0]:
            return cls(code, "", lines)
        enhanced = f"{found.group(1)}.{found.group(2)}.{found.group(3)}"
        return cls(code, enhanced, tuple(line.removeprefix(enhanced).lstrip() for line in lines))

    @property
    def is_positive(self) -> bool:
        """Whether the command was carried out (2yz)."""
        return 200 <= self.code < 300

    @property
    def is_transient_failure(self) -> bool:
        """Whether the same command may succeed later (4yz)."""
        return 400 <= self.code < 500

    @property
    def is_permanent_failure(self) -> bool:
        """Whether the same command will not succeed (5yz)."""
        return 500 <= self.code < 600

    @property
    def text(self) -> str:
        """The lines joined by a space."""
        return " ".join(self.lines)

    def __str__(self) -> str:
        return " ".join(part for part in (str(self.code), self.enhanced_status_code, self.text) if part)
