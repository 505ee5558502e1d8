"""``python -m mailcrane_conformance``: list the behaviours of the suites, or try them from the shell."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import tomllib
from collections.abc import Sequence
from typing import Any

import trio

from mailcrane.api import PluginError
from mailcrane.testing import find_plugins, import_plugin
from mailcrane_conformance import plugin, transport, webhook
from mailcrane_conformance.kit import Answer, Result, as_data
from mailcrane_conformance.suites import SUITES


def main(arguments: Sequence[str] | None = None) -> int:
    """Try a suite; 0 when no behaviour failed, 1 when one did, 2 for a wrong call."""
    parser = argparse.ArgumentParser(prog="python -m mailcrane_conformance", description="Mailcrane's conformance kit.")
    commands = parser.add_subparsers(dest="suite", required=True, metavar="SUITE")
    _add_list(commands)
    _add_transport(commands)
    _add_plugin(commands)
    _add_webhook(commands)
    _add_webhook_sender(commands)
    chosen = parser.parse_args(arguments)
    if chosen.suite == "list":
        return _list(chosen.of, is_json=chosen.json)
    # What is tested lies where the author stands, as with ``python -m pytest``.
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    try:
        results = chosen.run(chosen)
    except (ValueError, ImportError, AttributeError, OSError, PluginError) as error:
        parser.error(str(error))
    return _report(results, is_json=chosen.json)


def _add_list(commands: Any) -> None:
    lists = commands.add_parser("list", help="list all behaviours with their sentences")
    lists.add_argument("of", nargs="?", choices=[suite.name for suite in SUITES], help="of one suite only")
    lists.add_argument("--json", action="store_true", help="write JSON")


def _add_transport(commands: Any) -> None:
    one = commands.add_parser("transport", help="test a transport")
    one.add_argument(
        "target", metavar="MODULE:FUNCTION", help="async function of host and port that makes the transport"
    )
    kinds = one.add_mutually_exclusive_group()
    kinds.add_argument("--lmtp", action="store_true", help="the transport speaks LMTP")
    kinds.add_argument("--other", action="store_true", help="MODULE:FUNCTION opens a peer of its own, and a transport")
    _add_common(one)
    one.set_defaults(run=_run_transport)


def _add_plugin(commands: Any) -> None:
    one = commands.add_parser("plugin", help="test a plugin")
    one.add_argument("target", metavar="NAME|MODULE:CLASS", help="an installed plugin by its name, or a class")
    one.add_argument("--config", metavar="FILE", help="a TOML file that has a table [plugin.NAME]")
    _add_common(one)
    one.set_defaults(run=_run_plugin)


def _add_webhook(commands: Any) -> None:
    one = commands.add_parser("webhook", help="test a receiver of webhooks")
    one.add_argument("target", metavar="URL", help="where it takes calls")
    one.add_argument("--secret-file", metavar="FILE", help="a file that has the signing secret, whsec_...")
    one.add_argument("--authorization-file", metavar="FILE", help="a file that has the Authorization that it wants")
    one.add_argument("--seconds", type=float, default=10.0, help="what an answer may take (default: 10)")
    _add_common(one)
    one.set_defaults(run=_run_webhook)


def _add_webhook_sender(commands: Any) -> None:
    one = commands.add_parser("webhook-sender", help="test a sender of webhooks")
    one.add_argument(
        "target", metavar="MODULE:FUNCTION", help="async function of URL, secret and count that makes it tell of events"
    )
    one.add_argument("--hurry", metavar="MODULE:FUNCTION", help="async function that makes it repeat what failed")
    _add_common(one)
    one.set_defaults(run=_run_webhook_sender)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", action="append", default=[], metavar="ID", help="try this behaviour; may be repeated")
    parser.add_argument("--json", action="store_true", help="write JSON, a list of results")


def _run_transport(chosen: argparse.Namespace) -> list[Result]:
    target = _load(chosen.target)
    subject = transport.smtp(target)
    if chosen.lmtp:
        subject = transport.lmtp(target)
    elif chosen.other:
        subject = transport.other(target)
    return trio.run(transport.run, subject, tuple(chosen.only))


def _run_plugin(chosen: argparse.Namespace) -> list[Result]:
    found = find_plugins()
    is_class = ":" in chosen.target
    tested = _load(chosen.target) if is_class else import_plugin(chosen.target, found)
    sections: dict[str, Any] = {}
    if chosen.config:
        with open(chosen.config, "rb") as file:
            sections = tomllib.load(file).get("plugin", {})
    name = getattr(tested, "name", "")
    subject = plugin.Subject(
        tested,
        entry_point="" if is_class else chosen.target,
        config=sections.get(name, {}),
        needs=tuple(import_plugin(needed, found) for needed in sorted(getattr(tested, "requires", ()))),
    )
    return trio.run(plugin.run, subject, tuple(chosen.only))


def _run_webhook(chosen: argparse.Namespace) -> list[Result]:
    subject = webhook.Receiver(
        chosen.target,
        _read(chosen.secret_file),
        _read(chosen.authorization_file),
        seconds=chosen.seconds,
    )
    return trio.run(webhook.run, subject, tuple(chosen.only))


def _run_webhook_sender(chosen: argparse.Namespace) -> list[Result]:
    subject = webhook.Sender(_load(chosen.target), _load(chosen.hurry) if chosen.hurry else None)
    return trio.run(webhook.run_sender, subject, tuple(chosen.only))


def _read(path: str | None) -> str:
    """Read a secret: in a file it is seen by nobody who lists processes."""
    if path is None:
        return ""
    with open(path, encoding="utf-8") as file:
        return file.read().strip()


def _list(suite: str | None, *, is_json: bool) -> int:
    behaviours = [one for each in SUITES if suite in (None, each.name) for one in each.behaviours]
    if is_json:
        rows = [{"id": one.id, "sentence": one.sentence, "reference": one.reference} for one in behaviours]
        print(json.dumps(rows, indent=2))
        return 0
    width = max(len(one.id) for one in behaviours)
    for one in behaviours:
        print(f"{one.id:{width}}  {one.sentence} [{one.reference}]")
    return 0


def _report(results: Sequence[Result], *, is_json: bool) -> int:
    counts = {answer: sum(result.answer is answer for result in results) for answer in Answer}
    if is_json:
        print(json.dumps([as_data(result) for result in results], indent=2))
    else:
        for result in results:
            print(result)
        print(", ".join(f"{count} {answer.value}" for answer, count in counts.items()))
    return 1 if counts[Answer.FAILED] else 0


def _load(name: str) -> Any:
    module, colon, function = name.partition(":")
    if not colon:
        raise ValueError(f"{name!r} is not MODULE:FUNCTION")
    return getattr(importlib.import_module(module), function)


if __name__ == "__main__":
    sys.exit(main())
