"""One plugin's implementation of one hook: begun, checked, counted, and left out for a while when it keeps failing."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import trio
from msgspec import Struct

from mailcrane.observe.log import get_log
from mailcrane.observe.metrics import Counter
from mailcrane.plugin.arguments import own_copy
from mailcrane.plugin.call import Call, CallFailed, PluginTasks
from mailcrane.plugin.errors import HookFailed, PluginError
from mailcrane.plugin.policy import Kind, OnFailure
from mailcrane.plugin.spec import HookSpec

log = get_log(__name__)

_FAILURES = Counter(
    "mailcrane_plugin_failures_total",
    "Calls of plugins that failed: error, timeout, or late where one ended by itself after its deadline.",
    ("plugin", "hook", "how"),
)

FAILURES_UNTIL_LEFT_OUT = 5
"""Failures in a row after which an implementation whose failure means *skip* is left out."""

FIRST_LEFT_OUT_SECONDS = 60.0
"""How long it is left out; doubled with each further failure, until it succeeds."""

MAX_LEFT_OUT_SECONDS = 3600.0

REGISTER_SECONDS = 30.0
"""How long the server waits at start for the answer of a register hook."""

LOG_INTERVAL_SECONDS = 10.0
"""The failures of one implementation are logged at most this often, with the number of those in between."""


class CallCounters(Struct):
    """What the calls of one implementation came to.

    Attributes:
        failures: Of any kind, timeouts included.
        late: Calls that ended by themselves after their deadline; their answers were dropped.
        total_seconds: From the beginning of each call to its answer or deadline.
    """

    calls: int = 0
    failures: int = 0
    timeouts: int = 0
    late: int = 0
    total_seconds: float = 0.0


class Implementation:
    """A plugin's implementation of a hook.

    Attributes:
        is_threaded: A plain ``def`` of a hook that is asked on the loop.
        left_out_until: Of `trio.current_time`; in the past when it is asked.
        last_failure: Reason of the last failure; empty when there was none.
    """

    def __init__(self, tasks: PluginTasks, spec: HookSpec, function: Callable[..., Any]) -> None:
        self.plugin = tasks.name
        self.spec = spec
        self.function = function
        self.argument_names = tuple(inspect.signature(function).parameters)
        self.is_threaded = spec.policy.kind is not Kind.REGISTER and not inspect.iscoroutinefunction(function)
        self.counters = CallCounters()
        self.left_out_until = -float("inf")
        self.failures_in_a_row = 0
        self.last_failure = ""
        self._tasks = tasks
        self._left_out_seconds = 0.0
        self._log_again_at = -float("inf")
        self._unlogged = 0

    def is_left_out(self, now: float) -> bool:
        """Whether it is not asked now, because it failed again and again."""
        return now < self.left_out_until

    def begin(self, arguments: dict[str, Any], deadline: float) -> _Begun:
        """Begin a call, which `finish` waits for."""
        self.counters.calls += 1
        wanted = {name: own_copy(arguments[name]) for name in self.argument_names}
        try:
            call = Call(
                self._tasks,
                self.spec.name,
                self.function,
                wanted,
                is_threaded=self.is_threaded,
                on_late=self._note_late,
            )
        except CallFailed as failure:
            return _Begun(None, failure, trio.current_time(), deadline)
        return _Begun(call, None, trio.current_time(), deadline)

    async def finish(self, begun: _Begun) -> Any:
        """Return the answer of a call, checked; None also when it failed and the failure meaning is *skip*.

        Raises:
            HookFailed: it failed and the failure meaning is *defer* or *retry*.
        """
        try:
            if begun.call is None:
                assert begun.failure is not None
                raise begun.failure
            answer = await begun.call.answer(begun.deadline)
            if answer is not None:
                self._check(answer)
        except CallFailed as failure:
            self.counters.total_seconds += trio.current_time() - begun.at
            self._note_failure(failure)
            if self.spec.policy.on_failure is OnFailure.SKIP:
                return None
            raise HookFailed(self.plugin, self.spec.name, failure.reason) from failure.__cause__
        self.counters.total_seconds += trio.current_time() - begun.at
        self.failures_in_a_row = 0
        self._left_out_seconds = 0.0
        return answer

    def miss(self) -> None:
        """Take note that it was not asked, because those before it used up the stage's time.

        Raises:
            HookFailed: the failure meaning is *defer*.
        """
        reason = "not asked: the plugins before it used up the time of the stage"
        self._log_failure(CallFailed(reason))
        if self.spec.policy.on_failure is not OnFailure.SKIP:
            raise HookFailed(self.plugin, self.spec.name, reason)

    def ask_now(self, arguments: dict[str, Any]) -> Sequence[Any]:
        """Ask a register hook.

        Raises:
            PluginError: it raised, did not answer, or answered nonsense.
        """
        self.counters.calls += 1
        answer = self._call_now({name: arguments[name] for name in self.argument_names})
        try:
            if answer is not None:
                self._check(answer)
        except CallFailed as failure:
            raise PluginError(self.plugin, f"{self.spec.name}: {failure.reason}") from None
        if answer is None:
            return ()
        return answer if isinstance(answer, (list, tuple)) else (answer,)

    def _call_now(self, arguments: dict[str, Any]) -> Any:
        """Call the function in a thread that is left behind when it does not return: nothing else can end it."""
        answers: list[Any] = []
        errors: list[BaseException] = []

        def call() -> None:
            try:
                answers.append(self.function(**arguments))
            except BaseException as error:
                # The top of a plugin call: SystemExit too is a failure of the plugin.
                errors.append(error)

        thread = threading.Thread(target=call, name=f"{self.plugin}.{self.spec.name}", daemon=True)
        thread.start()
        thread.join(REGISTER_SECONDS)
        if errors:
            raise PluginError(self.plugin, f"{self.spec.name} raised {errors[0]!r}") from errors[0]
        if not answers:
            raise PluginError(self.plugin, f"{self.spec.name}: no answer within {REGISTER_SECONDS:g} s")
        return answers[0]

    def _check(self, answer: Any) -> None:
        """Check the type of an answer, of its elements, and of their fields.

        Raises:
            CallFailed: it is nonsense.
        """
        policy = self.spec.policy
        if not isinstance(answer, policy.answers):
            wanted = " or ".join(expected.__name__ for expected in policy.answers) or "None"
            raise CallFailed(f"answered {type(answer).__name__}, expected {wanted}")
        elements = answer if isinstance(answer, (list, tuple)) else (answer,)
        for element in elements:
            if not isinstance(element, policy.elements):
                wanted = " or ".join(expected.__name__ for expected in policy.elements)
                raise CallFailed(f"answered an element {type(element).__name__}, expected {wanted}")
            if policy.kind is not Kind.REGISTER and isinstance(element, Struct):
                try:
                    msgspec.convert(msgspec.structs.asdict(element), type(element))
                except msgspec.ValidationError as error:
                    raise CallFailed(f"answered a bad {type(element).__name__}: {error}") from None
            if policy.check is not None and (problem := policy.check(element)):
                raise CallFailed(f"answered a bad {type(element).__name__}: {problem}")

    def _note_failure(self, failure: CallFailed) -> None:
        self.counters.failures += 1
        self.counters.timeouts += failure.is_timeout
        _FAILURES.inc(self.plugin, self.spec.name, "timeout" if failure.is_timeout else "error")
        self.failures_in_a_row += 1
        self.last_failure = failure.reason
        self._log_failure(failure)
        if self.spec.policy.on_failure is OnFailure.SKIP and (
            self._left_out_seconds or self.failures_in_a_row >= FAILURES_UNTIL_LEFT_OUT
        ):
            self._left_out_seconds = min(self._left_out_seconds * 2 or FIRST_LEFT_OUT_SECONDS, MAX_LEFT_OUT_SECONDS)
            self.left_out_until = trio.current_time() + self._left_out_seconds
            log.error(
                "a plugin keeps failing and is left out",
                plugin=self.plugin,
                hook=self.spec.name,
                failures=self.failures_in_a_row,
                seconds=self._left_out_seconds,
            )

    def _log_failure(self, failure: CallFailed) -> None:
        now = trio.current_time()
        if now < self._log_again_at:
            self._unlogged += 1
            return
        fields = {
            "plugin": self.plugin,
            "hook": self.spec.name,
            "reason": failure.reason,
            "meaning": self.spec.policy.on_failure.value,
            "unlogged_before": self._unlogged,
        }
        if failure.__cause__ is None:
            log.error("a plugin failed", **fields)
        else:
            log.exception("a plugin failed", error=failure.__cause__, **fields)
        self._log_again_at = now + LOG_INTERVAL_SECONDS
        self._unlogged = 0

    def _note_late(self, seconds: float) -> None:
        self.counters.late += 1
        _FAILURES.inc(self.plugin, self.spec.name, "late")
        log.warning(
            "a late answer of a plugin is dropped",
            plugin=self.plugin,
            hook=self.spec.name,
            seconds_late=round(seconds, 3),
        )


class _Begun:
    """A call that was begun, or why it could not."""

    __slots__ = ("at", "call", "deadline", "failure")

    def __init__(self, call: Call | None, failure: CallFailed | None, at: float, deadline: float) -> None:
        self.call = call
        self.failure = failure
        self.at = at
        self.deadline = deadline

    def cancel(self) -> None:
        if self.call is not None:
            self.call.cancel()
