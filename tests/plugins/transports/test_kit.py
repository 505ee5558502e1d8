"""The shipped transports pass the kit that strangers run."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import trio

from mailcrane.api import Transport
from mailcrane.testing import FakeResolver
from mailcrane.tls.certificate import CertificateAndKey, make_self_signed
from mailcrane.tls.context import ServerTLS
from mailcrane_conformance.transport import make_test, smtp
from mailcrane_transports.config import (
    DirectConfig,
    LocalConfig,
    SMTPConfig,
    SocksConfig,
    SubmissionConfig,
    SubmissionsConfig,
)
from mailcrane_transports.direct import open_direct, open_socks
from mailcrane_transports.home import Home
from mailcrane_transports.relay import open_local, open_smtp, open_submissions

HOST = "127.0.0.1"
CERTIFICATE_PEM, KEY_PEM = make_self_signed((HOST,))

Accept = Callable[[trio.SocketStream], Awaitable[trio.abc.Stream]]


def home() -> Home:
    # Each case runs in a loop of its own, in which no nursery outlives the transport.
    resolver = FakeResolver()
    resolver.add_host("peer.example", HOST)
    return Home(trio.lowlevel.spawn_system_task, lambda: "client.example", resolver, lambda domain: False)


# --- what stands before the kit's peer, which speaks plaintext ------------------------------------------------------


async def through(accept: Accept, port: int) -> int:
    """Listen for connections, accept them in some way and pass them on to a port; returns where."""
    [listener] = await trio.open_tcp_listeners(0, host=HOST)

    async def serve(client: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            stream = await accept(client)
            async with stream, await trio.open_tcp_stream(HOST, port) as server, trio.open_nursery() as nursery:
                nursery.start_soon(pass_on, stream, server, nursery.cancel_scope)
                nursery.start_soon(pass_on, server, stream, nursery.cancel_scope)

    trio.lowlevel.spawn_system_task(functools.partial(trio.serve_listeners, serve, [listener]))
    return int(listener.socket.getsockname()[1])


async def pass_on(source: trio.abc.Stream, target: trio.abc.Stream, scope: trio.CancelScope) -> None:
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while octets := await source.receive_some(65536):
            await target.send_all(octets)
    scope.cancel()


async def accept_tls(client: trio.SocketStream) -> trio.abc.Stream:
    stream = ServerTLS([CertificateAndKey.from_pem(CERTIFICATE_PEM, KEY_PEM)]).wrap(client)
    await stream.do_handshake()
    return stream


async def accept_socks(client: trio.SocketStream) -> trio.abc.Stream:
    for answer in (b"\x05\x00", b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"):
        await client.receive_some(1024)
        await client.send_all(answer)
    return client


# --- the types ------------------------------------------------------------------------------------------------------


async def make_smtp(host: str, port: int) -> Transport:
    return await open_smtp(SMTPConfig(host, port, no_starttls=True), home())


async def make_submission(host: str, port: int) -> Transport:
    return await open_smtp(SubmissionConfig(host, port, no_starttls=True), home())


async def make_submissions(host: str, port: int) -> Transport:
    with TemporaryDirectory() as folder:
        ca_file = Path(folder) / "ca.pem"
        ca_file.write_bytes(CERTIFICATE_PEM)
        config = SubmissionsConfig(HOST, await through(accept_tls, port), ca_file=str(ca_file))
        return await open_submissions(config, home())


async def make_direct(host: str, port: int) -> Transport:
    return await open_direct(DirectConfig(port=port, domain_ips={"peer.example": (host,)}), home())


async def make_socks(host: str, port: int) -> Transport:
    proxy = f"{HOST}:{await through(accept_socks, port)}"
    return await open_socks(SocksConfig(proxy, (HOST,), "out.example", port=port), home())


async def make_local(host: str, port: int) -> Transport:
    return await open_local(LocalConfig(host, port), home())


test_smtp = make_test(smtp(make_smtp))
test_submission = make_test(smtp(make_submission))
test_submissions = make_test(smtp(make_submissions))
test_direct = make_test(smtp(make_direct))
test_socks = make_test(smtp(make_socks))
test_local = make_test(smtp(make_local))
