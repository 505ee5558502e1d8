"""The control socket of a running server: a Unix socket in the data directory, for its owner only."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

import msgspec
import trio

from mailcrane.admin import wire
from mailcrane.admin.administration import Administration
from mailcrane.admin.errors import AdminError
from mailcrane.admin.operations import run_named
from mailcrane.admin.socket_path import reachable
from mailcrane.observe.log import get_log
from mailcrane.store.errors import DiskFull

_log = get_log(__name__)

_MAX_CONNECTIONS = 16
_IDLE_SECONDS = 600.0
_SEND_SECONDS = 60.0
_RECEIVE_OCTETS = 65536
_BACKLOG = 16


class ControlInUse(Exception):
    """Another server answers on the socket."""


async def serve_control(
    administration: Administration,
    path: str | Path,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer requests until cancelled; the socket is removed then.

    Raises:
        ControlInUse: another server answers on this path.
    """
    limiter = trio.CapacityLimiter(_MAX_CONNECTIONS)
    with _bound(Path(path)) as bound:
        listener = trio.SocketListener(bound)
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                stream = await _accept(listener)
                nursery.start_soon(_serve_connection, administration, stream, limiter)


async def _accept(listener: trio.SocketListener) -> trio.SocketStream:
    while True:
        try:
            return await listener.accept()
        except OSError as error:
            # Out of descriptors or memory: others give some back soon.
            _log.warning("control socket cannot accept", error=str(error))
            await trio.sleep(0.2)


async def _serve_connection(
    administration: Administration, stream: trio.SocketStream, limiter: trio.CapacityLimiter
) -> None:
    actor = _peer(stream.socket)
    try:
        async with stream, limiter:
            await _send(stream, wire.greeting())
            lines = _Lines(stream)
            while (line := await lines.next()) is not None:
                await _send(stream, await _answer(administration.acting_as(actor), line))
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # The client went away.
    except trio.TooSlowError:
        _log.info("control connection was idle for too long", by=actor)
    except Exception as error:
        _log.exception("control connection failed", error, by=actor)


async def _answer(administration: Administration, line: bytes) -> bytes:
    try:
        request = msgspec.json.decode(line, type=wire.Request)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return wire.error_line("bad_request", f"not a request: {error}")
    try:
        return wire.result_line(await run_named(administration, request.op, request.args))
    except AdminError as error:
        return wire.error_line(error.code, error.message)
    except DiskFull as error:
        _log.error("operation met a full disk", op=request.op, by=administration.actor, problem=str(error))
        return wire.error_line(
            "disk_full", "the disk is full; free some space and give the command again: what it had done stays done"
        )
    except Exception as error:
        _log.exception("operation failed", error, op=request.op, by=administration.actor)
        return wire.error_line("server", f"{request.op} failed; the server's log says why")


async def _send(stream: trio.SocketStream, octets: bytes) -> None:
    with trio.fail_after(_SEND_SECONDS):
        await stream.send_all(octets)


class _Lines:
    """Reads lines of bounded length."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._buffer = bytearray()

    async def next(self) -> bytes | None:
        """Return the next line, or None when there is none; a line that is too long ends the connection."""
        searched = 0
        with trio.fail_after(_IDLE_SECONDS):
            while (end := self._buffer.find(b"\n", searched)) < 0:
                searched = len(self._buffer)
                if searched > wire.MAX_LINE_OCTETS:
                    await self._stream.send_all(wire.error_line("bad_request", "the line is too long"))
                    return None
                received = await self._stream.receive_some(_RECEIVE_OCTETS)
                if not received:
                    return None
                self._buffer += received
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line


@contextlib.contextmanager
def _bound(path: Path) -> Iterator[trio.socket.SocketType]:
    with reachable(path) as address:
        _remove_stale(address)
        plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # Nobody may connect between bind and chmod, so the mode has to be right from the start.
        mask = os.umask(0o177)
        try:
            plain.bind(address)
        finally:
            os.umask(mask)
    own = os.stat(path)
    bound = trio.socket.from_stdlib_socket(plain)
    try:
        bound.listen(_BACKLOG)
        yield bound
    finally:
        bound.close()
        with contextlib.suppress(OSError):
            if os.path.samestat(own, os.stat(path)):
                os.unlink(path)


def _remove_stale(address: str) -> None:
    """Remove the socket that a killed server left."""
    try:
        if not stat.S_ISSOCK(os.lstat(address).st_mode):
            raise ControlInUse(f"{address} is not a socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(address)
        except OSError:
            os.unlink(address)
            return
    raise ControlInUse("another server answers on the control socket")


def _peer(connection: trio.socket.SocketType) -> str:
    """Say which user is at the other end, for the audit event."""
    try:
        octets = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    except (AttributeError, OSError):
        return "control socket"
    _, uid, _ = struct.unpack("3i", octets)
    return f"uid {uid}"
