"""URLs that requests go to, as they travel (RFC 9112 section 3.2, RFC 3986)."""

from __future__ import annotations

import functools
import ipaddress
from urllib.parse import quote, urlsplit

from msgspec import Struct

from mailcrane.http.response import URLRefused
from mailcrane.model.address import AddressError, parse_domain

_PORTS = {"http": 80, "https": 443}
# What is outside of ASCII or not allowed in a request target is percent-encoded; what is encoded stays.
_TARGET_SAFE = "/?:@!$&'()*+,;=-._~%[]"


class Origin(Struct, frozen=True):
    """Where a connection leads.

    Attributes:
        host: An A-label name or an IP address without brackets.
    """

    scheme: str
    host: str
    port: int


class FetchedURL(Struct, frozen=True):
    """A URL taken apart.

    Attributes:
        target: Path and query, of the request line.
        host_field: Value of ``Host``.
    """

    origin: Origin
    target: bytes
    host_field: bytes


@functools.lru_cache(maxsize=1024)
def parse_url(url: str) -> FetchedURL:
    """Take a URL apart.

    Raises:
        URLRefused: the URL is not one that can be fetched.
    """
    if any(character <= " " or character == "\x7f" for character in url):
        raise URLRefused("the URL has a space or control character")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise URLRefused(f"not a URL: {error}") from None
    if parts.scheme not in _PORTS:
        raise URLRefused("the URL is neither http nor https")
    if parts.username is not None or parts.password is not None:
        raise URLRefused("the URL has a user name or password; give an Authorization header instead")
    name = parts.hostname or ""
    try:
        host = str(ipaddress.ip_address(name))
    except ValueError:
        try:
            host = parse_domain(name)
        except AddressError:
            raise URLRefused("the URL has no valid host name") from None
    path = quote(parts.path or "/", safe=_TARGET_SAFE)
    if parts.query:
        path += "?" + quote(parts.query, safe=_TARGET_SAFE)
    usual = _PORTS[parts.scheme]
    shown = f"[{host}]" if ":" in host else host
    if port is None:
        port = usual
    elif port != usual:
        shown += f":{port}"
    return FetchedURL(Origin(parts.scheme, host, port), path.encode("ascii"), shown.encode("ascii"))
