"""Our client against aiosmtpd's server."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

from aiosmtpd.smtp import SMTP

from mailcrane.model.address import Mailbox, ReversePath
from mailcrane.smtp.client import (
    NEED_DATA,
    ClientConnection,
    ClientEvent,
    ContentDone,
    EnvelopeDone,
    Greeting,
    HelloDone,
    QuitDone,
)


class Handler:
    """Keeps what it is given, and refuses one recipient."""

    def __init__(self) -> None:
        self.envelopes: list[Any] = []

    async def handle_RCPT(  # noqa: N802
        self, server: Any, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        if address.startswith("nobody@"):
            return "550 5.1.1 No such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        self.envelopes.append(envelope)
        return "250 2.0.0 Taken"


def serve(handler: Handler, connected: socket.socket) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        protocol = SMTP(handler, hostname="mx.example.org", enable_SMTPUTF8=True, loop=loop)
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, connected)
        while not transport.is_closing():  # noqa: ASYNC110 - aiosmtpd has nothing to wait for
            await asyncio.sleep(0.01)

    asyncio.run(main())


def test_our_client_talks_to_aiosmtpd() -> None:
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    handler = Handler()
    thread = threading.Thread(target=serve, args=(handler, theirs))
    thread.start()
    client = ClientConnection()

    def wait_for() -> ClientEvent:
        while (event := client.next_event()) is NEED_DATA:
            ours.sendall(client.data_to_send())
            client.receive(ours.recv(65536))
        return event

    try:
        assert isinstance(wait_for(), Greeting)
        client.hello("client.example")
        hello = wait_for()
        assert isinstance(hello, HelloDone)
        assert "SMTPUTF8" in hello.extensions
        path = Mailbox("j\u00f6", "example.org")
        client.begin_transaction(
            ReversePath(path), [path, Mailbox("nobody", "example.org")], size_octets=30, body="8BITMIME", smtputf8=True
        )
        envelope = wait_for()
        assert isinstance(envelope, EnvelopeDone)
        assert [reply.code for reply in envelope.recipients] == [250, 550]
        ours.sendall(client.send_content("Subject: x\r\n\r\n.\r\n..\u00fc".encode()))
        client.end_content()
        done = wait_for()
        assert isinstance(done, ContentDone)
        assert done.reply.code == 250
        client.quit()
        assert isinstance(wait_for(), QuitDone)
    finally:
        ours.close()
        thread.join(10)
    (kept,) = handler.envelopes
    assert kept.mail_from == "j\u00f6@example.org"
    assert kept.rcpt_tos == ["j\u00f6@example.org"]
    assert kept.content == "Subject: x\r\n\r\n.\r\n..\u00fc\r\n".encode()
