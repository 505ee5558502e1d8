"""The ASGI lifespan protocol: applications are told when the server starts and stops."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import trio

from mailcrane.http.app import ASGIApp, Message
from mailcrane.observe.log import get_log

log = get_log(__name__)


class LifespanFailed(Exception):
    """An application said that it cannot start, or did not say anything in time."""


class Lifespan:
    """Runs the lifespan of one application as an async context manager, in a nursery that outlives it.

    Many applications do not know the protocol: they raise or return, and are served without it.

    Attributes:
        state: What the application keeps for its requests; copied into each scope.
    """

    def __init__(self, app: ASGIApp, nursery: trio.Nursery, *, timeout: float = 30.0) -> None:
        self.state: dict[str, Any] = {}
        self._app = app
        self._nursery = nursery
        self._timeout = timeout
        self._to_app, self._from_server = trio.open_memory_channel[Message](1)
        self._started = trio.Event()
        self._stopped = trio.Event()
        self._failure = ""

    async def __aenter__(self) -> Self:
        """Start the application.

        Raises:
            LifespanFailed: it cannot start.
        """
        self._nursery.start_soon(self._run)
        await self._to_app.send({"type": "lifespan.startup"})
        with trio.move_on_after(self._timeout) as scope:
            await self._started.wait()
        if scope.cancelled_caught:
            raise LifespanFailed(f"a web application did not start within {self._timeout:g} s")
        if self._failure:
            raise LifespanFailed(self._failure)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with trio.move_on_after(self._timeout) as scope:
            scope.shield = True
            if not self._stopped.is_set():
                await self._to_app.send({"type": "lifespan.shutdown"})
                await self._stopped.wait()
        if scope.cancelled_caught:
            log.warning("a web application did not stop in time", timeout=self._timeout)

    async def _run(self) -> None:
        try:
            await self._app(
                {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state},
                self._from_server.receive,
                self._send,
            )
        except Exception:
            if self._started.is_set():
                log.exception("a web application failed in its lifespan")
        finally:
            self._started.set()
            self._stopped.set()

    async def _send(self, message: Message) -> None:
        match message["type"]:
            case "lifespan.startup.complete":
                self._started.set()
            case "lifespan.startup.failed":
                self._failure = str(message.get("message", "")) or "a web application failed to start"
                self._started.set()
            case "lifespan.shutdown.complete" | "lifespan.shutdown.failed":
                self._stopped.set()
