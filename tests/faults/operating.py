"""An operator whose commands are cut short by the server's end, and who repeats them when it is back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio
from msgspec import Struct

from load import Ledger
from mailcrane.admin.client import ControlClient, NotRunning
from mailcrane.admin.errors import AdminError
from mailcrane.admin.hold_rules import AddHoldRule, ApplyHoldRule, RemoveHoldRule
from mailcrane.admin.operations import (
    HOLD_RULE_ADD,
    HOLD_RULE_APPLY,
    HOLD_RULE_REMOVE,
    QUEUE_END,
    QUEUE_HOLD,
    QUEUE_SCHEDULE,
    WEBHOOK_CALL_CANCEL,
    WEBHOOK_CALL_RETIRED_LIST,
    WEBHOOK_REPLAY_CALLS,
    WEBHOOK_REPLAY_RANGE,
    Operation,
)
from mailcrane.admin.queue_changes import ChangedMany, EndEntries, Position, Schedule, SetHold
from mailcrane.admin.queue_filter import EntryFilter
from mailcrane.admin.webhook_replay import ReplayCalls, ReplayRange
from mailcrane.admin.webhooks import CancelCalls, ListRetiredCalls

_PAUSE_SECONDS = 0.2


class Operator:
    """Gives orders over the control socket.

    Args:
        control: The socket.
        ledger: Is told of what may be posted more than once because of it.
    """

    def __init__(self, control: Path, ledger: Ledger) -> None:
        self._control = control
        self._ledger = ledger

    async def work(self, round_: Callable[[], None]) -> None:
        """Give the same orders again and again, as long as there is a server."""
        while True:
            await trio.sleep(_PAUSE_SECONDS)
            try:
                await trio.to_thread.run_sync(round_)
            except NotRunning:
                continue
            except AdminError as error:
                if error.code != "gone":
                    raise

    def queue_round(self) -> None:
        """Hold by a new rule, fail, drop, move; post again what was given up; take the rule away, and release."""
        client = ControlClient(self._control)
        try:
            rule = self._hold(client)
            self._end(client)
            self._replay_dead(client)
            client.call(HOLD_RULE_REMOVE.name, RemoveHoldRule(id=rule), HOLD_RULE_REMOVE.answer)
            soft = EntryFilter(forward_path="soft-")
            _in_pieces(client, QUEUE_HOLD, lambda position: SetHold(filter=soft, is_held=False, position=position))
        finally:
            client.close()

    def webhook_round(self) -> None:
        """Cancel the calls that wait, and post all events again."""
        client = ControlClient(self._control)
        try:
            after = 0
            while True:
                request = CancelCalls(account="ann", next_attempt=">20s", after_id=after)
                after = client.call(WEBHOOK_CALL_CANCEL.name, request, WEBHOOK_CALL_CANCEL.answer).next_after_id
                if not after:
                    break
            self._ledger.replays += 1
            replay = ReplayRange(account="ann")
            while True:
                answer = client.call(WEBHOOK_REPLAY_RANGE.name, replay, WEBHOOK_REPLAY_RANGE.answer)
                if not answer.next_after_number:
                    break
                replay = ReplayRange(
                    account="ann", after_number=answer.next_after_number, until_number=answer.until_number
                )
        finally:
            client.close()

    def finish(self) -> None:
        """Give the orders of `queue_round` to their end, and let the rule be."""
        client = ControlClient(self._control)
        try:
            self._hold(client)
            self._end(client)
            self._replay_dead(client)
        finally:
            client.close()

    def _hold(self, client: ControlClient) -> int:
        request = AddHoldRule(recipient_domain="soft.example")
        rule: int = client.call(HOLD_RULE_ADD.name, request, HOLD_RULE_ADD.answer).rule.id
        _in_pieces(client, HOLD_RULE_APPLY, lambda position: ApplyHoldRule(id=rule, position=position))
        return rule

    def _end(self, client: ControlClient) -> None:
        failing, dropping, moved = (EntryFilter(forward_path=f"{kind}-") for kind in ("fail", "drop", "soft"))
        _in_pieces(client, QUEUE_END, lambda position: EndEntries(filter=failing, is_failure=True, position=position))
        _in_pieces(client, QUEUE_END, lambda position: EndEntries(filter=dropping, is_failure=False, position=position))
        _in_pieces(client, QUEUE_SCHEDULE, lambda position: Schedule(filter=moved, duration="1m", position=position))

    def _replay_dead(self, client: ControlClient) -> None:
        listed = client.call(
            WEBHOOK_CALL_RETIRED_LIST.name,
            ListRetiredCalls(account="ann", is_dead=True, limit=100),
            WEBHOOK_CALL_RETIRED_LIST.answer,
        )
        if listed.calls:
            request = ReplayCalls(ids=tuple(call.id for call in listed.calls))
            client.call(WEBHOOK_REPLAY_CALLS.name, request, WEBHOOK_REPLAY_CALLS.answer)


def _in_pieces(
    client: ControlClient, operation: Operation[Any, ChangedMany], request: Callable[[Position | None], Struct]
) -> None:
    position = None
    while True:
        position = client.call(operation.name, request(position), operation.answer).position
        if position is None:
            return
