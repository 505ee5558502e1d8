"""The server's side of SCRAM (RFC 5802, RFC 7677), with channel binding (RFC 9266)."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping

from mailcrane.sasl import scram
from mailcrane.sasl.credentials import ITERATIONS, SALT_OCTETS, Credentials, ScramSecret
from mailcrane.sasl.exchange import Challenge, Failure, FailureReason, NeedCredentials, Step, Success
from mailcrane.sasl.prepare import NotPermitted, prepare_login
from mailcrane.sasl.scram import BadMessage


class ScramServer:
    """One exchange of SCRAM-SHA-256, SCRAM-SHA-1 or their -PLUS forms.

    An unknown login, or one without a secret for this hash, gets a salt that is always the same for it and fails at
    the proof like a wrong password, so that nobody learns which logins exist.
    """

    def __init__(
        self, name: str, *, channel_bindings: Mapping[str, bytes], server_secret: bytes, nonce: str = ""
    ) -> None:
        self.name = name
        self._is_plus = name.endswith("-PLUS")
        self._hash = scram.HASHES[name.removesuffix("-PLUS")]
        self._bindings = channel_bindings
        self._server_secret = server_secret
        self._own_nonce = nonce or scram.make_nonce()
        self._nonce = ""
        self._gs2_header = ""
        self._binding_type = ""
        self._client_first_bare = ""
        self._server_first = ""
        self._login = ""
        self._secret: ScramSecret | None = None
        self._is_known = False
        self._state = "first"

    def step(self, response: bytes | None) -> Step:
        """Take a message of the client."""
        if self._state == "first" and not response:
            # RFC 4422: the client speaks first; without an initial response it is asked with an empty challenge.
            return Challenge(b"")
        try:
            if self._state == "first":
                return self._first(scram.decode(response or b""))
            if self._state == "final":
                return self._final(scram.decode(response or b""))
        except BadMessage as error:
            return self._fail(FailureReason.BAD_MESSAGE, str(error))
        if self._state == "done" and not response:
            self._state = "over"
            return Success(self._login)
        return self._fail(FailureReason.BAD_MESSAGE, "unexpected message")

    def provide(self, credentials: Credentials | None) -> Step:
        """Take the credentials of the login, or None."""
        if self._state != "credentials":
            return self._fail(FailureReason.BAD_MESSAGE, "unexpected credentials")
        secret = None if credentials is None else credentials.scram(self._hash)
        self._is_known = secret is not None
        self._secret = secret = self._invented_secret() if secret is None else secret
        salt = base64.b64encode(secret.salt).decode()
        self._server_first = f"r={self._nonce},s={salt},i={secret.iterations}"
        self._state = "final"
        return Challenge(self._server_first.encode())

    def _first(self, text: str) -> Step:
        flag, comma, rest = text.partition(",")
        authzid, second_comma, bare = rest.partition(",")
        if not comma or not second_comma:
            raise BadMessage("bad GS2 header")
        self._gs2_header = f"{flag},{authzid},"
        self._client_first_bare = bare
        login, nonce = scram.attributes(bare, "nr")
        try:
            self._login = prepare_login(scram.decode_name(login))
            if authzid:
                if not authzid.startswith("a="):
                    raise BadMessage("bad authorization identity")
                if prepare_login(scram.decode_name(authzid[2:])) != self._login:
                    return self._fail(FailureReason.BAD_CREDENTIALS, "authorization for another identity")
        except NotPermitted as error:
            return self._fail(FailureReason.BAD_CREDENTIALS, f"bad login: {error}")
        self._nonce = scram.check_nonce(nonce) + self._own_nonce
        failure = self._check_flag(flag)
        if failure is not None:
            return failure
        self._state = "credentials"
        return NeedCredentials(self._login)

    def _check_flag(self, flag: str) -> Failure | None:
        if flag.startswith("p="):
            if not self._is_plus:
                raise BadMessage("channel binding without -PLUS")
            self._binding_type = flag[2:]
            if self._binding_type not in self._bindings:
                return self._fail(FailureReason.BAD_CHANNEL_BINDING, f"no channel binding {self._binding_type[:40]!r}")
        elif self._is_plus:
            raise BadMessage("-PLUS without channel binding")
        elif flag == "y":
            if self._bindings:
                # RFC 5802 section 6: the client could bind and was made to believe that we cannot.
                return self._fail(FailureReason.BAD_CHANNEL_BINDING, "mechanism list was tampered with")
        elif flag != "n":
            raise BadMessage("bad channel binding flag")
        return None

    def _final(self, text: str) -> Step:
        without_proof, found, proof = text.rpartition(",p=")
        if not found:
            raise BadMessage("proof is missing")
        binding, nonce = scram.attributes(without_proof, "cr")
        bound = self._gs2_header.encode() + self._bindings.get(self._binding_type, b"")
        if not hmac.compare_digest(scram.unbase64(binding), bound):
            return self._fail(FailureReason.BAD_CHANNEL_BINDING, "channel binding differs")
        if not hmac.compare_digest(nonce.encode(), self._nonce.encode()):
            raise BadMessage("nonce differs")
        secret = self._secret
        assert secret is not None
        auth_message = f"{self._client_first_bare},{self._server_first},{without_proof}".encode()
        is_proof = scram.is_proof(scram.unbase64(proof), secret.stored_key, auth_message, self._hash)
        if not (is_proof and self._is_known):
            why = "wrong password" if self._is_known else "unknown login, or no secret for this mechanism"
            return self._fail(FailureReason.BAD_CREDENTIALS, why)
        self._state = "done"
        signature = hmac.digest(secret.server_key, auth_message, self._hash)
        return Challenge(b"v=" + base64.b64encode(signature))

    def _invented_secret(self) -> ScramSecret:
        salt = hmac.digest(self._server_secret, f"{self._hash} {self._login.lower()}".encode(), "sha256")
        length = 32 if self._hash == "sha256" else 20
        return ScramSecret(salt[:SALT_OCTETS], ITERATIONS[self._hash], bytes(length), bytes(length))

    def _fail(self, reason: FailureReason, explanation: str) -> Failure:
        self._state = "over"
        return Failure(reason, self._login, explanation)
