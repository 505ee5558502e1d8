"""The plugin suite finds what it is there to find: good plugins pass, and for each id there is a mutant."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import mailcrane.plugin.examples
from mailcrane.api import Plugin
from mailcrane_conformance import plugin as suite
from mailcrane_conformance.kit import Answer, Result
from mailcrane_transports.plugin import TransportsPlugin
from mailcrane_webapi.plugin import WebAPIPlugin

from . import plugin_mutants
from .plugin_mutants import Good, MisspelledHook, StartsOnce


@dataclass(frozen=True)
class Mutant:
    """A plugin with one fault.

    Attributes:
        also: What else cannot be so with this fault.
    """

    plugin: type[Plugin]
    also: frozenset[str] = frozenset()


MUTANTS: dict[str, Mutant] = {
    "name": Mutant(plugin_mutants.OddName),
    "api": Mutant(plugin_mutants.FutureAPI, frozenset({"registration"})),
    "requires": Mutant(plugin_mutants.RequiresText, frozenset({"registration"})),
    "config-unknown-keys": Mutant(plugin_mutants.TakesUnknownKeys),
    "config-described": Mutant(plugin_mutants.Undescribed),
    "registration": Mutant(plugin_mutants.MisspelledHook),
    "constructor": Mutant(plugin_mutants.ReadsInConstructor),
    "starts": Mutant(plugin_mutants.NeverStarts, frozenset({"beside-others"})),
    "stops": Mutant(plugin_mutants.RaisesOnStop, frozenset({"stop-twice"})),
    "stop-twice": Mutant(plugin_mutants.StopsOnce),
    "leaves-nothing": Mutant(plugin_mutants.ShieldsItsTask),
    "background": Mutant(plugin_mutants.CrashesInTheBackground, frozenset({"beside-others"})),
    "starts-again": Mutant(plugin_mutants.StartsOnce, frozenset({"restart"})),
    "restart": Mutant(plugin_mutants.FailsOnItsOwnData),
    "registers": Mutant(plugin_mutants.RegistersNonsense, frozenset({"beside-others"})),
    "answers": Mutant(plugin_mutants.AnswersNonsense, frozenset({"garbage", "concurrent"})),
    "every-event": Mutant(plugin_mutants.KnowsItsKinds),
    "garbage": Mutant(plugin_mutants.FailsOnUnicode),
    "twice": Mutant(plugin_mutants.CountsOnce, frozenset({"concurrent"})),
    "concurrent": Mutant(plugin_mutants.OneAtATime),
    "cancellation": Mutant(plugin_mutants.SwallowsCancellation),
    "loop": Mutant(plugin_mutants.BlocksTheLoop, frozenset({"concurrent"})),
    "arguments": Mutant(plugin_mutants.ChangesItsArgument),
    "beside-others": Mutant(plugin_mutants.FailsForSubmission),
}


def subject(plugin: type[Plugin]) -> suite.Subject:
    return suite.Subject(plugin, seconds=1.0)


def failed(results: Sequence[Result]) -> set[str]:
    return {result.id.removeprefix("plugin/") for result in results if result.answer is Answer.FAILED}


@pytest.fixture
def package_that_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[Plugin]:
    """A plugin of a package that takes what is not in the API."""
    package = tmp_path / "kit_mutant_imports"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "plugin.py").write_text(
        "from mailcrane.api import Plugin\n\n\nclass Imports(Plugin):\n    name = 'imports'\n\n"
        "    async def stop(self):\n        from mailcrane.store.store import Store\n        assert Store\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "kit_mutant_imports", raising=False)
    return importlib.import_module("kit_mutant_imports.plugin").Imports  # type: ignore[no-any-return]


def test_every_behaviour_has_a_mutant_an_id_of_its_own_a_sentence_and_a_reference() -> None:
    ids = [behaviour.id for behaviour in suite.BEHAVIOURS]
    assert sorted([*(f"plugin/{name}" for name in MUTANTS), "plugin/imports"]) == sorted(ids)
    assert len(set(ids)) == len(ids)
    assert all(behaviour.sentence and behaviour.reference for behaviour in suite.BEHAVIOURS)


@pytest.mark.parametrize("plugin", [Good, TransportsPlugin, WebAPIPlugin])
async def test_a_good_plugin_passes(plugin: type[Plugin]) -> None:
    results = await suite.run(suite.Subject(plugin))
    assert failed(results) == set(), "\n".join(map(str, results))


EXAMPLES = [
    one
    for one in vars(mailcrane.plugin.examples).values()
    if isinstance(one, type) and issubclass(one, Plugin) and one is not Plugin
]


@pytest.mark.slow
@pytest.mark.parametrize("plugin", EXAMPLES, ids=[one.name for one in EXAMPLES])
async def test_the_manuals_example_of_each_hook_passes(plugin: type[Plugin]) -> None:
    results = await suite.run(suite.Subject(plugin))
    # They lie in the core, and import from where they are.
    assert failed(results) <= {"imports"}, "\n".join(map(str, results))


@pytest.mark.parametrize(("name", "mutant"), MUTANTS.items())
async def test_a_mutant_is_caught_by_its_behaviour(name: str, mutant: Mutant) -> None:
    StartsOnce.names.clear()
    [result] = await suite.run(subject(mutant.plugin), [name])
    assert result.answer is Answer.FAILED, result


@pytest.mark.slow
@pytest.mark.parametrize(("name", "mutant"), MUTANTS.items())
async def test_a_mutant_fails_nothing_but_its_behaviour_and_what_goes_with_it(name: str, mutant: Mutant) -> None:
    results = []
    for behaviour in suite.BEHAVIOURS:
        StartsOnce.names.clear()
        results += await suite.run(subject(mutant.plugin), [behaviour.id])
    assert failed(results) == {name, *mutant.also}, "\n".join(map(str, results))


async def test_a_package_that_imports_what_is_not_in_the_api_fails_that_only(
    package_that_imports: type[Plugin],
) -> None:
    results = await suite.run(suite.Subject(package_that_imports))
    assert failed(results) == {"imports"}, "\n".join(map(str, results))


async def test_an_entry_point_of_another_name_is_found() -> None:
    [result] = await suite.run(suite.Subject(Good, entry_point="better"), ["name"])
    assert "the entry point is 'better', the class 'good'" in result.explanation


async def test_what_cannot_be_tried_because_the_server_refuses_the_plugin_says_so() -> None:
    [result] = await suite.run(subject(MisspelledHook), ["answers"])
    assert result.answer is Answer.SKIPPED
    assert "see plugin/registration" in result.explanation
    assert "did you mean select_route?" in result.explanation
