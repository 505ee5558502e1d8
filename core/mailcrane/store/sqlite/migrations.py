"""The schema in SQLite, as the steps that lead to it. A released step is never edited.

Each step runs in a transaction of its own and says whether the release before it can still open the database.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from msgspec import Struct

from mailcrane.store.errors import SchemaTooNew


class Migration(Struct, frozen=True):
    """One step.

    Attributes:
        version: The schema's version after it; they rise by one.
        statements: Run in order.
        is_compatible: Whether a release that knows only the version before can open the database afterwards: nothing
            that it reads or writes has gone or changed its meaning.
    """

    version: int
    statements: tuple[str, ...]
    is_compatible: bool


MIGRATIONS: Final = (
    Migration(
        1,
        (
            # --- configuration and accounts ---
            "CREATE TABLE configuration_version (version INTEGER NOT NULL)",
            "INSERT INTO configuration_version (version) VALUES (0)",
            """CREATE TABLE configuration (
                kind TEXT NOT NULL, name TEXT NOT NULL, position INTEGER NOT NULL, value BLOB NOT NULL,
                PRIMARY KEY (kind, name)) WITHOUT ROWID""",
            # A removed account has no name until its data is gone.
            """CREATE TABLE accounts (
                id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE,
                modseq INTEGER NOT NULL, changes_after INTEGER NOT NULL DEFAULT 0,
                event_number INTEGER NOT NULL, events_after INTEGER NOT NULL DEFAULT 0,
                uid_validity INTEGER NOT NULL)""",
            "INSERT INTO accounts (id, name, modseq, event_number, uid_validity) VALUES (0, '', 1, 0, 1)",
            "CREATE TABLE credentials (account_id INTEGER PRIMARY KEY, value BLOB NOT NULL)",
            # --- content ---
            """CREATE TABLE contents (
                id INTEGER PRIMARY KEY AUTOINCREMENT, refs INTEGER NOT NULL, created_at INTEGER NOT NULL,
                staged_at INTEGER, origin TEXT, size_octets INTEGER NOT NULL DEFAULT 0,
                body_offset INTEGER NOT NULL DEFAULT 0, message_id TEXT NOT NULL DEFAULT '',
                subject TEXT NOT NULL DEFAULT '', has_8bit INTEGER NOT NULL DEFAULT 0,
                needs_smtputf8 INTEGER NOT NULL DEFAULT 0, structure BLOB NOT NULL DEFAULT x'')""",
            "CREATE UNIQUE INDEX contents_origin ON contents (origin) WHERE origin IS NOT NULL",
            "CREATE INDEX contents_unused ON contents (id) WHERE refs = 0",
            "CREATE TABLE content_chunks (id INTEGER PRIMARY KEY, octets BLOB NOT NULL)",
            """CREATE TABLE prepared_headers (
                content_id INTEGER NOT NULL, variant TEXT NOT NULL, header BLOB NOT NULL,
                body_offset INTEGER NOT NULL, renew_at INTEGER, selectors BLOB NOT NULL,
                PRIMARY KEY (content_id, variant))""",
            # --- folders ---
            """CREATE TABLE folders (
                id INTEGER PRIMARY KEY AUTOINCREMENT, account_id INTEGER NOT NULL, name TEXT NOT NULL,
                uid_validity INTEGER NOT NULL, uid_next INTEGER NOT NULL DEFAULT 1, modseq INTEGER NOT NULL,
                created_modseq INTEGER NOT NULL, special_uses INTEGER NOT NULL DEFAULT 0,
                keywords BLOB NOT NULL DEFAULT x'', total INTEGER NOT NULL DEFAULT 0,
                deleted INTEGER NOT NULL DEFAULT 0, unread INTEGER NOT NULL DEFAULT 0,
                unseen INTEGER NOT NULL DEFAULT 0, size_octets INTEGER NOT NULL DEFAULT 0)""",
            "CREATE UNIQUE INDEX folders_name ON folders (account_id, name)",
            """CREATE TABLE messages (
                id INTEGER PRIMARY KEY AUTOINCREMENT, account_id INTEGER NOT NULL, folder_id INTEGER NOT NULL,
                uid INTEGER NOT NULL, modseq INTEGER NOT NULL, created_modseq INTEGER NOT NULL,
                content_id INTEGER NOT NULL, flags INTEGER NOT NULL, keywords BLOB NOT NULL,
                received_at INTEGER NOT NULL, saved_at INTEGER NOT NULL, size_octets INTEGER NOT NULL,
                is_expunged INTEGER NOT NULL DEFAULT 0, prefix BLOB NOT NULL)""",
            "CREATE UNIQUE INDEX messages_uid ON messages (folder_id, uid)",
            "CREATE INDEX messages_expunged ON messages (account_id, modseq) WHERE is_expunged = 1",
            """CREATE TABLE changes (
                account_id INTEGER NOT NULL, modseq INTEGER NOT NULL, item INTEGER NOT NULL, kind TEXT NOT NULL,
                folder_id INTEGER NOT NULL, message_id INTEGER NOT NULL, uid INTEGER NOT NULL, at INTEGER NOT NULL,
                PRIMARY KEY (account_id, modseq, item)) WITHOUT ROWID""",
            # --- queue ---
            """CREATE TABLE entries (
                id INTEGER PRIMARY KEY AUTOINCREMENT, base_id INTEGER NOT NULL, account_id INTEGER NOT NULL,
                queued_at INTEGER NOT NULL, reverse_local TEXT, reverse_domain TEXT, forward_local TEXT NOT NULL,
                destination TEXT NOT NULL, content_id INTEGER NOT NULL, size_octets INTEGER NOT NULL,
                message_id TEXT NOT NULL, subject TEXT NOT NULL, due_at INTEGER NOT NULL, pick_at INTEGER,
                from_id TEXT NOT NULL, is_held INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
                max_attempts INTEGER NOT NULL, last_attempt_at INTEGER, has_8bit INTEGER NOT NULL,
                needs_smtputf8 INTEGER NOT NULL, transport TEXT NOT NULL, require_tls INTEGER,
                future_release TEXT NOT NULL, extra BLOB NOT NULL, state INTEGER NOT NULL DEFAULT 0,
                token INTEGER NOT NULL DEFAULT 0, lease_until INTEGER, lease_machine TEXT, lease_boot TEXT)""",
            "CREATE INDEX entries_pick ON entries (destination, pick_at) WHERE pick_at IS NOT NULL",
            "CREATE INDEX entries_leased ON entries (lease_until) WHERE lease_until IS NOT NULL",
            "CREATE INDEX entries_account ON entries (account_id)",
            "CREATE INDEX entries_from_id ON entries (from_id) WHERE from_id <> ''",
            """CREATE TABLE attempts (
                entry_id INTEGER NOT NULL, number INTEGER NOT NULL, started_at INTEGER NOT NULL,
                transport TEXT NOT NULL, duration_us INTEGER, result BLOB,
                PRIMARY KEY (entry_id, number)) WITHOUT ROWID""",
            """CREATE TABLE heads (
                kind TEXT NOT NULL, name TEXT NOT NULL, due_at INTEGER NOT NULL,
                PRIMARY KEY (kind, name)) WITHOUT ROWID""",
            "CREATE INDEX heads_due ON heads (kind, due_at)",
            """CREATE TABLE retired (
                entry_id INTEGER PRIMARY KEY, account_id INTEGER NOT NULL, from_id TEXT NOT NULL,
                message_id TEXT NOT NULL, forward_local TEXT NOT NULL, destination TEXT NOT NULL, event TEXT NOT NULL,
                is_success INTEGER NOT NULL, retired_at INTEGER NOT NULL, keep_until INTEGER NOT NULL,
                value BLOB NOT NULL)""",
            "CREATE INDEX retired_keep ON retired (keep_until)",
            "CREATE INDEX retired_account ON retired (account_id, entry_id)",
            "CREATE INDEX retired_from_id ON retired (from_id) WHERE from_id <> ''",
            "CREATE INDEX retired_forward ON retired (destination, forward_local, entry_id)",
            # --- events and webhooks ---
            """CREATE TABLE events (
                account_id INTEGER NOT NULL, number INTEGER NOT NULL, kind TEXT NOT NULL, at INTEGER NOT NULL,
                entry_id INTEGER NOT NULL, data BLOB NOT NULL, is_pending INTEGER NOT NULL,
                PRIMARY KEY (account_id, number)) WITHOUT ROWID""",
            "CREATE INDEX events_pending ON events (at, account_id, number) WHERE is_pending = 1",
            "CREATE INDEX events_entry ON events (entry_id) WHERE entry_id <> 0",
            "CREATE TABLE notified_plugins (plugin TEXT PRIMARY KEY, enabled_at INTEGER NOT NULL) WITHOUT ROWID",
            """CREATE TABLE plugin_positions (
                plugin TEXT NOT NULL, account_id INTEGER NOT NULL, number INTEGER NOT NULL,
                PRIMARY KEY (plugin, account_id)) WITHOUT ROWID""",
            """CREATE TABLE dead_letters (
                plugin TEXT NOT NULL, account_id INTEGER NOT NULL, number INTEGER NOT NULL, error TEXT NOT NULL,
                at INTEGER NOT NULL, event BLOB NOT NULL, PRIMARY KEY (plugin, account_id, number))""",
            """CREATE TABLE calls (
                id INTEGER PRIMARY KEY AUTOINCREMENT, account_id INTEGER NOT NULL, event_id TEXT NOT NULL,
                event TEXT NOT NULL, entry_id INTEGER NOT NULL, url TEXT NOT NULL, target BLOB NOT NULL,
                payload TEXT NOT NULL, submitted_at INTEGER NOT NULL, due_at INTEGER NOT NULL, pick_at INTEGER,
                attempts INTEGER NOT NULL DEFAULT 0, results BLOB NOT NULL DEFAULT x'',
                token INTEGER NOT NULL DEFAULT 0, lease_until INTEGER, lease_machine TEXT, lease_boot TEXT)""",
            "CREATE INDEX calls_pick ON calls (url, pick_at) WHERE pick_at IS NOT NULL",
            "CREATE INDEX calls_leased ON calls (lease_until) WHERE lease_until IS NOT NULL",
            "CREATE INDEX calls_entry ON calls (entry_id) WHERE entry_id <> 0",
            "CREATE INDEX calls_account ON calls (account_id)",
            """CREATE TABLE retired_calls (
                id INTEGER PRIMARY KEY, account_id INTEGER NOT NULL, event TEXT NOT NULL, entry_id INTEGER NOT NULL,
                token INTEGER NOT NULL, keep_until INTEGER NOT NULL, value BLOB NOT NULL)""",
            "CREATE INDEX retired_calls_keep ON retired_calls (keep_until)",
            "CREATE INDEX retired_calls_account ON retired_calls (account_id)",
            # --- plugins ---
            """CREATE TABLE plugin_data (
                plugin TEXT NOT NULL, entry_id INTEGER NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL,
                PRIMARY KEY (plugin, entry_id, key))""",
            "CREATE INDEX plugin_data_entry ON plugin_data (entry_id) WHERE entry_id <> 0",
        ),
        is_compatible=False,
    ),
    Migration(
        2,
        (
            """CREATE TABLE hold_rules (
                id INTEGER PRIMARY KEY AUTOINCREMENT, created_at INTEGER NOT NULL, account_id INTEGER,
                sender_domain TEXT NOT NULL, recipient_domain TEXT NOT NULL)""",
            # The rule by which an entry is held; 0 for none.
            "ALTER TABLE entries ADD COLUMN hold_rule INTEGER NOT NULL DEFAULT 0",
            "CREATE INDEX entries_held ON entries (destination, hold_rule) WHERE is_held = 1",
            "CREATE INDEX entries_all_held ON entries (is_held) WHERE is_held = 1",
            "CREATE INDEX entries_due ON entries (due_at)",
            # Which rule or plugin chose the transport of an attempt, in words.
            "ALTER TABLE attempts ADD COLUMN route TEXT NOT NULL DEFAULT ''",
        ),
        is_compatible=True,
    ),
    Migration(
        3,
        (
            """CREATE TABLE idempotency (
                account_id INTEGER NOT NULL, key TEXT NOT NULL, fingerprint BLOB NOT NULL, token TEXT NOT NULL,
                lease_until INTEGER NOT NULL, machine TEXT NOT NULL, boot TEXT NOT NULL, result BLOB,
                expires_at INTEGER NOT NULL, PRIMARY KEY (account_id, key)) WITHOUT ROWID""",
            "CREATE INDEX idempotency_expires ON idempotency (expires_at)",
        ),
        is_compatible=True,
    ),
    Migration(
        4,
        (
            # --- suppression ---
            """CREATE TABLE suppressions (
                id INTEGER PRIMARY KEY AUTOINCREMENT, account_id INTEGER NOT NULL, base_address TEXT NOT NULL,
                original_address TEXT NOT NULL, created_at INTEGER NOT NULL, is_manual INTEGER NOT NULL,
                reason TEXT NOT NULL, origin TEXT NOT NULL, evidence BLOB NOT NULL)""",
            "CREATE UNIQUE INDEX suppressions_base ON suppressions (account_id, base_address)",
            "CREATE INDEX suppressions_page ON suppressions (account_id, id)",
            """CREATE TABLE recipient_failures (
                destination TEXT NOT NULL, forward_local TEXT NOT NULL, in_a_row INTEGER NOT NULL,
                last_at INTEGER NOT NULL, PRIMARY KEY (destination, forward_local)) WITHOUT ROWID""",
            "CREATE INDEX recipient_failures_last ON recipient_failures (last_at)",
        ),
        is_compatible=True,
    ),
    # Webhook calls that ended can be listed by what became of them and when; those of a removed account are kept on.
    Migration(
        5,
        (
            "ALTER TABLE accounts ADD COLUMN former_name TEXT",
            "ALTER TABLE retired_calls ADD COLUMN account TEXT NOT NULL DEFAULT ''",
            "ALTER TABLE retired_calls ADD COLUMN submitted_at INTEGER NOT NULL DEFAULT 0",
            "ALTER TABLE retired_calls ADD COLUMN retired_at INTEGER NOT NULL DEFAULT 0",
            "ALTER TABLE retired_calls ADD COLUMN is_success INTEGER NOT NULL DEFAULT 0",
            "ALTER TABLE retired_calls ADD COLUMN is_dead INTEGER NOT NULL DEFAULT 0",
            """UPDATE retired_calls SET
                account = json_extract(CAST(value AS TEXT), '$.call.account'),
                is_success = json_extract(CAST(value AS TEXT), '$.is_success'),
                submitted_at = 1000000
                    * CAST(strftime('%s', json_extract(CAST(value AS TEXT), '$.call.submitted_at')) AS INTEGER),
                retired_at = 1000000
                    * CAST(strftime('%s', json_extract(CAST(value AS TEXT), '$.retired_at')) AS INTEGER)""",
            "CREATE INDEX retired_calls_dead ON retired_calls (id) WHERE is_dead = 1",
        ),
        is_compatible=True,
    ),
    Migration(
        6,
        (
            """CREATE TABLE outgoing_counts (
                account_id INTEGER NOT NULL, started_at INTEGER NOT NULL, messages INTEGER NOT NULL,
                first_time INTEGER NOT NULL, PRIMARY KEY (account_id, started_at)) WITHOUT ROWID""",
            "CREATE INDEX outgoing_counts_started ON outgoing_counts (started_at)",
            """CREATE TABLE outgoing_recipients (
                account_id INTEGER NOT NULL, address TEXT NOT NULL, first_at INTEGER NOT NULL,
                last_at INTEGER NOT NULL, PRIMARY KEY (account_id, address)) WITHOUT ROWID""",
            "CREATE INDEX outgoing_recipients_last ON outgoing_recipients (last_at)",
            # Empty for the null reverse-path, and in rows from before.
            "ALTER TABLE retired ADD COLUMN reverse_path TEXT NOT NULL DEFAULT ''",
        ),
        # Accounts are stored with their limits from here on, which the release before takes for a mistake.
        is_compatible=False,
    ),
    Migration(
        7,
        (
            """CREATE TABLE recipient_tls (
                account_id INTEGER NOT NULL, domain TEXT NOT NULL, has_starttls INTEGER NOT NULL,
                has_requiretls INTEGER NOT NULL, changed_at INTEGER NOT NULL,
                PRIMARY KEY (account_id, domain)) WITHOUT ROWID""",
        ),
        is_compatible=True,
    ),
    Migration(
        8,
        (
            # Triggers, so that every change counts, also one of many rows and one by the release before.
            "CREATE TABLE queue_counts (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
            "INSERT INTO queue_counts SELECT 'entries', COUNT(*) FROM entries",
            "INSERT INTO queue_counts SELECT 'held', COUNT(*) FROM entries WHERE is_held = 1",
            """CREATE TRIGGER entries_count_added AFTER INSERT ON entries BEGIN
                UPDATE queue_counts SET value = value + 1 WHERE name = 'entries';
                UPDATE queue_counts SET value = value + 1 WHERE name = 'held' AND NEW.is_held = 1; END""",
            """CREATE TRIGGER entries_count_removed AFTER DELETE ON entries BEGIN
                UPDATE queue_counts SET value = value - 1 WHERE name = 'entries';
                UPDATE queue_counts SET value = value - 1 WHERE name = 'held' AND OLD.is_held = 1; END""",
            """CREATE TRIGGER entries_count_held AFTER UPDATE OF is_held ON entries
                WHEN OLD.is_held <> NEW.is_held BEGIN
                UPDATE queue_counts SET value = value + NEW.is_held - OLD.is_held WHERE name = 'held'; END""",
        ),
        is_compatible=True,
    ),
    Migration(
        9,
        # What a domain's entries failed with of late is asked for without a look at those that were delivered.
        ("CREATE INDEX retired_failed ON retired (destination, retired_at) WHERE is_success = 0",),
        is_compatible=True,
    ),
)


def migrate(connection: sqlite3.Connection, migrations: tuple[Migration, ...] = MIGRATIONS) -> int:
    """Bring a database to the latest schema and return its version.

    Args:
        connection: In autocommit mode.
        migrations: All steps, in order.

    Raises:
        SchemaTooNew: a later release wrote the database, and said that this one cannot open it.
    """
    connection.execute("BEGIN IMMEDIATE")
    with _committing(connection):
        connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL, compatible_from INTEGER NOT NULL)"
        )
        row = connection.execute("SELECT version, compatible_from FROM schema_version").fetchone()
        if row is None:
            connection.execute("INSERT INTO schema_version (version, compatible_from) VALUES (0, 0)")
    version, compatible_from = row or (0, 0)
    known = migrations[-1].version
    if version > known:
        if compatible_from > known:
            raise SchemaTooNew(
                f"the database has schema {version}, which this release (schema {known}) cannot open: run a release "
                f"that knows schema {compatible_from} or later, or restore a backup from before the upgrade"
            )
        return int(version)
    for migration in migrations:
        if migration.version <= version:
            continue
        connection.execute("BEGIN IMMEDIATE")
        with _committing(connection):
            for statement in migration.statements:
                connection.execute(statement)
            if not migration.is_compatible:
                compatible_from = migration.version
            connection.execute(
                "UPDATE schema_version SET version = ?, compatible_from = ?", (migration.version, compatible_from)
            )
        version = migration.version
    return int(version)


class _committing:  # noqa: N801 - used as a function
    """Commit at the end of the block, or roll back when it raises."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._connection.execute("COMMIT" if kind is None else "ROLLBACK")
