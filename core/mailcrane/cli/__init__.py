"""The command line. Importing it imports click and little else: each command's module is imported when it is used."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command that the arguments name; the entry point of ``mailcrane``."""
    from mailcrane.cli.commands import cli  # noqa: PLC0415 - so that importing the package costs nothing

    sys.exit(cli.main(prog_name="mailcrane", standalone_mode=True))
