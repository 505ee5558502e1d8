"""The list of hooks, its callers, its examples and its reference agree."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio.testing

import mailcrane
from mailcrane.plugin import caller as caller_module
from mailcrane.plugin import reference
from mailcrane.plugin.caller import HookCaller, Hooks
from mailcrane.plugin.policy import Kind, OnFailure, hook
from mailcrane.plugin.spec import HookSpec, hook_spec, hook_specs
from mailcrane.testing.hooks import ask, made_arguments

ROOT = Path(mailcrane.__file__).parents[2]
EXAMPLES = reference.examples_by_hook()


def test_hooks_has_one_attribute_per_hook() -> None:
    declared = {name: hint for name, hint in typing.get_type_hints(Hooks).items() if name != "by_name"}
    assert list(declared) == [spec.name for spec in hook_specs()]
    assert all(isinstance(getattr(Hooks(), name), HookCaller) for name in declared)


@pytest.mark.parametrize("spec", hook_specs(), ids=lambda spec: spec.name)
def test_the_caller_of_a_hook_is_of_its_kind_and_answers_its_type(spec: HookSpec) -> None:
    hint = typing.get_type_hints(Hooks, vars(caller_module))[spec.name]
    kind = typing.get_origin(hint) or hint
    assert kind.kind is spec.policy.kind
    returned = {arm for arm in _arms(typing.get_type_hints(spec.function)["return"]) if arm is not type(None)}
    answers = set(spec.policy.answers)
    elements = {arm for arm in returned if typing.get_origin(arm) is not Sequence}
    elements |= {typing.get_args(arm)[0] for arm in returned if typing.get_origin(arm) is not None}
    elements = {arm for arm in elements if typing.get_origin(arm) is None}
    if spec.policy.kind is Kind.NOTIFY:
        assert not returned
        assert not answers
        return
    if typing.get_args(hint):
        assert set(_arms(typing.get_args(hint)[0])) == elements
    assert answers - {list, tuple} == elements
    takes_sequences = any(typing.get_origin(arm) is not None for arm in returned)
    assert takes_sequences == ({list, tuple} <= answers)


@pytest.mark.parametrize("spec", hook_specs(), ids=lambda spec: spec.name)
def test_a_hook_says_what_it_is(spec: HookSpec) -> None:
    policy = spec.policy
    assert inspect.getdoc(spec.function)
    assert policy.stage
    assert policy.unit
    assert 0 < policy.timeout <= 60
    assert (policy.on_failure is OnFailure.RETRY) == (policy.kind is Kind.NOTIFY)
    assert (policy.on_failure is OnFailure.REFUSE_START) == (policy.kind is Kind.REGISTER) == bool(policy.named_by)
    assert bool(policy.merged_by) == (policy.kind is Kind.COLLECT)
    assert all(isinstance(hint, str) and "Any" not in spec.arguments for hint in spec.function.__annotations__.values())


def test_a_hook_of_the_wrong_colour_cannot_be_declared() -> None:
    def plain() -> None: ...

    with pytest.raises(TypeError, match="register hooks are def"):
        hook(Kind.DECIDE, stage="x", unit="x", on_failure=OnFailure.SKIP)(plain)


@pytest.mark.parametrize("hook_name", [spec.name for spec in hook_specs()])
async def test_the_example_of_a_hook_runs(hook_name: str, autojump_clock: trio.testing.MockClock) -> None:
    plugin = EXAMPLES[hook_name]
    if inspect.iscoroutinefunction(getattr(plugin, hook_name)) or hook_name.startswith("register_"):
        await ask(plugin, hook_name)


async def test_the_examples_that_are_run_in_a_thread_run() -> None:
    threaded = [name for name, plugin in EXAMPLES.items() if not _is_async(plugin, name)]
    for name in threaded:
        await ask(EXAMPLES[name], name)
    assert threaded == ["register_transport_types", "register_http_apps", "register_event_types", "event_recorded"]


def test_the_page_is_up_to_date() -> None:
    page = (ROOT / "docs/reference/hooks.md").read_text()
    if page != reference.render():
        pytest.fail("run: python -m mailcrane.plugin.reference > docs/reference/hooks.md")


def test_every_hook_stands_in_the_changelog() -> None:
    changelog = (ROOT / "HOOK_CHANGELOG.md").read_text()
    assert [spec.name for spec in hook_specs() if f"`{spec.name}`" not in changelog] == []


def test_hooks_only_change_on_purpose() -> None:
    """Binds every signature; those of stable hooks are a promise until the next major version of the hook API."""
    lines = [
        f"{'provisional' if spec.policy.is_provisional else 'stable'} {spec.policy.kind} "
        f"{' '.join(reference.signature(spec).split())}\n"
        for spec in hook_specs()
    ]
    snapshot = Path(__file__).with_name("signatures.txt").read_text()
    if "".join(lines) != snapshot:
        pytest.fail("hooks have changed: write it in HOOK_CHANGELOG.md, then in signatures.txt:\n" + "".join(lines))


def test_made_up_arguments_are_those_of_the_hook() -> None:
    for spec in hook_specs():
        assert tuple(made_arguments(spec.name)) == spec.arguments
    with pytest.raises(LookupError):
        made_arguments("no_hook")
    assert hook_spec("no_hook") is None


def _is_async(plugin: Any, name: str) -> bool:
    return inspect.iscoroutinefunction(getattr(plugin, name))


def _arms(hint: Any) -> tuple[Any, ...]:
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return typing.get_args(hint)
    return (hint,)
