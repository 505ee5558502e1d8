"""SASL against made-up messages: nothing is raised but what is said to be."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mailcrane.sasl.credentials import Credentials, make_cram_md5_secret, make_scram_secret
from mailcrane.sasl.exchange import AuthenticationFailed, Challenge, Failure, NeedCredentials, Success
from mailcrane.sasl.mechanisms import ALL_MECHANISMS, make_server_mechanism
from mailcrane.sasl.scram_client import ScramClient

CREDENTIALS = Credentials(
    1,
    make_scram_secret(b"password", "sha256", iterations=4096),
    make_scram_secret(b"password", "sha1", iterations=4096),
    make_cram_md5_secret(b"password"),
)
MESSAGES = st.one_of(
    st.none(),
    st.binary(max_size=60),
    st.text(st.sampled_from("nyp=,armcsiv bcABC+/\0@\u00fc"), max_size=60).map(str.encode),
    st.sampled_from([b"n,,n=user,r=abc", b"y,,n=user,r=abc", b"p=tls-exporter,,n=user,r=abc", b"c=biws,r=abc,p=AAAA"]),
)


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(ALL_MECHANISMS), st.lists(MESSAGES, max_size=5))
def test_a_server_mechanism_never_raises_nor_believes_nonsense(name: str, messages: list[bytes | None]) -> None:
    mechanism = make_server_mechanism(
        name, hostname="h", server_secret=b"s", channel_bindings={"tls-exporter": b"x"} if "PLUS" in name else {}
    )
    for message in messages:
        step = mechanism.step(message)
        if isinstance(step, NeedCredentials):
            step = mechanism.provide(CREDENTIALS)
        assert not isinstance(step, Success)
        if not isinstance(step, Challenge):
            if isinstance(step, Failure):
                assert step.explanation
            return


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("rsiev=,m abcX0123456789+/="), max_size=40).map(lambda text: ("r=abc" + text).encode()))
def test_a_client_only_says_that_authentication_failed(challenge: bytes) -> None:
    client = ScramClient("SCRAM-SHA-256", "user", "password", nonce="abc")
    try:
        client.respond(challenge)
        client.respond(challenge)
    except AuthenticationFailed:
        pass
    assert not client.is_complete
