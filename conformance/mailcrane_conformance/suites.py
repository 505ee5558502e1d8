"""All suites, by name, with what each is about; and the page that lists them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mailcrane_conformance import plugin, transport, webhook
from mailcrane_conformance.kit import Behaviour


@dataclass(frozen=True)
class Suite:
    """One suite.

    Attributes:
        name: What its ids begin with.
        about: For the manual.
        how_to: The page that shows its use.
    """

    name: str
    about: str
    how_to: str
    behaviours: Sequence[Behaviour[Any]]


SUITES: tuple[Suite, ...] = (
    Suite(
        "transport",
        "What the queue relies on a transport for.",
        "test-a-transport.md",
        transport.BEHAVIOURS,
    ),
    Suite(
        "plugin",
        "What the server relies on any plugin for, whatever hooks it implements.",
        "test-a-plugin.md",
        plugin.BEHAVIOURS,
    ),
    Suite(
        "webhook",
        "What an application that receives webhooks must do.",
        "test-a-webhook-receiver.md",
        webhook.BEHAVIOURS,
    ),
    Suite(
        "webhook-sender",
        "What whoever sends webhooks must do, as Mailcrane does.",
        "test-a-webhook-receiver.md",
        webhook.SENDER_BEHAVIOURS,
    ),
)


def render() -> str:
    """Render ``docs/reference/conformance.md``."""
    lines = [
        "# Behaviours of the conformance kit",
        "",
        "Made from the suites with `make docs`: do not edit. `python -m mailcrane_conformance list` prints it too.",
        "An id is stable: it is never given to another behaviour.",
    ]
    for suite in SUITES:
        lines += ["", f"## {suite.name}", "", f"{suite.about} How to: [{suite.how_to}](../how-to/{suite.how_to})."]
        lines += ["", "| id | what must be so | where it is written |", "|---|---|---|"]
        for one in suite.behaviours:
            cells = (f"`{one.id}`", one.sentence, one.reference)
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"
