"""Queue entries: what is due, who holds it, what was tried.

An entry is *waiting* until a worker begins an attempt; then it is *leased*. The attempt's outcome is stored at once,
which makes it *settling*: from there it is put off or leaves the queue, and is never attempted again for the same
outcome. A lease ends by the store's clock. Its token is given with every later change; when somebody else has taken
the entry in between, an old token changes nothing.

``pick_at`` is what a worker looks for: the due time of a waiting entry; for a leased one the end of its lease or its
next due time, whichever is later; none for held and settling entries.
"""

from __future__ import annotations

import builtins
import enum
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime, timedelta

import msgspec
from msgspec import UNSET, UnsetType

from mailcrane.model.delivery import Attempt, Entry, RecipientResult
from mailcrane.store.errors import FromIdTaken
from mailcrane.store.records import Begun, Leased, NewEntry, QueueCounts, QueueFilter, Worker
from mailcrane.store.repository.accounts import Accounts
from mailcrane.store.repository.content import ContentRepository
from mailcrane.store.repository.entry_rows import (
    COLUMNS,
    FROM,
    WIDTH,
    attempt_of,
    conditions,
    entry_of,
    order,
    tristate,
)
from mailcrane.store.repository.heads import Heads
from mailcrane.store.repository.hold_rules import HoldRulesRepository
from mailcrane.store.sql import SQL, Unit, from_us, to_us

_encode = msgspec.json.Encoder().encode


_ALL = QueueFilter()

# Entries that share one delivery at most.
_MOST_MEMBERS = 1000
# Entries that begin in one unit, so that it does not hold up others; the last delivery may go beyond.
_MOST_BEGUN = 1000
# A domain without room is looked at again after this, should nobody have said before that there is room.
_PARKED_US = 60_000_000
_NEVER_US = 1 << 62


def _alone(entry: Entry) -> object:
    return entry.id


def _no_limit(domain: str, begun: int) -> int:
    return 1 << 30


def _never(domain: str) -> None:
    return None


class State(enum.IntEnum):
    """Where an entry is between two attempts."""

    WAITING = 0
    LEASED = 1
    SETTLING = 2


class QueueRepository:
    """The queue."""

    def __init__(
        self, sql: SQL, unit: Unit, accounts: Accounts, content: ContentRepository, hold_rules: HoldRulesRepository
    ) -> None:
        self._sql = sql
        self._unit = unit
        self._accounts = accounts
        self._content = content
        self._hold_rules = hold_rules
        self._heads = Heads(sql, "destination")

    # --- adding and looking -------------------------------------------------------------------------------------

    def add(self, entries: Sequence[NewEntry]) -> builtins.list[int]:
        """Add the entries of one message and return their ids, in order. Each holds a reference to its content.

        Those that a hold rule matches are held, whatever they ask for.

        When there are several with the same reverse-path, they get a common base id: the first one's.

        Raises:
            FromIdTaken: an entry or a retired one has the same id in its reverse-path.
            UnknownAccount: an account does not exist.
            UnknownContent: the content does not exist.
        """
        ids: list[int] = []
        account_ids: dict[str, int] = {}
        references: dict[int, int] = {}
        heads: dict[str, int] = {}
        is_shared = len(entries) > 1 and all(entry.reverse_path == entries[0].reverse_path for entry in entries)
        base_id = 0
        for entry in entries:
            if entry.account not in account_ids:
                account_ids[entry.account] = self._accounts.id_of(entry.account)
            rule = self._hold_rules.matching(entry.account, entry.reverse_path.domain, entry.forward_path.domain)
            hold_rule = 0 if rule is None else rule.id
            is_held = entry.is_held or rule is not None
            ids.append(self._insert(entry, account_ids[entry.account], base_id, is_held, hold_rule))
            if is_shared and not base_id:
                base_id = ids[0]
                self._sql.run("UPDATE entries SET base_id = ? WHERE id = ?", (base_id, base_id))
            references[entry.content_id] = references.get(entry.content_id, 0) + 1
            if not is_held:
                domain, due_at = entry.forward_path.domain, to_us(entry.due_at)
                heads[domain] = min(heads.get(domain, due_at), due_at)
        for content_id, count in references.items():
            self._content.retain(content_id, count)
        for domain, due_at in heads.items():
            self._heads.lower(domain, due_at)
        if heads:
            self._unit.wake("queue")
        return ids

    def get(self, entry_id: int) -> Entry | None:
        """Return an entry, or None when it is not in the queue (any more)."""
        row = self._sql.row(f"SELECT {COLUMNS} {FROM} WHERE e.id = ?", (entry_id,))
        return None if row is None else entry_of(row)

    def list(self, filter_: QueueFilter = _ALL) -> builtins.list[Entry]:
        """Return the entries that meet a filter, in its order."""
        where, parameters = conditions(filter_)
        rows = self._sql.rows(
            f"SELECT {COLUMNS} {FROM} WHERE {where} ORDER BY {order(filter_)} LIMIT ?", (*parameters, filter_.limit)
        )
        return [entry_of(row) for row in rows]

    def ids(self, filter_: QueueFilter) -> builtins.list[int]:
        """Return the ids of the entries that meet a filter, in its order."""
        where, parameters = conditions(filter_)
        rows = self._sql.rows(
            f"SELECT e.id {FROM} WHERE {where} ORDER BY {order(filter_)} LIMIT ?", (*parameters, filter_.limit)
        )
        return [entry_id for (entry_id,) in rows]

    def last_id(self) -> int:
        """Return the id of the newest entry in the queue; 0 when it is empty."""
        row = self._sql.row("SELECT COALESCE(MAX(id), 0) FROM entries")
        return 0 if row is None else int(row[0])

    def count(self, filter_: QueueFilter = _ALL) -> int:
        """Return how many entries meet a filter, whatever its limit."""
        where, parameters = conditions(filter_)
        row = self._sql.row(f"SELECT COUNT(*) {FROM} WHERE {where}", parameters)
        return 0 if row is None else int(row[0])

    def counts(self) -> QueueCounts:
        """Return how many entries there are; counted when they come and go, whoever changes them."""
        counts: dict[str, int] = dict(self._sql.rows("SELECT name, value FROM queue_counts"))
        return QueueCounts(counts["entries"], counts["held"])

    def attempts(self, entry_id: int) -> tuple[Attempt, ...]:
        """Return the attempts of an entry in the queue, the first one first."""
        rows = self._sql.rows(
            "SELECT number, started_at, transport, duration_us, result, route FROM attempts WHERE entry_id = ?"
            " ORDER BY number",
            (entry_id,),
        )
        return tuple(attempt_of(row) for row in rows)

    def next_due_at(self) -> datetime | None:
        """Return when to look for due entries next; it may be early. None when nothing waits.

        It is late only for domains that were without room, or left alone, when `begin_attempts` looked at them.
        """
        return from_us(self._heads.earliest(()))

    # --- an attempt ---------------------------------------------------------------------------------------------

    def begin_attempts(
        self,
        worker: Worker,
        until: datetime,
        limit: int,
        *,
        next_due_at: Callable[[Entry], datetime],
        shares_delivery: Callable[[Entry], object] = _alone,
        room_for: Callable[[str, int], int] = _no_limit,
        left_alone_until: Callable[[str], datetime | None] = _never,
        look_again: Collection[str] = (),
    ) -> Begun:
        """Lease entries that are due and count the attempts that begin now.

        When this unit is committed, the attempts have begun: a crash afterwards leaves them counted, without a
        result, and the entries due at the time that `next_due_at` gave.

        Domains are served in turn: the one whose first entry is due the longest, or that was served the longest ago.
        Where several have something due, each gets a share of what begins in this unit.
        What it costs depends on what begins, and not on how much is queued, held, due later or left alone.

        Args:
            worker: Who holds the leases.
            until: End of the leases.
            limit: The most deliveries that begin.
            next_due_at: When an entry is due again should this attempt not succeed; a pure function of the entry,
                whose `attempts` and `last_attempt_at` count this one already.
            shares_delivery: Entries of a domain for which this gives the same value are leased together.
            room_for: The most deliveries that may begin to a domain, when so many others begin in this unit.
            left_alone_until: When the time is over that a domain is to be left alone; None when it is not.
            look_again: Domains that were in `Begun.waiting`, or left alone, for which there may be room now.
        """
        now = self._unit.now_us
        self._heads.bring_forward(look_again, now)
        deliveries: builtins.list[tuple[Leased, ...]] = []
        waiting: set[str] = set()
        size, is_more = 0, False
        in_turn = self._heads.count_due(now, limit)
        for number, domain in enumerate(self._heads.due(now, (), limit)):
            if len(deliveries) >= limit or size >= _MOST_BEGUN:
                return Begun(tuple(deliveries), frozenset(waiting), is_more=True)
            alone_until = left_alone_until(domain)
            if alone_until is not None:
                self._heads.set(domain, to_us(alone_until))
                continue
            room = room_for(domain, len(deliveries))
            if room <= 0:
                waiting.add(domain)
                self._heads.set(domain, now + _PARKED_US)
                continue
            # What those before have left is shared out among those that are still to come.
            share = -(-(limit - len(deliveries)) // max(1, in_turn - number))
            found, next_at = self._due(domain, min(room, share), shares_delivery)
            for members in found:
                deliveries.append(self._begin(members, worker, to_us(until), next_due_at))
                size += len(members)
                next_at = min(next_at, *(max(to_us(until), to_us(one.entry.due_at)) for one in deliveries[-1]))
            if next_at <= now and len(found) >= room:
                waiting.add(domain)
                next_at = now + _PARKED_US
            elif next_at <= now:
                is_more = True
            # Not before now, also when the next one was due long ago: the others come first.
            self._heads.set(domain, max(next_at, now) if next_at < _NEVER_US else None)
        return Begun(tuple(deliveries), frozenset(waiting), is_more=is_more or len(deliveries) >= limit)

    def settle(
        self,
        entry_id: int,
        token: int,
        result: RecipientResult,
        *,
        transport: str = "",
        route: str = "",
        duration: timedelta | None = None,
    ) -> bool:
        """Store the outcome of an attempt as the transport reported it, before anything is made of it.

        The lease is kept. False: the token is old and nothing was changed.

        Args:
            entry_id: Of the entry.
            token: Of its lease.
            result: As reported.
            transport: Name of the transport that was used; empty when it came to none.
            route: Which rule or plugin chose it, in words.
            duration: How long it took; since the beginning of the attempt when None.
        """
        row = self._sql.row(
            "UPDATE entries SET state = ?, pick_at = NULL WHERE id = ? AND token = ? AND state = ?"
            " RETURNING attempts, last_attempt_at",
            (State.SETTLING, entry_id, token, State.LEASED),
        )
        if row is None:
            return False
        number, started_at = row
        taken = self._unit.now_us - started_at if duration is None else duration // timedelta(microseconds=1)
        self._sql.run(
            "UPDATE attempts SET transport = ?, duration_us = ?, result = ?, route = ?"
            " WHERE entry_id = ? AND number = ?",
            (transport, taken, _encode(result), route, entry_id, number),
        )
        return True

    def revise(self, entry_id: int, token: int, result: RecipientResult) -> bool:
        """Replace the result of the attempt that is being settled by what it was taken for. False: old token."""
        row = self._sql.row(
            "SELECT attempts FROM entries WHERE id = ? AND token = ? AND state = ?",
            (entry_id, token, State.SETTLING),
        )
        if row is None:
            return False
        self._sql.run(
            "UPDATE attempts SET result = ? WHERE entry_id = ? AND number = ?", (_encode(result), entry_id, row[0])
        )
        return True

    def holds(self, entry_id: int, token: int) -> bool:
        """Whether a lease is still the entry's. A unit that retires asks before it writes anything else."""
        row = self._sql.row(
            "SELECT 1 FROM entries WHERE id = ? AND token = ? AND state <> ?", (entry_id, token, State.WAITING)
        )
        return row is not None

    def reschedule(self, entry_id: int, token: int, due_at: datetime, *, result: RecipientResult | None = None) -> bool:
        """End a lease and let the entry wait until it is due again. False: the token is old.

        A result that is given replaces the attempt's, as by `revise`.
        """
        if result is not None:
            self.revise(entry_id, token, result)
        row = self._sql.row(
            "UPDATE entries SET state = ?, due_at = ?, pick_at = CASE WHEN is_held = 1 THEN NULL ELSE ? END,"
            " lease_until = NULL WHERE id = ? AND token = ? AND state <> ? RETURNING destination",
            (State.WAITING, to_us(due_at), to_us(due_at), entry_id, token, State.WAITING),
        )
        if row is None:
            return False
        self._heads.lower(row[0], to_us(due_at))
        self._unit.wake("queue")
        return True

    def abandon(self, entry_id: int, token: int, *, due_at: datetime | None = None) -> bool:
        """Take an attempt back for which nothing was tried: it is not counted. False: the token is old.

        Args:
            entry_id: Of the entry.
            token: Of its lease.
            due_at: When the attempt was due; at once when None.
        """
        row = self._sql.row(
            "DELETE FROM attempts WHERE entry_id = ? AND number = (SELECT attempts FROM entries"
            " WHERE id = ? AND token = ? AND state = ?) RETURNING number",
            (entry_id, entry_id, token, State.LEASED),
        )
        if row is None:
            return False
        self._sql.run(
            "UPDATE entries SET attempts = attempts - 1, last_attempt_at ="
            " (SELECT MAX(started_at) FROM attempts WHERE entry_id = entries.id) WHERE id = ?",
            (entry_id,),
        )
        return self.reschedule(entry_id, token, due_at or self._unit.now)

    def leave_alone(self, domain: str, until: datetime) -> None:
        """Have a recipient domain looked at for what is due no earlier than this, or when something is added."""
        self._heads.set(domain, to_us(until))

    def remove(self, entry_id: int, token: int | None = None) -> bool:
        """Take an entry out of the queue, release its content, and forget its attempts and plugin data.

        Plugin data stays when the entry's retired row was added before, in this unit.

        Args:
            entry_id: Of the entry.
            token: Of its lease; None removes it whoever holds it, whose result then changes nothing.

        Returns:
            False when the token is old or the entry is gone; nothing was changed.
        """
        row = self._sql.row(
            "DELETE FROM entries WHERE id = ? AND (token = ? OR ? IS NULL) RETURNING content_id",
            (entry_id, token, token),
        )
        if row is None:
            return False
        self._sql.run("DELETE FROM attempts WHERE entry_id = ?", (entry_id,))
        self._sql.run(
            "DELETE FROM plugin_data WHERE entry_id = ? AND NOT EXISTS (SELECT 1 FROM retired WHERE entry_id = ?)",
            (entry_id, entry_id),
        )
        self._content.release(row[0])
        return True

    # --- leases -------------------------------------------------------------------------------------------------

    def renew(self, leases: Iterable[tuple[int, int]], until: datetime) -> set[int]:
        """Make leases longer; returns the ids of the entries that are still held.

        Args:
            leases: Pairs of entry id and token.
            until: Their new end.
        """
        until_us = to_us(until)
        return {
            entry_id
            for entry_id, token in leases
            if self._sql.run(
                "UPDATE entries SET lease_until = ?, pick_at = CASE WHEN pick_at IS NULL THEN NULL WHEN due_at > ?"
                " THEN due_at ELSE ? END WHERE id = ? AND token = ? AND state <> ?",
                (until_us, until_us, until_us, entry_id, token, State.WAITING),
            )
        }

    def settling(self, worker: Worker, until: datetime, limit: int) -> builtins.list[Leased]:
        """Lease entries whose outcome is stored and whose lease has ended, to go on where their worker stopped."""
        rows = self._sql.rows(
            f"SELECT {COLUMNS}, e.token {FROM} WHERE e.lease_until <= ? AND e.state = ?"
            " ORDER BY e.lease_until, e.id LIMIT ?",
            (self._unit.now_us, State.SETTLING, limit),
        )
        leased = []
        for row in rows:
            entry, token = entry_of(row), row[WIDTH] + 1
            self._sql.run(
                "UPDATE entries SET token = ?, lease_until = ?, lease_machine = ?, lease_boot = ? WHERE id = ?",
                (token, to_us(until), worker.machine, worker.boot, entry.id),
            )
            leased.append(Leased(entry, token, self.attempts(entry.id)[-1]))
        return leased

    def release_boots(self, worker: Worker) -> int:
        """End the leases of other boots of the worker's machine; returns how many.

        An attempt that was under way stays counted, without a result, and its entry waits for its next due time; an
        outcome that was stored is found by `settling`.
        """
        dead = self._sql.rows(
            "SELECT id, state, due_at, is_held, destination FROM entries"
            " WHERE lease_until IS NOT NULL AND lease_machine = ? AND lease_boot <> ?",
            (worker.machine, worker.boot),
        )
        for entry_id, state, due_at, is_held, destination in dead:
            if state == State.SETTLING:
                self._sql.run("UPDATE entries SET token = token + 1, lease_until = 0 WHERE id = ?", (entry_id,))
                continue
            self._sql.run(
                "UPDATE entries SET state = ?, token = token + 1, lease_until = NULL, pick_at = ? WHERE id = ?",
                (State.WAITING, None if is_held else due_at, entry_id),
            )
            self._heads.lower(destination, due_at)
        # An earlier boot may have left domains for later that it had no room for.
        self._heads.look_everywhere(
            "(SELECT MIN(pick_at) FROM entries WHERE destination = heads.name AND pick_at IS NOT NULL)"
        )
        if dead:
            self._unit.wake("queue")
        return len(dead)

    # --- the operator -------------------------------------------------------------------------------------------

    def update(
        self,
        entry_id: int,
        *,
        is_held: bool | None = None,
        hold_rule: int = 0,
        due_at: datetime | None = None,
        transport: str | None = None,
        require_tls: bool | UnsetType | None = UNSET,
    ) -> Entry | None:
        """Change what an operator may change; what is left out stays. An attempt under way is not touched.

        Args:
            entry_id: Of the entry.
            is_held: Whether it is held from now on.
            hold_rule: By which rule, with `is_held`.
            due_at: When the next attempt may begin.
            transport: Empty leaves it to routes.
            require_tls: As in `Entry`.

        Returns:
            The entry as it is now; None when it is not in the queue.
        """
        row = self._sql.row(
            "SELECT state, due_at, is_held, lease_until, destination FROM entries WHERE id = ?", (entry_id,)
        )
        if row is None:
            return None
        state, due_us, held, lease_until, destination = row
        held = int(held if is_held is None else is_held)
        due_us = due_us if due_at is None else to_us(due_at)
        pick_at = None
        if not held and state != State.SETTLING:
            pick_at = due_us if state == State.WAITING else max(due_us, lease_until)
        self._sql.run(
            "UPDATE entries SET is_held = ?, due_at = ?, pick_at = ? WHERE id = ?", (held, due_us, pick_at, entry_id)
        )
        if pick_at is not None:
            self._heads.lower(destination, pick_at)
            self._unit.wake("queue")
        if is_held is not None:
            self._sql.run("UPDATE entries SET hold_rule = ? WHERE id = ?", (hold_rule if is_held else 0, entry_id))
        if transport is not None:
            self._sql.run("UPDATE entries SET transport = ? WHERE id = ?", (transport, entry_id))
        if require_tls is not UNSET:
            self._sql.run("UPDATE entries SET require_tls = ? WHERE id = ?", (tristate(require_tls), entry_id))
        return self.get(entry_id)

    # --- inside -------------------------------------------------------------------------------------------------

    def _insert(self, entry: NewEntry, account_id: int, base_id: int, is_held: bool, hold_rule: int) -> int:
        if entry.from_id and self._sql.row(
            "SELECT 1 FROM entries WHERE from_id = ? UNION ALL SELECT 1 FROM retired WHERE from_id = ? LIMIT 1",
            (entry.from_id, entry.from_id),
        ):
            raise FromIdTaken(entry.from_id)
        sender = entry.reverse_path.mailbox
        due_at = to_us(entry.due_at)
        row = self._sql.row(
            "INSERT INTO entries (base_id, account_id, queued_at, reverse_local, reverse_domain, forward_local,"
            " destination, content_id, size_octets, message_id, subject, due_at, pick_at, from_id, is_held,"
            " max_attempts, has_8bit, needs_smtputf8, transport, require_tls, future_release, extra, hold_rule)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
            (
                base_id,
                account_id,
                self._unit.now_us,
                None if sender is None else sender.local_part,
                None if sender is None else sender.domain,
                entry.forward_path.local_part,
                entry.forward_path.domain,
                entry.content_id,
                entry.size_octets,
                entry.message_id,
                entry.subject,
                due_at,
                None if is_held else due_at,
                entry.from_id,
                int(is_held),
                entry.max_attempts,
                int(entry.has_8bit),
                int(entry.needs_smtputf8),
                entry.transport,
                tristate(entry.require_tls),
                entry.future_release,
                _encode(entry.extra) if entry.extra else b"",
                hold_rule,
            ),
        )
        assert row is not None, "RETURNING gives the row that was written"
        return int(row[0])

    def _due(
        self, domain: str, room: int, shares_delivery: Callable[[Entry], object]
    ) -> tuple[builtins.list[builtins.list[tuple[Entry, int]]], int]:
        """Return what is due at a domain with its tokens, by delivery, and when the first of the rest is due."""
        found: builtins.list[builtins.list[tuple[Entry, int]]] = []
        open_: dict[object, builtins.list[tuple[Entry, int]]] = {}
        size = 0
        page, after = room + 1, (-1, 0)
        while True:
            rows = self._sql.rows(
                f"SELECT {COLUMNS}, e.token, e.pick_at {FROM} WHERE e.destination = ? AND e.pick_at IS NOT NULL"
                " AND (e.pick_at, e.id) > (?, ?) ORDER BY e.pick_at, e.id LIMIT ?",
                (domain, *after, page),
            )
            for row in rows:
                pick_at = row[WIDTH + 1]
                if pick_at > self._unit.now_us:
                    return found, pick_at
                entry = entry_of(row)
                key = shares_delivery(entry)
                members = open_.get(key)
                if members is None or len(members) >= _MOST_MEMBERS:
                    if len(found) >= room or size >= _MOST_BEGUN:
                        return found, pick_at
                    members = open_[key] = []
                    found.append(members)
                members.append((entry, row[WIDTH]))
                size += 1
            if len(rows) < page:
                return found, _NEVER_US
            # A message with many recipients at the domain: larger steps.
            page, after = min(2 * page, _MOST_MEMBERS), (rows[-1][WIDTH + 1], rows[-1][0])

    def _begin(
        self,
        members: Sequence[tuple[Entry, int]],
        worker: Worker,
        until: int,
        next_due_at: Callable[[Entry], datetime],
    ) -> tuple[Leased, ...]:
        now, now_us = self._unit.now, self._unit.now_us
        leased = []
        for entry, token in members:
            begun = msgspec.structs.replace(entry, attempts=entry.attempts + 1, last_attempt_at=now)
            begun = msgspec.structs.replace(begun, due_at=next_due_at(begun))
            leased.append(Leased(begun, token + 1, Attempt(begun.attempts, now, ""), entry.due_at))
        self._sql.run_many(
            "UPDATE entries SET state = ?, token = ?, lease_until = ?, lease_machine = ?, lease_boot = ?,"
            " attempts = ?, last_attempt_at = ?, due_at = ?, pick_at = ? WHERE id = ?",
            [
                (
                    State.LEASED,
                    one.token,
                    until,
                    worker.machine,
                    worker.boot,
                    one.entry.attempts,
                    now_us,
                    to_us(one.entry.due_at),
                    max(until, to_us(one.entry.due_at)),
                    one.entry.id,
                )
                for one in leased
            ],
        )
        self._sql.run_many(
            "INSERT INTO attempts (entry_id, number, started_at, transport) VALUES (?, ?, ?, '')",
            [(one.entry.id, one.entry.attempts, now_us) for one in leased],
        )
        return tuple(leased)
