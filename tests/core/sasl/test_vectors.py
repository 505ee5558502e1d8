"""The exchanges that the RFCs print."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable

import pytest

from mailcrane.sasl import md5_state
from mailcrane.sasl.credentials import Credentials, make_cram_md5_secret, make_scram_secret
from mailcrane.sasl.exchange import Challenge, NeedCredentials, Success
from mailcrane.sasl.scram_client import ScramClient
from mailcrane.sasl.scram_server import ScramServer
from mailcrane.sasl.simple import CramMD5Client, CramMD5Server

# RFC 7677 section 3 and RFC 5802 section 5: client nonce, the server's part of the nonce, salt, messages.
SHA_256 = (
    "SCRAM-SHA-256",
    "rOprNGfwEbeRWgbNEkqO",
    "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
    "W22ZaJ0SNY7soEsUEjb6gQ==",
    "n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
    "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
    "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
    "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
)
SHA_1 = (
    "SCRAM-SHA-1",
    "fyko+d2lbbFgONRv9qkxdawL",
    "3rfcNHYJY1ZVvWVs7j",
    "QSXCR+Q6sek8bf92",
    "n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
    "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
    "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
    "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
)


@pytest.mark.parametrize("vector", [SHA_256, SHA_1], ids=["RFC 7677", "RFC 5802"])
def test_the_scram_exchange_of_the_rfc_comes_out_on_both_sides(vector: tuple[str, ...]) -> None:
    name, client_nonce, server_nonce, salt, client_first, server_first, client_final, server_final = vector
    client = ScramClient(name, "user", "pencil", nonce=client_nonce)
    server = ScramServer(name, channel_bindings={}, server_secret=b"", nonce=server_nonce)
    raw_salt = base64.b64decode(salt)
    credentials = Credentials(
        1,
        make_scram_secret(b"pencil", "sha256", salt=raw_salt, iterations=4096),
        make_scram_secret(b"pencil", "sha1", salt=raw_salt, iterations=4096),
    )
    assert client.initial() == client_first.encode()
    assert server.step(client_first.encode()) == NeedCredentials("user")
    assert server.provide(credentials) == Challenge(server_first.encode())
    assert client.respond(server_first.encode()) == client_final.encode()
    assert server.step(client_final.encode()) == Challenge(server_final.encode())
    assert not client.is_complete
    assert client.respond(server_final.encode()) == b""
    assert client.is_complete
    assert server.step(b"") == Success("user")


def test_the_cram_md5_exchange_of_rfc_2195_comes_out_on_both_sides() -> None:
    challenge = b"<1896.697170952@postoffice.reston.mci.net>"
    response = b"tim b913a602c7eda7a495b4e6e7334d3890"
    assert CramMD5Client("tim", "tanstaaftanstaaf").respond(challenge) == response
    server = CramMD5Server("h", challenge=challenge)
    assert server.step(None) == Challenge(challenge)
    assert server.step(response) == NeedCredentials("tim")
    scram = make_scram_secret(b"x", "sha256", iterations=1)
    credentials = Credentials(1, scram, cram_md5=make_cram_md5_secret(b"tanstaaftanstaaf"))
    assert server.provide(credentials) == Success("tim")


@pytest.mark.parametrize("length", [0, 1, 42, 55, 56, 63, 64, 65, 200])
def test_md5_goes_on_where_it_stopped(length: int, md5: Callable[[bytes], bytes]) -> None:
    block, rest = bytes(range(64)), b"x" * length
    assert md5_state.resume(md5_state.first_block(block), rest) == md5(block + rest)


@pytest.fixture
def md5() -> Callable[[bytes], bytes]:
    return lambda octets: hashlib.md5(octets, usedforsecurity=False).digest()
