"""Plugins with one fault each, and the good one that they begin with."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Annotated, Any

import trio
from msgspec import Meta, Struct, structs

from mailcrane.api import (
    Assessment,
    Entry,
    Event,
    Plugin,
    ReceivedMessage,
    RouteChoice,
    SessionInfo,
    hookimpl,
)


class GoodConfig(Struct, frozen=True, forbid_unknown_fields=True):
    folder: Annotated[str, Meta(description="Where it keeps things.")] = "/nowhere"


class Good(Plugin):
    """What the mutants begin with: a hook of each kind, a store, a background task."""

    name = "good"
    Config = GoodConfig

    async def start(self, nursery: trio.Nursery) -> None:
        nursery.start_soon(trio.sleep_forever)

    @hookimpl
    async def select_route(self, entry: Entry) -> RouteChoice | None:
        return None

    @hookimpl
    async def assess_message(self, message: ReceivedMessage) -> Assessment:
        return Assessment("good", "pass")

    @hookimpl
    async def event_recorded(self, event: Event) -> None:
        await self.context.data.set("last", event.id.encode())


class OddName(Good):
    name = "not a name"


class FutureAPI(Good):
    api = "1.999"


class RequiresText(Good):
    requires = "transports"  # type: ignore[assignment]


class LooseConfig(Struct, frozen=True):
    folder: Annotated[str, Meta(description="Where it keeps things.")] = "/nowhere"


class TakesUnknownKeys(Good):
    Config = LooseConfig  # type: ignore[assignment]


class BareConfig(Struct, frozen=True, forbid_unknown_fields=True):
    folder: str = "/nowhere"


class Undescribed(Good):
    Config = BareConfig  # type: ignore[assignment]


class MisspelledHook(Good):
    @hookimpl
    async def select_rout(self, entry: Entry) -> None:
        """Never asked."""


class ReadsInConstructor(Good):
    def __init__(self, config: Any, context: Any) -> None:
        super().__init__(config, context)
        self.names = Path("/etc/hostname").exists() and Path("/etc/hostname").read_text()


class NeverStarts(Good):
    async def start(self, nursery: trio.Nursery) -> None:
        await trio.sleep_forever()


class RaisesOnStop(Good):
    is_running = False

    async def start(self, nursery: trio.Nursery) -> None:
        self.is_running = True

    async def stop(self) -> None:
        raise ValueError("odd")


class StopsOnce(Good):
    is_running = True

    async def stop(self) -> None:
        if not self.is_running:
            raise RuntimeError("it was stopped already")
        self.is_running = False


class ShieldsItsTask(Good):
    async def start(self, nursery: trio.Nursery) -> None:
        nursery.start_soon(self.go_on)

    async def go_on(self) -> None:
        with trio.CancelScope(shield=True), trio.move_on_after(4):
            await trio.sleep_forever()


class CrashesInTheBackground(Good):
    async def start(self, nursery: trio.Nursery) -> None:
        nursery.start_soon(self.crash)

    async def crash(self) -> None:
        await trio.sleep(0.06)
        raise ValueError("odd")


class StartsOnce(Good):
    names: list[str] = []  # noqa: RUF012 - that is the fault

    async def start(self, nursery: trio.Nursery) -> None:
        if any(self.names):
            raise RuntimeError("the port is taken")
        self.names.append("taken")


class FailsOnItsOwnData(Good):
    async def start(self, nursery: trio.Nursery) -> None:
        if await self.context.data.get("last"):
            raise ValueError("what is that?")


class RegistersNonsense(Good):
    @hookimpl
    def register_http_apps(self) -> Any:
        return "an application"


class AnswersNonsense(Good):
    @hookimpl
    async def select_route(self, entry: Entry) -> Any:
        # Nothing but the made-up entry has this subject.
        return "direct" if entry.subject == "made up" and entry.message_id == "<made@localhost>" else None


class KnowsItsKinds(Good):
    @hookimpl
    async def event_recorded(self, event: Event) -> None:
        if event.kind == "relayed":
            raise KeyError(event.kind)


class FailsOnUnicode(Good):
    @hookimpl
    async def assess_message(self, message: ReceivedMessage) -> Assessment:
        message.session.ehlo.encode("ascii")
        return Assessment("good", "pass")


class CountsOnce(Good):
    seen: frozenset[str] = frozenset()

    @hookimpl
    async def webhook_retired(self, event: Event) -> None:
        if event.id in self.seen:
            raise ValueError("told twice")
        self.seen |= {event.id}


class OneAtATime(Good):
    is_busy = False

    @hookimpl
    async def select_route(self, entry: Entry) -> None:
        if self.is_busy:
            raise RuntimeError("busy")
        self.is_busy = True
        try:
            await trio.sleep(0.001)
        finally:
            self.is_busy = False


class SwallowsCancellation(Good):
    @hookimpl
    async def event_recorded(self, event: Event) -> None:
        with contextlib.suppress(trio.Cancelled):
            await self.context.data.set("last", b"")


class BlocksTheLoop(Good):
    @hookimpl
    async def select_route(self, entry: Entry) -> None:
        time.sleep(0.3)  # noqa: ASYNC251 - that is the fault


class ChangesItsArgument(Good):
    @hookimpl
    async def select_route(self, entry: Entry) -> None:
        structs.force_setattr(entry, "subject", "changed")


class FailsForSubmission(Good):
    @hookimpl
    async def accept_connection(self, session: SessionInfo) -> None:
        if session.listener == "submission":
            raise ValueError("odd")
