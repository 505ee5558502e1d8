"""What a power cut would have left of a directory: only what was synced before it.

A process is run under ``forgetful.c`` (see `environment`), which records what it does to the files of a directory.
After the process was killed, `rebuild` makes the directory as a disk would hold it that forgot every write which no
fsync covered. Names are as strict: a file that was made, renamed or removed is so only after an fsync of its directory.
"""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_RECORD = struct.Struct("=BBHIQQ")
_SOURCE = Path(__file__).with_name("forgetful.c")


class ForgetfulError(Exception):
    """The library cannot be built, or a record cannot be read."""


def has_compiler() -> bool:
    """Whether the library can be built on this machine."""
    return shutil.which("gcc") is not None


def build(directory: Path) -> Path:
    """Compile the library into a directory and return its path.

    Raises:
        ForgetfulError: there is no compiler, or it failed.
    """
    library = directory / "forgetful.so"
    command = ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-o", str(library), str(_SOURCE), "-ldl", "-lpthread"]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise ForgetfulError("there is no gcc") from error
    except subprocess.CalledProcessError as error:
        raise ForgetfulError(error.stderr) from error
    return library


def environment(library: Path, directory: Path, journal: Path) -> dict[str, str]:
    """Return the environment for a process whose doings in a directory are recorded in a journal outside of it.

    What the process sends to sockets, or writes to files elsewhere, is recorded as marks.
    """
    return os.environ | {
        "LD_PRELOAD": str(library),
        "FORGETFUL_DIRECTORY": str(directory.resolve()),
        "FORGETFUL_JOURNAL": str(journal),
        "FORGETFUL_MARKS": "1",
    }


def marks(journal: Path) -> list[bytes]:
    """Return what the process sent and wrote elsewhere, the first 256 octets of each piece, in order.

    A reply that promises something is among them: `rebuild` with its index shows what was safe when it was sent. So
    are other things, such as the single octets by which trio's loop is woken.
    """
    return [record.octets for record in _records(journal) if record.kind == "M"]


def sources(journal: Path) -> list[int]:
    """Return the file descriptor that each of the `marks` went to; a number may be used again after it was closed."""
    return [record.id for record in _records(journal) if record.kind == "M"]


def rebuild(
    journal: Path,
    directory: Path,
    target: Path,
    *,
    base: Path | None = None,
    seed: int | None = None,
    at_mark: int | None = None,
) -> Counts:
    """Make a directory as it would be after a power cut at the end of a journal, or at a mark in it.

    Args:
        journal: As recorded.
        directory: That was followed.
        target: Is made; must not exist.
        base: A copy of the directory as it was when the process began; None when it was empty.
        seed: None forgets every write that was not synced. Otherwise some of them, chosen by the seed, are kept, as a
            disk may that writes in an order of its own.
        at_mark: Index in `marks`: the cut comes right before this is sent. None is the end of the journal.
    """
    disk = _Disk(str(directory.resolve()), base, random.Random(seed) if seed is not None else None)
    seen = 0
    for record in _records(journal):
        if record.kind != "M":
            disk.take(record)
        elif seen == at_mark:
            break
        else:
            seen += 1
    target.mkdir(parents=True)
    disk.write_to(target)
    return disk.counts


@dataclass
class Counts:
    """How much was done, and how much of it was forgotten."""

    writes: int = 0
    syncs: int = 0
    forgotten: int = 0


@dataclass
class _Record:
    kind: str
    flags: int
    id: int
    offset: int
    octets: bytes


@dataclass
class _File:
    safe: bytearray = field(default_factory=bytearray)
    # Writes (offset, octets) and changes of length (length, None) since the last sync.
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)

    def apply(self, count: int) -> None:
        for offset, octets in self.pending[:count]:
            self._do(offset, octets)
        del self.pending[:count]

    def apply_some(self, choose: random.Random) -> None:
        for offset, octets in self.pending:
            if choose.random() < 0.5:
                self._do(offset, octets)
        self.pending.clear()

    def _do(self, offset: int, octets: bytes | None) -> None:
        end = offset if octets is None else offset + len(octets)
        if len(self.safe) < end:
            self.safe.extend(bytes(end - len(self.safe)))
        if octets is None:
            del self.safe[end:]
        else:
            self.safe[offset:end] = octets


class _Disk:
    def __init__(self, directory: str, base: Path | None, choose: random.Random | None) -> None:
        self._directory = directory
        self._choose = choose
        self._open: dict[int, str] = {}
        self._open_files: dict[int, _File] = {}
        self._names: dict[str, _File] = {}
        self._safe_names: dict[str, _File] = {}
        self._pending_names: list[tuple[str, str, _File | None]] = []
        # What a sync that has begun will make safe: of a file the number of writes, of a directory of names.
        self._begun: dict[int, int] = {}
        self.counts = Counts()
        if base is not None:
            for path in base.rglob("*"):
                if path.is_file():
                    name = f"{directory}/{path.relative_to(base)}"
                    self._names[name] = self._safe_names[name] = _File(bytearray(path.read_bytes()))

    def take(self, record: _Record) -> None:
        match record.kind:
            case "O":
                self._take_open(record)
            case "W" | "T":
                octets = record.octets if record.kind == "W" else None
                self._open_files[record.id].pending.append((record.offset, octets))
                self.counts.writes += 1
            case "B":
                file = self._open_files.get(record.id)
                self._begun[record.offset] = len(self._pending_names if file is None else file.pending)
            case "E":
                self._take_synced(record)
            case "U":
                self._rename(record.octets.decode(), None)
            case "R":
                old, new = record.octets.decode().split("\0")
                self._rename(old, new)
            case _:
                raise ForgetfulError(f"unknown record {record.kind!r}")

    def write_to(self, target: Path) -> None:
        for file in {id(file): file for file in [*self._names.values(), *self._safe_names.values()]}.values():
            self.counts.forgotten += len(file.pending)
            if self._choose is not None:
                file.apply_some(self._choose)
        for name, file in self._safe_names.items():
            path = target / Path(name).relative_to(self._directory)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.safe)

    def _take_open(self, record: _Record) -> None:
        path = record.octets.decode()
        self._open[record.id] = path
        if path == self._directory or (path not in self._names and os.path.isdir(path)):
            return
        file = self._names.get(path)
        if file is None:
            file = self._names[path] = _File()
            self._pending_names.append((os.path.dirname(path), path, file))
        if record.flags & 2:
            file.pending.append((0, None))
        self._open_files[record.id] = file

    def _take_synced(self, record: _Record) -> None:
        self.counts.syncs += 1
        count = self._begun.pop(record.offset)
        file = self._open_files.get(record.id)
        if file is not None:
            file.apply(min(count, len(file.pending)))
            return
        directory = self._open[record.id]
        kept = []
        for position, (parent, name, linked) in enumerate(self._pending_names):
            if position >= count or parent != directory:
                kept.append((parent, name, linked))
            elif linked is None:
                self._safe_names.pop(name, None)
            else:
                self._safe_names[name] = linked
        self._pending_names = kept

    def _rename(self, old: str, new: str | None) -> None:
        file = self._names.pop(old, None)
        if file is None:
            return
        self._pending_names.append((os.path.dirname(old), old, None))
        if new is not None:
            self._names[new] = file
            self._pending_names.append((os.path.dirname(new), new, file))


def _records(journal: Path) -> Iterator[_Record]:
    octets = journal.read_bytes()
    position = 0
    # The last record may be cut off where the process was killed; what it told of had not returned.
    while position + _RECORD.size <= len(octets):
        kind, flags, _, id_, offset, length = _RECORD.unpack_from(octets, position)
        position += _RECORD.size
        if position + length > len(octets):
            return
        yield _Record(chr(kind), flags, id_, offset, octets[position : position + length])
        position += length
