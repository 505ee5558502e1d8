"""DKIM signatures for content that is about to be delivered, with the keys of the author's domain.

Signed on the loop, in pieces: hashing takes 0.6 ms per 256 KB and an RSA signature 0.4 ms. A thread is no gain: on two
busy cores 720 to 760 signed 4 KB messages a second reached a transport that does nothing, against 760 to 870 here.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from mailcrane.config.directory import Directory
from mailcrane.config.rows import DKIMKey
from mailcrane.message.addresses import parse_address_list
from mailcrane.message.dkim import SigningImpossible, SigningKey, body_hasher
from mailcrane.message.dkim import sign as make_signatures
from mailcrane.message.header import HeaderError, parse_header
from mailcrane.model.address import Mailbox
from mailcrane.observe.log import get_log
from mailcrane.store.content import StoredContent
from mailcrane.store.records import PreparedHeader
from mailcrane.transport.content import closing_chunks

log = get_log(__name__)


async def sign(header: bytes, content: StoredContent, directory: Directory, now: datetime) -> PreparedHeader | None:
    """Sign content as it will travel.

    Args:
        header: The header section, up to and with the CRLF of its last field, rewritten where that is to be done.
        content: Its body is what is signed.
        directory: Has the keys.
        now: For ``t=`` and ``x=``.

    Returns:
        The header section with its signatures and the empty line; None when there is no key for the author's domain,
        or when the content is such that no signature would hold.

    Raises:
        KeyUnusable: a key cannot be loaded. That is for the operator to mend, so the mail waits.
    """
    if not directory.has_signing_keys:
        return None
    author = _author(header)
    keys = directory.signing_keys(author.domain) if author is not None else ()
    if author is None or not keys:
        return None
    signing_keys = [_signing_key(key) for key in keys]
    body = body_hasher(signing_keys)
    async with closing_chunks(content.chunks(content.info.body_offset)) as chunks:
        async for chunk in chunks:
            body.feed(chunk)
    try:
        signatures = make_signatures(header, body, signing_keys, at=now, identity=author)
    except SigningImpossible as problem:
        log.warning("content is not signed", domain=author.domain, problem=str(problem))
        return None
    lifetimes = [key.lifetime for key in signing_keys if key.lifetime is not None]
    return PreparedHeader(
        b"".join([bytes(signature) for signature in signatures]) + header + b"\r\n",
        content.info.body_offset,
        renew_at=now + min(lifetimes) / 2 if lifetimes else None,
        selectors=tuple(_selector_name(key) for key in keys),
    )


def has_selectors(directory: Directory, selectors: tuple[str, ...]) -> bool:
    """Return whether the keys of all these selectors (``selector._domainkey.domain``) are still signed with."""
    return all(
        any(_selector_name(key) == selector for key in directory.signing_keys(selector.partition("._domainkey.")[2]))
        for selector in selectors
    )


def _author(header: bytes) -> Mailbox | None:
    """The mailbox in the From field whose domain signs; None where there is not exactly one such field."""
    try:
        fields = parse_header(header).get_all("From")
        authors = parse_address_list(fields[0]) if len(fields) == 1 else ()
    except HeaderError:
        return None
    return authors[0].mailbox if authors else None


def _signing_key(key: DKIMKey) -> SigningKey:
    return SigningKey(
        domain=key.domain,
        selector=key.selector,
        private_key_pem=key.private_key_pem.reveal(),
        header_fields=key.header_fields,
        is_sealed=key.is_sealed,
        canonicalization=key.canonicalization,
        lifetime=timedelta(seconds=key.expiration_seconds) if key.expiration_seconds else None,
    )


def _selector_name(key: DKIMKey) -> str:
    return f"{key.selector}._domainkey.{key.domain}"
