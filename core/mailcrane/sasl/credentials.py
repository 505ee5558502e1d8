"""What a password is kept as, and how it is checked (RFC 5802 section 3, RFC 7677, RFC 2195).

The password itself is never kept. PLAIN and LOGIN are checked with the SCRAM-SHA-256 secret too. The functions that
hash take tens of milliseconds: call them in a thread.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from typing import Literal

from msgspec import Struct

from mailcrane.sasl import md5_state
from mailcrane.sasl.prepare import NotPermitted, prepare_password

HashName = Literal["sha256", "sha1"]

MIN_PASSWORD_OCTETS = 8
ITERATIONS: dict[HashName, int] = {"sha256": 100_000, "sha1": 8192}
SALT_OCTETS = 16


class PasswordRefused(ValueError):
    """A new password is too short or has characters that are not permitted; the message is safe to show."""


class ScramSecret(Struct, frozen=True):
    """What a server keeps for one hash of SCRAM (RFC 5802 section 3)."""

    salt: bytes
    iterations: int
    stored_key: bytes
    server_key: bytes

    def __repr__(self) -> str:
        return f"ScramSecret(iterations={self.iterations})"


class CramMD5Secret(Struct, frozen=True):
    """The states of HMAC-MD5 after the key's inner and outer block, 16 octets each."""

    inner: bytes
    outer: bytes

    def __repr__(self) -> str:
        return "CramMD5Secret()"


class Credentials(Struct, frozen=True):
    """All that an account's password is kept as.

    Attributes:
        version: Differs from that of the password before, so that cached logins end with it.
        scram_sha_1: None unless legacy mechanisms were on when the password was set; so is `cram_md5`.
    """

    version: int
    scram_sha_256: ScramSecret
    scram_sha_1: ScramSecret | None = None
    cram_md5: CramMD5Secret | None = None

    def scram(self, hash_name: HashName) -> ScramSecret | None:
        """Return the secret for a hash."""
        return self.scram_sha_256 if hash_name == "sha256" else self.scram_sha_1


def make_credentials(password: str, *, version: int, legacy: bool) -> Credentials:
    """Make what is kept of a new password. Takes tens of milliseconds.

    Args:
        password: As it was entered.
        version: Higher than that of the credentials before.
        legacy: Also make the secrets of SCRAM-SHA-1 and CRAM-MD5.

    Raises:
        PasswordRefused: it is shorter than 8 octets or has characters that are not permitted.
    """
    try:
        prepared = prepare_password(password).encode()
    except (NotPermitted, UnicodeEncodeError):
        raise PasswordRefused("password has characters that are not permitted") from None
    if len(prepared) < MIN_PASSWORD_OCTETS:
        raise PasswordRefused(f"password is shorter than {MIN_PASSWORD_OCTETS} octets")
    return Credentials(
        version,
        make_scram_secret(prepared, "sha256"),
        make_scram_secret(prepared, "sha1") if legacy else None,
        make_cram_md5_secret(prepared) if legacy else None,
    )


def verify_password(credentials: Credentials | None, password: str) -> bool:
    """Check a password. Takes tens of milliseconds, without credentials just as long, and then answers False."""
    secret = _NOBODY if credentials is None else credentials.scram_sha_256
    try:
        prepared = prepare_password(password).encode()
    except (NotPermitted, UnicodeEncodeError):
        prepared, secret = b"-", _NOBODY
    salted = hashlib.pbkdf2_hmac("sha256", prepared, secret.salt, secret.iterations)
    stored_key, _ = scram_keys(salted, "sha256")
    return hmac.compare_digest(stored_key, secret.stored_key) and secret is not _NOBODY


def make_scram_secret(password: bytes, hash_name: HashName, *, salt: bytes = b"", iterations: int = 0) -> ScramSecret:
    """Make the secret for one hash of a prepared password, with a new salt and the usual iterations by default."""
    salt = salt or os.urandom(SALT_OCTETS)
    iterations = iterations or ITERATIONS[hash_name]
    stored_key, server_key = scram_keys(hashlib.pbkdf2_hmac(hash_name, password, salt, iterations), hash_name)
    return ScramSecret(salt, iterations, stored_key, server_key)


def scram_keys(salted_password: bytes, hash_name: HashName) -> tuple[bytes, bytes]:
    """Return StoredKey and ServerKey (RFC 5802 section 3)."""
    client_key = hmac.digest(salted_password, b"Client Key", hash_name)
    return hashlib.new(hash_name, client_key).digest(), hmac.digest(salted_password, b"Server Key", hash_name)


def make_cram_md5_secret(password: bytes) -> CramMD5Secret:
    """Make the CRAM-MD5 secret of a prepared password."""
    key = hashlib.md5(password, usedforsecurity=False).digest() if len(password) > 64 else password
    key = key.ljust(64, b"\0")
    inner = md5_state.first_block(bytes(octet ^ 0x36 for octet in key))
    outer = md5_state.first_block(bytes(octet ^ 0x5C for octet in key))
    return CramMD5Secret(inner, outer)


# Stands for an account that does not exist: checking takes as long, and no password fits.
_NOBODY = ScramSecret(bytes(SALT_OCTETS), ITERATIONS["sha256"], bytes(32), bytes(32))
