"""DKIM signatures of ours (RFC 6376, RFC 8301, RFC 8463). Verifying is not done here.

The canonical header comes from dkimpy; the field list, the tags and the signature are ours, because dkimpy has no
``x=``, does not oversign as we want, and its RSA takes 20 times as long.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Literal, cast

from msgspec import Struct

from mailcrane.config.rows import DEFAULT_SIGNED_FIELDS
from mailcrane.message.dkim_body import BodyHasher, Canonicalization
from mailcrane.message.dkim_keys import load_key, sign_header_data, signature_algorithm
from mailcrane.message.header import Header, HeaderError, parse_header
from mailcrane.model.address import Mailbox
from mailcrane.model.message import HeaderField

Canonicalizations = Literal["relaxed/relaxed", "relaxed/simple", "simple/relaxed", "simple/simple"]

_NAME = "DKIM-Signature"
_LINE = 76
_QP_SAFE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-/?^_`{}~.@")


class SigningImpossible(ValueError):
    """A message cannot be signed; the text says why."""


class SigningKey(Struct, frozen=True):
    """A key with what it signs.

    Attributes:
        domain: Value of ``d=``, in A-labels.
        private_key_pem: Checked by `mailcrane.message.dkim_keys.check_private_key` when it came in.
        header_fields: Names; From must be among them.
        is_sealed: Whether the absence of further fields of these names is signed too.
        lifetime: From ``t=`` to ``x=``; None sets no end.
    """

    domain: str
    selector: str
    private_key_pem: str
    header_fields: tuple[str, ...] = DEFAULT_SIGNED_FIELDS
    is_sealed: bool = True
    canonicalization: Canonicalizations = "relaxed/relaxed"
    lifetime: timedelta | None = None

    def __repr__(self) -> str:
        return f"SigningKey({self.selector}._domainkey.{self.domain})"

    @property
    def body_canonicalization(self) -> Canonicalization:
        """How the body is made canonical."""
        return cast(Canonicalization, self.canonicalization.partition("/")[2])


def body_hasher(keys: Iterable[SigningKey]) -> BodyHasher:
    """Make the hasher that is fed the body once for all keys."""
    return BodyHasher(key.body_canonicalization for key in keys)


def sign(
    header: bytes, body: BodyHasher, keys: Sequence[SigningKey], *, at: datetime, identity: Mailbox | None = None
) -> tuple[HeaderField, ...]:
    """Make one DKIM-Signature field per key, in the order of the keys.

    Args:
        header: The header section as it will travel below the signatures.
        body: Fed with the whole body.
        identity: Author, for ``i=``; used only where it is in the key's domain.

    Raises:
        SigningImpossible: the header cannot be parsed, does not have exactly one From field, or a key does not sign
            From.
        KeyUnusable: a key cannot be loaded.
    """
    try:
        parsed = parse_header(header)
    except HeaderError as error:
        raise SigningImpossible(str(error)) from None
    if len(parsed.all("From")) != 1:
        raise SigningImpossible("there is not exactly one From field")
    return tuple(_sign_one(header, parsed, body, key, at=at, identity=identity) for key in keys)


def _sign_one(
    octets: bytes, header: Header, body: BodyHasher, key: SigningKey, *, at: datetime, identity: Mailbox | None
) -> HeaderField:
    private_key = load_key(key.private_key_pem)
    names = _signed_names(header, key)
    is_relaxed = key.canonicalization.startswith("relaxed")
    tags = [
        "v=1;",
        f"a={signature_algorithm(private_key)};",
        f"c={key.canonicalization};",
        f"d={key.domain};",
        f"s={key.selector};",
    ]
    if identity is not None and _is_in_domain(identity, key.domain):
        tags.append(f"i={_quote_identity(identity)};")
    seconds = int(at.timestamp())
    tags.append(f"t={seconds};")
    if key.lifetime is not None:
        tags.append(f"x={seconds + int(key.lifetime.total_seconds())};")
    value = _fold_tags(tags, names)
    value += "\r\n\tbh=" + b64encode(body.digest(key.body_canonicalization)).decode() + ";\r\n\tb="
    fields = [*_select(octets, header, names), (_NAME.encode(), b" " + value.encode())]
    canonical = _canonicalize(fields, is_relaxed=is_relaxed)
    data = b"".join([name + b":" + content for name, content in canonical])
    # RFC 6376 section 3.7: the signature's own field comes last, without its CRLF.
    data = data.removesuffix(b"\r\n") if is_relaxed else data
    signature = b64encode(sign_header_data(private_key, data)).decode()
    lines = [signature[start : start + _LINE - 10] for start in range(0, len(signature), _LINE - 10)]
    return HeaderField(_NAME, value + "\r\n\t ".join(lines))


def _canonicalize(fields: Iterable[tuple[bytes, bytes]], *, is_relaxed: bool) -> Iterable[tuple[bytes, bytes]]:
    # dkimpy imports a DNS resolver with everything, which a server or a command that signs nothing does not need.
    from dkim.canonicalization import Relaxed, Simple  # noqa: PLC0415

    canonical: Iterable[tuple[bytes, bytes]] = (Relaxed if is_relaxed else Simple).canonicalize_headers(fields)
    return canonical


def _signed_names(header: Header, key: SigningKey) -> list[str]:
    """The names for ``h=``: once per occurrence, and once more where further fields are to break the signature."""
    names: list[str] = []
    for name in dict.fromkeys(name.lower() for name in key.header_fields):
        names += [name] * (len(header.all(name)) + key.is_sealed)
    if "from" not in names:
        raise SigningImpossible(f"the key {key.selector} of {key.domain} does not sign From")
    return names


def _select(octets: bytes, header: Header, names: Sequence[str]) -> list[tuple[bytes, bytes]]:
    """The fields that the names stand for, each name the next instance from the bottom (RFC 6376 section 5.4.2)."""
    left = {name: list(header.all(name)) for name in set(names)}
    chosen: list[tuple[bytes, bytes]] = []
    for name in names:
        if left[name]:
            field = left[name].pop()
            raw = octets[field.offset : field.end]
            before, _, after = raw.partition(b":")
            chosen.append((before, after if after.endswith(b"\r\n") else after.rstrip(b"\r\n") + b"\r\n"))
    return chosen


def _fold_tags(tags: Sequence[str], names: Sequence[str]) -> str:
    lines: list[str] = []
    line = ""
    column = len(_NAME) + 2
    for tag in tags:
        if line and column + len(line) + 1 + len(tag) > _LINE:
            lines.append(line)
            line, column = tag, 8
        else:
            line = f"{line} {tag}" if line else tag
    lines.append(line)
    line = "h=" + names[0]
    for name in names[1:]:
        if 8 + len(line) + 1 + len(name) > _LINE:
            lines.append(line + ":")
            line = " " + name
        else:
            line += ":" + name
    lines.append(line + ";")
    return "\r\n\t".join(lines)


def _is_in_domain(identity: Mailbox, domain: str) -> bool:
    is_inside = identity.domain == domain or identity.domain.endswith("." + domain)
    return is_inside and identity.local_part.isascii()


def _quote_identity(identity: Mailbox) -> str:
    """``i=`` as dkim-quoted-printable (RFC 6376 section 2.11)."""
    return "".join([char if char in _QP_SAFE else f"={ord(char):02X}" for char in str(identity)])
