"""The steps of the schema: each whole, and no release opens what it does not know."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from mailcrane.store.errors import SchemaTooNew
from mailcrane.store.sqlite.migrations import MIGRATIONS, Migration, migrate

ONE = Migration(1, ("CREATE TABLE a (x)", "INSERT INTO a VALUES (1)"), is_compatible=False)
TWO = Migration(2, ("ALTER TABLE a ADD COLUMN y",), is_compatible=True)
THREE = Migration(3, ("UPDATE a SET x = -x",), is_compatible=False)


@pytest.fixture
def connection(tmp_path: Path) -> sqlite3.Connection:
    return sqlite3.connect(tmp_path / "db", isolation_level=None)


def test_every_step_is_run_once(connection: sqlite3.Connection) -> None:
    assert migrate(connection, (ONE,)) == 1
    assert migrate(connection, (ONE, TWO, THREE)) == 3
    assert migrate(connection, (ONE, TWO, THREE)) == 3
    assert connection.execute("SELECT x, y FROM a").fetchall() == [(-1, None)]
    connection.close()


def test_a_step_that_fails_leaves_the_schema_as_it_was(connection: sqlite3.Connection) -> None:
    broken = Migration(2, ("CREATE TABLE b (x)", "SELECT * FROM missing"), is_compatible=True)
    with pytest.raises(sqlite3.OperationalError, match="missing"):
        migrate(connection, (ONE, broken))
    assert connection.execute("SELECT version FROM schema_version").fetchall() == [(1,)]
    assert connection.execute("SELECT name FROM sqlite_master WHERE name = 'b'").fetchall() == []
    assert migrate(connection, (ONE, TWO)) == 2
    connection.close()


def test_a_release_opens_a_newer_schema_only_when_that_says_so(connection: sqlite3.Connection) -> None:
    migrate(connection, (ONE, TWO))
    assert migrate(connection, (ONE,)) == 2
    migrate(connection, (ONE, TWO, THREE))
    with pytest.raises(SchemaTooNew, match="schema 3"):
        migrate(connection, (ONE, TWO))
    connection.close()


def test_the_steps_are_numbered_without_gaps() -> None:
    assert [migration.version for migration in MIGRATIONS] == list(range(1, len(MIGRATIONS) + 1))
