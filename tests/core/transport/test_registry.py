"""The transports of the configuration are opened by type, with errors that name the key, and closed."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
import trio
import trio.testing
from msgspec import Meta, Struct

from mailcrane.config.convert import ConfigError
from mailcrane.model.delivery import Delivery, RecipientResult
from mailcrane.model.transport import TransportType
from mailcrane.transport.registry import open_transports


class BagConfig(Struct, frozen=True, forbid_unknown_fields=True):
    hook: Annotated[str, Meta(description="Which hook.")]
    height: Annotated[int, Meta(description="How high.")] = 1


class Bag:
    def __init__(self, config: BagConfig, closed: list[str]) -> None:
        self.config, self.closed = config, closed

    async def deliver(self, delivery: Delivery) -> tuple[RecipientResult, ...]:
        raise NotImplementedError

    async def aclose(self) -> None:
        self.closed.append(self.config.hook)
        if self.config.hook == "stuck":
            await trio.sleep_forever()
        if self.config.hook == "broken":
            raise ValueError("broken")


@pytest.fixture
def closed() -> list[str]:
    """The hooks whose bags were closed, in order."""
    return []


@pytest.fixture
def types(closed: list[str]) -> list[TransportType]:
    """Two types; the second cannot be opened."""

    async def open_bag(config: BagConfig) -> Bag:
        return Bag(config, closed)

    async def open_not(config: BagConfig) -> Bag:
        raise OSError("no such bag")

    return [TransportType("bag", BagConfig, open_bag), TransportType("not", BagConfig, open_not)]


async def test_a_transport_is_opened_with_its_typed_configuration(types: list[TransportType]) -> None:
    transports = await open_transports(types, {"one": {"type": "bag", "hook": "left", "height": 3}})
    bag: Any = transports["one"]
    assert bag.config == BagConfig("left", 3)
    assert list(transports) == ["one"]
    assert "one" in transports
    assert "two" not in transports


@pytest.mark.parametrize(
    ("section", "key_path", "text"),
    [
        ({"hook": "x"}, "transports.one.type", "known types: bag, not"),
        ({"type": "sack"}, "transports.one.type", "unknown transport type 'sack'"),
        ({"type": "bag"}, "transports.one.hook", "is missing"),
        ({"type": "bag", "hook": 3}, "transports.one.hook", "3 does not fit"),
        ({"type": "bag", "hook": "x", "hieght": 3}, "transports.one.hieght", "Did you mean height"),
        ({"type": "not", "hook": "x"}, "transports.one", "no such bag"),
    ],
)
async def test_an_error_names_the_key(
    types: list[TransportType], section: dict[str, Any], key_path: str, text: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        await open_transports(types, {"one": section})
    assert caught.value.key_path == key_path
    assert text in str(caught.value)


async def test_without_a_plugin_that_registers_types_the_error_says_so() -> None:
    with pytest.raises(ConfigError, match="no enabled plugin registers one"):
        await open_transports([], {"one": {"type": "smtp"}})


async def test_what_was_opened_is_closed_when_another_cannot_be(types: list[TransportType], closed: list[str]) -> None:
    with pytest.raises(ConfigError):
        await open_transports(types, {"one": {"type": "bag", "hook": "left"}, "two": {"type": "not", "hook": "x"}})
    assert closed == ["left"]


async def test_all_are_closed_whatever_one_of_them_does(
    types: list[TransportType], closed: list[str], autojump_clock: trio.testing.MockClock
) -> None:
    sections = {name: {"type": "bag", "hook": name} for name in ("left", "stuck", "broken")}
    transports = await open_transports(types, sections)
    await transports.aclose()
    assert closed == ["broken", "stuck", "left"]
    assert len(transports) == 0
