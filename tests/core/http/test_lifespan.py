from __future__ import annotations

import pytest
import trio
import trio.testing

from mailcrane.http.app import Receive, Scope, Send
from mailcrane.http.lifespan import Lifespan, LifespanFailed


async def test_an_application_is_told_of_start_and_stop_and_keeps_state() -> None:
    told: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(2):
            kind = (await receive())["type"]
            told.append(kind)
            scope["state"]["ready"] = True
            await send({"type": f"{kind}.complete"})

    async with trio.open_nursery() as nursery:
        async with Lifespan(app, nursery) as lifespan:
            assert told == ["lifespan.startup"]
            assert lifespan.state == {"ready": True}
        assert told == ["lifespan.startup", "lifespan.shutdown"]


@pytest.mark.parametrize("raises", [True, False])
async def test_an_application_that_does_not_know_the_protocol_is_served_without(raises: bool) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if raises:
            raise KeyError("method")

    async with trio.open_nursery() as nursery, Lifespan(app, nursery):
        pass


async def test_an_application_that_cannot_start_says_why() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    async with trio.open_nursery() as nursery:
        with pytest.raises(LifespanFailed, match="no database"):
            await Lifespan(app, nursery).__aenter__()


async def test_an_application_has_limited_time_to_start_and_to_stop(autojump_clock: trio.testing.MockClock) -> None:
    async def never(scope: Scope, receive: Receive, send: Send) -> None:
        await trio.sleep_forever()

    async def never_stops(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "lifespan.startup.complete"})
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        with pytest.raises(LifespanFailed, match="30 s"):
            await Lifespan(never, nursery).__aenter__()
        begin = trio.current_time()
        async with Lifespan(never_stops, nursery):
            pass
        assert trio.current_time() - begin == pytest.approx(30)
        nursery.cancel_scope.cancel()
