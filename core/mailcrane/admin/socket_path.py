"""Unix socket addresses hold about 100 octets; data directories may lie deeper."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_MAX_OCTETS = 100


@contextlib.contextmanager
def reachable(path: Path) -> Iterator[str]:
    """Give an address for a socket at a path, by way of an open directory where the path is too long for one."""
    if len(os.fsencode(path)) <= _MAX_OCTETS:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
