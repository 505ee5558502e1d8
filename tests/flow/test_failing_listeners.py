"""Every hook that is told of events, on the real server: told again after a failure, set aside in the end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from mailcrane.model.address import Mailbox
from mailcrane.model.event import Event, EventKind
from mailcrane.model.retired import Retired
from mailcrane.plugin.base import Plugin
from mailcrane.plugin.notify import HOOK_OF_KIND, RETRY_DELAYS, Notifier, Replayed
from mailcrane.plugin.policy import Kind, hookimpl
from mailcrane.plugin.spec import hook_spec, hook_specs
from mailcrane.retire.suppression import SuppressionLists
from mailcrane.testing.failures import FAILURES, Failure

from .conftest import Stage, impatient_with

KIND_OF_HOOK = {hook: kind for kind, hook in HOOK_OF_KIND.items()}

LISTENED = [spec.name for spec in hook_specs() if spec.policy.kind is Kind.NOTIFY]


async def receive(stage: Stage) -> None:
    assert (await stage.receive()).folders == ("ann/Inbox",)


async def submit(stage: Stage) -> None:
    assert (await stage.submit()).finished["outcome"] == "delivered"


async def suppress(stage: Stage) -> None:
    lists = SuppressionLists(stage.running.store)
    address = Mailbox(f"number{len(await lists.list('ann'))}", "there.example")
    await lists.add("ann", address, is_manual=True, reason="by hand")


# What brings about an event, and what its details have at least.
ROWS: dict[str, tuple[Callable[[Stage], Awaitable[None]], set[str]]] = {
    "message_stored": (receive, {"message_id", "folder", "uid", "size_octets", "reverse_path"}),
    "message_queued": (submit, {"message_id", "reverse_path", "forward_path", "size_octets"}),
    "attempt_finished": (submit, {"attempt", "transport", "outcome", "code", "error", "remote_mta"}),
    "entry_retired": (submit, set()),
    "event_recorded": (receive, set()),
    "suppression_changed": (suppress, {"change", "address", "reason", "origin"}),
    "webhook_retired": (submit, {"call_id", "url", "event", "is_success", "code", "attempts"}),
}


class Ledger:
    """What a listener was told.

    Attributes:
        tries: Every call, those that failed too.
        failures: How often it fails yet, always at the same event.
        fails_at: Id of that event; empty until it comes.
    """

    def __init__(self, name: str, hook: str) -> None:
        self.name = name
        self.hook = hook
        self.tries: list[str] = []
        self.told: list[Event] = []
        self.retired: list[Retired | None] = []
        self.failure: Failure | None = None
        self.failures = 0
        self.fails_at = ""

    @property
    def plugin(self) -> type[Plugin]:
        ledger = self

        async def listen(event: Event) -> Any:
            ledger.tries.append(event.id)
            if ledger.failure is not None and ledger.failures and ledger.fails_at in {"", event.id}:
                ledger.failures -= 1
                ledger.fails_at = event.id
                return await ledger.failure(None)
            ledger.told.append(event)
            return None

        async def with_event(self: Plugin, event: Event) -> Any:
            return await listen(event)

        async def with_retired(self: Plugin, event: Event, retired: Retired | None) -> Any:
            ledger.retired.append(retired)
            return await listen(event)

        implementation = with_retired if self.hook == "entry_retired" else with_event
        return type("Listener", (Plugin,), {"name": self.name, self.hook: hookimpl(implementation)})


def test_every_hook_that_is_told_is_in_the_table() -> None:
    assert sorted(ROWS) == sorted(LISTENED)


@pytest.mark.parametrize("hook", LISTENED)
async def test_a_listener_is_told_what_is_stated(hook: str, autojump_clock: trio.testing.MockClock) -> None:
    bring_about, keys = ROWS[hook]
    stage, ledger = Stage("place_message"), Ledger("ledger", hook)
    async with stage.run(ledger.plugin):
        await bring_about(stage)
        await trio.sleep(10)
        events = await stage.running.events("ann")
    if hook == "event_recorded":
        assert ledger.told == events
        return
    (event,) = ledger.told
    assert event.kind is KIND_OF_HOOK[hook]
    assert keys <= event.data.keys()
    if hook == "entry_retired":
        (retired,) = ledger.retired
        assert retired is not None
        assert retired.entry.id == event.entry_id


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.__name__)
@pytest.mark.parametrize("hook", LISTENED)
async def test_a_failing_listener_is_told_again_and_then_passed_over(
    hook: str, failure: Failure, autojump_clock: trio.testing.MockClock
) -> None:
    bring_about, _ = ROWS[hook]
    spec = hook_spec(hook)
    assert spec is not None
    stage = Stage("place_message")
    odd, well = Ledger("listener", hook), Ledger("well", hook)
    async with stage.run(odd.plugin, well.plugin) as running:
        store = running.store
        odd.failure = failure
        with impatient_with(failure):
            # Once: it is told again a second later.
            odd.failures = 1
            await bring_about(stage)
            await trio.sleep(spec.policy.timeout + 10)
            assert ids(odd.told) == ids(well.told) != []
            assert odd.tries == [odd.fails_at, *ids(odd.told)]

            # For ever: the message and the other listener notice nothing; the later events of the account wait.
            odd.failures, odd.fails_at, done = 1000, "", len(well.told)
            await bring_about(stage)
            await bring_about(stage)
            await trio.sleep(10)
            assert len(well.told) == done + 2
            assert len(odd.told) == done
            await trio.sleep(sum(RETRY_DELAYS) + spec.policy.timeout * (len(RETRY_DELAYS) + 1))
        assert odd.tries.count(odd.fails_at) == len(RETRY_DELAYS) + 1
        assert ids(odd.told) == [told for told in ids(well.told) if told != odd.fails_at]
        assert await store.read(lambda transaction: transaction.events.accounts_behind("listener")) == {}
        (letter,) = await store.read(lambda transaction: transaction.events.dead("listener"))
        assert letter.event.id == odd.fails_at
        assert letter.error.startswith(f"{hook}: ")

        # When it is mended, what was set aside can be replayed.
        odd.failures = 0
        notifier = Notifier(store, running.server.host.hooks)
        assert await notifier.replay("listener") == Replayed(told=1, failed=0)
        assert odd.told[-1].id == letter.event.id
        assert await store.read(lambda transaction: transaction.events.count_dead("listener")) == 0


def ids(events: list[Event]) -> list[str]:
    return [event.id for event in events]


def test_every_kind_of_hook_has_its_kind_of_event() -> None:
    assert set(KIND_OF_HOOK) == set(LISTENED) - {"event_recorded"}
    assert all(isinstance(kind, EventKind) for kind in KIND_OF_HOOK.values())
