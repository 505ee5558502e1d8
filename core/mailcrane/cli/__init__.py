"""The command line. Importing it imports click and little else: each command's module is imported when it is used."""

from __future__ import annotations

import gc
import os
import sys

_COLLECT_AFTER = 50_000
"""New objects. A command leaves fewer; looking through what imports make took 15% of the time of a start."""


def main() -> None:
    """Run the command that the arguments name; the entry point of ``mailcrane``.

    Under the name ``sendmail``, and for the command of that name, the options are sendmail's own.
    """
    gc.set_threshold(_COLLECT_AFTER)
    is_sendmail = os.path.basename(sys.argv[0]) == "sendmail"
    if is_sendmail or (sys.argv[1:2] == ["sendmail"] and "--help" not in sys.argv):
        from mailcrane.cli.sendmail.run import main as sendmail  # noqa: PLC0415 - as below

        sys.exit(sendmail(sys.argv[1:] if is_sendmail else sys.argv[2:]))
    from mailcrane.cli.commands import cli  # noqa: PLC0415 - so that importing the package costs nothing

    sys.exit(cli.main(prog_name="mailcrane", standalone_mode=True))
