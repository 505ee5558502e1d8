"""Events that a plugin adds: in the feed, in the timeline of the entry, and posted where they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import pytest
import trio
import trio.testing
from msgspec.structs import replace

from mailcrane.admin.operations import run_named
from mailcrane.config.convert import ConfigError
from mailcrane.config.rows import Configuration, Webhook
from mailcrane.model.event import Event, EventKind, EventType
from mailcrane.plugin.base import Plugin
from mailcrane.plugin.errors import PluginError
from mailcrane.plugin.policy import hookimpl
from mailcrane.testing import PASSWORD, ROWS, RunningServer, server

URL = "https://hooks.there.example/"
CONTENT = b"From: ann@here.example\r\nSubject: news\r\nX-Mox-Extra-Order: 17\r\n\r\nHello.\r\n"


class Billing(Plugin):
    """Records an event of its own for each message that is queued."""

    name = "billing"
    told: ClassVar[list[Event]] = []

    @hookimpl
    def register_event_types(self) -> Sequence[EventType]:
        return [EventType("billing.charged", "A message was charged.")]

    @hookimpl
    async def message_queued(self, event: Event) -> None:
        await self.context.events.record("charged", entry_id=event.entry_id, data={"cents": 3})

    @hookimpl
    async def event_recorded(self, event: Event) -> None:
        self.told.append(event)


def rows(*events: str) -> Configuration:
    webhook = Webhook(URL, events=events, mode="all")
    return replace(ROWS, accounts=(replace(ROWS.accounts[0], outgoing_webhook=webhook), *ROWS.accounts[1:]))


async def submit(running: RunningServer) -> None:
    client = running.connect("submission")
    await client.hello()
    await client.log_in("ann@here.example", PASSWORD)
    assert (await client.send("ann@here.example", "you@there.example", CONTENT)).code == 250
    await client.quit()
    await trio.sleep(10)


async def test_an_event_of_a_plugin_is_in_feed_and_timeline_and_posted_where_it_is_named(
    autojump_clock: trio.testing.MockClock,
) -> None:
    Billing.told.clear()
    async with server(Billing, rows=rows("billing.charged", "delivered")) as running:
        await submit(running)
        events = await running.events("ann")
        shown: Any = await run_named(running.server.administration(), "queue_show", {"id": 1})
        calls = {call.payload["Event"]: call.payload for call in running.receiver.calls}
    (charged,) = [event for event in events if event.kind == "billing.charged"]
    assert (charged.entry_id, charged.data["data"]) == (1, {"cents": 3})
    assert "billing.charged" in [event.kind for event in shown.timeline]
    assert "billing.charged" in [event.kind for event in Billing.told]
    assert set(calls) == {"billing.charged", "delivered"}
    payload = calls["billing.charged"]
    assert list(payload) == [*calls["delivered"], "Data"]
    assert (payload["Data"], payload["QueueMsgID"], payload["Subject"]) == ({"cents": 3}, 1, "news")
    assert payload["Extra"] == {"Order": "17"}


async def test_a_webhook_that_names_no_events_is_not_told_of_those_of_plugins(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with server(Billing, rows=rows()) as running:
        await submit(running)
        assert [call.payload["Event"] for call in running.receiver.calls] == ["delivered"]


async def test_what_cannot_be_recorded_is_an_error(autojump_clock: trio.testing.MockClock) -> None:
    async with server(Billing) as running:
        (plugin, *_) = running.server.host.plugins
        record = plugin.context.events.record
        for arguments in ({"account": "eve"}, {}, {"entry_id": 99}):
            with pytest.raises(LookupError):
                await record("charged", **arguments)
        with pytest.raises(LookupError, match="register_event_types"):
            await record("refunded", account="ann")
        with pytest.raises(ValueError, match="not JSON"):
            await record("charged", account="ann", data={"at": object()})
        event = await record("charged", account="ann")
        assert (event.kind, event.account, event.entry_id) == (EventKind("billing.charged"), "ann", 0)


async def test_names_of_events_that_nobody_has_are_refused_or_told_of(autojump_clock: trio.testing.MockClock) -> None:
    async with server(Billing, rows=rows("billing.refunded")) as running:
        (component,) = [one for one in running.server.report_health().components if one.component == "configuration"]
        assert 'no plugin has the event "billing.refunded"' in component.reason

        administration = running.server.administration()
        for name, problem in (("billing.other", "no plugin that is enabled"), ("deliverd", "Did you mean delivered")):
            with pytest.raises(ConfigError, match=problem):
                await administration.change("test", partial(_with_event, name))
        await administration.change("test", partial(_with_event, "billing.charged"))


def _with_event(name: str, _: Configuration) -> Configuration:
    return rows(name)


@pytest.mark.parametrize("name", ["charged", "other.charged", "billing.", "billing.Charged"])
async def test_a_kind_of_event_is_named_after_its_plugin(name: str, autojump_clock: trio.testing.MockClock) -> None:
    class Misnamed(Plugin):
        """Registers an event under a name that it must not have."""

    def register_event_types(self: Any) -> Sequence[EventType]:
        return [EventType(name)]

    Misnamed.name = "billing"
    Misnamed.register_event_types = hookimpl(register_event_types)  # type: ignore[attr-defined]
    with pytest.raises(PluginError):
        async with server(Misnamed):
            pass
