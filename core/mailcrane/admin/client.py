"""The client of the control socket: blocking and small, so that commands start fast."""

from __future__ import annotations

import socket
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import msgspec
from msgspec import Struct

from mailcrane.admin import wire
from mailcrane.admin.errors import AdminError
from mailcrane.admin.socket_path import reachable
from mailcrane.config.convert import decode_json, encode_json

A = TypeVar("A", bound=Struct)

_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 300.0


class NotRunning(Exception):
    """No server answers on the control socket."""


class ControlClient:
    """A connection to a running server.

    Raises:
        NotRunning: there is none.
        AdminError: it speaks another version, or this user may not.
    """

    def __init__(self, path: str | Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(_CONNECT_SECONDS)
            with reachable(Path(path)) as address:
                self._socket.connect(address)
            self._file = self._socket.makefile("rb")
            self._socket.settimeout(_ANSWER_SECONDS)
            greeting = msgspec.json.decode(self._read_line(), type=wire.Greeting)
            if greeting.control != wire.CONTROL_VERSION:
                raise AdminError(
                    "control_version", f"the server is Mailcrane {greeting.mailcrane}; use the command of that version"
                )
        except PermissionError:
            self._socket.close()
            raise AdminError(
                "not_permitted", f"{path}: permission denied; run the command as the server's user"
            ) from None
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            self._socket.close()
            raise NotRunning(str(path)) from None
        except BaseException:
            self._socket.close()
            raise

    def call(self, name: str, request: Struct, answer: type[A]) -> A:
        """Run an operation and return its answer.

        Raises:
            AdminError: it was refused, or the server went away.
        """
        line = encode_json({"op": name, "args": request}) + b"\n"
        try:
            self._socket.sendall(line)
            reply = msgspec.json.decode(self._read_line(), type=wire.Answer)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise AdminError("gone", f"the server went away during {name}: {error}") from None
        if reply.error is not None:
            raise AdminError(reply.error.code, reply.error.message)
        return decode_json(bytes(reply.result), answer)

    def close(self) -> None:
        """Close the connection."""
        self._file.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read_line(self) -> bytes:
        line = self._file.readline(wire.MAX_LINE_OCTETS)
        if not line.endswith(b"\n"):
            raise OSError("the connection was closed")
        return line
