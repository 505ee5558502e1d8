"""What a server has promised, held against what it left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from load import Ledger, Message, kind_of, token_of
from mailcrane.model.delivery import Attempt, Outcome
from mailcrane.model.event import OUTGOING_EVENT_KINDS, Event, EventKind, is_plugin_kind
from mailcrane.model.retired import Retired
from mailcrane.model.suppression import base_address
from mailcrane.retire.bounce import DELAYED_AFTER
from peers import Receiver, Sink
from state import ACCOUNTS, State

SEEN = "witness.seen"
"""The event that the plugin records, of every so many-th entry that is delivered."""
SEEN_EVERY = 4

_FAILURES = {EventKind.FAILED, EventKind.SUPPRESSED}
# How entries of a kind may end; the others are delivered. The first that is refused puts its address on the list for
# all that are the same up to the hyphen.
_ENDS = {
    "soft": {EventKind.FAILED},
    "cut": {EventKind.FAILED},
    "hard": _FAILURES,
    "gone": _FAILURES,
    "sulk": _FAILURES,
    "fail": {EventKind.FAILED},
    "drop": {EventKind.CANCELED},
}


def problems(
    state: State, ledger: Ledger, sink: Sink, receiver: Receiver, told: list[str], *, is_at_rest: bool
) -> list[str]:
    """Return what was promised and does not hold; empty when all does.

    Args:
        state: After the server is gone.
        ledger: What the clients were answered.
        sink: What the next hop took.
        receiver: What it was called for.
        told: Ids of the events that the plugin was told of.
        is_at_rest: Whether the server had done before all that was due.
    """
    found = [f"content is not what was sent: {what}" for what in state.spoiled]
    found += [f"next hop got something else than was sent for {path}" for path in sink.spoiled]
    found += [f"more than one entry for {path}" for path in state.repeated]
    for message in ledger.messages.values():
        found += _problems_of_message(message, state, sink, is_at_rest=is_at_rest)
    unknown = {*state.copies, *map(token_of, [*state.entries, *state.retired])} - {*ledger.messages}
    found += [f"nobody sent {token}" for token in unknown]
    found += _problems_of_events(state)
    found += _problems_of_notices(state)
    found += _problems_of_suppression(state)
    found += _problems_of_submissions(state, ledger)
    found += _problems_of_webhooks(state, ledger, receiver, is_at_rest=is_at_rest)
    ids = {event.id for event in state.events}
    found += [f"plugin was told of {one}, which is not stored" for one in set(told) - ids]
    if is_at_rest:
        found += [f"plugin is behind at account {account!r}" for account in state.behind]
        found += [f"plugin was not told of {one}" for one in ids - set(told) - state.dead]
        found += _problems_of_plugin(state)
    if is_at_rest and ledger.is_operated:
        found += _problems_of_orders(state)
    return found


def _problems_of_message(message: Message, state: State, sink: Sink, *, is_at_rest: bool) -> list[str]:
    what = f"{message.way} {message.token}"
    if message.way == "folder":
        copies = state.copies[message.token]
        if message.is_answered and not copies:
            return [f"{what} was answered and is lost"]
        return [f"{what} is in the folder {copies} times"] if copies > 1 else []
    present = [path for path in message.paths if path in state.entries or path in state.retired]
    found = []
    if message.is_answered and len(present) != len(message.paths):
        found.append(f"{what} was answered and is lost; there is {present} of {message.paths}")
    elif present and len(present) != len(message.paths):
        found.append(f"{what} is there for some recipients only: {present}")
    for path in message.paths:
        found += [f"{what}: {path}: {problem}" for problem in _problems_of_path(path, state, sink, is_at_rest)]
    return found


def _problems_of_path(path: str, state: State, sink: Sink, is_at_rest: bool) -> list[str]:
    taken = sink.accepted[path]
    if path in state.retired:
        return _problems_of_retired(path, state.retired[path], taken)
    if path not in state.entries:
        return [f"delivered {taken} times and not stored"] if taken else []
    entry, attempts = state.entries[path]
    found = []
    if taken > len(attempts):
        found.append(f"delivered {taken} times in {len(attempts)} attempts")
    if kind_of(path) in {"fail", "drop"} and (attempts or not entry.is_held):
        found.append(f"is to be held, and has {attempts}")
    if is_at_rest and not entry.is_held:
        if entry.due_at <= state.at or not attempts:
            found.append(f"is not attempted although due at {entry.due_at}")
        outcomes = {attempt.result.outcome for attempt in attempts if attempt.result is not None}
        # What is slow was perhaps waited for no longer when the server stopped.
        if outcomes - ({Outcome.DEFERRED} if kind_of(path) in {"soft", "cut", "slow"} else set()):
            found.append(f"waits after {attempts}")
    return found


def _problems_of_retired(path: str, retired: Retired, taken: int) -> list[str]:
    allowed = _ENDS.get(kind_of(path), {EventKind.DELIVERED})
    found = [] if retired.event in allowed else [f"retired as {retired.event}"]
    interrupted = sum(attempt.result is None or attempt.result.is_maybe_delivered for attempt in retired.attempts)
    least, most = 0, 0
    if EventKind.DELIVERED in allowed:
        least, most = 1, 1 + interrupted
    elif kind_of(path) == "cut":
        # No attempt knows whether it was the one.
        most = len(retired.attempts)
    if not least <= taken <= most:
        found.append(f"retired as {retired.event}, delivered {taken} times, interrupted {interrupted} times")
    return found


# --- what is told of it -----------------------------------------------------------------------------------------


def _problems_of_events(state: State) -> list[str]:
    found = []
    for account in ACCOUNTS:
        numbers = [event.number for event in state.events if event.account == account]
        if numbers != list(range(1, len(numbers) + 1)):
            found.append(f"feed of {account!r} has a hole: {numbers}")
    # Notifications, which nobody sent, are stored for the account that sends.
    stored = sum(event.kind is EventKind.MESSAGE_STORED and event.account == "bob" for event in state.events)
    if stored != state.copies.total():
        found.append(f"{state.copies.total()} messages in the folder, {stored} events")
    expected: Counter[tuple[int, EventKind]] = Counter()
    for path, retired in state.retired.items():
        expected.update(_expected(path, retired.entry.id, retired.attempts, EventKind(retired.event)))
    for path, (entry, attempts) in state.entries.items():
        expected.update(_expected(path, entry.id, attempts, None))
    expected.update((retired.call.entry_id, EventKind.WEBHOOK_RETIRED) for retired in state.retired_calls)
    kinds = Counter((event.entry_id, event.kind) for event in state.events if event.entry_id and _is_counted(event))
    settling = _settling(state)
    for key in {*expected, *kinds}:
        # What the transport reported may be stored, and what it means not yet.
        if kinds[key] != expected[key] and not (key[0] in settling and kinds[key] == expected[key] - 1):
            found.append(f"entry {key[0]} has {kinds[key]} events {key[1]}, not {expected[key]}")
    return found + _problems_of_holds(state)


def _is_counted(event: Event) -> bool:
    """Whether it is known how many of them an entry has."""
    is_of_list = event.kind is EventKind.SUPPRESSION_CHANGED
    return not is_of_list and event.kind is not EventKind.ENTRY_CHANGED and not is_plugin_kind(event.kind)


def _settling(state: State) -> set[int]:
    return {entry.id for entry, attempts in state.entries.values() if attempts and attempts[-1].result is not None}


def _expected(
    path: str, entry_id: int, attempts: Sequence[Attempt], end: EventKind | None
) -> dict[tuple[int, EventKind], int]:
    deferred = sum(map(_is_deferred, attempts))
    is_by_hand = kind_of(path) in {"fail", "drop"}
    counts = {
        EventKind.MESSAGE_QUEUED: 1,
        EventKind.DELAYED: deferred,
        EventKind.ATTEMPT_FINISHED: deferred + (end is not None and not is_by_hand),
        EventKind.MESSAGE_STORED: _is_late(attempts) + (end in _FAILURES),
    }
    if end is not None:
        counts |= {end: 1, EventKind.ENTRY_RETIRED: 1}
    return {(entry_id, kind): count for kind, count in counts.items() if count}


def _is_deferred(attempt: Attempt) -> bool:
    return attempt.result is not None and attempt.result.outcome is Outcome.DEFERRED


def _is_late(attempts: Sequence[Attempt]) -> bool:
    """Whether the sender was to be told, once, that it takes long."""
    return any(_is_deferred(attempt) and attempt.number >= DELAYED_AFTER for attempt in attempts)


def _problems_of_holds(state: State) -> list[str]:
    """Whoever reads the events knows what is held."""
    held: dict[int, bool] = {}
    for event in state.events:
        if event.kind is EventKind.MESSAGE_QUEUED:
            held[event.entry_id] = bool(event.data.get("held_by"))
        elif event.kind is EventKind.ENTRY_CHANGED and event.data["change"] in {"held", "released"}:
            held[event.entry_id] = event.data["after"]
    return [
        f"entry {entry.id} is held: {entry.is_held}, which its events do not say"
        for entry, _ in state.entries.values()
        if held.get(entry.id) != entry.is_held
    ]


def _problems_of_notices(state: State) -> list[str]:
    """Whoever sent what fails finds one notification of it, and one of what takes long."""
    expected: Counter[tuple[str, str]] = Counter()
    for path, retired in state.retired.items():
        expected[path, "failed"] = int(retired.event in _FAILURES)
        expected[path, "delayed"] = int(_is_late(retired.attempts))
    undecided = set()
    for path, (_, attempts) in state.entries.items():
        expected[path, "delayed"] = int(_is_late(attempts))
        # What the transport reported last may be stored, and what it means not yet.
        if _is_late(attempts) and not _is_late(attempts[:-1]):
            undecided.add((path, "delayed"))
    return [
        f"the sender was told {state.notices[key]} times that {key[0]} is {key[1]}, not {expected[key]} times"
        for key in {*expected, *state.notices}
        if state.notices[key] != expected[key] and not (key in undecided and not state.notices[key])
    ]


def _problems_of_suppression(state: State) -> list[str]:
    refused: dict[str, list[Retired]] = {}
    for path, retired in state.retired.items():
        if kind_of(path) in {"hard", "gone", "sulk"} and retired.event == EventKind.FAILED:
            refused.setdefault(base_address(retired.entry.forward_path), []).append(retired)
    listed = [one.base_address for one in state.suppressed]
    if sorted(listed) != sorted(refused):
        return [f"{sorted(refused)} were refused, and the suppression list has {sorted(listed)}"]
    found = []
    for one in state.suppressed:
        ids = {retired.entry.id for retired in refused[one.base_address]}
        if one.evidence is None or one.evidence.entry_id not in ids:
            found.append(f"{one.base_address} is on the list for {one.evidence}")
        found += [
            f"entry {retired.entry.id} was attempted although its recipient was on the list"
            for retired in refused[one.base_address]
            if retired.attempts[-1].started_at > one.created_at
        ]
    changes = sum(event.kind is EventKind.SUPPRESSION_CHANGED for event in state.events)
    if changes != len(listed):
        found.append(f"{len(listed)} addresses on the list, {changes} events")
    counted = {
        path: 1
        for path, retired in state.retired.items()
        if retired.event == EventKind.FAILED and kind_of(path) in {"hard", "gone", "sulk", "soft", "cut"}
    }
    found += [
        f"{state.failures.get(path, 0)} failures of {path} are counted, not {counted.get(path, 0)}"
        for path in {*state.failures, *counted}
        if state.failures.get(path) != counted.get(path)
    ]
    return found


def _problems_of_submissions(state: State, ledger: Ledger) -> list[str]:
    """What belongs to the commit of a submission: its counters, and the answer under its key."""
    found, stored = [], 0
    for message in ledger.messages.values():
        if message.way == "send":
            present = sum(path in state.entries or path in state.retired for path in message.paths)
            stored += present
            if bool(present) != state.keys.get(message.token, False):
                found.append(f"{message.token} has {present} entries, and its key {state.keys.get(message.token)}")
    if state.counted != (stored, stored):
        found.append(f"{stored} were submitted to new recipients, and {state.counted} are counted")
    has_reached = any(_has_reached_host(attempts) for attempts in _attempts_at(state, "direct.example"))
    if state.known_tls != ({"direct.example"} if has_reached else set()):
        found.append(f"what hosts offer is remembered of {state.known_tls}")
    return found


def _attempts_at(state: State, domain: str) -> Iterator[Sequence[Attempt]]:
    for path, retired in state.retired.items():
        if path.endswith(f"@{domain}"):
            yield retired.attempts
    for path, (_, attempts) in state.entries.items():
        if path.endswith(f"@{domain}"):
            yield attempts


def _has_reached_host(attempts: Sequence[Attempt]) -> bool:
    return any(attempt.result is not None and attempt.result.tls is not None for attempt in attempts)


def _problems_of_webhooks(state: State, ledger: Ledger, receiver: Receiver, *, is_at_rest: bool) -> list[str]:
    found = [f"{one} told of two things" for one in receiver.contradictions]
    outgoing = {
        event.id: (event.entry_id, event.kind.value)
        for event in state.events
        if event.kind in OUTGOING_EVENT_KINDS or is_plugin_kind(event.kind)
    }
    for one, told in receiver.told.items():
        if outgoing.get(one) != told:
            found.append(f"webhook {one} told of {told}, stored is {outgoing.get(one)}")
    canceled = {
        event.data["call_id"]
        for event in state.events
        if event.kind is EventKind.WEBHOOK_RETIRED and event.data["canceled_by"]
    }
    ended = {retired.call.event_id for retired in state.retired_calls if retired.call.id not in canceled}
    queued = Counter(call.event_id for call in state.calls)
    made = queued + Counter(retired.call.event_id for retired in state.retired_calls)
    # A call that was given up is taken off the list of those when it is replayed.
    replayed = Counter(
        retired.call.event_id
        for retired in state.retired_calls
        if not retired.is_success and not retired.is_dead and retired.call.id not in canceled
    )
    for one, count in made.items():
        if count > 1 + replayed[one] + ledger.replays:
            found.append(f"{count} calls for {one}, of which {replayed[one]} were replayed")
    found += [f"{one} is taken for called" for one in ended if one not in receiver.told]
    told_without_call = {retired.call.event_id for retired in state.retired_calls}
    for one in outgoing:
        if not {one} & {*receiver.told, *queued, *state.pending, *told_without_call}:
            found.append(f"no webhook for {one}")
        if one in queued and one in state.pending and not ledger.replays:
            found.append(f"{one} is pending although its call is queued")
    if is_at_rest:
        found += [f"{one} is still pending" for one in state.pending]
        found += [f"call {call.id} is due at {call.due_at}" for call in state.calls if call.due_at <= state.at]
    return found


def _problems_of_plugin(state: State) -> list[str]:
    seen = {event.entry_id for event in state.events if event.kind == SEEN}
    delivered = {event.entry_id for event in state.events if event.kind is EventKind.DELIVERED}
    wanted = {entry_id for entry_id in delivered if entry_id % SEEN_EVERY == 0}
    return [f"the plugin has no event of entry {entry_id}" for entry_id in wanted - seen]


def _problems_of_orders(state: State) -> list[str]:
    """What the operator has ordered, and repeated where it was interrupted, is done."""
    found = [f"{path} is still queued" for path in state.entries if kind_of(path) in {"fail", "drop"}]
    found += [
        f"{path} is not held by the rule"
        for path, (entry, _) in state.entries.items()
        if kind_of(path) == "soft" and not entry.is_held
    ]
    if state.dead_calls:
        found.append(f"{state.dead_calls} calls that were given up are not replayed")
    return found
