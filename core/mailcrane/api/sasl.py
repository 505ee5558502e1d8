"""SASL mechanisms without I/O, both sides (provisional)."""

# ruff: noqa: PLC0414 - the alias is what tells a type checker that a name is re-exported.

from __future__ import annotations

from typing import TYPE_CHECKING

from mailcrane.api._lazy import lazy_names

if TYPE_CHECKING:
    from mailcrane.sasl.exchange import AuthenticationFailed as AuthenticationFailed
    from mailcrane.sasl.exchange import Challenge as Challenge
    from mailcrane.sasl.exchange import CheckPassword as CheckPassword
    from mailcrane.sasl.exchange import ClientMechanism as ClientMechanism
    from mailcrane.sasl.exchange import Failure as Failure
    from mailcrane.sasl.exchange import FailureReason as FailureReason
    from mailcrane.sasl.exchange import NeedCredentials as NeedCredentials
    from mailcrane.sasl.exchange import ServerMechanism as ServerMechanism
    from mailcrane.sasl.exchange import Step as Step
    from mailcrane.sasl.exchange import Success as Success
    from mailcrane.sasl.mechanisms import ALL_MECHANISMS as ALL_MECHANISMS
    from mailcrane.sasl.mechanisms import CLEARTEXT_MECHANISMS as CLEARTEXT_MECHANISMS
    from mailcrane.sasl.mechanisms import LEGACY_MECHANISMS as LEGACY_MECHANISMS
    from mailcrane.sasl.mechanisms import make_client_mechanism as make_client_mechanism
    from mailcrane.sasl.mechanisms import make_server_mechanism as make_server_mechanism
    from mailcrane.sasl.mechanisms import offered_mechanisms as offered_mechanisms
    from mailcrane.sasl.prepare import NotPermitted as NotPermitted
    from mailcrane.sasl.prepare import prepare_login as prepare_login
    from mailcrane.sasl.prepare import prepare_password as prepare_password
else:
    # A type checker sees the names above, and no others.
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "mailcrane.sasl.exchange": (
                "AuthenticationFailed",
                "Challenge",
                "CheckPassword",
                "ClientMechanism",
                "Failure",
                "FailureReason",
                "NeedCredentials",
                "ServerMechanism",
                "Step",
                "Success",
            ),
            "mailcrane.sasl.mechanisms": (
                "ALL_MECHANISMS",
                "CLEARTEXT_MECHANISMS",
                "LEGACY_MECHANISMS",
                "make_client_mechanism",
                "make_server_mechanism",
                "offered_mechanisms",
            ),
            "mailcrane.sasl.prepare": ("NotPermitted", "prepare_login", "prepare_password"),
        },
    )
