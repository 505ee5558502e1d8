"""The client's side of SCRAM (RFC 5802, RFC 7677), with channel binding (RFC 9266)."""

from __future__ import annotations

import base64
import hashlib
import hmac

from mailcrane.sasl import scram
from mailcrane.sasl.exchange import AuthenticationFailed
from mailcrane.sasl.prepare import prepare_login, prepare_password
from mailcrane.sasl.scram import BadMessage

# RFC 7677 section 4 sets the lower bound; the upper one keeps a hostile server from burning our CPU for long.
_MIN_ITERATIONS = 4096
_MAX_ITERATIONS = 1_000_000
_MAX_SALT_OCTETS = 1024


class ScramClient:
    """One exchange of SCRAM-SHA-256, SCRAM-SHA-1 or their -PLUS forms.

    Args:
        name: The mechanism.
        login: Who to log in as.
        password: As it was entered.
        channel_binding: Type and data, such as ``("tls-exporter", ...)``, where the connection has it. Without -PLUS
            it tells the server that we would have bound, so that it can notice a list that was tampered with.
        nonce: For tests.

    Raises:
        ValueError: login or password are not permitted, or -PLUS has no channel binding.
    """

    def __init__(
        self,
        name: str,
        login: str,
        password: str,
        *,
        channel_binding: tuple[str, bytes] | None = None,
        nonce: str = "",
    ) -> None:
        self.name = name
        self.is_complete = False
        self._hash = scram.HASHES[name.removesuffix("-PLUS")]
        self._password = prepare_password(password).encode()
        self._nonce = nonce or scram.make_nonce()
        self._binding = b""
        if name.endswith("-PLUS"):
            if channel_binding is None:
                raise ValueError(f"{name} needs a channel binding")
            self._gs2_header = f"p={channel_binding[0]},,"
            self._binding = channel_binding[1]
        else:
            self._gs2_header = "y,," if channel_binding is not None else "n,,"
        self._client_first_bare = f"n={scram.encode_name(prepare_login(login))},r={self._nonce}"
        self._server_signature = b""

    def initial(self) -> bytes:
        """Return client-first-message."""
        return (self._gs2_header + self._client_first_bare).encode()

    def respond(self, challenge: bytes) -> bytes:
        """Answer server-first-message, slowly, and then check server-final-message.

        Raises:
            AuthenticationFailed: see `mailcrane.sasl.exchange.ClientMechanism.respond`.
        """
        try:
            text = scram.decode(challenge)
            if not self._server_signature:
                return self._final(text)
            return self._verify(text)
        except BadMessage as error:
            raise AuthenticationFailed(f"bad message of the server: {error}") from None

    def _final(self, server_first: str) -> bytes:
        nonce, salt_text, iterations_text = scram.attributes(server_first, "rsi")
        if not nonce.startswith(self._nonce) or len(nonce) == len(self._nonce):
            raise BadMessage("nonce does not continue ours")
        scram.check_nonce(nonce)
        salt = scram.unbase64(salt_text)
        if not 0 < len(salt) <= _MAX_SALT_OCTETS:
            raise BadMessage("bad salt")
        if not (iterations_text.isascii() and iterations_text.isdigit() and len(iterations_text) < 10):
            raise BadMessage("bad iteration count")
        iterations = int(iterations_text)
        if not _MIN_ITERATIONS <= iterations <= _MAX_ITERATIONS:
            raise BadMessage(f"{iterations} iterations are not between {_MIN_ITERATIONS} and {_MAX_ITERATIONS}")
        binding = base64.b64encode(self._gs2_header.encode() + self._binding).decode()
        without_proof = f"c={binding},r={nonce}"
        auth_message = f"{self._client_first_bare},{server_first},{without_proof}".encode()
        salted = hashlib.pbkdf2_hmac(self._hash, self._password, salt, iterations)
        proof = scram.client_proof(salted, auth_message, self._hash)
        server_key = hmac.digest(salted, b"Server Key", self._hash)
        self._server_signature = hmac.digest(server_key, auth_message, self._hash)
        return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()

    def _verify(self, server_final: str) -> bytes:
        if server_final.startswith("e="):
            raise AuthenticationFailed(f"server says {server_final[2:82]!r}")
        (signature,) = scram.attributes(server_final, "v")
        if self.is_complete or not hmac.compare_digest(scram.unbase64(signature), self._server_signature):
            raise AuthenticationFailed("server does not know the password")
        self.is_complete = True
        return b""
