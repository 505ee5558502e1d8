"""A thread that notices when the event loop is held up, and tells by whom.

Once a second it asks the loop for a sign of life. When none comes within the threshold it logs the stack of the
loop's thread, the plugin whose call is on the loop, and, for background tasks, transports and applications, the plugin
whose package is innermost on the stack. A hold-up of twice the threshold is always noticed, a shorter one by chance.

What it cannot do: interrupt the loop; see a hold-up inside C code that keeps the interpreter lock before it is over.
That the call of a hook counts as a timeout does not depend on it: `mailcrane.plugin.call` measures every step.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
import traceback
import types
from collections.abc import Iterator, Mapping

import trio

from mailcrane.observe.log import get_log
from mailcrane.plugin.call import Call

log = get_log(__name__)


class Watchdog:
    """Watches the loop that it is started on.

    Attributes:
        threshold: Seconds without a sign of life that are a hold-up; also the interval.
        hold_ups: How many were noticed.
        last_plugin: Who is to blame for the last one; empty when unknown.
        longest_seconds: Of all.
    """

    def __init__(self, *, threshold: float = 1.0, packages: Mapping[str, str] | None = None) -> None:
        """Make a watchdog.

        Args:
            packages: Top-level package to name of the plugin: `PluginHost.packages`.
        """
        self.threshold = threshold
        self.hold_ups = 0
        self.last_plugin = ""
        self.longest_seconds = 0.0
        self._packages = dict(packages or {})
        self._alive = threading.Event()
        self._ended = threading.Event()

    @contextlib.contextmanager
    def watching(self) -> Iterator[Watchdog]:
        """Watch the running loop until the end of the block."""
        thread = threading.Thread(
            target=self._watch,
            args=(trio.lowlevel.current_trio_token(), threading.get_ident()),
            name="mailcrane watchdog",
            daemon=True,
        )
        thread.start()
        try:
            yield self
        finally:
            self._ended.set()
            self._alive.set()
            thread.join()

    def _watch(self, token: trio.lowlevel.TrioToken, loop_thread: int) -> None:
        while not self._ended.wait(self.threshold):
            self._alive.clear()
            asked_at = time.monotonic()
            try:
                token.run_sync_soon(self._alive.set, idempotent=True)
            except trio.RunFinishedError:
                return
            if not self._alive.wait(self.threshold):
                self._tell(loop_thread)
                self._alive.wait()
                seconds = time.monotonic() - asked_at
                self.longest_seconds = max(self.longest_seconds, seconds)
                log.warning("the event loop goes on", plugin=self.last_plugin, held_up_seconds=round(seconds, 3))

    def _tell(self, loop_thread: int) -> None:
        call = Call.running
        frame = sys._current_frames().get(loop_thread)
        self.hold_ups += 1
        self.last_plugin = call.plugin if call is not None else self._plugin_on(frame)
        log.error(
            "the event loop is held up; nothing else is served meanwhile",
            plugin=self.last_plugin or "none",
            hook=call.name if call is not None else "",
            seconds=self.threshold,
            stack="".join(traceback.format_stack(frame)),
        )

    def _plugin_on(self, frame: types.FrameType | None) -> str:
        while frame is not None:
            package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
            if package in self._packages:
                return self._packages[package]
            frame = frame.f_back
        return ""
