"""Renders ``docs/reference/hooks.md``: ``python -m mailcrane.plugin.reference > docs/reference/hooks.md``."""

from __future__ import annotations

import inspect
import textwrap

from mailcrane.plugin import examples
from mailcrane.plugin.base import Plugin
from mailcrane.plugin.policy import HOOK_API, Kind, OnFailure
from mailcrane.plugin.registration import implemented_hooks
from mailcrane.plugin.spec import HookSpec, hook_specs

_KINDS = {
    Kind.REGISTER: "asked once at start, synchronously, with 30 s for the answer; the answers are put together",
    Kind.DECIDE: "asked in the order of the plugins; the first answer that is not `None` wins, then the core's default",
    Kind.COLLECT: "all plugins are asked at once; one function merges their answers",
    Kind.JUDGE: "all plugins are asked at once; the strictest answer wins",
    Kind.NOTIFY: "told after the commit, in the order of each account's events; told again until it succeeds",
}

_FAILURES = {
    OnFailure.DEFER: "a 4yz reply, or a later try; never a 5yz",
    OnFailure.SKIP: "counted and logged, as if it had answered `None`; left out for a while when it goes on",
    OnFailure.RETRY: "told again later, with growing pauses; in the end the event is set aside and can be replayed. "
    "An event is kept for 30 days: what a plugin has not come to by then, because it was disabled or kept failing, "
    "it misses, and their number is logged",
    OnFailure.REFUSE_START: "the server does not start",
}

_INTRODUCTION = f"""\
# Hooks

Generated from `core/mailcrane/plugin/hookspecs.py` by `python -m mailcrane.plugin.reference`; not to be edited.

Hook API {HOOK_API}. A plugin is a subclass of `mailcrane.api.Plugin`; an implementation is a method marked with
`@hookimpl` that has the name of the hook and takes any of its arguments, by name. It is `async def`; a plain `def` is
run in a thread (those asked at start are always plain). It returns `None` when it has nothing to say. Answers are
frozen values; what a hook is given is frozen too, or a copy of its own that nobody else sees.

Plugins are asked in the order of `[plugins] enabled`; `mailcrane plugins order` shows it. An implementation fails when
it raises, does not answer in time, answers something else than what is listed, or keeps the event loop for more than a
second. What that means is stated for each hook. A *provisional* hook may change in a minor version: it is not used by
two plugins of different purpose yet.

The names in the examples come from `mailcrane.api`.
"""


def render() -> str:
    """Return the page."""
    specs = hook_specs()
    rows = [f"| [`{spec.name}`](#{spec.name}) | {spec.policy.stage} | {spec.policy.kind} |" for spec in specs]
    kinds = [f"- **{kind}**: {meaning}." for kind, meaning in _KINDS.items()]
    failures = [f"- **{meaning}**: {text}." for meaning, text in _FAILURES.items()]
    parts = [
        _INTRODUCTION,
        "\n".join(["| hook | stage | kind |", "|---|---|---|", *rows]) + "\n",
        "\n".join(["## Kinds\n", *kinds]) + "\n",
        "\n".join(["## What a failing plugin means\n", *failures]) + "\n",
    ]
    parts.extend(_render_hook(spec) for spec in specs)
    return "\n".join(parts)


def examples_by_hook() -> dict[str, type[Plugin]]:
    """Return the example of each hook."""
    found: dict[str, type[Plugin]] = {}
    for member in vars(examples).values():
        if isinstance(member, type) and issubclass(member, Plugin) and member is not Plugin:
            for hook, _ in implemented_hooks(member):
                found[hook] = member
    return found


def signature(spec: HookSpec) -> str:
    """Return the signature of a hook as it is declared."""
    prefix = "def" if spec.policy.kind is Kind.REGISTER else "async def"
    declared = inspect.signature(spec.function)
    arguments = ", ".join(f"{name}: {argument.annotation}" for name, argument in declared.parameters.items())
    one_line = f"{prefix} {spec.name}({arguments}) -> {declared.return_annotation}"
    if len(one_line) <= 100:
        return one_line
    lines = "".join(f"    {name}: {argument.annotation},\n" for name, argument in declared.parameters.items())
    return f"{prefix} {spec.name}(\n{lines}) -> {declared.return_annotation}"


def _render_hook(spec: HookSpec) -> str:
    policy = spec.policy
    status = "provisional" if policy.is_provisional else "stable"
    facts = [
        f"- stage: {policy.stage}; once per {policy.unit}",
        f"- kind: {policy.kind}",
        f"- a failing plugin: {policy.on_failure}",
    ]
    if policy.kind is not Kind.REGISTER:
        facts.append(f"- timeout: {policy.timeout:g} s")
    if policy.merged_by:
        facts.append(f"- answers merged by `{policy.merged_by}`")
    facts.append(f"- since hook API {policy.since}, {status}")
    example = examples_by_hook().get(spec.name)
    parts = [
        f"## {spec.name}\n",
        f"```python\n{signature(spec)}\n```\n",
        (inspect.getdoc(spec.function) or "") + "\n",
        "\n".join(facts) + "\n",
    ]
    if example is not None:
        parts.append(f"```python\n{textwrap.dedent(inspect.getsource(example)).rstrip()}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    print(render(), end="")
