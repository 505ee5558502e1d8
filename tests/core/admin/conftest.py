"""An administration over a store in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from mailcrane.admin.administration import Administration
from mailcrane.config import static
from mailcrane.config.rows import Configuration
from mailcrane.config.static import StaticConfig
from mailcrane.observe.health import Health
from mailcrane.store.sqlite import open_sqlite
from mailcrane.store.store import Store


class FixedClock:
    def now(self) -> datetime:
        return datetime(2026, 3, 1, 12, tzinfo=UTC)


class Server:
    """What a running server would be told."""

    def __init__(self) -> None:
        self.configurations: list[Configuration] = []
        self.is_stopped = False
        self.health = Health(FixedClock())

    async def reload(self, configuration: Configuration) -> None:
        self.configurations.append(configuration)

    def stop(self) -> None:
        self.is_stopped = True


@pytest.fixture
def static_config(tmp_path_factory: pytest.TempPathFactory) -> StaticConfig:
    text = 'hostname = "mail.example.org"\ndata_dir = "data"\n[transports.out]\ntype = "smtp"\n'
    return static.parse(text, base_dir=tmp_path_factory.mktemp("admin"))


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with await open_sqlite(":memory:", FixedClock(), inline=True) as store:
        yield store


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def administration(store: Store, static_config: StaticConfig, server: Server) -> Administration:
    return Administration(
        store,
        static_config,
        actor="uid 0",
        reload=server.reload,
        health=server.health.report,
        stop=server.stop,
    )
