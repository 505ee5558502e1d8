"""Web applications of plugins are told when the server starts and stops, over the real accept loop."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio

from mailcrane.config.static import parse
from mailcrane.http.app import HTTPApp, Receive, Scope, Send, respond
from mailcrane.http.lifespan import LifespanFailed
from mailcrane.model.clock import SystemClock
from mailcrane.plugin.base import Plugin
from mailcrane.plugin.context import PluginServices
from mailcrane.plugin.host import PluginHost
from mailcrane.plugin.policy import hookimpl
from mailcrane.run.server import Server, make_server
from mailcrane.store.sqlite import open_sqlite

CONFIG = """
hostname = "mail.here.example"
data_dir = "unused"
[listeners.web]
protocol = "http"
addresses = ["127.0.0.1:0"]
services = { counted = "/counted/" }
"""


class Counted(Plugin):
    """Has an application that needs its start, or cannot start."""

    name = "counted"
    can_start = True
    told: Sequence[str] = ()

    @hookimpl
    def register_http_apps(self) -> Sequence[HTTPApp]:
        return [HTTPApp("counted", "/counted/", lambda: self._serve)]

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await respond(send, 200, scope["state"]["greeting"].encode())
            return
        while True:
            kind = (await receive())["type"]
            Counted.told = [*Counted.told, kind]
            scope["state"]["greeting"] = "made at start"
            if not Counted.can_start:
                await send({"type": "lifespan.startup.failed", "message": "no database"})
                return
            await send({"type": f"{kind}.complete"})
            if kind == "lifespan.shutdown":
                return


async def _run(started: trio.Event) -> tuple[int, bytes]:
    """Run a server, get the page of the application, and stop."""
    async with await open_sqlite(":memory:", SystemClock(), inline=True) as store:
        services = PluginServices()
        host = PluginHost.of([Counted], {}, services)
        server: Server = await make_server(parse(CONFIG), store, host, services, clock=SystemClock(), is_inline=True)
        server.bind()
        ((listening,),) = server._web_sockets.values()
        port = listening.socket.getsockname()[1]
        async with trio.open_nursery() as nursery:
            await nursery.start(lambda task_status: server.run(task_status=task_status))
            started.set()
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            await stream.send_all(b"GET /counted/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = b"".join([bytes(chunk) async for chunk in stream])
            await stream.aclose()
            server.stop()
    return int(answer.split()[1]), answer.partition(b"\r\n\r\n")[2]


async def test_an_application_is_told_of_start_and_stop_and_its_requests_get_its_state() -> None:
    Counted.can_start, Counted.told = True, ()
    with trio.fail_after(10):
        status, body = await _run(trio.Event())
    assert status == 200
    assert b"made at start" in body
    assert list(Counted.told) == ["lifespan.startup", "lifespan.shutdown"]


async def test_an_application_that_cannot_start_keeps_the_server_from_starting() -> None:
    Counted.can_start, Counted.told = False, ()
    started = trio.Event()
    with trio.fail_after(10), pytest.raises(ExceptionGroup) as failed:
        await _run(started)
    assert failed.group_contains(LifespanFailed, match="no database")
    assert not started.is_set()
