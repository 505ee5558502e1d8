"""The door between repositories and an engine: statements in, rows out.

Statements are written with ``?`` for parameters, in the SQL that SQLite and PostgreSQL share: ``RETURNING``,
``ON CONFLICT``, partial indexes. Instants are integers, microseconds since 1970 in UTC; booleans are 0 and 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, overload

Row = tuple[Any, ...]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class SQL(Protocol):
    """One connection inside a transaction."""

    def rows(self, statement: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Run a statement and return all its rows; also for ``RETURNING``, whose rows must all be taken."""
        ...

    def row(self, statement: str, parameters: Sequence[Any] = ()) -> Row | None:
        """Run a statement that has at most one row."""
        ...

    def run(self, statement: str, parameters: Sequence[Any] = ()) -> int:
        """Run a statement that has no rows and return how many rows it changed."""
        ...

    def run_many(self, statement: str, parameters: Iterable[Sequence[Any]]) -> None:
        """Run a statement once for each set of parameters."""
        ...


class Unit(Protocol):
    """What a repository knows of the unit that it works for."""

    @property
    def now(self) -> datetime:
        """The unit's instant, by the store's clock."""
        ...

    @property
    def now_us(self) -> int:
        """The same as an integer."""
        ...

    @property
    def number(self) -> int:
        """Another one for every unit and every read of a connection, from 1."""
        ...

    def wake(self, topic: str) -> None:
        """Wake those that wait for a topic, once the unit is committed."""
        ...


@overload
def to_us(at: datetime) -> int: ...
@overload
def to_us(at: None) -> None: ...
def to_us(at: datetime | None) -> int | None:
    """Return an aware instant as it is stored."""
    return None if at is None else (at - EPOCH) // _MICROSECOND


@overload
def from_us(us: int) -> datetime: ...
@overload
def from_us(us: None) -> None: ...
def from_us(us: int | None) -> datetime | None:
    """Return a stored instant."""
    return None if us is None else EPOCH + timedelta(microseconds=us)
