"""What comes of a request of ours: a response, or the reason why there is none."""

from __future__ import annotations

from msgspec import Struct


class HTTPClientError(Exception):
    """There is no response; the message says why and is safe to show to the owner of the URL."""


class URLRefused(HTTPClientError):
    """The URL is not one that can be fetched."""


class AddressRefused(HTTPClientError):
    """The host has only addresses that must not be reached."""


class ConnectFailed(HTTPClientError):
    """The host cannot be resolved or reached, or there is no trusted TLS with it."""


class ResponseFailed(HTTPClientError):
    """The connection was lost before a response, or the response breaks HTTP."""


class RequestTimedOut(HTTPClientError):
    """There was no whole response in time."""


class HTTPResponse(Struct, frozen=True):
    """A response.

    Attributes:
        headers: Names in lower case; of several with one name, the last.
        body: Its beginning, up to the limit that was asked for.
        is_truncated: Whether there was more.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    is_truncated: bool = False


def words_of(error: BaseException) -> str:
    """Return what an error says, for the owner of a URL."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
