"""``python -m mailcrane_conformance``: list or run a kit from the shell."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import cast

import trio

from mailcrane_conformance import transport
from mailcrane_conformance.kit import Answer


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a kit; 0 when every behaviour passed, 1 when one failed, 2 for a wrong call."""
    parser = argparse.ArgumentParser(prog="python -m mailcrane_conformance", description=__doc__)
    parser.add_argument("kit", choices=["transport"], help="the kit")
    parser.add_argument("factory", nargs="?", metavar="MODULE:FUNCTION", help="async function of host and port")
    parser.add_argument("--only", action="append", default=[], metavar="ID", help="try this behaviour; may be repeated")
    parser.add_argument("--list", action="store_true", help="list the behaviours and end")
    chosen = parser.parse_args(arguments)
    if chosen.list:
        for behaviour in transport.BEHAVIOURS:
            print(f"{behaviour.id:28} {behaviour.sentence}")
        return 0
    if chosen.factory is None:
        parser.error("name the transport to test as MODULE:FUNCTION")
    try:
        make = _load(chosen.factory)
        results = trio.run(transport.run, make, tuple(chosen.only))
    except (ValueError, ImportError, AttributeError) as error:
        parser.error(str(error))
    for result in results:
        print(result)
    failed = sum(result.answer is Answer.FAILED for result in results)
    print(f"{len(results) - failed} passed, {failed} failed")
    return 1 if failed else 0


def _load(name: str) -> transport.TransportFactory:
    module, colon, function = name.partition(":")
    if not colon:
        raise ValueError(f"{name!r} is not MODULE:FUNCTION")
    return cast(transport.TransportFactory, getattr(importlib.import_module(module), function))


if __name__ == "__main__":
    sys.exit(main())
