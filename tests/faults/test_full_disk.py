"""A full disk: what comes in is put off with the words for it, nothing is lost, and it passes without a restart."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from campaign import Campaign, campaigning, mixed_load, until
from lines import Lines
from load import Message, call_send, greet, kind_of, send_message, speak_smtp
from mailcrane.admin.errors import AdminError
from state import is_at_rest

pytestmark = pytest.mark.slow

_SMALL_OCTETS = 24 * 1024 * 1024
# What could not be stored is tried again after 1, 2, 4 … seconds.
_SECONDS = 60.0
_WAYS = ("folder", "relay", "large", "send")

Switch = Callable[[bool], None]
"""Makes the disk full, or frees it."""


@contextmanager
def limited_pages(flag: Path) -> Iterator[Switch]:
    """The database may not become larger, by a setting of SQLite."""

    def switch(is_full: bool) -> None:
        if is_full:
            flag.touch()
        else:
            flag.unlink()

    yield switch


@contextmanager
def small_file_system(directory: Path) -> Iterator[Switch]:
    """A file system of a few megabytes, which a file fills to the last octet."""
    directory.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={_SMALL_OCTETS}", "mailcrane-test", directory],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here, so only SQLite's limit was tested: {mounted.stderr.strip()}")
    ballast = directory / "ballast"

    def switch(is_full: bool) -> None:
        if is_full:
            fill(ballast)
        else:
            ballast.unlink()

    try:
        yield switch
    finally:
        subprocess.run(["umount", directory], check=True)


def fill(ballast: Path) -> None:
    size = 1024 * 1024
    with open(ballast, "ab", buffering=0) as file:
        while size:
            try:
                file.write(bytes(size))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                size //= 2


async def answer(campaign: Campaign, way: str) -> str:
    """Send one message over a connection of its own; returns the refusal, empty when it was taken."""
    ledger, before = campaign.ledger, len(campaign.ledger.refusals)
    port = {"folder": "mx", "relay": "relay", "large": "mx", "send": "web"}[way]
    async with await trio.open_tcp_stream("127.0.0.1", campaign.ports[port]) as stream:
        message: Message = ledger.begin("folder" if way == "large" else way, is_large=way == "large")
        if way == "send":
            await call_send(stream, Lines(stream), ledger, message)
        else:
            await send_message(stream, await greet(stream), ledger, message)
    assert message.is_answered == (len(ledger.refusals) == before)
    return "" if message.is_answered else ledger.refusals.pop()


async def refusal(campaign: Campaign, way: str) -> str:
    """Send messages until one is refused: a full disk may have room for some."""
    while not (text := await answer(campaign, way)):
        pass
    return text


async def begin_much(campaign: Campaign) -> None:
    """Have deliveries and webhook calls under way whose results are not known yet, and orders to be given."""
    sink, receiver, ledger = campaign.sink, campaign.receiver, campaign.ledger
    sink.slow_down()
    receiver.slow_down()
    async with trio.open_nursery() as nursery:
        mixed_load(campaign, nursery, messages=5)
        for kind in ("slow", "sulk", "fail", "drop"):
            nursery.start_soon(partial(speak_smtp, campaign.ports["relay"], ledger, "relay", messages=3, kind=kind))
    await until(lambda: sink.waiting >= 4 and receiver.waiting >= 1)


def get_on(campaign: Campaign) -> None:
    """Let what waits come to its result."""
    campaign.sink.speed_up()
    campaign.receiver.speed_up()


async def fill_and_free(campaign: Campaign, switch: Switch, full: str) -> None:
    """Run a server whose disk becomes full while much is under way, and free again."""
    with trio.fail_after(_SECONDS):
        async with campaign.living(campaign.orders(full=full)) as process:
            assert await campaign.accepting(process), campaign.log()
            for _ in range(2):
                await begin_much(campaign)
                switch(True)
                for way in _WAYS:
                    text = await refusal(campaign, way)
                    expected = '400 {"Code":"server",' if way == "send" else "452 4.3.1 "
                    assert text.startswith(expected), f"{way}: {text}"
                get_on(campaign)
                with pytest.raises(AdminError, match="disk"):
                    await trio.to_thread.run_sync(campaign.operator.finish)
                switch(False)
                for way in _WAYS:
                    assert not await answer(campaign, way)
            await trio.to_thread.run_sync(campaign.operator.finish)
            campaign.ledger.is_operated = True
            await until(lambda: is_at_rest(campaign.data_dir, "witness"))
            os.kill(process.pid or 0, signal.SIGTERM)
            assert await campaign.gone(process) == 0, campaign.log()
    state = await campaign.check(is_at_rest=True)
    assert state.copies
    # Nothing was interrupted: no attempt and no call was made twice.
    attempts = [attempt for retired in state.retired.values() for attempt in retired.attempts]
    assert {attempt.number for attempt in attempts} == {1}
    assert not campaign.receiver.repeated()
    assert sum(kind_of(path) in {"slow", "sulk"} for path in state.retired) == 12


@asynccontextmanager
async def small(tmp_path: Path) -> AsyncIterator[tuple[Campaign, Switch]]:
    directory = tmp_path / "small"
    with small_file_system(directory) as switch:
        async with campaigning(tmp_path, seed="small disk", data_dir=directory) as campaign:
            yield campaign, switch


async def test_a_database_that_may_not_grow_defers_and_recovers(tmp_path: Path) -> None:
    flag = tmp_path / "full"
    with limited_pages(flag) as switch:
        async with campaigning(tmp_path, seed="full") as campaign:
            await fill_and_free(campaign, switch, str(flag))


async def test_a_full_file_system_defers_and_recovers(tmp_path: Path) -> None:
    async with small(tmp_path) as (campaign, switch):
        await fill_and_free(campaign, switch, "")
