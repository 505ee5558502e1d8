"""The receiver of webhooks of a test: takes what is posted, or answers as it is told."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from mailcrane.http.client import ConnectFailed, HTTPResponse


class Posted(Struct, frozen=True):
    """One call as it arrived.

    Attributes:
        header: Names as they were sent.
        body: The octets.
    """

    url: str
    header: dict[str, str]
    body: bytes

    @property
    def payload(self) -> dict[str, Any]:
        """The body as JSON."""
        return msgspec.json.decode(self.body, type=dict[str, Any])


class FakeReceiver:
    """Implements `mailcrane.webhook.attempt.HTTPPoster`.

    Attributes:
        calls: Every call, in order, those that failed too.
    """

    def __init__(self) -> None:
        self.calls: list[Posted] = []
        self._script: deque[int] = deque()

    def answer(self, *statuses: int) -> None:
        """Say what the next calls are answered with; 0 is no connection. Those after them get 200."""
        self._script.extend(statuses)

    async def post(
        self,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes,
        timeout: float = 60.0,  # noqa: ASYNC109 - the protocol has it
        max_response_octets: int = 65536,
        body_seconds: float = math.inf,
    ) -> HTTPResponse:
        """Take a call."""
        self.calls.append(Posted(url, dict(headers), body))
        status = self._script.popleft() if self._script else 200
        if not status:
            raise ConnectFailed("no connection to the receiver")
        return HTTPResponse(status, {}, b"")
