"""The transport and its plugin, with the conformance kit, and over a Unix socket."""

import tempfile
from functools import partial
from pathlib import Path

import trio
from mailcrane_lmtp.plugin import LMTPPlugin
from mailcrane_lmtp.transport import LMTPTransport

from mailcrane.api import Outcome
from mailcrane.testing import made_delivery, made_entry
from mailcrane_conformance import plugin, transport

TAKES_ONE = (
    "220 there.example\r\n",
    "250-there.example\r\n250 PIPELINING\r\n",
    "250 ok\r\n250 ok\r\n250 ok\r\n354 go on\r\n",
    "250 2.0.0 taken\r\n452 4.2.2 full\r\n",
    "221 bye\r\n",
)


async def make(host: str, port: int) -> LMTPTransport:
    """Make the transport for the kit's peer."""
    return LMTPTransport((host, port), "client.example")


test_transport = transport.make_test(transport.lmtp(make))
test_plugin = plugin.make_test(plugin.Subject(LMTPPlugin, entry_point="lmtp"))


async def _serve(stream: trio.SocketStream) -> None:
    for reply in TAKES_ONE:
        await stream.send_all(reply.encode())
        await stream.receive_some(65536)


def test_a_unix_socket_is_reached_by_its_path() -> None:
    async def main() -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder, "lmtp"))
            listening = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
            await listening.bind(path)
            listening.listen()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(trio.serve_listeners, _serve, [trio.SocketListener(listening)]))
                lmtp = LMTPTransport(path, "client.example")
                entries = (made_entry("ann@there.example"), made_entry("bob@there.example", id=2))
                with trio.fail_after(5):
                    results = await lmtp.deliver(made_delivery(*entries))
                nursery.cancel_scope.cancel()
            assert [result.outcome for result in results] == [Outcome.DELIVERED, Outcome.DEFERRED]
            assert results[0].remote_mta == path

    trio.run(main)


def test_a_socket_that_is_not_there_defers() -> None:
    [result] = trio.run(LMTPTransport("/nowhere/lmtp", "client.example").deliver, made_delivery())
    assert result.outcome is Outcome.DEFERRED
    assert "/nowhere/lmtp" in result.error
