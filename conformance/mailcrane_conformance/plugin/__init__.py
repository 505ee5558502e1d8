"""The plugin suite: what the server relies on a plugin for.

from mailcrane_conformance import plugin
test_plugin = plugin.make_test(plugin.Subject(MyPlugin, config={...}))     # pytest: a case for each behaviour
results = await plugin.run(plugin.Subject(MyPlugin))                       # or as values
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mailcrane_conformance import kit
from mailcrane_conformance.kit import Behaviour, Result, run_kit
from mailcrane_conformance.plugin import asked, declaration, life
from mailcrane_conformance.plugin.subject import Subject as Subject

BEHAVIOURS: tuple[Behaviour[Subject], ...] = (*declaration.BEHAVIOURS, *life.BEHAVIOURS, *asked.BEHAVIOURS)


async def run(subject: Subject, only: Sequence[str] = ()) -> list[Result]:
    """Try the behaviours of the suite on a plugin and return a result for each.

    Raises:
        ValueError: ``only`` has an id that the suite lacks.
    """
    return await run_kit(BEHAVIOURS, subject, only)


def make_test(subject: Subject) -> Callable[..., None]:
    """Make a test function for pytest, with a case for each behaviour: ``test_mine = make_test(Subject(Mine))``."""
    return kit.make_test(BEHAVIOURS, lambda: subject)
