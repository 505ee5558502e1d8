"""What is raised for plugins: one that cannot be used, and one that broke the promise of a hook."""

from __future__ import annotations


class PluginError(Exception):
    """A plugin that cannot be used as configured; the server does not start.

    The text is for the operator: what is wrong, and which line of ``mailcrane.toml`` to write.
    """

    def __init__(self, plugin: str, problem: str, hint: str = "") -> None:
        super().__init__(f"plugin {plugin!r}: {problem}" + (f"; {hint}" if hint else ""))
        self.plugin = plugin
        self.problem = problem
        self.hint = hint


class HookFailed(Exception):
    """A plugin raised, was late or answered nonsense in a hook whose failure means *defer*.

    The stage answers 4yz or tries again later; never a 5yz, because the fault is ours. ``reason`` is for the log, not
    for peers.
    """

    def __init__(self, plugin: str, hook: str, reason: str) -> None:
        super().__init__(f"plugin {plugin!r} failed in {hook}: {reason}")
        self.plugin = plugin
        self.hook = hook
        self.reason = reason
