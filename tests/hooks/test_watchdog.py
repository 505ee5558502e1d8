"""A loop that is held up is noticed, and the plugin that does it is named."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import pytest
import trio

from mailcrane.plugin.base import Plugin
from mailcrane.plugin.watchdog import Watchdog
from mailcrane.testing.hooks import made_arguments, running_plugins

PluginMaker = Callable[..., type[Plugin]]


async def test_the_plugin_whose_call_blocks_is_named_with_its_stack(
    plugin_with: PluginMaker, caplog: pytest.LogCaptureFixture
) -> None:
    watchdog = Watchdog(threshold=0.02)

    async def blocks(self: Any) -> None:
        deadline = time.monotonic() + 5
        while not watchdog.hold_ups and time.monotonic() < deadline:
            time.sleep(0.005)  # noqa: ASYNC251 - that is the point

    async with running_plugins(plugin_with("blocker", plan_retry=blocks)) as host:
        with watchdog.watching(), caplog.at_level(logging.WARNING):
            await host.hooks.plan_retry(**made_arguments("plan_retry"))
    assert (watchdog.hold_ups, watchdog.last_plugin) == (1, "blocker")
    record = next(record for record in caplog.records if "held up" in record.getMessage())
    assert "plan_retry" in str(vars(record))
    assert "in blocks" in str(vars(record))


async def test_the_plugin_of_a_background_task_is_found_by_its_package() -> None:
    package = __name__.partition(".")[0]
    watchdog = Watchdog(threshold=0.02, packages={package: "by-package"})
    with watchdog.watching():
        deadline = time.monotonic() + 5
        while not watchdog.hold_ups and time.monotonic() < deadline:
            time.sleep(0.005)  # noqa: ASYNC251 - that is the point
    assert (watchdog.hold_ups, watchdog.last_plugin) == (1, "by-package")


async def test_a_loop_that_waits_is_not_held_up() -> None:
    watchdog = Watchdog(threshold=0.2)
    with watchdog.watching():
        await trio.sleep(0.05)
    assert watchdog.hold_ups == 0
