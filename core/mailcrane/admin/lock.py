"""One process at a time works on a data directory: the server, or a command while no server runs."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from mailcrane.config.convert import ConfigError


class DataDirInUse(Exception):
    """Another process holds the data directory.

    Attributes:
        data_dir: Which.
    """

    def __init__(self, data_dir: str) -> None:
        super().__init__(f"{data_dir} is in use by another process")
        self.data_dir = data_dir


@contextlib.contextmanager
def hold_data_dir(data_dir: str | Path) -> Iterator[None]:
    """Hold a data directory, which is made where it does not exist. The system frees it when the process ends.

    Raises:
        DataDirInUse: another process holds it.
        ConfigError: it cannot be made or written to.
    """
    directory = Path(data_dir)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(
            "data_dir",
            f'"{directory}" cannot be used: {error.strerror}',
            "Name a directory that the server's user may write to, or run the command as that user",
        ) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataDirInUse(str(directory)) from None
        yield
    finally:
        os.close(descriptor)
