"""The kill points: every unit that is committed on a message's way, from its last octet to its last webhook.

`POINTS` is what `test_kill_points.py` kills a server at. Two tests hold it to the code: one finds every call in the
source that writes, the other records what a running server commits; what is not listed here fails them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from mailcrane.model.idempotency import Claim
from mailcrane.store.records import Begun


def _always(unit: Callable[..., Any], result: Any) -> bool:
    return True


def _has_result(unit: Callable[..., Any], result: Any) -> bool:
    """Leasing is committed also when nothing is due; only what was leased counts, which comes first in a result."""
    first = result[0] if isinstance(result, tuple) else result
    return bool(first.deliveries if isinstance(first, Begun) else first)


def _begins_calls(unit: Callable[..., Any], result: Any) -> bool:
    """What is leased and postponed at once, because it waits for an earlier call, does not begin."""
    return bool(result[1])


def _has_count(unit: Callable[..., Any], result: Any) -> bool:
    return bool(result[0])


def _is_claim(unit: Callable[..., Any], result: Any) -> bool:
    return isinstance(result, Claim)


def _is_failed(unit: Callable[..., Any], result: Any) -> bool:
    return any(ending.due_at is None and not ending.is_suppressed for ending in _endings(unit))


def _is_suppressed(unit: Callable[..., Any], result: Any) -> bool:
    return any(ending.is_suppressed for ending in _endings(unit))


def _is_deferred(unit: Callable[..., Any], result: Any) -> bool:
    return any(ending.due_at is not None for ending in _endings(unit))


def _is_told_late(unit: Callable[..., Any], result: Any) -> bool:
    return any(ending.due_at is not None and ending.bounce is not None for ending in _endings(unit))


def _holds_by_rule(unit: Callable[..., Any], result: Any) -> bool:
    assert isinstance(unit, functools.partial)
    edit = unit.keywords["edit"]
    return bool(result) and isinstance(edit, functools.partial) and "rule" in edit.keywords


def _edits(unit: Callable[..., Any], result: Any) -> bool:
    return bool(result) and not _holds_by_rule(unit, result)


def _endings(unit: Callable[..., Any]) -> Any:
    assert isinstance(unit, functools.partial)
    return unit.keywords["endings"]


@dataclass(frozen=True)
class Point:
    """A unit whose commit a server can be killed before or after.

    Attributes:
        name: For people.
        written_in: ``module:function`` of the code that hands the unit to the store.
        unit: ``module:function`` of the unit itself.
        key: What the unit's key begins with.
        counts: Whether a run of the unit, with its result, is one that the point means.
        hits: Which runs of the unit the server is killed at, each in a life of its own.
        needs: Another point that is killed at in the life before, where a unit only finds work after a crash there.
        load: What the clients send: ``mixed``; ``large``: also much that is staged; ``slow``: also what the next hop is
            slow to take; ``stopping``: some of it before it has the content;
            ``trouble``: also what the plugin fails at; ``late``: with attempts that soon follow each
            other; ``operator`` and ``replay``: while somebody looks after the queue, or after webhooks.
        is_stopping: Whether the server is asked to stop once mail is under way.
    """

    name: str
    written_in: str
    unit: str
    key: str = ""
    counts: Callable[[Callable[..., Any], Any], bool] = _always
    hits: tuple[int, ...] = (1, 4, 11)
    needs: str = ""
    load: str = "mixed"
    is_stopping: bool = False


# What is run once in a life of the server: killed there in three lives, after the life before ended at another hit.
_ONCE_A_LIFE: Final = (1, 1, 1)

_RECEIVE: Final = "mailcrane.receive.incoming:IncomingReceiver._decide_and_store"
_SUBMIT: Final = "mailcrane.receive.submission:SubmissionReceiver._submit"
_KEYS: Final = "mailcrane.receive.idempotency:IdempotencyKeys"
_SCHEDULER: Final = "mailcrane.queue.scheduler:Scheduler"
_ATTEMPTER: Final = "mailcrane.queue.attempt:Attempter"
_CALLER: Final = "mailcrane.webhook.caller:WebhookCaller"
_SETTLER: Final = "mailcrane.webhook.settling:Settler"
_DISPATCH: Final = "mailcrane.webhook.dispatcher:Dispatcher.dispatch_pending"
_FEED: Final = "mailcrane.plugin.notify:_Feed"
_STAGED: Final = "mailcrane.store.content:StagedContent"
_PREPARE: Final = "mailcrane.transport.prepare:ContentPreparer.prepare"
_RECORDER: Final = "mailcrane.retire.recording:PluginEventRecorder"
_REPLAY: Final = "mailcrane.webhook.dispatcher:Dispatcher.replay"
_CHANGE: Final = "mailcrane.admin.entry_changes:change_entries"
_END: Final = "mailcrane.retire.ending:end_attempts"

POINTS: Final = (
    # --- taking a message ---
    Point("key of a call claimed", f"{_KEYS}.claim", f"{_KEYS}.claim.<locals>.claim", counts=_is_claim),
    Point("submitted message", _SUBMIT, f"{_SUBMIT}.<locals>.<lambda>"),
    Point(
        "keys of dead calls freed",
        f"{_KEYS}.free_dead",
        f"{_KEYS}.free_dead.<locals>.<lambda>",
        counts=_has_result,
        hits=_ONCE_A_LIFE,
        needs="key of a call claimed",
    ),
    Point("message into a folder", _RECEIVE, f"{_RECEIVE}.<locals>.<lambda>", key="account:"),
    Point("message into the queue", _RECEIVE, f"{_RECEIVE}.<locals>.<lambda>", key="queue"),
    Point(
        "chunk of a large message",
        f"{_STAGED}._store_chunk",
        f"{_STAGED}._store_chunk.<locals>.unit",
        hits=(1, 2, 5),
        load="large",
    ),
    Point(
        "large message not wanted",
        f"{_STAGED}.drop",
        f"{_STAGED}.drop.<locals>.<lambda>",
        hits=(1, 2, 4),
        load="large",
    ),
    # --- the queue ---
    Point(
        "leases of the queue freed",
        f"{_SCHEDULER}.run",
        f"{_SCHEDULER}.run.<locals>.<lambda>",
        counts=_has_result,
        hits=_ONCE_A_LIFE,
        needs="attempts begun",
    ),
    Point("attempts begun", f"{_SCHEDULER}._lease", f"{_SCHEDULER}._lease.<locals>.begin", counts=_has_result),
    Point(
        "leases made longer",
        f"{_SCHEDULER}._renew_leases",
        "mailcrane.queue.scheduler:_renew",
        hits=(1, 2, 3),
        load="slow",
    ),
    Point(
        "attempt put back by a stop",
        f"{_SCHEDULER}._put_back",
        f"{_SCHEDULER}._put_back.<locals>.put_back",
        hits=_ONCE_A_LIFE,
        load="stopping",
        is_stopping=True,
    ),
    Point(
        "attempt taken back",
        f"{_ATTEMPTER}._take_back",
        f"{_ATTEMPTER}._take_back.<locals>.abandon",
        hits=_ONCE_A_LIFE,
        load="slow",
    ),
    Point("signed header kept", _PREPARE, "mailcrane.transport.prepare:Prepared.store", hits=(1, 2, 3)),
    Point("attempt settled", f"{_ATTEMPTER}._settle", f"{_ATTEMPTER}._settle.<locals>.settle", hits=(1, 2, 5)),
    Point(
        "settled attempts taken up again",
        f"{_SCHEDULER}._resume",
        f"{_SCHEDULER}._resume.<locals>.resume",
        counts=_has_result,
        hits=_ONCE_A_LIFE,
        needs="attempt settled",
    ),
    Point("entry deferred", f"{_ATTEMPTER}._end", _END, counts=_is_deferred, hits=(1, 2, 5)),
    Point(
        "sender told that it is late",
        f"{_ATTEMPTER}._end",
        _END,
        counts=_is_told_late,
        hits=(1, 2, 3),
        load="late",
    ),
    Point("failed entry retired", f"{_ATTEMPTER}._end", _END, counts=_is_failed, hits=_ONCE_A_LIFE),
    Point("suppressed entry retired", f"{_ATTEMPTER}._end", _END, counts=_is_suppressed, hits=(1, 2, 3)),
    Point("delivered entry retired", f"{_ATTEMPTER}._end_delivered", f"{_ATTEMPTER}._end_delivered.<locals>.end"),
    # --- what is told of it ---
    Point("webhooks queued", _DISPATCH, f"{_DISPATCH}.<locals>.<lambda>", hits=(1, 3, 7)),
    Point(
        "leases of webhooks freed",
        f"{_CALLER}.run",
        f"{_CALLER}.run.<locals>.<lambda>",
        counts=_has_result,
        hits=_ONCE_A_LIFE,
        needs="webhook call begun",
    ),
    Point(
        "webhook call begun",
        f"{_CALLER}._start_some",
        f"{_CALLER}._start_some.<locals>.lease",
        counts=_begins_calls,
        hits=(1, 2, 4),
    ),
    Point("webhook call settled", f"{_SETTLER}._commit", f"{_SETTLER}._commit.<locals>.unit"),
    Point(
        "plugin begins at the present",
        f"{_FEED}.begin",
        f"{_FEED}.begin.<locals>.<lambda>",
        hits=_ONCE_A_LIFE,
        needs="plugin told of events",
    ),
    Point("plugin told of events", f"{_FEED}._advance", f"{_FEED}._advance.<locals>.advance", hits=(1, 2, 3)),
    Point(
        "event set aside for a plugin",
        f"{_FEED}._set_aside",
        f"{_FEED}._set_aside.<locals>.set_aside",
        hits=(1, 2, 3),
        load="trouble",
    ),
    Point(
        "event of a plugin recorded",
        f"{_RECORDER}.record",
        f"{_RECORDER}.record.<locals>.<lambda>",
        hits=(1, 3, 6),
    ),
    # --- an operator ---
    Point(
        "entries held by a rule",
        "mailcrane.admin.entry_changes:changing.act",
        _CHANGE,
        counts=_holds_by_rule,
        hits=(1, 2, 3),
        load="operator",
    ),
    Point(
        "entries changed",
        "mailcrane.admin.entry_changes:changing.act",
        _CHANGE,
        counts=_edits,
        hits=(1, 2, 3),
        load="operator",
    ),
    Point(
        "entries ended by hand",
        "mailcrane.retire.by_hand:end_by_hand",
        "mailcrane.retire.by_hand:_end",
        counts=_has_result,
        hits=(1, 3, 8),
        load="operator",
    ),
    Point(
        "call that was given up replayed",
        _REPLAY,
        f"{_REPLAY}.<locals>.unit",
        counts=_has_result,
        hits=(1, 2, 3),
        load="operator",
    ),
    Point(
        "range of events replayed",
        _REPLAY,
        f"{_REPLAY}.<locals>.unit",
        counts=_has_result,
        hits=(1, 2, 4),
        load="replay",
    ),
    Point(
        "webhook calls canceled",
        "mailcrane.admin.webhooks:_change",
        "mailcrane.admin.webhooks:_change.<locals>.unit",
        counts=_has_count,
        hits=_ONCE_A_LIFE,
        load="replay",
    ),
    # --- beside it ---
    Point(
        "old rows removed",
        "mailcrane.store.housekeeping:sweep",
        "mailcrane.store.housekeeping:sweep.<locals>.<lambda>",
        hits=(1, 3, 6),
        needs="chunk of a large message",
    ),
)

OFF_THE_WAY: Final = {
    "mailcrane.store.housekeeping:_release_expunged": "a step of `sweep`, which is a kill point",
    "mailcrane.run.server:_server_secret": "once in the life of a database",
}
"""Units that a server commits and that no message depends on, with the reason."""

WRITES_OFF_THE_WAY: Final = {
    "mailcrane.admin.administration:Administration._write": "an operator's change",
    "mailcrane.admin.hold_rules:add_hold_rule": "an operator's change, of one unit",
    "mailcrane.admin.hold_rules:remove_hold_rule": "an operator's change",
    "mailcrane.admin.suppressions:add_suppression": "an operator's change",
    "mailcrane.admin.suppressions:remove_suppression": "an operator's change",
    "mailcrane.admin.suppressions:import_suppressions": "an operator's change, which can be repeated",
    "mailcrane.retire.suppression:SuppressionLists.add": "an operator's or an application's change",
    "mailcrane.retire.suppression:SuppressionLists.remove": "an operator's or an application's change",
    "mailcrane.run.messages:Messages._delete": "an application's test, of a development server",
    "mailcrane.run.messages:Messages._delete_all": "an application's test, of a development server",
    "mailcrane.run.serve:localserve.when_bound": "the rows of a new development server",
    "mailcrane.admin.webhooks:forget_dead_calls": "an operator's change",
    "mailcrane.admin.webhooks:enable_webhook": "an operator's change",
    "mailcrane.plugin.data:StoredPluginData.set": "a plugin's own",
    "mailcrane.plugin.data:StoredPluginData.delete": "a plugin's own",
    "mailcrane.plugin.notify:_Feed.replay": "an operator's command",
    "mailcrane.store.persistence:write_persistently": "hands on the unit of its caller, which is listed",
    "mailcrane.receive.idempotency:IdempotencyKeys.complete": "what it remembers is done, and is found done again",
    "mailcrane.receive.idempotency:IdempotencyKeys.release": "of a call that failed; the end of its lease does it",
    "mailcrane.run.serve:_serve": "the rows of a new development server",
    "mailcrane.run.server:make_server": "once in the life of a database",
}
"""Calls in the source that write, and are no kill points, with the reason. `mailcrane.testing` is not looked at."""


def point(name: str) -> Point:
    """Return the point of a name."""
    return next(one for one in POINTS if one.name == name)


def name_of(unit: Callable[..., Any]) -> str:
    """Return ``module:function`` of a unit, as `Point.unit` has it."""
    while isinstance(unit, functools.partial):
        unit = unit.func
    return f"{unit.__module__}:{unit.__qualname__}"
