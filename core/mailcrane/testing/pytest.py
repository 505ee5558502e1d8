"""Fixtures of pytest for the tests of an application that sends mail.

In the project's ``conftest.py``:

    pytest_plugins = ["mailcrane.testing.pytest"]

and a test:

    def test_welcome(mailcrane):
        signup("ann@example.org", smtp=mailcrane.smtp)
        assert "Welcome" in mailcrane.wait_for_message(to="ann@example.org").subject

One server runs per session, or per worker of pytest-xdist; it is started by the first test that wants it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mailcrane.testing.development import DevelopmentServer, running_localserve


@pytest.fixture(scope="session")
def mailcrane_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevelopmentServer]:
    """The development server of this session, for fixtures that configure an application once."""
    with running_localserve(tmp_path_factory.mktemp("mailcrane")) as server:
        yield server


@pytest.fixture
def mailcrane(mailcrane_server: DevelopmentServer) -> DevelopmentServer:
    """The development server, without the messages and webhooks of earlier tests."""
    mailcrane_server.clear()
    return mailcrane_server
