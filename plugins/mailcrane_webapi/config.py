"""What ``[plugin.webapi]`` may say."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class WebAPIConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """The sending API over HTTP."""

    max_message_octets: Annotated[
        int, Meta(ge=1024, description="Largest composed message that is taken, in octets.")
    ] = 104857600
