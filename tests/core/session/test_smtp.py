"""The dialog of a server, spoken to over streams in memory."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from mailcrane.config.rows import Account
from mailcrane.model.address import Mailbox, ReversePath
from mailcrane.model.receive import LocalDestination, RelayDestination
from mailcrane.model.reply import Reply
from mailcrane.model.session import SessionInfo
from mailcrane.plugin.base import Plugin
from mailcrane.plugin.policy import hookimpl
from mailcrane.store.errors import DiskFull
from mailcrane.testing.in_memory import PASSWORD, ROWS, server

MESSAGE = b"From: <you@there.example>\r\nTo: <ann@here.example>\r\nSubject: hi\r\n\r\nHello.\r\n"


async def test_a_message_to_a_user_is_placed_in_the_inbox(autojump_clock: trio.testing.MockClock) -> None:
    async with server() as running:
        client = running.connect()
        assert (await client.hello()).code == 250
        assert (await client.send("you@there.example", "ann+shop@here.example", MESSAGE)).code == 250
        assert (await client.quit()).code == 221
        (octets,) = await running.read("ann")
    fields = octets.split(b"\r\n")
    assert fields[0] == b"Delivered-To: ann+shop@here.example"
    assert fields[1] == b"Return-Path: <you@there.example>"
    assert fields[2].startswith(b"Received: from client.example ([192.0.2.1])")
    assert octets.endswith(MESSAGE)


async def test_mail_for_others_is_refused_at_rcpt(autojump_clock: trio.testing.MockClock) -> None:
    async with server() as running:
        client = running.connect()
        await client.hello()
        reply = await client.send("you@there.example", "x@elsewhere.example", MESSAGE)
    assert (reply.code, reply.enhanced_status_code) == (550, "5.1.1")


async def test_an_unknown_user_is_told_only_after_the_message_and_a_delay(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with server() as running:
        client = running.connect()
        await client.hello()
        begin = trio.current_time()
        reply = await client.send("you@there.example", "nobody@here.example", MESSAGE)
        assert (reply.code, reply.enhanced_status_code) == (550, "5.1.1")
        assert trio.current_time() - begin >= 5


@pytest.mark.parametrize("second", ["bob@here.example", "nobody@here.example"])
async def test_a_stranger_does_not_learn_from_a_second_recipient_whether_it_exists(
    second: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with server() as running:
        client = running.connect()
        await client.hello()
        reply = await client.send("you@there.example", ["ann@here.example", second], MESSAGE)
        assert (reply.code, reply.enhanced_status_code) == (452, "4.5.3")
        assert (await client.command("DATA")).code == 354
        assert (await client.command(MESSAGE + b".")).code == 250
        assert len(await running.read("ann")) == 1


async def test_a_client_that_may_relay_is_told_at_once_that_a_user_does_not_exist(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with server() as running:
        client = running.connect("relay")
        await client.hello()
        reply = await client.send("you@there.example", ["ann@here.example", "nobody@here.example"], MESSAGE)
        assert (reply.code, reply.enhanced_status_code) == (550, "5.1.1")


async def test_a_disabled_domain_is_put_off(autojump_clock: trio.testing.MockClock) -> None:
    async with server() as running:
        client = running.connect()
        await client.hello()
        reply = await client.send("you@there.example", "ann@closed.example", MESSAGE)
    assert (reply.code, reply.enhanced_status_code) == (450, "4.2.1")


async def test_postmaster_without_a_domain_is_taken(autojump_clock: trio.testing.MockClock) -> None:
    async with server() as running:
        client = running.connect()
        await client.hello()
        assert (await client.send("you@there.example", "postmaster", MESSAGE)).code == 250
        assert len(await running.read("ann")) == 1


async def test_a_client_that_may_relay_gets_an_entry_of_the_relay_account(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with server() as running:
        client = running.connect("relay")
        await client.hello()
        assert (await client.send("you@there.example", "x@elsewhere.example", MESSAGE)).code == 250
        await trio.testing.wait_all_tasks_blocked()
        (delivered,) = running.transport.deliveries
        other = running.connect("relay", remote_ip="198.51.100.1")
        await other.hello()
        assert (await other.send("you@there.example", "x@elsewhere.example", MESSAGE)).code == 550
    entry = delivered.delivery.entries[0]
    assert (entry.account, str(entry.forward_path)) == ("ann", "x@elsewhere.example")


async def test_a_large_message_is_staged_and_stored_whole(autojump_clock: trio.testing.MockClock) -> None:
    body = b"".join(b"%06d " % number * 9 + b"\r\n" for number in range(12_000))
    async with server() as running:
        client = running.connect()
        await client.hello()
        assert (await client.send("you@there.example", "ann@here.example", MESSAGE + body)).code == 250
        (octets,) = await running.read("ann")
    assert octets.endswith(MESSAGE + body)


async def test_nothing_stays_of_a_large_message_that_is_refused(autojump_clock: trio.testing.MockClock) -> None:
    async with server() as running:
        client = running.connect("development")
        await client.hello()
        reply = await client.send(
            "you@there.example", "x-permerror@here.example", MESSAGE + b"x" * 99 + b"\r\n" * 300_000
        )
        assert reply.code == 550
        assert await running.store.read(lambda transaction: transaction.content.get(1)) is None
        assert await running.store.read(lambda transaction: transaction.content.read_chunk(1, 1)) is None


async def test_a_message_in_a_loop_is_refused(autojump_clock: trio.testing.MockClock) -> None:
    async with server() as running:
        client = running.connect()
        await client.hello()
        reply = await client.send("you@there.example", "ann@here.example", b"Received: x\r\n" * 101 + MESSAGE)
    assert (reply.code, reply.enhanced_status_code) == (550, "5.4.6")


async def test_a_silent_client_is_told_to_go(autojump_clock: trio.testing.MockClock) -> None:
    async with server() as running:
        client = running.connect()
        await client.hello()
        begin = trio.current_time()
        reply = await client.reply()
        assert (reply.code, reply.enhanced_status_code) == (421, "4.4.2")
        assert trio.current_time() - begin == pytest.approx(30, abs=1)
        with pytest.raises(EOFError):
            await client.reply()


async def test_a_client_that_goes_silent_within_a_message_is_told_to_go(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with server() as running:
        client = running.connect()
        await client.hello()
        for line in ("MAIL FROM:<you@there.example>", "RCPT TO:<ann@here.example>", "DATA"):
            await client.command(line)
        begin = trio.current_time()
        await client.stream.send_all(MESSAGE)
        assert (await client.reply()).enhanced_status_code == "4.4.2"
        assert trio.current_time() - begin == pytest.approx(30, abs=1)
        assert await running.read("ann") == []


async def test_a_message_that_drips_in_has_half_an_hour(autojump_clock: trio.testing.MockClock) -> None:
    async with server() as running:
        client = running.connect()
        await client.hello()
        for line in ("MAIL FROM:<you@there.example>", "RCPT TO:<ann@here.example>", "DATA"):
            await client.command(line)
        begin = trio.current_time()
        reply = None
        while reply is None:
            await client.stream.send_all(b"x\r\n")
            with trio.move_on_after(20):
                reply = await client.reply()
        assert reply.enhanced_status_code == "4.4.2"
        assert trio.current_time() - begin == pytest.approx(30 * 60, abs=30)


async def test_the_limit_counts_for_waiting_and_not_for_our_own_work(autojump_clock: trio.testing.MockClock) -> None:
    async with server() as running:
        client = running.connect("development")
        await client.hello()
        reply = await client.send("you@there.example", "x-timeout@here.example", MESSAGE)
    assert reply.code == 451


async def test_what_is_not_taken_by_our_own_fault_is_said_at_once(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with server() as running:
        client = running.connect("smtp")
        await client.hello()

        async def full(unit: object, *, key: str) -> None:
            raise DiskFull("no space left")

        with monkeypatch.context() as patch:
            patch.setattr(running.store, "write", full)
            begin = trio.current_time()
            reply = await client.send("you@there.example", "ann@here.example", MESSAGE)
            assert (reply.code, reply.enhanced_status_code) == (452, "4.3.1")
        reply = await client.send("you@there.example", "ann@here.example", MESSAGE)
        assert reply.code == 250
        assert trio.current_time() == begin


async def test_pipelined_commands_are_answered_in_one_piece(autojump_clock: trio.testing.MockClock) -> None:
    async with server() as running:
        client = running.connect("relay")
        await client.hello()
        await client.stream.send_all(
            b"MAIL FROM:<you@there.example>\r\nRCPT TO:<ann@here.example>\r\nRCPT TO:<bob@here.example>\r\nDATA\r\n"
        )
        octets = await client.stream.receive_some(65536)
        assert [line[:3] for line in octets.splitlines()] == [b"250", b"250", b"250", b"354"]
        assert (await client.command(MESSAGE + b".")).code == 250
        assert len(await running.read("ann")) == len(await running.read("bob")) == 1


async def test_stopping_tells_idle_clients_and_lets_a_message_finish(autojump_clock: trio.testing.MockClock) -> None:
    async with server() as running:
        idle, busy = running.connect(), running.connect()
        await idle.hello()
        await busy.hello()
        for line in ("MAIL FROM:<you@there.example>", "RCPT TO:<ann@here.example>", "DATA"):
            await busy.command(line)
        running.server.stop()
        assert (await idle.reply()).enhanced_status_code == "4.3.2"
        assert (await busy.command(MESSAGE + b".")).code == 250
        assert (await busy.reply()).enhanced_status_code == "4.3.2"


# --- submission ---------------------------------------------------------------------------------------------------


async def test_commands_of_submission_need_a_login(autojump_clock: trio.testing.MockClock) -> None:
    async with server() as running:
        client = running.connect("submission")
        await client.hello()
        assert (await client.command("MAIL FROM:<ann@here.example>")).code == 530
        assert (await client.log_in("ann@here.example", PASSWORD)).code == 235
        assert (await client.command("MAIL FROM:<ann@here.example>")).code == 250


async def test_a_wrong_password_is_refused_and_in_the_end_slow(autojump_clock: trio.testing.MockClock) -> None:
    async with server() as running:
        client = running.connect("submission")
        await client.hello()
        durations = []
        for _ in range(5):
            begin = trio.current_time()
            reply = await client.log_in("ann@here.example", "wrong password")
            durations.append(trio.current_time() - begin)
            assert (reply.code, reply.enhanced_status_code) == (535, "5.7.8")
    assert durations[0] == durations[1] == 0
    assert durations[3] > 20


async def test_an_address_with_too_many_failures_is_not_asked_again(autojump_clock: trio.testing.MockClock) -> None:
    async with server() as running:
        for _ in range(5):
            client = running.connect("submission")
            await client.hello()
            for _ in range(2):
                await client.log_in("ann@here.example", "wrong password")
        client = running.connect("submission")
        assert (await client.hello()).code == 421
        other = running.connect("submission", remote_ip="198.51.100.7")
        await other.hello()
        assert (await other.log_in("ann@here.example", PASSWORD)).code == 235


async def test_a_disabled_login_and_a_new_password_count_at_once(autojump_clock: trio.testing.MockClock) -> None:
    async with server() as running:
        client = running.connect("submission")
        await client.hello()
        assert (await client.log_in("bob@here.example", PASSWORD)).code == 235
        accounts = tuple(
            Account(account.name, account.domain, login_disabled_message="gone fishing") for account in ROWS.accounts
        )
        await running.change(
            type(ROWS)(settings=ROWS.settings, domains=ROWS.domains, accounts=accounts, addresses=ROWS.addresses)
        )
        client = running.connect("submission")
        await client.hello()
        reply = await client.log_in("bob@here.example", PASSWORD)
        assert (reply.code, reply.enhanced_status_code) == (525, "5.7.13")
        assert "gone fishing" in reply.text


async def test_a_reverse_path_of_somebody_else_is_refused(autojump_clock: trio.testing.MockClock) -> None:
    async with server() as running:
        client = running.connect("submission")
        await client.hello()
        await client.log_in("ann@here.example", PASSWORD)
        reply = await client.command("MAIL FROM:<bob@here.example>")
        assert (reply.code, reply.enhanced_status_code) == (550, "5.7.1")
        assert (await client.command("MAIL FROM:<>")).code == 250


@pytest.mark.parametrize("fields", [(b"X: " + b"x" * 900 + b"\r\n") * 1200, b"X: x\r\n" * 10_001])
async def test_a_submitter_is_told_that_a_header_is_too_long(
    fields: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    async with server() as running:
        client = running.connect("submission")
        await client.hello()
        await client.log_in("ann@here.example", PASSWORD)
        content = b"From: ann@here.example\r\n" + fields + b"\r\n" + b"Hello.\r\n" * 40_000
        reply = await client.send("ann@here.example", "you@there.example", content)
    assert (reply.code, reply.enhanced_status_code) == (554, "5.6.0")
    assert "header is too long" in reply.text


async def test_an_unknown_user_of_ours_is_told_to_a_submitter_at_once(autojump_clock: trio.testing.MockClock) -> None:
    async with server() as running:
        client = running.connect("submission")
        await client.hello()
        await client.log_in("ann@here.example", PASSWORD)
        reply = await client.send("ann@here.example", "nobody@here.example", MESSAGE)
    assert (reply.code, reply.enhanced_status_code) == (550, "5.1.1")


# --- hooks --------------------------------------------------------------------------------------------------------


class Guard(Plugin):
    """Refuses by name, so that each stage can be seen."""

    name = "guard"

    @hookimpl
    async def accept_connection(self, session: SessionInfo) -> Reply | None:
        return Reply.make(554, "5.7.1", "not you") if session.remote_ip == "203.0.113.9" else None

    @hookimpl
    async def accept_reverse_path(self, session: SessionInfo, reverse_path: ReversePath) -> Reply | None:
        if str(reverse_path).startswith("bug"):
            raise RuntimeError("a bug")
        return Reply.make(550, "5.7.1", "not him") if str(reverse_path).startswith("spammer") else None

    @hookimpl
    async def resolve_recipient(
        self, session: SessionInfo, forward_path: Mailbox
    ) -> LocalDestination | RelayDestination | Reply | None:
        if forward_path.local_part == "list":
            return LocalDestination("bob", "Lists")
        return RelayDestination() if forward_path.local_part == "relay" else None


async def test_a_plugin_refuses_a_connection_before_the_greeting(autojump_clock: trio.testing.MockClock) -> None:
    async with server(Guard) as running:
        assert (await running.connect(remote_ip="203.0.113.9").reply()).code == 554
        assert (await running.connect().reply()).code == 220


async def test_a_plugin_refuses_a_reverse_path_and_a_bug_in_it_defers(autojump_clock: trio.testing.MockClock) -> None:
    async with server(Guard) as running:
        client = running.connect()
        await client.hello()
        assert (await client.command("MAIL FROM:<spammer@there.example>")).code == 550
        assert (await client.command("MAIL FROM:<bug@there.example>")).code == 451
        assert (await client.command("MAIL FROM:<you@there.example>")).code == 250


async def test_a_plugin_says_where_a_recipient_goes(autojump_clock: trio.testing.MockClock) -> None:
    async with server(Guard) as running:
        client = running.connect()
        await client.hello()
        assert (await client.send("you@there.example", "list@anywhere.example", MESSAGE)).code == 250
        assert len(await running.read("bob", "Lists")) == 1
        reply = await client.send("you@there.example", "relay@anywhere.example", MESSAGE)
        assert reply.code == 550
