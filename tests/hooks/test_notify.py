"""Plugins are told of stored events in order, again after failures, and from where they were after a restart."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trio
import trio.testing

from mailcrane.config.rows import Account, Configuration, Domain
from mailcrane.model.event import Event, EventKind, NewEvent
from mailcrane.model.retired import Retired
from mailcrane.plugin.base import Plugin
from mailcrane.plugin.data import StoredPluginData
from mailcrane.plugin.notify import MISSED, Notifier, Replayed
from mailcrane.plugin.policy import hookimpl
from mailcrane.store.errors import DiskFull
from mailcrane.store.housekeeping import sweep
from mailcrane.store.sqlite import open_sqlite
from mailcrane.store.store import Store
from mailcrane.store.transaction import Transaction
from mailcrane.testing.clock import Clock
from mailcrane.testing.hooks import plugin_services, running_plugins

PluginMaker = Callable[..., type[Plugin]]
STORED, QUEUED = EventKind.MESSAGE_STORED, EventKind.MESSAGE_QUEUED


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    configuration = Configuration(
        version=0,
        domains=(Domain(name="localhost"),),
        accounts=(Account(name="me", domain="localhost"), Account(name="you", domain="localhost")),
    )
    async with await open_sqlite(":memory:", Clock(), inline=True) as store:
        version = await store.read(lambda tx: tx.configuration.version())
        await store.write(lambda tx: tx.configuration.replace(configuration, expected_version=version), key="config")
        yield store


async def record(store: Store, *events: tuple[str, EventKind, int]) -> None:
    def unit(tx: Transaction) -> None:
        tx.events.record([NewEvent(account, kind, 0, {"n": n}) for account, kind, n in events])
        tx.wake("events")

    await store.write(unit, key="events")


def listener(
    seen: list[Any], name: str = "listener", *, hook: str = "event_recorded", fails: Any = None
) -> type[Plugin]:
    async def told(self: Any, event: Event) -> None:
        seen.append((event.account, event.data["n"]))
        if fails is not None and fails(event):
            raise ValueError("odd")

    return type("Listener", (Plugin,), {"name": name, hook: hookimpl(told)})


async def run_for(store: Store, seconds: float, *plugins: type[Plugin], during: Any = None) -> Notifier:
    async with running_plugins(*plugins) as host, trio.open_nursery() as nursery:
        notifier = Notifier(store, host.hooks)
        await nursery.start(notifier.run)
        if during is not None:
            await during()
        await trio.sleep(seconds)
        nursery.cancel_scope.cancel()
    return notifier


async def test_a_plugin_begins_at_the_present_and_is_told_in_order(
    store: Store, autojump_clock: trio.testing.MockClock
) -> None:
    await record(store, ("me", STORED, 0))
    seen: list[Any] = []

    async def during() -> None:
        await record(store, ("me", STORED, 1), ("me", QUEUED, 2))
        await record(store, *(("me", STORED, n) for n in range(3, 200)))

    await run_for(store, 10, listener(seen), during=during)
    assert seen == [("me", n) for n in range(1, 200)]


async def test_it_goes_on_after_a_restart_where_it_was(store: Store, autojump_clock: trio.testing.MockClock) -> None:
    seen: list[Any] = []
    await run_for(store, 1, listener(seen), during=lambda: record(store, ("me", STORED, 1)))
    await record(store, ("me", STORED, 2), ("you", STORED, 3))
    await run_for(store, 1, listener(seen))
    assert sorted(seen) == [("me", 1), ("me", 2), ("you", 3)]


async def test_a_hook_of_one_kind_is_told_of_that_kind_only(
    store: Store, autojump_clock: trio.testing.MockClock
) -> None:
    seen: list[Any] = []

    async def during() -> None:
        await record(store, ("me", QUEUED, 1), ("me", STORED, 2), ("me", EventKind.DELIVERED, 3), ("you", QUEUED, 4))

    await run_for(store, 1, listener(seen, hook="message_queued"), during=during)
    assert sorted(seen) == [("me", 1), ("you", 4)]
    assert await store.read(lambda tx: tx.events.accounts_behind("listener")) == {}


async def test_a_failure_is_tried_again_and_holds_up_its_account_only(
    store: Store, autojump_clock: trio.testing.MockClock
) -> None:
    seen: list[Any] = []
    tries = 0

    def fails(event: Event) -> bool:
        nonlocal tries
        is_first: bool = event.data["n"] == 1
        tries += is_first
        return is_first and tries < 3

    async def during() -> None:
        await record(store, ("me", STORED, 1), ("me", STORED, 2), ("you", STORED, 3))

    await run_for(store, 10, listener(seen, fails=fails), during=during)
    assert [n for account, n in seen if account == "me"] == [1, 1, 1, 2]
    assert seen.index(("you", 3)) < seen.index(("me", 2))


async def test_what_keeps_failing_is_set_aside_and_can_be_replayed(
    store: Store, autojump_clock: trio.testing.MockClock
) -> None:
    seen: list[Any] = []
    is_broken = True

    async def during() -> None:
        await record(store, ("me", STORED, 1), ("me", STORED, 2))

    plugin = listener(seen, fails=lambda event: is_broken and event.data["n"] == 1)
    await run_for(store, 3600, plugin, during=during)
    assert seen == [("me", 1)] * 6 + [("me", 2)]
    (letter,) = await store.read(lambda tx: tx.events.dead("listener"))
    assert letter.event.data == {"n": 1}
    assert "odd" in letter.error

    async with running_plugins(plugin) as host:
        notifier = Notifier(store, host.hooks)
        assert await notifier.replay("listener") == Replayed(told=0, failed=1)
        is_broken = False
        assert await notifier.replay("listener") == Replayed(told=1, failed=0)
        assert await notifier.replay("listener") == Replayed(told=0, failed=0)
        with pytest.raises(LookupError):
            await notifier.replay("nobody")


async def test_a_restart_in_the_pause_after_a_failure_does_not_repeat_what_was_done(
    store: Store, autojump_clock: trio.testing.MockClock
) -> None:
    seen: list[Any] = []

    async def during() -> None:
        await record(store, ("me", STORED, 1), ("me", STORED, 2))

    await run_for(store, 3, listener(seen, fails=lambda event: event.data["n"] == 2), during=during)
    assert seen == [("me", 1), ("me", 2), ("me", 2)]
    await run_for(store, 3, listener(seen))
    assert seen[3:] == [("me", 2)]


async def test_only_the_hook_that_failed_is_told_again(store: Store, autojump_clock: trio.testing.MockClock) -> None:
    seen: list[str] = []

    async def message_stored(self: Any, event: Event) -> None:
        seen.append("message_stored")

    async def event_recorded(self: Any, event: Event) -> None:
        seen.append("event_recorded")
        if seen.count("event_recorded") < 3:
            raise ValueError("odd")

    both = type(
        "Both",
        (Plugin,),
        {"name": "both", "message_stored": hookimpl(message_stored), "event_recorded": hookimpl(event_recorded)},
    )
    await run_for(store, 60, both, during=lambda: record(store, ("me", STORED, 1)))
    assert seen == ["message_stored"] + ["event_recorded"] * 3


async def test_a_retired_entry_that_is_not_kept_is_told_as_none(
    store: Store, autojump_clock: trio.testing.MockClock
) -> None:
    seen: list[Any] = []

    async def entry_retired(self: Any, event: Event, retired: Retired | None) -> None:
        seen.append(retired)

    plugin = type("P", (Plugin,), {"name": "p", "entry_retired": hookimpl(entry_retired)})
    await run_for(store, 1, plugin, during=lambda: record(store, ("me", EventKind.ENTRY_RETIRED, 1)))
    assert seen == [None]


async def test_what_a_plugin_has_not_seen_is_kept_and_what_lags_longer_is_missed_and_told_of(
    store: Store, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Any] = []
    plugin = listener(seen, "laggard")
    await run_for(store, 1, plugin)
    await record(store, ("me", STORED, 1), ("me", EventKind.DELIVERED, 2), ("me", STORED, 3))
    await trio.sleep(29 * 86400)
    await sweep(store)
    await record(store, ("me", STORED, 4), ("you", STORED, 5))
    assert [event.data["n"] for event in await store.read(lambda tx: tx.events.feed("me", 0, 10))] == [1, 2, 3, 4]
    await trio.sleep(2 * 86400)
    await sweep(store)
    before = MISSED.value("laggard")
    await run_for(store, 1, plugin)
    # The one that a webhook call is still to be made of is there, and told.
    assert sorted(seen) == [("me", 2), ("me", 4), ("you", 5)]
    assert MISSED.value("laggard") - before == 2
    assert [record.getMessage() for record in caplog.records] == [
        "events were removed before a plugin was told of them"
    ]
    await run_for(store, 1, plugin)
    assert MISSED.value("laggard") - before == 2


async def test_without_listeners_there_is_nothing_to_run(store: Store, autojump_clock: trio.testing.MockClock) -> None:
    async with running_plugins() as host:
        await Notifier(store, host.hooks).run()


async def test_what_a_plugin_keeps_is_stored(
    store: Store, autojump_clock: trio.testing.MockClock, plugin_with: PluginMaker
) -> None:
    async def start(self: Any, nursery: trio.Nursery) -> None:
        data = self.context.data
        assert await data.set("a", b"1")
        assert not await data.set("a", b"1", entry_id=12345), "there is no such entry"
        assert await data.get("a") == b"1"
        assert await data.list("a") == [("a", b"1")]
        assert await data.delete("a")
        assert await data.get("a") is None

    plugin = type("P", (Plugin,), {"name": "p", "start": start})
    async with running_plugins(plugin, services=plugin_services(data=StoredPluginData(store))):
        pass


async def test_a_full_disk_holds_it_up_and_does_not_end_it(
    store: Store, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    write = store.write
    left = 5

    async def full(unit: Any, *, key: str) -> Any:
        nonlocal left
        if key.startswith("plugin:") and left:
            left -= 1
            raise DiskFull("no space left")
        return await write(unit, key=key)

    async def during() -> None:
        monkeypatch.setattr(store, "write", full)
        await record(store, ("me", STORED, 1), ("you", STORED, 2))

    await run_for(store, 3600, listener(seen, fails=lambda event: event.account == "you"), during=during)
    assert not left
    assert ("me", 1) in seen
    assert await store.read(lambda tx: tx.events.accounts_behind("listener")) == {}
    assert await store.read(lambda tx: tx.events.count_dead("listener")) == 1
