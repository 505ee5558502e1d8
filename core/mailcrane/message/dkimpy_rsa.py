"""Gives dkimpy the RSA of `cryptography`: its own is pure Python and takes 6 to 7 ms a signature.

A test notices when dkimpy no longer has the names that are replaced here, or hands over something else.
"""

from __future__ import annotations

import functools
from typing import Any, Protocol

import dkim
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, utils
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey, RSAPublicNumbers

REPLACED = ("RSASSA_PKCS1_v1_5_sign", "RSASSA_PKCS1_v1_5_verify", "parse_pem_private_key")
"""The names in the module ``dkim`` that `install` assigns to."""

_HASHES: dict[str, hashes.HashAlgorithm] = {"sha256": hashes.SHA256()}


class _Hash(Protocol):
    """What dkimpy hands over: a hash object that can say its name."""

    name: str

    def digest(self) -> bytes: ...


def install() -> None:
    """Replace dkimpy's RSA in this process. May be called again."""
    dkim.RSASSA_PKCS1_v1_5_sign = _sign
    dkim.RSASSA_PKCS1_v1_5_verify = _verify
    dkim.parse_pem_private_key = _parse_pem_private_key


def _parse_pem_private_key(pem: bytes) -> RSAPrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, password=None, unsafe_skip_rsa_key_validation=True)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise dkim.UnparsableKeyError(str(error)) from None
    if not isinstance(key, RSAPrivateKey):
        raise dkim.UnparsableKeyError("not an RSA key")
    return key


def _sign(digest: _Hash, key: RSAPrivateKey) -> bytes:
    algorithm = _HASHES[digest.name]
    return key.sign(digest.digest(), padding.PKCS1v15(), utils.Prehashed(algorithm))


def _verify(digest: _Hash, signature: bytes, key: dict[str, Any]) -> bool:
    algorithm = _HASHES.get(digest.name)
    if algorithm is None:  # RFC 8301 section 3.1: SHA-1 is not believed
        return False
    try:
        public_key = _public_key(key["modulus"], key["publicExponent"])
        public_key.verify(signature, digest.digest(), padding.PKCS1v15(), utils.Prehashed(algorithm))
    except (InvalidSignature, ValueError):
        return False
    return True


@functools.lru_cache(maxsize=1024)
def _public_key(modulus: int, exponent: int) -> RSAPublicKey:
    return RSAPublicNumbers(exponent, modulus).public_key()
