"""SCRAM messages and keys (RFC 5802, RFC 7677), shared by both sides."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re

from mailcrane.sasl.credentials import HashName

# Mechanism name -> hash, without -PLUS.
HASHES: dict[str, HashName] = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-1": "sha1"}

_NONCE = re.compile(r"[!-+\--~]+\Z")
_NAME_ESCAPE = re.compile(r"=(2C|3D)?")
_MAX_ATTRIBUTES = 32


class BadMessage(ValueError):
    """A message does not follow the grammar of RFC 5802 section 7."""


def decode(octets: bytes) -> str:
    """Decode a message."""
    try:
        return octets.decode()
    except UnicodeDecodeError:
        raise BadMessage("not UTF-8") from None


def attributes(text: str, expected: str) -> list[str]:
    """Return the values of the attributes that a message must begin with, in order; extensions behind are ignored."""
    items = text.split(",", _MAX_ATTRIBUTES)
    if items and items[0].startswith("m="):
        raise BadMessage("unknown mandatory extension")
    if len(items) < len(expected):
        raise BadMessage("an attribute is missing")
    for letter, item in zip(expected, items, strict=False):
        if not item.startswith(f"{letter}="):
            raise BadMessage(f"expected attribute {letter}")
    return [item[2:] for item in items[: len(expected)]]


def encode_name(name: str) -> str:
    """Escape a name for the attributes ``n`` and ``a``."""
    return name.replace("=", "=3D").replace(",", "=2C")


def decode_name(text: str) -> str:
    """Undo `encode_name`."""

    def character(found: re.Match[str]) -> str:
        if found.group(1) is None:
            raise BadMessage("bad escape in a name")
        return "," if found.group(1) == "2C" else "="

    return _NAME_ESCAPE.sub(character, text)


def check_nonce(text: str) -> str:
    """Return a nonce that has only the characters it may have."""
    if not _NONCE.match(text):
        raise BadMessage("bad nonce")
    return text


def make_nonce() -> str:
    """Return a new nonce of 144 random bits."""
    return base64.b64encode(os.urandom(18)).decode()


def unbase64(text: str) -> bytes:
    """Decode base64 strictly."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadMessage("bad base64") from None


def client_proof(salted_password: bytes, auth_message: bytes, hash_name: HashName) -> bytes:
    """Return ClientProof (RFC 5802 section 3)."""
    client_key = hmac.digest(salted_password, b"Client Key", hash_name)
    stored_key = hashlib.new(hash_name, client_key).digest()
    return _exclusive_or(client_key, hmac.digest(stored_key, auth_message, hash_name))


def is_proof(proof: bytes, stored_key: bytes, auth_message: bytes, hash_name: HashName) -> bool:
    """Whether a client's proof shows that it knows the password."""
    if len(proof) != len(stored_key):
        return False
    client_key = _exclusive_or(proof, hmac.digest(stored_key, auth_message, hash_name))
    return hmac.compare_digest(hashlib.new(hash_name, client_key).digest(), stored_key)


def _exclusive_or(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))
