"""``python -m mailcrane`` is the ``mailcrane`` command."""

from mailcrane.cli import main

main()
