"""The ways a message comes in that the tests of sessions and of receiving do not show whole."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from mailcrane.model.event import Event, EventKind
from mailcrane.plugin.base import Plugin
from mailcrane.plugin.policy import hookimpl
from mailcrane.testing.in_memory import server

CONTENT = b"From: you@there.example\r\nMessage-Id: <1@there.example>\r\n\r\nHello.\r\n"


class Listener(Plugin):
    """Keeps what it is told."""

    name = "listener"
    told: list[Event] = []  # noqa: RUF012 - a test looks at it

    @hookimpl
    async def message_stored(self, event: Event) -> None:
        self.told.append(event)


async def test_a_received_message_is_in_the_inbox_and_plugins_are_told(autojump_clock: trio.testing.MockClock) -> None:
    Listener.told.clear()
    async with server(Listener) as running:
        client = running.connect()
        await client.hello()
        assert (await client.send("you@there.example", "ann@here.example", CONTENT)).code == 250
        await trio.sleep(10)
        (event,) = Listener.told
        assert len(await running.read("ann")) == 1
    assert event.kind is EventKind.MESSAGE_STORED
    assert event.data["message_id"] == "<1@there.example>"


@pytest.mark.parametrize(
    ("local_part", "code", "seconds"),
    [
        ("x-temperror", 451, 0),
        ("x-permerror", 550, 0),
        ("x-timeout", 451, 3600),
        ("x-421", 421, 0),
        ("rcptto-553", 553, 0),
        ("mox", 250, 0),
    ],
)
async def test_a_development_server_fails_as_a_recipient_asks(
    local_part: str, code: int, seconds: int, autojump_clock: trio.testing.MockClock
) -> None:
    async with server() as running:
        client = running.connect("development")
        await client.hello()
        begin = trio.current_time()
        reply = await client.send("you@there.example", f"{local_part}@any.example", CONTENT)
        assert reply.code == code
        assert seconds <= trio.current_time() - begin < seconds + 60
        assert len(await running.read("ann")) == (1 if code == 250 else 0)


async def test_a_development_server_fails_as_a_reverse_path_asks(autojump_clock: trio.testing.MockClock) -> None:
    async with server() as running:
        client = running.connect("development")
        await client.hello()
        assert (await client.command("MAIL FROM:<mailfrom-451@there.example>")).code == 451
        assert (await client.command("MAIL FROM:<permerror@there.example>")).code == 250
