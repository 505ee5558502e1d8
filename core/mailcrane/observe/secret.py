"""A text that must not show up in logs, error messages and tracebacks."""

from __future__ import annotations

import hmac


class Secret:
    """A password, token or private key; its ``repr`` and ``str`` hide it, `reveal` gives it.

    It is not a ``str`` on purpose: formatting, joining and logging must not leak it. `mailcrane.config.convert` reads
    and writes it as text in TOML and JSON.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str = "") -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text itself, for the one place that needs it."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._text.encode("utf-8"), other._text.encode("utf-8"))

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __repr__(self) -> str:
        return "Secret('…')" if self._text else "Secret('')"

    def __reduce__(self) -> tuple[type[Secret], tuple[str]]:
        raise TypeError("a Secret is not pickled")


NO_SECRET = Secret()
