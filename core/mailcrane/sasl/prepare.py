"""Preparation of login names and passwords (RFC 8265), so that what looks equal compares equal."""

from __future__ import annotations

import functools
import re
from typing import Any

# Names and passwords of these characters alone are what the profiles map to themselves.
_PLAIN_NAME = re.compile(r"[!-~]+\Z")
_PLAIN_PASSWORD = re.compile(r"[ -~]+\Z")
_MAX_CHARACTERS = 1024


class NotPermitted(ValueError):
    """The text has characters that a name or password must not have, or none at all."""


def prepare_login(text: str) -> str:
    """Prepare a login name by the UsernameCasePreserved profile (RFC 8265 section 3.4).

    Case is kept, because the domain of an address decides whether its local parts tell cases apart.

    Raises:
        NotPermitted: the profile forbids it.
    """
    return text if _PLAIN_NAME.match(text) else _enforce("UsernameCasePreserved", text)


def prepare_password(text: str) -> str:
    """Prepare a password by the OpaqueString profile (RFC 8265 section 4.2).

    Raises:
        NotPermitted: the profile forbids it.
    """
    return text if _PLAIN_PASSWORD.match(text) else _enforce("OpaqueString", text)


def _enforce(profile: str, text: str) -> str:
    if len(text) > _MAX_CHARACTERS:
        raise NotPermitted("too long")
    try:
        prepared: str = _profile(profile).enforce(text)
    except UnicodeError:
        raise NotPermitted("has characters that are not permitted") from None
    return prepared


@functools.cache
def _profile(name: str) -> Any:
    # Loading the tables takes 10 ms, which a server of ASCII passwords never spends.
    import precis_i18n  # noqa: PLC0415

    return precis_i18n.get_profile(name)
