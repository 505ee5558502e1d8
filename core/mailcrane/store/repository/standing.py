"""How a recipient domain stands in the queue, at a cost that does not depend on how much is queued.

What is counted is counted over an index and up to a bound; what is looked at closely is a sample from both ends: what
is due first, and what was put off farthest.
"""

from __future__ import annotations

import msgspec

from mailcrane.model.retired import Retired
from mailcrane.store.records import DomainStanding, HeldCount, Sampled
from mailcrane.store.repository.entry_rows import COLUMNS, FROM, attempt_of, entry_of
from mailcrane.store.repository.queue import State
from mailcrane.store.sql import SQL, Unit, from_us

COUNT_LIMIT = 10_000
"""Counts beyond this one are given as one more."""

_SAMPLE_EDGE = 25

_retired_decoder = msgspec.json.Decoder(Retired)


class StandingRepository:
    """What can be said of one recipient domain."""

    def __init__(self, sql: SQL, unit: Unit) -> None:
        self._sql = sql
        self._unit = unit

    def of(self, domain: str) -> DomainStanding:
        """Return how a domain stands at the unit's instant."""
        now = self._unit.now_us
        due = self._count("pick_at IS NOT NULL AND pick_at <= ?", domain, now)
        later = self._count("pick_at IS NOT NULL AND pick_at > ?", domain, now)
        # Those that are leased have a later `pick_at` as well; no more are leased at once than are attempted.
        leased: dict[int, int] = dict(
            self._sql.rows(
                "SELECT state, COUNT(*) FROM entries WHERE lease_until >= 0 AND destination = ? GROUP BY state",
                (domain,),
            )
        )
        row = self._sql.row(
            "SELECT pick_at FROM entries WHERE destination = ? AND pick_at > ? AND state = ? ORDER BY pick_at LIMIT 1",
            (domain, now, State.WAITING),
        )
        held = self._sql.rows(
            "SELECT hold_rule, COUNT(*) FROM (SELECT hold_rule FROM entries WHERE is_held = 1 AND destination = ?"
            " LIMIT ?) AS bounded GROUP BY hold_rule ORDER BY hold_rule",
            (domain, COUNT_LIMIT + 1),
        )
        return DomainStanding(
            domain=domain,
            due=due,
            waiting=max(0, later - leased.get(State.LEASED, 0)),
            next_due_at=None if row is None else from_us(row[0]),
            held=tuple(HeldCount(rule, count) for rule, count in held),
            under_way=leased.get(State.LEASED, 0),
            settling=leased.get(State.SETTLING, 0),
            sample=self._sample(domain),
            failed=self._failed(domain),
        )

    def _count(self, condition: str, domain: str, now: int) -> int:
        row = self._sql.row(
            f"SELECT COUNT(*) FROM (SELECT 1 FROM entries WHERE destination = ? AND {condition} LIMIT ?) AS bounded",
            (domain, now, COUNT_LIMIT + 1),
        )
        return 0 if row is None else int(row[0])

    def _sample(self, domain: str) -> tuple[Sampled, ...]:
        ids: set[int] = set()
        for way in ("ASC", "DESC"):
            rows = self._sql.rows(
                f"SELECT id FROM entries WHERE destination = ? AND pick_at IS NOT NULL ORDER BY pick_at {way} LIMIT ?",
                (domain, _SAMPLE_EDGE),
            )
            ids.update(entry_id for (entry_id,) in rows)
        return tuple(found for entry_id in sorted(ids) if (found := self._look_at(entry_id)) is not None)

    def _failed(self, domain: str) -> tuple[Retired, ...]:
        rows = self._sql.rows(
            "SELECT r.value FROM retired r JOIN accounts a ON a.id = r.account_id AND a.name IS NOT NULL"
            " WHERE r.destination = ? AND r.is_success = 0 ORDER BY r.retired_at DESC LIMIT ?",
            (domain, _SAMPLE_EDGE),
        )
        return tuple(_retired_decoder.decode(value) for (value,) in rows)

    def _look_at(self, entry_id: int) -> Sampled | None:
        row = self._sql.row(f"SELECT {COLUMNS} {FROM} WHERE e.id = ?", (entry_id,))
        if row is None:
            return None
        last = self._sql.row(
            "SELECT number, started_at, transport, duration_us, result, route FROM attempts"
            " WHERE entry_id = ? AND result IS NOT NULL ORDER BY number DESC LIMIT 1",
            (entry_id,),
        )
        return Sampled(entry_of(row), None if last is None else attempt_of(last))
