"""Relaying to a host: TLS, logins, many recipients, slow and odd peers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from mailcrane.api import Outcome, Reply, Secret, TLSUse
from mailcrane.testing import ask, running_plugins
from mailcrane.tls.context import ServerTLS
from mailcrane_conformance.transport import make_delivery
from mailcrane_transports.config import AuthConfig, LocalConfig, SMTPConfig
from mailcrane_transports.dialog import Dialog, DialogFailed
from mailcrane_transports.home import Home
from mailcrane_transports.plugin import TransportsPlugin
from mailcrane_transports.relay import RelayTransport, open_local, open_smtp

PASSWORD = "correct horse battery"


OpenTo = Callable[..., Awaitable[RelayTransport]]
Opened = Callable[[RelayTransport], RelayTransport]


@pytest.fixture
async def open_to(home: Home, opened: Opened) -> OpenTo:
    """Opens a transport of the type smtp to a peer."""

    async def open_it(peer: Any, **fields: Any) -> RelayTransport:
        return opened(await open_smtp(SMTPConfig(peer.host, peer.port, **fields), home))

    return open_it


def auth(*mechanisms: str, password: str = PASSWORD) -> AuthConfig:
    return AuthConfig("ann@peer.example", Secret(password), mechanisms)


@pytest.fixture
def ca_file(certificate: Any, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    path.write_bytes(certificate[0])
    return str(path)


@pytest.fixture
def tls_peer(peer: Any, certificate: Any) -> Any:
    """A peer that offers STARTTLS, and more behind it."""
    peer.tls = ServerTLS([certificate[1]])
    peer.tls_extensions = peer.extensions
    peer.extensions = ("PIPELINING", "STARTTLS")
    return peer


# --- TLS ------------------------------------------------------------------------------------------------------------


async def test_content_goes_over_starttls_with_a_verified_certificate(
    tls_peer: Any, ca_file: str, open_to: OpenTo
) -> None:
    transport = await open_to(tls_peer, ca_file=ca_file)
    [result] = await transport.deliver(make_delivery())
    await transport.aclose()
    assert result.outcome is Outcome.DELIVERED
    assert result.tls == TLSUse("TLSv1.3", is_verified=True, is_offered=True, asked="verified")
    assert result.dialed == (("127.0.0.1", "127.0.0.1"),)
    assert result.remote_mta == "127.0.0.1 (127.0.0.1)"
    verbs = [line.partition(" ")[0] for line in tls_peer.lines[0]]
    assert verbs == ["EHLO", "STARTTLS", "EHLO", "MAIL", "RCPT", "DATA", "QUIT"]


async def test_a_certificate_that_is_not_trusted_defers(tls_peer: Any, open_to: OpenTo) -> None:
    [result] = await (await open_to(tls_peer)).deliver(make_delivery())
    assert result.outcome is Outcome.DEFERRED
    assert "TLS handshake failed: certificate not trusted" in result.error
    assert tls_peer.contents == []


async def test_a_certificate_for_another_name_defers(
    tls_peer: Any, ca_file: str, other_certificate: Any, open_to: OpenTo
) -> None:
    tls_peer.tls = ServerTLS([other_certificate])
    [result] = await (await open_to(tls_peer, ca_file=ca_file)).deliver(make_delivery())
    assert result.outcome is Outcome.DEFERRED
    assert tls_peer.contents == []


async def test_any_certificate_is_taken_when_told_so(tls_peer: Any, open_to: OpenTo) -> None:
    transport = await open_to(tls_peer, starttls_insecure_skip_verify=True)
    [result] = await transport.deliver(make_delivery())
    assert result.outcome is Outcome.DELIVERED


async def test_a_next_hop_without_starttls_gets_nothing_in_plaintext(peer: Any, open_to: OpenTo) -> None:
    [result] = await (await open_to(peer)).deliver(make_delivery())
    assert result.outcome is Outcome.DEFERRED
    assert "does not offer STARTTLS" in result.error
    await peer.wait_until_closed()
    assert [line.partition(" ")[0] for line in peer.lines[0]] == ["EHLO", "QUIT"]


async def test_a_refused_starttls_defers(tls_peer: Any, open_to: OpenTo) -> None:
    tls_peer.replies["STARTTLS"] = ["454 4.7.0 not now"]
    [result] = await (await open_to(tls_peer)).deliver(make_delivery())
    assert result.outcome is Outcome.DEFERRED
    assert result.reply == Reply.make(454, "4.7.0", "not now")


async def test_plaintext_behind_the_reply_to_starttls_ends_the_dialog(tls_peer: Any, open_to: OpenTo) -> None:
    tls_peer.replies["STARTTLS"] = ["220 go\r\n250 injected"]
    [result] = await (await open_to(tls_peer, starttls_insecure_skip_verify=True)).deliver(make_delivery())
    assert result.outcome is Outcome.DEFERRED
    assert "plaintext behind its reply to STARTTLS" in result.error


async def test_requiretls_over_an_unverified_transport_fails_without_a_connection(
    tls_peer: Any, open_to: OpenTo
) -> None:
    transport = await open_to(tls_peer, starttls_insecure_skip_verify=True)
    [result] = await transport.deliver(make_delivery(require_tls=True))
    assert result.outcome is Outcome.FAILED
    assert result.reply is not None
    assert result.reply.enhanced_status_code == "5.7.30"
    assert tls_peer.lines == []


async def test_requiretls_is_passed_on_over_verified_tls(tls_peer: Any, ca_file: str, open_to: OpenTo) -> None:
    tls_peer.tls_extensions += ("REQUIRETLS",)
    [result] = await (await open_to(tls_peer, ca_file=ca_file)).deliver(make_delivery(require_tls=True))
    assert result.outcome is Outcome.DELIVERED
    assert any(line.startswith("MAIL") and line.endswith("REQUIRETLS") for line in tls_peer.lines[0])


async def test_the_local_transport_uses_tls_where_it_is_offered(tls_peer: Any, home: Home, opened: Opened) -> None:
    transport = opened(await open_local(LocalConfig(tls_peer.host, tls_peer.port), home))
    [result] = await transport.deliver(make_delivery())
    assert result.outcome is Outcome.DELIVERED
    assert "STARTTLS" in tls_peer.lines[0]


async def test_the_local_transport_goes_on_in_plaintext_when_starttls_is_refused(
    tls_peer: Any, home: Home, opened: Opened
) -> None:
    tls_peer.replies["STARTTLS"] = ["454 4.7.0 not now"]
    transport = opened(await open_local(LocalConfig(tls_peer.host, tls_peer.port), home))
    [result] = await transport.deliver(make_delivery())
    assert result.outcome is Outcome.DELIVERED


async def test_a_recipient_that_is_to_fail_takes_no_other_with_it_on_the_local_transport(
    peer: Any, home: Home, opened: Opened
) -> None:
    peer.replies["."] = ["250 2.0.0 taken", "550 5.0.0 as asked", "250 2.0.0 taken"]
    transport = opened(await open_local(LocalConfig(peer.host, peer.port), home))
    results = await transport.deliver(make_delivery("a@b.example", "c-550@b.example", "d@b.example"))
    assert [result.outcome for result in results] == [Outcome.DELIVERED, Outcome.FAILED, Outcome.DELIVERED]


# --- login ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offered", "configured", "used"),
    [
        ("SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN", (), "SCRAM-SHA-256-PLUS"),
        ("PLAIN SCRAM-SHA-256", (), "SCRAM-SHA-256"),
        ("PLAIN SCRAM-SHA-256", ("plain",), "PLAIN"),
        ("SCRAM-SHA-256-PLUS SCRAM-SHA-256", ("SCRAM-SHA-256",), "SCRAM-SHA-256"),
    ],
)
async def test_the_first_mechanism_that_both_have_logs_in(
    *, tls_peer: Any, ca_file: str, offered: str, configured: tuple[str, ...], used: str, open_to: OpenTo
) -> None:
    tls_peer.tls_extensions = (f"AUTH {offered}",)
    [result] = await (await open_to(tls_peer, ca_file=ca_file, auth=auth(*configured))).deliver(make_delivery())
    assert result.outcome is Outcome.DELIVERED, result.error
    assert tls_peer.logins == [f"{used} ann@peer.example"]


async def test_scram_logs_in_over_plaintext(peer: Any, open_to: OpenTo) -> None:
    peer.extensions = ("AUTH SCRAM-SHA-256",)
    [result] = await (await open_to(peer, no_starttls=True, auth=auth())).deliver(make_delivery())
    assert result.outcome is Outcome.DELIVERED
    assert peer.logins == ["SCRAM-SHA-256 ann@peer.example"]


@pytest.mark.parametrize(
    ("offered", "configured"), [("PLAIN LOGIN", ()), ("", ()), ("PLAIN", ("PLAIN",)), ("SCRAM-SHA-256", ("PLAIN",))]
)
async def test_without_a_common_mechanism_nothing_is_shown_and_it_is_deferred(
    peer: Any, offered: str, configured: tuple[str, ...], open_to: OpenTo
) -> None:
    peer.extensions = (f"AUTH {offered}",) if offered else ("PIPELINING",)
    [result] = await (await open_to(peer, no_starttls=True, auth=auth(*configured))).deliver(make_delivery())
    assert result.outcome is Outcome.DEFERRED
    assert "no mechanism of auth.mechanisms is offered" in result.error
    assert not any(line.startswith("AUTH") for line in peer.lines[0])


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
async def test_a_wrong_password_defers_because_an_operator_can_mend_it(
    tls_peer: Any, ca_file: str, mechanism: str, open_to: OpenTo
) -> None:
    tls_peer.tls_extensions = (f"AUTH {mechanism}",)
    transport = await open_to(tls_peer, ca_file=ca_file, auth=auth(mechanism, password="not that one"))
    [result] = await transport.deliver(make_delivery())
    assert result.outcome is Outcome.DEFERRED
    assert result.reply == Reply.make(535, "5.7.8", "no")
    assert "login was refused" in result.error


async def test_a_server_that_lets_us_in_without_knowing_the_password_is_not_believed(
    peer: Any, open_to: OpenTo
) -> None:
    peer.extensions = ("AUTH SCRAM-SHA-256",)
    peer.replies["AUTH"] = ["235 2.7.0 come in"]
    transport = await open_to(peer, no_starttls=True, auth=auth(password="not that one"))
    [result] = await transport.deliver(make_delivery())
    assert result.outcome is Outcome.DEFERRED
    assert peer.contents == []


# --- recipients -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [452, 552])
async def test_too_many_recipients_are_tried_in_the_next_transaction(peer: Any, code: int, open_to: OpenTo) -> None:
    peer.replies["RCPT"] = ["250 ok", f"{code} too many", "250 ok"]
    paths = [f"{name}@peer.example" for name in "abc"]
    results = await (await open_to(peer, no_starttls=True)).deliver(make_delivery(*paths))
    assert [result.outcome for result in results] == [Outcome.DELIVERED] * 3
    assert len(peer.contents) == 2
    recipients = [line for line in peer.lines[0] if line.startswith("RCPT")]
    assert recipients[-1] == "RCPT TO:<b@peer.example>"
    assert len(peer.lines) == 1


@pytest.mark.parametrize("code", [452, 552])
async def test_a_full_mailbox_of_the_first_recipient_is_deferred(peer: Any, code: int, open_to: OpenTo) -> None:
    peer.replies["RCPT"] = [f"{code} full", "250 ok"]
    results = await (await open_to(peer, no_starttls=True)).deliver(make_delivery("a@peer.example", "b@peer.example"))
    assert [result.outcome for result in results] == [Outcome.DEFERRED, Outcome.DELIVERED]
    assert len(peer.contents) == 1


async def test_recipients_who_are_all_too_many_are_not_tried_for_ever(peer: Any, open_to: OpenTo) -> None:
    peer.replies["RCPT"] = ["452 full", "452 full"]
    results = await (await open_to(peer, no_starttls=True)).deliver(make_delivery("a@peer.example", "b@peer.example"))
    assert [result.outcome for result in results] == [Outcome.DEFERRED] * 2
    assert len([line for line in peer.lines[0] if line.startswith("MAIL")]) == 1


async def test_a_single_recipient_with_552_is_deferred(peer: Any, open_to: OpenTo) -> None:
    peer.replies["RCPT"] = ["552 5.2.2 full"]
    [result] = await (await open_to(peer, no_starttls=True)).deliver(make_delivery())
    assert result.outcome is Outcome.DEFERRED
    assert result.reply == Reply.make(552, "5.2.2", "full")


async def test_552_to_mail_or_content_fails(peer: Any, open_to: OpenTo) -> None:
    peer.replies["MAIL"] = ["552 5.3.4 too large"]
    transport = await open_to(peer, no_starttls=True)
    assert [result.outcome for result in await transport.deliver(make_delivery())] == [Outcome.FAILED]
    peer.replies["."] = ["552 5.3.4 too large"]
    assert [result.outcome for result in await transport.deliver(make_delivery())] == [Outcome.FAILED]


async def test_recipients_are_split_as_the_next_hop_wants_it(peer: Any, open_to: OpenTo) -> None:
    peer.extensions = ("PIPELINING", "LIMITS RCPTMAX=2")
    peer.replies["RCPT"] = ["250 ok", "250 ok", "550 no", "550 no", "250 ok"]
    paths = [f"{name}@peer.example" for name in "abcde"]
    results = await (await open_to(peer, no_starttls=True)).deliver(make_delivery(*paths))
    wanted = [Outcome.DELIVERED, Outcome.DELIVERED, Outcome.FAILED, Outcome.FAILED, Outcome.DELIVERED]
    assert [result.outcome for result in results] == wanted
    verbs = [line.partition(" ")[0] for line in peer.lines[0]]
    assert verbs.count("MAIL") == 3
    assert len([octets for octets in peer.contents if octets]) == 2


async def test_results_before_a_lost_connection_stand(peer: Any, open_to: OpenTo) -> None:
    peer.extensions = ("PIPELINING", "LIMITS RCPTMAX=1")
    peer.replies["."] = ["250 2.0.0 taken", None]
    paths = [f"{name}@peer.example" for name in "abc"]
    results = await (await open_to(peer, no_starttls=True)).deliver(make_delivery(*paths))
    assert [result.outcome for result in results] == [Outcome.DELIVERED, Outcome.DEFERRED, Outcome.DEFERRED]
    assert [result.is_maybe_delivered for result in results] == [False, True, False]


async def test_a_refused_recipient_is_not_marked_as_maybe_delivered(peer: Any, open_to: OpenTo) -> None:
    peer.replies = {"RCPT": ["550 5.1.1 no", "250 ok"], ".": [None]}
    results = await (await open_to(peer, no_starttls=True)).deliver(make_delivery("a@peer.example", "b@peer.example"))
    assert [result.outcome for result in results] == [Outcome.FAILED, Outcome.DEFERRED]
    assert [result.is_maybe_delivered for result in results] == [False, True]


async def test_421_between_transactions_defers_the_rest(peer: Any, open_to: OpenTo) -> None:
    peer.extensions = ("LIMITS RCPTMAX=1",)
    peer.replies["MAIL"] = ["250 ok", "421 4.3.2 going down"]
    results = await (await open_to(peer, no_starttls=True)).deliver(make_delivery("a@peer.example", "b@peer.example"))
    assert [result.outcome for result in results] == [Outcome.DELIVERED, Outcome.DEFERRED]


# --- odd peers ------------------------------------------------------------------------------------------------------


async def test_a_peer_that_speaks_only_helo_is_delivered_to(peer: Any, open_to: OpenTo) -> None:
    peer.replies["EHLO"] = ["500 what"]
    [result] = await (await open_to(peer, no_starttls=True)).deliver(make_delivery())
    assert result.outcome is Outcome.DELIVERED
    assert "HELO client.example" in peer.lines[0]


async def test_a_5yz_greeting_fails(peer: Any, open_to: OpenTo) -> None:
    peer.replies["greeting"] = ["554 5.7.1 you are blocked"]
    [result] = await (await open_to(peer, no_starttls=True)).deliver(make_delivery())
    assert result.outcome is Outcome.FAILED
    assert result.reply == Reply.make(554, "5.7.1", "you are blocked")
    await peer.wait_until_closed()
    # RFC 5321 section 3.1: after that, nothing is said but QUIT.
    assert peer.lines == [["QUIT"]]


async def test_a_421_greeting_defers_with_what_it_said(peer: Any, open_to: OpenTo) -> None:
    peer.replies["greeting"] = ["421 4.3.2 closing"]
    [result] = await (await open_to(peer, no_starttls=True)).deliver(make_delivery())
    assert result.outcome is Outcome.DEFERRED
    assert result.reply == Reply.make(421, "4.3.2", "closing")


async def test_a_peer_that_speaks_no_smtp_defers(peer: Any, open_to: OpenTo) -> None:
    peer.replies["greeting"] = ["SSH-2.0-OpenSSH"]
    [result] = await (await open_to(peer, no_starttls=True)).deliver(make_delivery())
    assert result.outcome is Outcome.DEFERRED


async def test_8bit_content_is_announced_where_the_peer_wants_it(peer: Any, open_to: OpenTo) -> None:
    octets = "Subject: x\r\n\r\nGr\u00fc\u00dfe\r\n".encode()
    [result] = await (await open_to(peer, no_starttls=True)).deliver(make_delivery(octets=octets, has_8bit=True))
    assert result.notes == ()
    assert any("BODY=8BITMIME" in line for line in peer.lines[0])


async def test_an_address_that_is_not_ascii_needs_smtputf8_by_itself(peer: Any, open_to: OpenTo) -> None:
    peer.extensions = ("PIPELINING",)
    [result] = await (await open_to(peer, no_starttls=True)).deliver(make_delivery("\u00e9@peer.example"))
    assert result.outcome is Outcome.FAILED
    assert result.reply is not None
    assert result.reply.enhanced_status_code == "5.6.7"


async def test_a_closed_port_defers_with_where_it_tried(peer: Any, home: Home, opened: Opened) -> None:
    transport = opened(await open_smtp(SMTPConfig("127.0.0.1", 1, no_starttls=True), home))
    [result] = await transport.deliver(make_delivery())
    assert result.outcome is Outcome.DEFERRED
    assert "cannot connect to 127.0.0.1:1" in result.error
    assert result.reply is None


async def test_a_name_that_does_not_resolve_defers(home: Home, opened: Opened) -> None:
    transport = opened(await open_smtp(SMTPConfig("no-such-host.invalid", no_starttls=True), home))
    [result] = await transport.deliver(make_delivery())
    assert result.outcome is Outcome.DEFERRED


# --- time limits (RFC 5321 section 4.5.3.2) ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "step", "seconds", "is_after_content"),
    [
        ("", "greeting", 300, False),
        ("220 hi\r\n", "hello", 300, False),
        ("220 hi\r\n250 ok\r\n", "envelope", 300, False),
        ("220 hi\r\n250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n", "content", 600, True),
    ],
)
async def test_a_silent_peer_is_waited_for_as_long_as_the_rfc_says(
    autojump_clock: trio.testing.MockClock, said: str, step: str, seconds: float, is_after_content: bool
) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    dialog = Dialog(ours)
    replies = said.encode().splitlines(keepends=True)

    async def answer() -> None:
        for number, reply in enumerate(replies):
            if number:
                await theirs.receive_some()
            await theirs.send_all(reply)
        while await theirs.receive_some():
            pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        with pytest.raises(DialogFailed) as caught:
            await begin_content(dialog)
        nursery.cancel_scope.cancel()
    assert trio.current_time() == pytest.approx(seconds), step
    assert caught.value.is_after_content is is_after_content


class BreaksAfter354(trio.abc.Stream):
    """Says its replies in order; what is sent after the last but one is not taken any more."""

    def __init__(self, *replies: bytes) -> None:
        self.replies = list(replies)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        if len(self.replies) <= 1:
            raise trio.BrokenResourceError("connection reset")

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        return self.replies.pop(0) if self.replies else b""

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def begin_content(dialog: Dialog) -> Reply:
    await dialog.greeting()
    await dialog.hello("client.example")
    delivery = make_delivery()
    await dialog.envelope(
        delivery.reverse_path,
        delivery.forward_paths,
        size_octets=100,
        has_8bit=False,
        smtputf8=False,
        require_tls=False,
    )
    return await dialog.content(delivery.content)


async def test_what_a_peer_says_before_it_gives_up_in_the_content_is_heard() -> None:
    replies = (b"220 hi\r\n", b"250 ok\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n", b"552 5.3.4 too large\r\n")
    dialog = Dialog(BreaksAfter354(*replies))
    assert await begin_content(dialog) == Reply.make(552, "5.3.4", "too large")
    assert dialog.is_over


async def test_a_peer_that_gives_up_in_the_content_without_a_word_is_not_maybe_delivered_to() -> None:
    dialog = Dialog(BreaksAfter354(b"220 hi\r\n", b"250 ok\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n", b""))
    with pytest.raises(DialogFailed, match="connection lost") as caught:
        await begin_content(dialog)
    assert not caught.value.is_after_content


# --- the plugin -------------------------------------------------------------------------------------------------------


async def test_the_plugin_registers_its_types() -> None:
    types = await ask(TransportsPlugin, "register_transport_types")
    names = [transport_type.name for _, transport_type in types]
    assert names == ["direct", "smtp", "submission", "submissions", "socks", "fail", "local"]


async def test_the_hostname_of_the_server_is_said_in_ehlo(peer: Any) -> None:
    async with running_plugins(TransportsPlugin) as host:
        types = {one.name: one for _, one in host.hooks.register_transport_types()}
        transport = await types["local"].open(LocalConfig(peer.host, peer.port))
        await transport.deliver(make_delivery())
        await transport.aclose()
    assert peer.lines[0][0] == "EHLO localhost"
