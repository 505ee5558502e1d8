"""Why an operation was refused."""

from __future__ import annotations


class AdminError(Exception):
    """An operation that was not carried out; nothing has changed.

    Attributes:
        code: A word for programs: ``not_found``, ``exists``, ``bad_value``, ``version_changed``, ``bad_request`` …
        message: For the administrator: what, which value, what to do.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def not_running() -> AdminError:
    """Return the error of an operation that only a running server can do."""
    return AdminError("not_running", "no server is running")
