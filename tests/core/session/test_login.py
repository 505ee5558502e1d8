"""Logins as every protocol asks for them."""

from __future__ import annotations

import pytest
import trio.testing
from msgspec.structs import replace

from mailcrane.model.receive import Identity
from mailcrane.model.reply import Reply
from mailcrane.model.submission import LoginRefused
from mailcrane.plugin.base import Plugin
from mailcrane.plugin.policy import hookimpl
from mailcrane.sasl.credentials import Credentials, make_scram_secret, verify_password
from mailcrane.session import login as login_module
from mailcrane.testing import PASSWORD, RunningServer, made_session, server

SESSION = made_session(protocol="http")


async def log_in(running: RunningServer, login: str = "ann@here.example", password: str = PASSWORD) -> Identity:
    return await running.server.logins.log_in(SESSION, login, password)


async def test_a_login_is_any_address_of_the_account(autojump_clock: trio.testing.MockClock) -> None:
    async with server() as running:
        assert await log_in(running, "Ann+shop@here.example") == Identity("ann", "Ann+shop@here.example")


@pytest.mark.parametrize("login", ["nobody@here.example", "ann", "ann@there.example", "", "\x00"])
async def test_a_login_that_does_not_exist_looks_like_a_wrong_password(
    login: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with server() as running:
        with pytest.raises(LoginRefused) as refused:
            await log_in(running, login)
    assert (refused.value.reason, refused.value.reply.code) == ("badcreds", 535)


async def test_a_password_is_hashed_once_in_some_minutes(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []

    def counted(credentials: Credentials | None, password: str) -> bool:
        hashed.append(password)
        return verify_password(credentials, password)

    monkeypatch.setattr(login_module, "verify_password", counted)
    async with server() as running:
        for _ in range(3):
            await log_in(running)
        assert len(hashed) == 1
        await trio.sleep(301)
        await log_in(running)
    assert len(hashed) == 2


async def test_a_known_password_costs_no_read_within_a_second(autojump_clock: trio.testing.MockClock) -> None:
    async with server() as running:
        await log_in(running)
        before = running.store.statistics.reads
        for _ in range(5):
            await log_in(running)
        assert running.store.statistics.reads == before
        await trio.sleep(1)
        await log_in(running)
        assert running.store.statistics.reads == before + 1


async def test_a_change_that_nobody_tells_of_counts_after_a_second(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with server() as running:
        await log_in(running)
        changed = Credentials(2, make_scram_secret(b"another horse", "sha256", iterations=1))
        monkeypatch.setattr(running.store.wakeups, "wake", lambda topic: None)
        await running.store.write(lambda transaction: transaction.credentials.set("ann", changed), key="config")
        await trio.sleep(1)
        with pytest.raises(LoginRefused):
            await log_in(running)


async def test_an_old_password_ends_with_the_change(autojump_clock: trio.testing.MockClock) -> None:
    async with server() as running:
        await log_in(running)
        changed = Credentials(2, make_scram_secret(b"another horse", "sha256", iterations=1))
        await running.store.write(lambda transaction: transaction.credentials.set("ann", changed), key="config")
        with pytest.raises(LoginRefused):
            await log_in(running)
        await log_in(running, password="another horse")


async def test_too_many_failures_lock_an_address_out_and_success_resets(autojump_clock: trio.testing.MockClock) -> None:
    async with server() as running:
        for _ in range(2):
            for _ in range(9):
                with pytest.raises(LoginRefused):
                    await log_in(running, password="wrong password")
            await log_in(running)
        reasons = []
        for _ in range(11):
            with pytest.raises(LoginRefused) as refused:
                await log_in(running, password="wrong password")
            reasons.append(refused.value.reason)
        with pytest.raises(LoginRefused):
            await log_in(running)
        await trio.sleep(60)
        await log_in(running)
    assert reasons == ["badcreds"] * 10 + ["ratelimited"]


class Passport(Plugin):
    """Knows logins of its own."""

    name = "passport"

    @hookimpl
    async def authenticate(self, login: str, password: str) -> Identity | Reply | None:
        if login == "bug":
            raise RuntimeError("a bug")
        answers: dict[str, Identity | Reply] = {
            "guest": Identity("bob", "bob@here.example"),
            "ghost": Identity("nobody", "nobody@here.example"),
            "banned": Reply.make(535, "5.7.8", "not you"),
        }
        return answers.get(login)


async def test_a_plugin_says_who_logs_in(autojump_clock: trio.testing.MockClock) -> None:
    async with server(Passport) as running:
        assert await log_in(running, "guest") == Identity("bob", "bob@here.example")
        assert await log_in(running) == Identity("ann", "ann@here.example")
        answers = {}
        for name in ("banned", "bug", "ghost"):
            with pytest.raises(LoginRefused) as refused:
                await log_in(running, name)
            answers[name] = (refused.value.reason, refused.value.reply.code)
    assert answers == {"banned": ("badcreds", 535), "bug": ("error", 454), "ghost": ("error", 454)}


async def test_a_disabled_login_is_refused_with_its_text(autojump_clock: trio.testing.MockClock) -> None:
    async with server() as running:
        rows = running.server.directory().configuration
        accounts = tuple(replace(account, login_disabled_message="gone fishing") for account in rows.accounts)
        await running.change(replace(rows, accounts=accounts))
        with pytest.raises(LoginRefused) as refused:
            await log_in(running)
    assert (refused.value.reason, refused.value.reply.lines) == ("logindisabled", ("gone fishing",))
