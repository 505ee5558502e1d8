"""One call of one function of a plugin: begun in the plugin's own nursery, waited for until a deadline.

`trio.move_on_after` around a plugin's coroutine is not a time limit: a plugin that shields itself, or swallows the
cancellation, overruns it and is believed in the end. So the call is a task of the plugin's, the caller waits for its
answer and nothing else, and what comes after the deadline is dropped.

A plugin that blocks the event loop cannot be interrupted. It is measured step by step, so that the call counts as a
timeout afterwards; `mailcrane.plugin.watchdog` tells of it while it lasts.
"""

from __future__ import annotations

import inspect
import signal
import time
from collections.abc import Callable, Coroutine, Generator, Mapping
from typing import Any

import trio

THREADS_PER_PLUGIN = 8
"""How many plain ``def`` implementations of one plugin run at the same time."""

BLOCKING_LIMIT = 1.0
"""Seconds that a plugin may keep the event loop in one step; more counts as a timeout of its call."""


MAX_OVERDUE_CALLS = 100
"""Calls of one plugin that were given up and have not ended. With more of them it is not called: tasks that shield
themselves would otherwise pile up without end."""


class CallFailed(Exception):
    """A call without an answer that can be used."""

    def __init__(self, reason: str, *, is_timeout: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_timeout = is_timeout


class PluginTasks:
    """Where the calls of one plugin run.

    Attributes:
        name: Of the plugin.
        nursery: Opened and closed by the host; None while the plugin is not running.
        limiter: For its implementations that run in threads.
        overdue: How many of its calls were given up and have not ended.
    """

    __slots__ = ("limiter", "name", "nursery", "overdue")

    def __init__(self, name: str) -> None:
        self.name = name
        self.nursery: trio.Nursery | None = None
        self.limiter = trio.CapacityLimiter(THREADS_PER_PLUGIN)
        self.overdue = 0


class Call:
    """A call under way.

    Attributes:
        blocked_seconds: The longest time that one step of it kept the event loop, when above the limit.
    """

    __slots__ = (
        "_answer",
        "_arguments",
        "_done",
        "_error",
        "_finished_at",
        "_function",
        "_is_threaded",
        "_on_late",
        "_overdue_since",
        "_scope",
        "_tasks",
        "blocked_seconds",
        "blocking_limit",
        "name",
        "plugin",
    )

    running: Call | None = None
    """The call whose code is on the event loop right now. Read by the watchdog from its thread."""

    def __init__(
        self,
        tasks: PluginTasks,
        name: str,
        function: Callable[..., Any],
        arguments: Mapping[str, Any],
        *,
        is_threaded: bool = False,
        on_late: Callable[[float], None] | None = None,
        blocking_limit: float | None = None,
    ) -> None:
        """Begin a call.

        Args:
            name: Of the hook.
            is_threaded: The function is a plain ``def`` and is run in a thread.
            on_late: Told how many seconds after its deadline a call ended, when it ended by itself.
            blocking_limit: Seconds that one step of it may keep the event loop; `BLOCKING_LIMIT` when None.

        Raises:
            CallFailed: the plugin is not running, or too many of its calls do not end.
        """
        if tasks.nursery is None:
            raise CallFailed("the plugin is not running")
        if tasks.overdue >= MAX_OVERDUE_CALLS:
            raise CallFailed(f"{tasks.overdue} calls of it were given up and have not ended", is_timeout=True)
        self.plugin = tasks.name
        self.name = name
        self.blocked_seconds = 0.0
        self.blocking_limit = BLOCKING_LIMIT if blocking_limit is None else blocking_limit
        self._tasks = tasks
        self._function = function
        self._arguments = arguments
        self._is_threaded = is_threaded
        self._on_late = on_late
        self._done = trio.Event()
        self._scope = trio.CancelScope()
        self._answer: Any = None
        self._error: BaseException | None = None
        self._finished_at = float("inf")
        self._overdue_since: float | None = None
        try:
            tasks.nursery.start_soon(self._run, tasks.limiter, name=f"{tasks.name}.{name}")
        except RuntimeError:  # The nursery is closed already.
            raise CallFailed("the plugin is being stopped") from None

    async def answer(self, deadline: float) -> Any:
        """Wait for the answer until a deadline (of `trio.current_time`).

        When the waiting ends without an answer, at the deadline or because the caller is cancelled, the call is
        cancelled as well.

        Raises:
            CallFailed: it raised, it was late, or it kept the event loop for too long.
        """
        if not self._done.is_set():
            try:
                with trio.CancelScope(deadline=deadline):
                    await self._done.wait()
            finally:
                if not self._done.is_set():
                    self._scope.cancel()
        if self._finished_at > deadline:
            # Also true for an answer that is there, but was made while nobody could look at the clock.
            self._overdue_since = deadline
            if self._done.is_set():
                self._tell_late(self._finished_at)
            else:
                self._tasks.overdue += 1
            raise CallFailed("no answer in time", is_timeout=True)
        if self.blocked_seconds:
            raise CallFailed(f"kept the event loop for {self.blocked_seconds:.1f} s", is_timeout=True)
        if self._error is not None:
            if isinstance(self._error, trio.Cancelled):
                raise CallFailed("the plugin was stopped")
            raise CallFailed(f"raised {self._error!r}") from self._error
        return self._answer

    def cancel(self) -> None:
        """Stop the call; nobody waits for its answer any more."""
        self._scope.cancel()

    async def _run(self, limiter: trio.CapacityLimiter) -> None:
        try:
            with self._scope:
                if self._is_threaded:
                    # An abandoned thread keeps its place in the limiter until it ends.
                    self._answer = await trio.to_thread.run_sync(
                        self._run_in_thread, trio.lowlevel.current_trio_token(), abandon_on_cancel=True, limiter=limiter
                    )
                else:
                    self._answer = await _Measured(self._function(**self._arguments), self)
            if self._scope.cancelled_caught:
                self._error = trio.TooSlowError("cancelled")
            else:
                self._tell_late()
        except BaseException as error:
            # The top of a plugin call. Everything is a failure of the plugin, SystemExit and the end of its nursery
            # included; the user's own interrupt is given back to trio, which raises it in the main task.
            self._error = error
            if isinstance(error, KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            if not isinstance(error, trio.Cancelled):
                self._tell_late()
        finally:
            self._finished_at = trio.current_time()
            self._done.set()
            if self._overdue_since is not None:
                self._tasks.overdue -= 1

    def _run_in_thread(self, token: trio.lowlevel.TrioToken) -> Any:
        try:
            answer = self._function(**self._arguments)
            if inspect.iscoroutine(answer):
                answer.close()
                raise TypeError("a plain def answered a coroutine; write async def")
            return answer
        finally:
            if self._overdue_since is not None:
                try:
                    token.run_sync_soon(self._tell_late)
                except trio.RunFinishedError:
                    pass  # The server has ended meanwhile; nobody counts any more.

    def _tell_late(self, now: float | None = None) -> None:
        if self._overdue_since is not None and self._on_late is not None:
            self._on_late((trio.current_time() if now is None else now) - self._overdue_since)


class _Measured(Generator[Any, Any, Any]):
    """Drives a plugin's coroutine, and notes which call is on the loop and how long each step takes.

    Costs a fraction of a microsecond a step, where a trio instrument would cost every step of every task.
    """

    __slots__ = ("_call", "_coroutine")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], call: Call) -> None:
        self._coroutine = coroutine
        self._call = call

    def __await__(self) -> Generator[Any, Any, Any]:
        return self

    def __next__(self) -> Any:
        return self._step(self._coroutine.send, None)

    def send(self, value: Any) -> Any:
        return self._step(self._coroutine.send, value)

    def throw(self, *error: Any) -> Any:
        return self._step(self._coroutine.throw, *error)

    def close(self) -> None:
        self._coroutine.close()

    def _step(self, step: Callable[..., Any], *value: Any) -> Any:
        Call.running = call = self._call
        began = time.perf_counter()
        try:
            return step(*value)
        finally:
            Call.running = None
            seconds = time.perf_counter() - began
            if seconds > call.blocking_limit and seconds > call.blocked_seconds:
                call.blocked_seconds = seconds
