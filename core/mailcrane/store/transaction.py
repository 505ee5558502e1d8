"""What a unit of work or a read is handed: the repositories, the instant, and the wake-ups to be given."""

from __future__ import annotations

from datetime import UTC, datetime

from mailcrane.store.repository.accounts import Accounts
from mailcrane.store.repository.configuration import ConfigurationRepository
from mailcrane.store.repository.content import ContentRepository
from mailcrane.store.repository.credentials import CredentialsRepository
from mailcrane.store.repository.events import EventsRepository
from mailcrane.store.repository.folders import FoldersRepository
from mailcrane.store.repository.hold_rules import HoldRulesRepository
from mailcrane.store.repository.idempotency import IdempotencyRepository
from mailcrane.store.repository.outgoing import OutgoingRepository
from mailcrane.store.repository.plugin_data import PluginDataRepository
from mailcrane.store.repository.queue import QueueRepository
from mailcrane.store.repository.recipient_tls import RecipientTLSRepository
from mailcrane.store.repository.retired import RetiredRepository
from mailcrane.store.repository.standing import StandingRepository
from mailcrane.store.repository.suppressions import SuppressionsRepository
from mailcrane.store.repository.webhooks import WebhooksRepository
from mailcrane.store.sql import EPOCH, SQL, to_us


class Transaction:
    """The stored state, as one unit or one read sees it. Not to be kept beyond it.

    In a read every method that writes raises `StoreError`.

    Attributes:
        now: The instant of the unit by the store's clock; one value throughout.
        now_us: The same as microseconds since 1970.
        number: Another one for every unit and every read of a connection, from 1.
    """

    def __init__(self, sql: SQL) -> None:
        self.now: datetime = datetime.min.replace(tzinfo=UTC)
        self.now_us: int = to_us(EPOCH)
        self.number: int = 0
        self._wakes: list[str] = []
        accounts = Accounts(sql)
        self.content = ContentRepository(sql, self)
        self.configuration = ConfigurationRepository(sql, self, self.content)
        self.credentials = CredentialsRepository(sql, self, accounts)
        self.folders = FoldersRepository(sql, self, accounts, self.content)
        self.hold_rules = HoldRulesRepository(sql, self, accounts)
        self.queue = QueueRepository(sql, self, accounts, self.content, self.hold_rules)
        self.standing = StandingRepository(sql, self)
        self.outgoing = OutgoingRepository(sql, self, accounts)
        self.recipient_tls = RecipientTLSRepository(sql, self, accounts)
        self.retired = RetiredRepository(sql, accounts)
        self.suppressions = SuppressionsRepository(sql, self, accounts)
        self.events = EventsRepository(sql, self, accounts)
        self.idempotency = IdempotencyRepository(sql, self, accounts)
        self.webhooks = WebhooksRepository(sql, self, accounts)
        self.plugin_data = PluginDataRepository(sql)

    def wake(self, topic: str) -> None:
        """Wake those that wait for a topic, once this unit is committed; not at all when it is not."""
        self._wakes.append(topic)

    def _begin(self, now: datetime) -> None:
        """For engines: make this the transaction of another unit."""
        self.now = now
        self.now_us = to_us(now)
        self.number += 1
        self._wakes = []

    def _take_wakes(self) -> list[str]:
        """For engines: the topics that the unit wants woken."""
        return self._wakes
