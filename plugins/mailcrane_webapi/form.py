"""Reads the body of a call: urlencoded or multipart, as it arrives, with bounds.

The JSON of a call is one form field; files may come beside it as parts of a multipart form. Fields are held in memory;
of files, 200 KB in all are, and the rest is in temporary files.
"""

from __future__ import annotations

import hashlib
import logging
import re
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from typing import IO, Any, Protocol
from urllib.parse import unquote_to_bytes

import trio
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from mailcrane.api.http import Receive, Scope, drain, header
from mailcrane_webapi.wire import APIError

REQUEST_FIELD = "request"
FILE_FIELDS = frozenset({"alternativefile", "inlinefile", "attachedfile"})

_MAX_FIELDS_OCTETS = 10 * 1024 * 1024
_MAX_FILES_IN_MEMORY_OCTETS = 200 * 1024
_MAX_PARTS = 1000
_MAX_PART_HEADER_OCTETS = 16 * 1024
_MAX_PART_HEADERS = 32
# What is read of a body that is too large, so that the client sees why.
_DRAIN_OCTETS = 1024 * 1024 * 1024
# Above it, parsing is handed to a thread.
_LARGE_OCTETS = 256 * 1024
_PIECE_OCTETS = 256 * 1024
_READ_SECONDS = 60.0

_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")

# A form that a client got wrong is the client's to know: it is answered, and nothing in the operator's log.
logging.getLogger("python_multipart").setLevel(logging.ERROR)

RunInThread = Callable[..., Awaitable[Any]]


class Disconnected(Exception):
    """The client left before its request was whole; there is nobody to answer."""


class UploadedFile:
    """A file of a multipart form.

    Attributes:
        field: Name of the form field.
        name: As the client gave it, without directories; may be empty.
        content_type: As the client gave it, or empty.
        content_id: As the client gave it, or empty.
    """

    def __init__(self, field: str, name: str, content_type: str, content_id: str) -> None:
        self.field = field
        self.name = name
        self.content_type = content_type
        self.content_id = content_id
        self.size_octets = 0
        self._memory = bytearray()
        self._file: IO[bytes] | None = None

    @property
    def is_in_memory(self) -> bool:
        """Whether nothing is in a temporary file."""
        return self._file is None

    def write(self, octets: bytes, *, may_use_memory: bool) -> None:
        """Append octets."""
        self.size_octets += len(octets)
        if self._file is None and may_use_memory:
            self._memory += octets
            return
        if self._file is None:
            # A file that has no name: it is gone with the process.
            self._file = tempfile.TemporaryFile(prefix="mailcrane-webapi-")  # noqa: SIM115 - closed by close()
            self._file.write(self._memory)
            self._memory = bytearray()
        self._file.write(octets)

    def pieces(self, octets: int) -> Iterator[bytes]:
        """Yield the content in pieces of so many octets; the last may be shorter. One reader at a time."""
        if self._file is None:
            for offset in range(0, len(self._memory), octets):
                yield bytes(self._memory[offset : offset + octets])
            return
        self._file.seek(0)
        while piece := self._file.read(octets):
            yield piece

    def sha256(self) -> str:
        """Return the hash of the content, in hexadecimal digits."""
        found = hashlib.sha256()
        for piece in self.pieces(_PIECE_OCTETS):
            found.update(piece)
        return found.hexdigest()

    def close(self) -> None:
        """Remove the temporary file."""
        if self._file is not None:
            self._file.close()


class Form:
    """A form that was read.

    Attributes:
        request: The JSON of the call; empty when the field is missing.
        files: In the order that they came in.
    """

    def __init__(self) -> None:
        self.request = b""
        self.files: list[UploadedFile] = []

    @property
    def has_large_request(self) -> bool:
        """Whether the request itself holds much, such as files in base64."""
        return len(self.request) > _LARGE_OCTETS

    @property
    def is_large(self) -> bool:
        """Whether working on it should leave the loop."""
        return self.has_large_request or any(not file.is_in_memory for file in self.files)

    def files_of(self, field: str) -> list[UploadedFile]:
        """The files of one form field."""
        return [file for file in self.files if file.field == field]

    def close(self) -> None:
        """Remove temporary files."""
        for file in self.files:
            file.close()


class _Reader(Protocol):
    """Takes a body piece by piece."""

    form: Form

    def feed(self, octets: bytes) -> None: ...

    def finish(self) -> None: ...


async def read_form(scope: Scope, receive: Receive, *, max_files_octets: int, run_in_thread: RunInThread) -> Form:
    """Read the body of a call. The caller closes the form.

    Args:
        max_files_octets: Of all files together.
        run_in_thread: Runs what may block or burn CPU.

    Raises:
        APIError: with the code ``protocol``, or ``messageTooLarge`` for files.
        Disconnected: the client left.
    """
    reader = _reader(header(scope, b"content-type") or b"", max_files_octets)
    size = 0
    try:
        with trio.move_on_after(_READ_SECONDS) as waiting:
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise Disconnected
                octets = message.get("body", b"")
                is_more = message.get("more_body", False)
                size += len(octets)
                if is_more:
                    waiting.deadline = trio.current_time() + _READ_SECONDS
                try:
                    if size > _LARGE_OCTETS:
                        await run_in_thread(reader.feed, octets)
                    else:
                        reader.feed(octets)
                except APIError:
                    if is_more:
                        await drain(receive, _DRAIN_OCTETS)
                    raise
                if not is_more:
                    break
        if waiting.cancelled_caught:
            raise APIError("protocol", f"reading form: nothing came for {_READ_SECONDS:g} s")
        if size > _LARGE_OCTETS:
            await run_in_thread(reader.finish)
        else:
            reader.finish()
    except BaseException:
        reader.form.close()
        raise
    return reader.form


def _reader(content_type: bytes, max_files_octets: int) -> _Reader:
    media_type, parameters = parse_options_header(content_type)
    kind, slash, subtype = media_type.partition(b"/")
    if not (kind.strip() and slash and subtype.strip()):
        raise APIError("protocol", "parsing content-type: not a media type")
    if media_type.lower() != b"multipart/form-data":
        return _URLEncodedReader()
    boundary = parameters.get(b"boundary", b"")
    if not 0 < len(boundary) <= 70:
        raise APIError("protocol", "parsing form: no multipart boundary in content-type")
    return _MultipartReader(boundary, max_files_octets)


class _URLEncodedReader:
    """``application/x-www-form-urlencoded``, and every other type."""

    def __init__(self) -> None:
        self.form = Form()
        self._body: list[bytes] = []
        self._size = 0

    def feed(self, octets: bytes) -> None:
        self._size += len(octets)
        if self._size > _MAX_FIELDS_OCTETS:
            raise APIError("protocol", "parsing form: too large; send files in a multipart form")
        self._body.append(octets)

    def finish(self) -> None:
        body = b"".join(self._body)
        self._body.clear()
        if b";" in body:
            raise APIError("protocol", "parsing form: invalid semicolon separator")
        if _BAD_ESCAPE.search(body):
            raise APIError("protocol", "parsing form: invalid percent-encoding")
        for pair in body.split(b"&"):
            name, _, value = pair.partition(b"=")
            if _decode(name) == REQUEST_FIELD.encode():
                self.form.request = _decode(value)
                return


def _decode(octets: bytes) -> bytes:
    return unquote_to_bytes(octets.replace(b"+", b" "))


class _MultipartReader:
    """``multipart/form-data`` (RFC 7578)."""

    def __init__(self, boundary: bytes, max_files_octets: int) -> None:
        self.form = Form()
        self._max_files_octets = max_files_octets
        self._fields_octets = 0
        self._files_octets = 0
        self._memory_octets = 0
        self._parts = 0
        self._is_ended = False
        self._headers: dict[str, bytes] = {}
        self._header_name = b""
        self._header_value = b""
        self._file: UploadedFile | None = None
        self._value: bytearray | None = None
        self._has_request = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": self._add_to_name,
                "on_header_value": self._add_to_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": self._add_data,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
            max_header_count=_MAX_PART_HEADERS,
            max_header_size=_MAX_PART_HEADER_OCTETS,
        )

    def feed(self, octets: bytes) -> None:
        try:
            self._parser.write(octets)
        except MultipartParseError as error:
            raise APIError("protocol", f"parsing form: {error}") from None

    def finish(self) -> None:
        if not self._is_ended:
            raise APIError("protocol", "parsing form: the multipart body has no end")

    def _begin_part(self) -> None:
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise APIError("protocol", "parsing form: too many parts")
        self._headers = {}

    def _add_to_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _add_to_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        self._headers[self._header_name.decode("latin-1").lower()] = self._header_value.strip()
        self._header_name = self._header_value = b""

    def _end_headers(self) -> None:
        _, parameters = parse_options_header(self._headers.get("content-disposition", b""))
        field = parameters.get(b"name", b"").decode("utf-8", "replace")
        file_name = parameters.get(b"filename")
        if file_name:
            self._file = UploadedFile(
                field,
                _base_name(file_name.decode("utf-8", "replace")),
                self._text("content-type"),
                self._text("content-id"),
            )
            self.form.files.append(self._file)
        elif field == REQUEST_FIELD and not self._has_request:
            self._has_request = True
            self._value = bytearray()

    def _text(self, name: str) -> str:
        return self._headers.get(name, b"").decode("utf-8", "replace")

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        count = end - start
        if self._file is not None:
            self._files_octets += count
            if self._files_octets > self._max_files_octets:
                raise APIError("messageTooLarge", "the files are larger than a message may be")
            may_use_memory = self._memory_octets + count <= _MAX_FILES_IN_MEMORY_OCTETS
            if may_use_memory:
                self._memory_octets += count
            self._file.write(data[start:end], may_use_memory=may_use_memory)
            return
        self._fields_octets += count
        if self._fields_octets > _MAX_FIELDS_OCTETS:
            raise APIError("protocol", "parsing form: too large; send files as files")
        if self._value is not None:
            self._value += data[start:end]

    def _end_part(self) -> None:
        if self._value is not None:
            self.form.request = bytes(self._value)
        self._file = self._value = None

    def _end(self) -> None:
        self._is_ended = True


def _base_name(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2]
