from __future__ import annotations

import hashlib
import importlib
import re
from base64 import b64decode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import dkim
import dkim.canonicalization
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from mailcrane.message import dkimpy_rsa
from mailcrane.message.dkim import Canonicalizations, SigningImpossible, SigningKey, body_hasher, sign
from mailcrane.message.dkim_body import BodyHasher, Canonicalization
from mailcrane.message.dkim_keys import KeyUnusable, check_private_key, dns_record, generate_key, load_key
from mailcrane.model.address import Mailbox

_AT = datetime.now(UTC)
_RSA = generate_key("rsa")
_ED25519 = generate_key("ed25519")
_HEADER = (
    b"From: Ann <ann@a.example>\r\nTo: bob@b.example\r\nSubject:  folded\r\n\t subject \r\n"
    b"Date: Fri, 20 Nov 2026 12:00:00 +0000\r\nX-Other: 1\r\n"
)
_BODY = b"hello  there \t\r\n\r\n  second\tline\r\n\r\n\r\n"


@pytest.fixture(autouse=True)
def _fast_rsa() -> Iterator[None]:
    before = {name: getattr(dkim, name) for name in dkimpy_rsa.REPLACED}
    dkimpy_rsa.install()
    yield
    for name, value in before.items():
        setattr(dkim, name, value)


def _key(pem: str = _RSA, **fields: Any) -> SigningKey:
    return SigningKey("a.example", "sel", pem, **fields)


def _signed(*keys: SigningKey, header: bytes = _HEADER, body: bytes = _BODY, identity: Mailbox | None = None) -> bytes:
    hasher = body_hasher(keys)
    hasher.feed(body)
    fields = sign(header, hasher, keys, at=_AT, identity=identity)
    return b"".join(map(bytes, fields)) + header + b"\r\n" + body


def _verify(message: bytes, pem: str = _RSA) -> bool:
    def find_key(name: bytes, timeout: float = 5) -> bytes:
        assert name == b"sel._domainkey.a.example."
        return dns_record(pem).encode()

    return bool(dkim.verify(message, dnsfunc=find_key))


def _tags(message: bytes) -> dict[str, str]:
    value = message[len("DKIM-Signature:") :].split(b"\r\nFrom:")[0].decode()
    return {name.strip(): re.sub(r"\s", "", text) for name, _, text in (tag.partition("=") for tag in value.split(";"))}


@pytest.mark.parametrize("canonicalization", ["relaxed/relaxed", "relaxed/simple", "simple/relaxed", "simple/simple"])
def test_a_signature_verifies_elsewhere(canonicalization: Canonicalizations) -> None:
    message = _signed(_key(canonicalization=canonicalization))
    assert _verify(message)
    assert max(map(len, message.split(b"\r\n"))) <= 78


def test_a_changed_body_or_header_does_not_verify() -> None:
    message = _signed(_key())
    assert not _verify(message.replace(b"second", b"zweite"))
    assert not _verify(message.replace(b"To: bob", b"To: eve"))
    assert _verify(message.replace(b"X-Other: 1", b"X-Other: 2"))


@pytest.mark.parametrize("added", [b"Subject: more\r\n", b"To: eve@c.example\r\n", b"Cc: eve@c.example\r\n"])
def test_an_oversigned_field_cannot_be_added(added: bytes) -> None:
    sealed, open_ = _signed(_key()), _signed(_key(is_sealed=False))
    assert _verify(open_.replace(b"DKIM-Signature", added + b"DKIM-Signature"))
    assert not _verify(sealed.replace(b"DKIM-Signature", added + b"DKIM-Signature"))


def test_each_name_is_signed_once_per_occurrence_and_once_more() -> None:
    names = _tags(
        _signed(_key(header_fields=("From", "Received", "Cc")), header=b"Received: 1\r\nReceived: 2\r\n" + _HEADER)
    )
    assert names["h"] == "from:from:received:received:received:cc"
    plain = _tags(_signed(_key(header_fields=("From", "To", "Cc"), is_sealed=False)))
    assert plain["h"] == "from:to"


def test_tags_tell_time_and_end_and_identity() -> None:
    tags = _tags(_signed(_key(lifetime=timedelta(days=3)), identity=Mailbox.parse('"ann;x"@sub.a.example')))
    seconds = int(_AT.timestamp())
    assert tags["t"] == str(seconds)
    assert tags["x"] == str(seconds + 3 * 86400)
    assert tags["i"] == "=22ann=3Bx=22@sub.a.example"
    assert (tags["v"], tags["a"], tags["d"], tags["s"]) == ("1", "rsa-sha256", "a.example", "sel")
    other = _tags(_signed(_key(), identity=Mailbox.parse("ann@other.example")))
    assert "i" not in other
    assert "x" not in other


def test_an_identity_with_special_characters_verifies() -> None:
    assert _verify(_signed(_key(), identity=Mailbox.parse('"a;b c"@a.example')))


def test_several_keys_sign_in_order_and_the_body_is_hashed_once_per_canonicalization() -> None:
    keys = (_key(_ED25519), _key(), _key(canonicalization="simple/simple"))
    hasher = body_hasher(keys)
    for octet in _BODY:
        hasher.feed(bytes([octet]))
    values = [field.value for field in sign(_HEADER, hasher, keys, at=_AT)]
    assert [re.search("a=([a-z0-9-]+)", value).group(1) for value in values] == [  # type: ignore[union-attr]
        "ed25519-sha256", "rsa-sha256", "rsa-sha256",
    ]  # fmt: skip
    assert len(hasher._by_name) == 2


class _Ed25519:
    """What dkimpy calls of PyNaCl's key."""

    def __init__(self, record: str) -> None:
        self._key = Ed25519PublicKey.from_public_bytes(b64decode(record.rpartition("p=")[2]))

    def verify(self, digest: bytes, signature: bytes) -> None:
        self._key.verify(signature, digest)


def test_an_ed25519_signature_verifies_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    key = _Ed25519(dns_record(_ED25519))
    monkeypatch.setattr(dkim, "load_pk_from_dns", lambda *args, **kwargs: (key, 256, b"ed25519", False))
    message = _signed(_key(_ED25519))
    assert dkim.DKIM(message).verify(dnsfunc=lambda name, timeout=5: b"")
    monkeypatch.setattr(dkim, "nacl", importlib.import_module("types"), raising=False)
    with pytest.raises((InvalidSignature, AttributeError)):
        dkim.DKIM(message.replace(b"To: bob", b"To: eve")).verify(dnsfunc=lambda name, timeout=5: b"")


@pytest.mark.parametrize(
    "header", [b"To: b@b.example\r\n", b"From: a@a.example\r\n" * 2, b"From: a@a.example\r\nno field\r\n"]
)
def test_a_message_without_exactly_one_author_field_is_not_signed(header: bytes) -> None:
    with pytest.raises(SigningImpossible):
        _signed(_key(), header=header)


def test_a_key_that_does_not_sign_from_is_refused() -> None:
    with pytest.raises(SigningImpossible, match="From"):
        _signed(_key(header_fields=("To",)))


# --- body ---


def _theirs(body: bytes, canonicalization: Canonicalization) -> bytes:
    algorithm = dkim.canonicalization.ALGORITHMS[canonicalization.encode()]
    return hashlib.sha256(algorithm.canonicalize_body(body)).digest()


def _ours(body: bytes, canonicalization: Canonicalization, size: int = 1 << 20) -> bytes:
    hasher = BodyHasher((canonicalization,))
    for offset in range(0, len(body), size):
        hasher.feed(body[offset : offset + size])
    return hasher.digest(canonicalization)


_BODIES = [
    b"",
    b"\r\n",
    b"\r\n\r\n\r\n",
    b" \t\r\n \r\n",
    b"a",
    b"a\r\n",
    b"a\r\n\r\n\r\nb\r\n\r\n",
    b"a \t b  \r\n",
    b"a\r\r\n\n\r\n",
    b"a\r",
    b"\n\r\n",
    b"a \r\n" + b"\r\n" * 10_000 + b"b\r\n",
]


@pytest.mark.parametrize("canonicalization", ["simple", "relaxed"])
@pytest.mark.parametrize("body", _BODIES)
@pytest.mark.parametrize("size", [1, 2, 3, 1 << 20])
def test_canonical_bodies_are_those_of_dkimpy(body: bytes, canonicalization: Canonicalization, size: int) -> None:
    assert _ours(body, canonicalization, size) == _theirs(body, canonicalization)


@given(
    pieces=st.lists(st.sampled_from([b"a", b" ", b"\t", b"\r\n", b"\r", b"\n", b"\r\n\r\n", b"word"])),
    size=st.integers(1, 5),
    canonicalization=st.sampled_from(["simple", "relaxed"]),
)
def test_generated_canonical_bodies_are_those_of_dkimpy(
    pieces: list[bytes], size: int, canonicalization: Canonicalization
) -> None:
    # dkimpy keeps white space at the end of a last line without CRLF; on the wire there is no such line.
    body = b"".join([*pieces, b"\r\n"])
    assert _ours(body, canonicalization, size) == _theirs(body, canonicalization)


def test_white_space_at_the_very_end_counts_as_the_end_of_a_line() -> None:
    assert _ours(b"a  ", "relaxed") == _theirs(b"a\r\n", "relaxed")


def test_a_hundred_megabytes_of_blank_lines_are_not_held() -> None:
    hasher = BodyHasher(("relaxed",))
    for _ in range(100):
        hasher.feed(b" \t\r\n" * 1000)
    assert hasher.digest("relaxed") == hashlib.sha256(b"").digest()
    assert len(hasher._by_name["relaxed"]._held) <= 2


# --- keys ---


def test_keys_are_checked_when_they_come_in() -> None:
    assert check_private_key(_RSA) == "rsa"
    assert check_private_key(_ED25519) == "ed25519"
    for bad in ("", "nonsense", _RSA[:200]):
        with pytest.raises(KeyUnusable):
            check_private_key(bad)
        with pytest.raises(KeyUnusable):
            load_key(bad)


def _pem(key: Any) -> str:
    return str(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()
    )


def test_weak_and_foreign_keys_are_refused() -> None:
    foreign = _pem(dsa.generate_private_key(1024))
    with pytest.raises(KeyUnusable, match="neither"):
        check_private_key(foreign)
    with pytest.raises(KeyUnusable, match="neither"):
        load_key(foreign)
    with pytest.raises(KeyUnusable, match="8192 bits"):
        check_private_key(_pem(_weak()))


def _weak() -> rsa.RSAPrivateKey:
    # cryptography does not make 768-bit keys any more; these numbers were made for this test.
    p, q = _primes(384)
    n, e = p * q, 65537
    d = pow(e, -1, (p - 1) * (q - 1))
    numbers = rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), rsa.RSAPublicNumbers(e, n))
    return numbers.private_key(unsafe_skip_rsa_key_validation=True)


def _primes(bits: int) -> tuple[int, int]:
    found: list[int] = []
    candidate = (3 << (bits - 2)) + 1
    while len(found) < 2:
        candidate += 2
        if all(pow(base, candidate - 1, candidate) == 1 for base in (2, 3, 5)) and (candidate - 1) % 65537:
            found.append(candidate)
    return found[0], found[1]


def test_a_dns_record_names_the_kind_of_the_key() -> None:
    assert dns_record(_RSA).startswith("v=DKIM1; h=sha256; p=MII")
    assert dns_record(_ED25519).startswith("v=DKIM1; h=sha256; k=ed25519; p=")


def test_a_signing_key_does_not_show_its_secret() -> None:
    assert "PRIVATE" not in repr(_key())


# --- dkimpy ---


def test_dkimpy_still_has_what_is_replaced() -> None:
    original = importlib.import_module("dkim.crypto")
    for name in dkimpy_rsa.REPLACED:
        assert callable(getattr(original, name))
        assert getattr(dkim, name) is not getattr(original, name)


def test_dkimpy_signs_and_verifies_with_the_replacement_as_with_its_own() -> None:
    message = _HEADER + b"\r\n" + _BODY
    signature = dkim.sign(message, b"sel", b"a.example", _RSA.encode())
    assert _verify(signature + message)
    original = importlib.import_module("dkim.crypto")
    dkim.RSASSA_PKCS1_v1_5_verify = original.RSASSA_PKCS1_v1_5_verify
    assert _verify(signature + message)
    assert not _verify(signature + message.replace(b"hello", b"hallo"))


def test_dkimpy_refuses_a_pem_that_is_no_rsa_key() -> None:
    for pem in (_ED25519.encode(), b"nonsense"):
        with pytest.raises(dkim.UnparsableKeyError):
            dkim.parse_pem_private_key(pem)
