"""DKIM keys: made, checked when they come in, loaded quickly afterwards, published (RFC 6376, RFC 8301, RFC 8463)."""

from __future__ import annotations

import functools
from base64 import b64encode
from typing import Literal

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey, generate_private_key

Algorithm = Literal["rsa", "ed25519"]
PrivateKey = RSAPrivateKey | Ed25519PrivateKey

_NEW_RSA_BITS = 2048
# RFC 8301 section 3.2: verifiers must not take less.
_MIN_RSA_BITS = 1024
_MAX_RSA_BITS = 8192


class KeyUnusable(ValueError):
    """A private key cannot sign; the text is safe to show and holds nothing of the key."""


def generate_key(algorithm: Algorithm) -> str:
    """Make a private key: RSA with 2048 bits (about 50 ms of CPU), or Ed25519. Returns PKCS #8 in PEM."""
    key: PrivateKey = (
        Ed25519PrivateKey.generate()
        if algorithm == "ed25519"
        else generate_private_key(public_exponent=65537, key_size=_NEW_RSA_BITS)
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return pem.decode("ascii")


def check_private_key(pem: str) -> Algorithm:
    """Check a private key thoroughly, once, when it is made or imported (about 30 ms of CPU for RSA).

    Raises:
        KeyUnusable: it is not an unencrypted RSA or Ed25519 key, or is too short or too long.
    """
    try:
        key = serialization.load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise KeyUnusable("not an unencrypted private key in PEM") from None
    if isinstance(key, Ed25519PrivateKey):
        return "ed25519"
    if not isinstance(key, RSAPrivateKey):
        raise KeyUnusable("neither an RSA nor an Ed25519 key")
    if not _MIN_RSA_BITS <= key.key_size <= _MAX_RSA_BITS:
        raise KeyUnusable(f"an RSA key must have {_MIN_RSA_BITS} to {_MAX_RSA_BITS} bits, this has {key.key_size}")
    return "rsa"


@functools.lru_cache(maxsize=4096)
def load_key(pem: str) -> PrivateKey:
    """Load a key that `check_private_key` found good, without checking it again (0.01 ms against 29).

    Raises:
        KeyUnusable: it cannot be loaded at all.
    """
    try:
        key = serialization.load_pem_private_key(pem.encode(), password=None, unsafe_skip_rsa_key_validation=True)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise KeyUnusable("not an unencrypted private key in PEM") from None
    if not isinstance(key, RSAPrivateKey | Ed25519PrivateKey):
        raise KeyUnusable("neither an RSA nor an Ed25519 key")
    return key


def signature_algorithm(key: PrivateKey) -> str:
    """The value of ``a=``. SHA-1 is not made (RFC 8301 section 3.1)."""
    return "ed25519-sha256" if isinstance(key, Ed25519PrivateKey) else "rsa-sha256"


def sign_header_data(key: PrivateKey, data: bytes) -> bytes:
    """Sign the canonical header fields."""
    if isinstance(key, Ed25519PrivateKey):
        # RFC 8463 section 3: PureEdDSA over the SHA-256 of the data.
        digest = hashes.Hash(hashes.SHA256())
        digest.update(data)
        return key.sign(digest.finalize())
    return key.sign(data, padding.PKCS1v15(), hashes.SHA256())


def dns_record(pem: str) -> str:
    """The text of the TXT record that publishes the key, in one string; longer than 255 octets for RSA."""
    public_key = load_key(pem).public_key()
    if isinstance(public_key, RSAPublicKey):
        octets = public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return f"v=DKIM1; h=sha256; p={b64encode(octets).decode()}"
    octets = public_key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return f"v=DKIM1; h=sha256; k=ed25519; p={b64encode(octets).decode()}"
