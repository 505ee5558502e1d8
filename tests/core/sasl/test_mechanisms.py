"""Client and server against each other, and what each refuses."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from mailcrane.sasl.credentials import (
    Credentials,
    PasswordRefused,
    make_cram_md5_secret,
    make_credentials,
    make_scram_secret,
    verify_password,
)
from mailcrane.sasl.exchange import (
    AuthenticationFailed,
    Challenge,
    CheckPassword,
    ClientMechanism,
    Failure,
    FailureReason,
    NeedCredentials,
    ServerMechanism,
    Step,
    Success,
)
from mailcrane.sasl.mechanisms import (
    ALL_MECHANISMS,
    make_client_mechanism,
    make_server_mechanism,
    offered_mechanisms,
)
from mailcrane.sasl.prepare import NotPermitted, prepare_login, prepare_password
from mailcrane.sasl.scram_client import ScramClient

LOGIN, PASSWORD = "a=l,ice@example.org", "pa\u00dfword \u00fc"
BINDING = ("tls-exporter", b"\x01" * 32)


@pytest.fixture(scope="module")
def credentials() -> Credentials:
    """Few iterations, so that the tests are fast; no fewer than a client accepts."""
    password = prepare_password(PASSWORD).encode()
    return Credentials(
        1,
        make_scram_secret(password, "sha256", iterations=4096),
        make_scram_secret(password, "sha1", iterations=4096),
        make_cram_md5_secret(password),
    )


def server(name: str, bindings: dict[str, bytes] | None = None) -> ServerMechanism:
    return make_server_mechanism(name, hostname="h.example", server_secret=b"s", channel_bindings=bindings or {})


def client(name: str, password: str = PASSWORD, **options: Any) -> ClientMechanism:
    made = make_client_mechanism([name], LOGIN, password, is_encrypted=True, **options)
    assert made is not None
    return made


def run(c: ClientMechanism, s: ServerMechanism, credentials: Credentials | None) -> Step:
    """Let both talk to the end."""
    step = s.step(c.initial())
    while True:
        if isinstance(step, Challenge):
            step = s.step(c.respond(step.data))
        elif isinstance(step, NeedCredentials):
            assert step.login == LOGIN
            step = s.provide(credentials)
        else:
            return step


@pytest.mark.parametrize("name", ALL_MECHANISMS)
def test_client_and_server_agree(name: str, credentials: Credentials) -> None:
    c = client(name, channel_binding=BINDING if name.endswith("-PLUS") else None)
    step = run(c, server(name, dict([BINDING])), credentials)
    if name in {"PLAIN", "LOGIN"}:
        assert isinstance(step, CheckPassword)
        assert step.login == LOGIN
        assert verify_password(credentials, step.password)
    else:
        assert step == Success(LOGIN)
    assert c.is_complete


@pytest.mark.parametrize("name", ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-1", "CRAM-MD5"])
@pytest.mark.parametrize("case", ["wrong password", "unknown login", "no such secret"])
def test_wrong_passwords_and_unknown_logins_fail_alike(name: str, case: str, credentials: Credentials) -> None:
    known: Credentials | None = credentials
    if case == "unknown login":
        known = None
    elif case == "no such secret":
        known = msgspec.structs.replace(credentials, scram_sha_1=None, cram_md5=None)
    is_wrong = case == "wrong password" or "256" in name
    c = client(name, "wrong" if is_wrong else PASSWORD, channel_binding=BINDING if name.endswith("-PLUS") else None)
    step = run(c, server(name, dict([BINDING]) if name.endswith("-PLUS") else {}), known)
    assert isinstance(step, Failure)
    assert step.reason is FailureReason.BAD_CREDENTIALS
    assert step.login == LOGIN


def test_an_unknown_login_has_the_same_salt_every_time() -> None:
    def challenge(login: str, nonce: str) -> list[str]:
        s = server("SCRAM-SHA-256")
        s.step(f"n,,n={login},r={nonce}".encode())
        step = s.provide(None)
        assert isinstance(step, Challenge)
        return step.data.decode().split(",")[1:]

    assert challenge("nobody", "a") == challenge("nobody", "b")
    assert challenge("nobody", "a")[0] != challenge("somebody", "a")[0]
    assert challenge("nobody", "a")[1] == "i=100000"


@pytest.mark.parametrize(
    ("name", "flag", "reason"),
    [
        ("SCRAM-SHA-256", "y", FailureReason.BAD_CHANNEL_BINDING),
        ("SCRAM-SHA-256", "p=tls-exporter", FailureReason.BAD_MESSAGE),
        ("SCRAM-SHA-256-PLUS", "p=tls-unique", FailureReason.BAD_CHANNEL_BINDING),
        ("SCRAM-SHA-256-PLUS", "n", FailureReason.BAD_MESSAGE),
        ("SCRAM-SHA-256-PLUS", "y", FailureReason.BAD_MESSAGE),
        ("SCRAM-SHA-256", "q", FailureReason.BAD_MESSAGE),
    ],
)
def test_channel_binding_flags_tell_a_downgrade(name: str, flag: str, reason: FailureReason) -> None:
    step = server(name, dict([BINDING])).step(f"{flag},,n=user,r=abc".encode())
    assert isinstance(step, Failure)
    assert step.reason is reason


def test_y_is_right_where_nothing_can_be_bound(credentials: Credentials) -> None:
    c = ScramClient("SCRAM-SHA-256", LOGIN, PASSWORD, channel_binding=BINDING)
    assert c.initial().startswith(b"y,,")
    assert run(c, server("SCRAM-SHA-256"), credentials) == Success(LOGIN)


def test_a_client_that_declines_channel_binding_does_not_look_attacked(credentials: Credentials) -> None:
    c = make_client_mechanism(
        ALL_MECHANISMS, LOGIN, PASSWORD, allowed=("SCRAM-SHA-1",), channel_binding=BINDING, is_encrypted=True
    )
    assert c is not None
    assert run(c, server("SCRAM-SHA-1", dict([BINDING])), credentials) == Success(LOGIN)


def test_a_channel_of_somebody_in_the_middle_is_noticed(credentials: Credentials) -> None:
    c = client("SCRAM-SHA-256-PLUS", channel_binding=("tls-exporter", b"\x02" * 32))
    step = run(c, server("SCRAM-SHA-256-PLUS", dict([BINDING])), credentials)
    assert isinstance(step, Failure)
    assert step.reason is FailureReason.BAD_CHANNEL_BINDING


@pytest.mark.parametrize(
    ("name", "response", "reason"),
    [
        ("PLAIN", b"other\0user\0pass", FailureReason.BAD_CREDENTIALS),
        ("PLAIN", b"user\0pass", FailureReason.BAD_MESSAGE),
        ("PLAIN", b"\0user\0", FailureReason.BAD_MESSAGE),
        ("PLAIN", b"\0\xff\0x", FailureReason.BAD_MESSAGE),
        ("PLAIN", b"\0a b\0x", FailureReason.BAD_CREDENTIALS),
        ("LOGIN", b"\xff", FailureReason.BAD_MESSAGE),
        ("LOGIN", b"a b", FailureReason.BAD_CREDENTIALS),
        ("LOGIN", b"a\0b", FailureReason.BAD_MESSAGE),
        ("CRAM-MD5", b"x y", FailureReason.BAD_MESSAGE),
        ("SCRAM-SHA-256", b"n,a=other,n=user,r=abc", FailureReason.BAD_CREDENTIALS),
        ("SCRAM-SHA-256", b"n,other,n=user,r=abc", FailureReason.BAD_MESSAGE),
        ("SCRAM-SHA-256", b"n,,m=x,n=user,r=abc", FailureReason.BAD_MESSAGE),
        ("SCRAM-SHA-256", b"n,,n=us=er,r=abc", FailureReason.BAD_MESSAGE),
        ("SCRAM-SHA-256", b"n,,n=,r=abc", FailureReason.BAD_CREDENTIALS),
        ("SCRAM-SHA-256", b"n,,n=user,r=", FailureReason.BAD_MESSAGE),
        ("SCRAM-SHA-256", b"n,,n=user", FailureReason.BAD_MESSAGE),
        ("SCRAM-SHA-256", b"n,,r=abc,n=user", FailureReason.BAD_MESSAGE),
        ("SCRAM-SHA-256", b"\xff", FailureReason.BAD_MESSAGE),
        ("SCRAM-SHA-256", b"nonsense", FailureReason.BAD_MESSAGE),
    ],
)
def test_malformed_first_messages_fail(name: str, response: bytes, reason: FailureReason) -> None:
    step = server(name).step(response)
    assert isinstance(step, Failure)
    assert step.reason is reason


@pytest.mark.parametrize(
    "final", [b"", b"c=biws", b"c=biws,r=abcX,p=AAAA", b"c=?,r=abcX,p=AAAA", b"c=biws,r=wrong,p=AAAA", b"\xff,p="]
)
def test_malformed_final_messages_fail(final: bytes, credentials: Credentials) -> None:
    s = server("SCRAM-SHA-256")
    s.step(b"n,,n=user,r=abc")
    s.provide(credentials)
    assert isinstance(s.step(final), Failure)
    assert isinstance(s.step(b""), Failure)


def test_nothing_follows_the_end_of_an_exchange(credentials: Credentials) -> None:
    for name in ("SCRAM-SHA-256", "CRAM-MD5"):
        s = server(name)
        run(client(name), s, credentials)
        assert isinstance(s.step(b"again"), Failure)
        assert isinstance(s.provide(credentials), Failure)


@pytest.mark.parametrize("name", ALL_MECHANISMS)
def test_a_missing_initial_response_is_asked_for(name: str) -> None:
    assert isinstance(server(name, dict([BINDING])).step(None), Challenge)


@pytest.mark.parametrize("name", ["PLAIN", "LOGIN"])
def test_where_a_password_is_known_credentials_are_never_asked_for(name: str, credentials: Credentials) -> None:
    assert isinstance(server(name).provide(credentials), Failure)


@pytest.mark.parametrize("response", [None, b"", b"user", b"\xff", b" " + b"0" * 32, b"a b " + b"0" * 32])
def test_cram_md5_takes_a_login_and_a_digest_once(response: bytes | None) -> None:
    s = server("CRAM-MD5")
    assert isinstance(s.step(None), Challenge)
    assert isinstance(s.step(response), Failure)
    assert isinstance(s.step(response), Failure)


def test_an_authorization_identity_may_repeat_the_login() -> None:
    assert server("SCRAM-SHA-256").step(b"n,a=user,n=user,r=abc") == NeedCredentials("user")
    assert server("PLAIN").step(b"user\0user\0pass") == CheckPassword("user", "pass")


def test_login_takes_the_name_as_initial_response() -> None:
    s = server("LOGIN")
    assert s.step(b"user") == Challenge(b"Password:")
    assert s.step(b"pass") == CheckPassword("user", "pass")


@pytest.mark.parametrize(
    "server_first",
    [
        b"r=abc,s=QQ==,i=4096",
        b"r=xyz123,s=QQ==,i=4096",
        b"r=abcX,s=QQ==,i=4095",
        b"r=abcX,s=QQ==,i=1000001",
        b"r=abcX,s=QQ==,i=x",
        b"r=abcX,s=,i=4096",
        b"r=abcX,s=?,i=4096",
        b"m=1,r=abcX,s=QQ==,i=4096",
        b"r=abcX",
        b"\xff",
    ],
)
def test_a_client_refuses_a_hostile_challenge(server_first: bytes) -> None:
    with pytest.raises(AuthenticationFailed):
        ScramClient("SCRAM-SHA-256", "user", "pencil", nonce="abc").respond(server_first)


@pytest.mark.parametrize("server_final", [b"v=AAAA", b"e=other-error", b"x", b"v=?", b"\xff"])
def test_a_client_refuses_a_server_that_does_not_know_the_password(server_final: bytes) -> None:
    c = ScramClient("SCRAM-SHA-256", "user", "pencil", nonce="abc")
    c.respond(b"r=abcX,s=QQ==,i=4096")
    with pytest.raises(AuthenticationFailed):
        c.respond(server_final)
    assert not c.is_complete


@pytest.mark.parametrize("name", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_a_client_answers_no_question_too_many(name: str) -> None:
    c = client(name)
    c.initial()
    while not c.is_complete:
        c.respond(b"?")
    with pytest.raises(AuthenticationFailed):
        c.respond(b"?")


def test_the_best_mechanism_is_taken() -> None:
    def choose(*offered: str, **options: Any) -> str:
        made = make_client_mechanism(offered, "user", "password", **{"is_encrypted": True, **options})
        return made.name if made else ""

    assert choose(*reversed(ALL_MECHANISMS), channel_binding=BINDING) == "SCRAM-SHA-256-PLUS"
    assert choose(*ALL_MECHANISMS) == "SCRAM-SHA-256"
    assert choose("LOGIN", "PLAIN", "CRAM-MD5") == "CRAM-MD5"
    assert choose("LOGIN", "PLAIN") == "PLAIN"
    assert choose("LOGIN", "PLAIN", is_encrypted=False) == ""
    assert choose(*ALL_MECHANISMS, allowed=("LOGIN",)) == "LOGIN"
    assert choose("GSSAPI") == ""
    assert choose("SCRAM-SHA-1-PLUS") == ""
    with pytest.raises(ValueError, match="channel binding"):
        ScramClient("SCRAM-SHA-1-PLUS", "user", "password")


def test_legacy_mechanisms_are_only_offered_where_they_are_on() -> None:
    assert offered_mechanisms(legacy=True) == ALL_MECHANISMS
    assert offered_mechanisms(legacy=False) == ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN")


def test_credentials_keep_no_password_and_survive_storing() -> None:
    made = make_credentials("correct horse", version=3, legacy=True)
    blob = msgspec.json.encode(made)
    assert msgspec.json.decode(blob, type=Credentials) == made
    assert b"correct" not in blob
    assert made.version == 3
    assert made.scram_sha_256.iterations == 100_000
    assert made.scram_sha_1 is not None
    assert made.scram_sha_1.iterations == 8192
    assert "key" not in repr(made)
    assert verify_password(made, "correct horse")
    assert not verify_password(made, "correct house")


def test_without_legacy_there_are_no_weak_secrets() -> None:
    made = make_credentials("correct horse", version=1, legacy=False)
    assert (made.scram_sha_1, made.cram_md5) == (None, None)


def test_nobody_has_a_password() -> None:
    assert not verify_password(None, "anything")
    assert not verify_password(None, "\x00")


@pytest.mark.parametrize("password", ["", "1234567", "with\x00null", "\ud800surrogate"])
def test_short_or_strange_passwords_are_refused(password: str) -> None:
    with pytest.raises(PasswordRefused):
        make_credentials(password, version=1, legacy=False)


def test_eight_octets_are_enough() -> None:
    make_credentials("\u00fc" * 4, version=1, legacy=False)


def test_what_looks_equal_is_equal() -> None:
    assert prepare_password("u\u0308\u3000x") == "\u00fc x"
    assert prepare_login("ju\u0308rgen@example.org") == "j\u00fcrgen@example.org"
    assert prepare_login("Alice@Example.org") == "Alice@Example.org"
    with pytest.raises(NotPermitted):
        prepare_login("x" * 2000 + "\u00fc")


def test_a_password_does_not_show_in_logs() -> None:
    assert "secret" not in repr(CheckPassword("user", "secret"))
