"""Connections: which are let in, and how they begin."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from mailcrane.listener.smtp import SMTPListener
from mailcrane.testing import PASSWORD, RunningServer, SMTPClient, server
from mailcrane.tls.certificate import make_self_signed
from mailcrane.tls.context import ClientTLS, Verification
from mailcrane.tls.stream import TLSStream

FEW = """
[listeners.few]
protocol = "smtp"
addresses = ["127.0.0.1:2525"]
max_connections = 3
max_connections_per_network = [2, 0, 0]

[listeners.proxied]
protocol = "smtp"
addresses = ["127.0.0.1:2526"]
proxy_protocol_from = ["10.0.0.0/8"]
"""

MESSAGE = b"From: <you@there.example>\r\n\r\nHello.\r\n"


async def test_one_address_may_not_take_all_connections(autojump_clock: trio.testing.MockClock) -> None:
    async with server(config=FEW) as running:
        clients = [running.connect("few") for _ in range(2)]
        assert [(await client.reply()).code for client in clients] == [220, 220]
        assert (await running.connect("few").reply()).code == 421
        other = running.connect("few", remote_ip="198.51.100.1")
        assert (await other.reply()).code == 220
        await clients[0].quit()
        await trio.testing.wait_all_tasks_blocked()
        assert (await running.connect("few").reply()).code == 220


async def test_a_listener_has_a_total_limit(autojump_clock: trio.testing.MockClock) -> None:
    async with server(config=FEW) as running:
        clients = [running.connect("few", remote_ip=f"198.51.100.{number}") for number in range(4)]
        assert sorted([(await client.reply()).code for client in clients]) == [220, 220, 220, 421]


async def test_a_proxy_tells_the_real_client(autojump_clock: trio.testing.MockClock) -> None:
    async with server(config=FEW) as running:
        client = running.connect("proxied", remote_ip="10.0.0.1")
        await client.stream.send_all(b"PROXY TCP4 203.0.113.7 192.0.2.25 1234 25\r\n")
        await client.hello()
        assert (await client.send("you@there.example", "ann@here.example", MESSAGE)).code == 250
        (octets,) = await running.read("ann")
    assert b"[203.0.113.7]" in octets


async def test_a_proxy_without_its_header_is_not_served(autojump_clock: trio.testing.MockClock) -> None:
    async with server(config=FEW) as running:
        client = running.connect("proxied", remote_ip="10.0.0.1")
        await client.stream.send_all(b"EHLO client.example\r\n")
        with pytest.raises(EOFError):
            await client.reply()
        assert (await running.connect("proxied").reply()).code == 220


# --- real sockets -------------------------------------------------------------------------------------------------


async def _over_sockets(running: RunningServer, nursery: trio.Nursery) -> tuple[SMTPListener, int]:
    listener = SMTPListener(running.server.smtp["smtp"]._profile, running.server.smtp["smtp"]._settings)
    listener.bind([("127.0.0.1", 0)])
    nursery.start_soon(listener.run)
    return listener, listener.addresses[0][1]


async def test_accepting_goes_on_when_file_descriptors_run_out(caplog: pytest.LogCaptureFixture) -> None:
    async with server() as running, trio.open_nursery() as nursery:
        listener = SMTPListener(running.server.smtp["smtp"]._profile, running.server.smtp["smtp"]._settings)
        listener.bind([("127.0.0.1", 0)])
        # It connects to the kernel's queue; nobody accepts yet.
        client = SMTPClient(await trio.open_tcp_stream("127.0.0.1", listener.addresses[0][1]))
        with _no_more_files():
            nursery.start_soon(listener.run)
            await trio.testing.wait_all_tasks_blocked()
        assert "out of file descriptors" in caplog.text
        with trio.fail_after(5):
            assert (await client.hello()).code == 250
        await client.quit()
        await listener.stop()


@contextlib.contextmanager
def _no_more_files() -> Iterator[None]:
    """Let no file descriptor be opened: the limit is the lowest that is free."""
    lowest = os.dup(0)
    os.close(lowest)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


async def test_accepting_pauses_while_the_store_is_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    async with server() as running, trio.open_nursery() as nursery:
        delays = [0.0]
        monkeypatch.setattr(running.store, "write_delay", lambda: delays[0])
        delays[0] = 1.0
        listener, port = await _over_sockets(running, nursery)
        client = SMTPClient(await trio.open_tcp_stream("127.0.0.1", port))
        with trio.move_on_after(0.1) as waiting:
            await client.reply()
        assert waiting.cancelled_caught
        delays[0] = 0.0
        with trio.fail_after(5):
            assert (await client.hello()).code == 250
        await client.quit()
        await listener.stop()


async def test_a_client_that_does_not_end_its_message_is_told_of_the_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailcrane.listener.smtp.GRACE_SECONDS", 0.05)
    async with server() as running, trio.open_nursery() as nursery:
        listener, port = await _over_sockets(running, nursery)
        client = SMTPClient(await trio.open_tcp_stream("127.0.0.1", port))
        await client.hello()
        for line in ("MAIL FROM:<you@there.example>", "RCPT TO:<ann@here.example>", "DATA"):
            await client.command(line)
        with trio.fail_after(5):
            await listener.stop()
            assert (await client.reply()).enhanced_status_code == "4.3.2"
            with pytest.raises(EOFError):
                await client.reply()
        await client.stream.aclose()


# --- TLS ------------------------------------------------------------------------------------------------------------


def _with_tls(directory: Path) -> str:
    certificate, key = make_self_signed(["mail.here.example"])
    (directory / "cert.pem").write_bytes(certificate)
    (directory / "key.pem").write_bytes(key)
    return f"""
[tls.own]
cert_file = "{directory}/cert.pem"
key_file = "{directory}/key.pem"

[listeners.starttls]
protocol = "submission"
addresses = ["127.0.0.1:2587"]
tls = "own"

[listeners.submissions]
protocol = "submissions"
addresses = ["127.0.0.1:2465"]
tls = "own"
"""


async def _begin_tls(client: SMTPClient) -> SMTPClient:
    stream: TLSStream = ClientTLS(verification=Verification.NONE).wrap(client.stream, "mail.here.example")
    await stream.do_handshake()
    return SMTPClient(stream)


async def test_a_login_needs_starttls_and_then_works(autojump_clock: trio.testing.MockClock, tmp_path: Path) -> None:
    async with server(config=_with_tls(tmp_path)) as running:
        client = running.connect("starttls")
        hello = await client.hello()
        assert "STARTTLS" in hello.lines
        assert (await client.log_in("ann@here.example", PASSWORD)).code == 538
        assert (await client.command("STARTTLS")).code == 220
        client = await _begin_tls(client)
        hello = await client.command("EHLO client.example")
        assert "STARTTLS" not in hello.lines
        assert (await client.log_in("ann@here.example", PASSWORD)).code == 235


async def test_submissions_begins_with_tls(autojump_clock: trio.testing.MockClock, tmp_path: Path) -> None:
    async with server(config=_with_tls(tmp_path)) as running:
        client = await _begin_tls(running.connect("submissions"))
        assert (await client.hello()).code == 250
        assert (await client.log_in("ann@here.example", PASSWORD)).code == 235


async def test_what_is_said_in_plaintext_with_starttls_is_not_taken_for_tls(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    async with server(config=_with_tls(tmp_path)) as running:
        client = running.connect("starttls")
        await client.hello()
        reply = await client.command(b"STARTTLS\r\nEHLO injected.example")
        assert reply.code == 503
        with pytest.raises(EOFError):
            await client.reply()
