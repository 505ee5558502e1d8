"""What is said of an attempt in words."""

from __future__ import annotations

import pytest

from mailcrane.model.delivery import TLSUse


@pytest.mark.parametrize(
    ("tls", "words"),
    [
        (TLSUse("TLSv1.3", is_verified=True, is_offered=True), "TLSv1.3, verified"),
        (TLSUse("TLSv1.2", is_offered=True, problem="certificate is not for mx"), "TLSv1.2, certificate is not for mx"),
        (TLSUse("TLSv1.3", is_offered=True), "TLSv1.3, any certificate taken"),
        (TLSUse(is_offered=True, is_fallback=True, problem="no"), "in plaintext after TLS did not work (no)"),
        (TLSUse(is_offered=True), "in plaintext, although TLS was offered"),
        (TLSUse(), "in plaintext"),
    ],
)
def test_the_tls_of_an_attempt_is_told_in_words(tls: TLSUse, words: str) -> None:
    assert str(tls) == words
