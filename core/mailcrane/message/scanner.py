"""Finds the MIME structure of a message in one pass, however large: fed in chunks, it holds one header at a time.

Every octet is looked at a bounded number of times: a body is searched for lines that begin with two hyphens, and such
a line is looked up among the open boundaries at once, however deep they nest. Only whitespace may follow a boundary
(RFC 2046 section 5.1.1). A multipart that is cut short ends where its parent or the message does. What breaks a limit
or the grammar makes the whole message application/octet-stream: it is stored and delivered all the same.
"""

from __future__ import annotations

from collections.abc import Generator

from mailcrane.message.header import FIELD, MAX_HEADER_FIELDS, MAX_HEADER_OCTETS, HeaderError, unfold
from mailcrane.message.mime_fields import parse_disposition, parse_media_type, salvage_media_type
from mailcrane.message.structure import Part, Structure

MAX_DEPTH = 100
MAX_PARTS = 10_000

# RFC 2046 section 5.1.1 allows 70 characters; longer ones occur. The line may have white space after it.
_MAX_BOUNDARY_LINE = 1000

_KEPT_FIELDS = frozenset(
    {
        b"content-type",
        b"content-transfer-encoding",
        b"content-id",
        b"content-description",
        b"content-disposition",
        b"content-md5",
        b"content-language",
        b"content-location",
        b"message-id",
        b"subject",
    }
)
_IDENTITY_ENCODINGS = frozenset({"", "7bit", "8bit", "binary"})

_Fields = dict[bytes, bytes]
_Waits = Generator[None, None, None]


class _Unreadable(Exception):
    """The message cannot be taken apart."""


class StructureScanner:
    """Scans one message: `feed` its octets in order, then `finish`.

    Attributes:
        top_fields: Raw values of the message's own Content-*, Message-Id and Subject fields, by lower-case name;
            complete as soon as `body_offset` is set.
        body_offset: Where the body begins; -1 until that is known.
        is_terminated: Whether an empty line ended the header.
        has_8bit: Whether an octet above 127 was fed.
        has_8bit_header: Whether one stands in a header, of any part.
        size_octets: How many octets were fed.
        work_octets: How many octets were searched, counted or matched so far; a measure for tests.
    """

    def __init__(self) -> None:
        self.top_fields: _Fields = {}
        self.body_offset = -1
        self.is_terminated = False
        self.has_8bit = False
        self.has_8bit_header = False
        self.size_octets = 0
        self.work_octets = 0
        self._buffer = b""
        self._base = 0  # offset in the message of the buffer's first octet
        self._position = 0  # in the buffer; always moved by _advance
        self._lines = 0  # line ends before the position
        self._is_ended = False
        self._part_count = 0
        self._boundaries: dict[bytes, int] = {}
        self._hit_level = 0  # level of the multipart whose boundary line begins at the position; 0 at the end
        self._is_hit_close = False
        self._hit_length = 0
        self._hit_cut = 0  # length of the line end before it, which belongs to it
        self._body_lines = 0
        self._root: Part | None = None
        self._problem = ""
        self._scan = self._run()
        next(self._scan)

    def feed(self, octets: bytes) -> None:
        """Take the next octets of the message, best in chunks of 64 KB or more."""
        if not self.has_8bit and not octets.isascii():
            self.has_8bit = True
        self.size_octets += len(octets)
        self._base += self._position
        self._buffer = self._buffer[self._position :] + octets if self._position < len(self._buffer) else octets
        self._position = 0
        self._resume()

    def finish(self) -> Structure:
        """Return the structure of what was fed. Never raises."""
        self._is_ended = True
        self._resume()
        if self._root is not None and not self._problem:
            return Structure(self._root)
        body_offset = self.body_offset if self.body_offset >= 0 else self.size_octets
        fields = self.top_fields
        root = Part(
            0,
            body_offset,
            self.size_octets,
            max(0, self._lines - self._body_lines),
            "application",
            "octet-stream",
            transfer_encoding=_text(fields, b"content-transfer-encoding").lower(),
            content_id=_text(fields, b"content-id"),
        )
        return Structure(root, self._problem)

    def _resume(self) -> None:
        try:
            self._scan.send(None)
        except StopIteration:
            pass

    def _run(self) -> _Waits:
        yield
        try:
            self._root = yield from self._part(1, "")
        except (_Unreadable, HeaderError) as error:
            self._problem = str(error)
        while True:  # what is left after an error only has its lines counted
            self._advance(len(self._buffer))
            if self._is_ended:
                return
            yield

    # --- moving ---

    def _advance(self, position: int) -> None:
        self._lines += self._buffer.count(b"\n", self._position, position)
        self.work_octets += position - self._position
        self._position = position

    def _need(self, count: int) -> _Waits:
        """Wait until so many octets are in the buffer after the position, or the message ended."""
        while len(self._buffer) - self._position < count and not self._is_ended:
            yield

    # --- parts ---

    def _part(self, depth: int, default_type: str) -> Generator[None, None, Part]:
        self._part_count += 1
        if depth > MAX_DEPTH:
            raise _Unreadable("parts are nested too deeply")
        if self._part_count > MAX_PARTS:
            raise _Unreadable("there are too many parts")
        header_offset = self._base + self._position
        fields = yield from self._header(is_top=depth == 1)
        body_offset, body_lines = self._base + self._position, self._lines
        media_type, media_subtype, params = _media_type(fields, default_type)
        encoding = _text(fields, b"content-transfer-encoding").lower() if fields else ""
        parts: tuple[Part, ...] = ()
        message = None
        if media_type == "multipart":
            default = "message/rfc822" if media_subtype == "digest" else ""
            parts = yield from self._multipart(depth, params.get("boundary", ""), default)
        elif media_type == "message" and media_subtype in {"rfc822", "global"} and encoding in _IDENTITY_ENCODINGS:
            message = yield from self._part(depth + 1, "")
        else:
            yield from self._find_boundary()
        end_offset = self._base + self._position - self._hit_cut
        line_count = self._lines - body_lines - (1 if self._hit_cut else 0)
        if end_offset < body_offset:
            end_offset, line_count = body_offset, 0
        raw_disposition = _text(fields, b"content-disposition")
        disposition, disposition_params = parse_disposition(raw_disposition) if raw_disposition else ("", {})
        return Part(
            header_offset,
            body_offset,
            end_offset,
            line_count,
            media_type,
            media_subtype,
            params,
            encoding,
            _text(fields, b"content-id"),
            _text(fields, b"content-description"),
            disposition,
            disposition_params,
            _text(fields, b"content-md5"),
            _text(fields, b"content-language"),
            _text(fields, b"content-location"),
            parts,
            message,
        )

    def _multipart(self, depth: int, boundary: str, default_type: str) -> Generator[None, None, tuple[Part, ...]]:
        key = boundary.rstrip().encode("utf-8", "surrogateescape")
        if not key:
            raise _Unreadable("a multipart has no boundary")
        shadowed = self._boundaries.get(key)
        self._boundaries[key] = depth
        parts: list[Part] = []
        yield from self._find_boundary()
        while self._hit_level == depth and not self._is_hit_close:
            self._advance(self._position + self._hit_length)
            parts.append((yield from self._part(depth + 1, default_type)))
        if shadowed is None:
            del self._boundaries[key]
        else:
            self._boundaries[key] = shadowed
        if self._hit_level == depth:
            self._advance(self._position + self._hit_length)
            yield from self._find_boundary()
        return tuple(parts)

    def _header(self, *, is_top: bool) -> Generator[None, None, _Fields]:
        """Read a header; leaves the position at its body, or at the boundary that cuts it short."""
        fields: _Fields = self.top_fields if is_top else {}
        problem = ""
        begin = self._base + self._position
        count = 0
        match_field = FIELD.match
        while True:
            buffer, position = self._buffer, self._position
            if len(buffer) - position < 2 and not self._is_ended:
                yield
                continue
            if position >= len(buffer):
                break
            first = buffer[position]
            if first == 13 and buffer.startswith(b"\r\n", position):
                self._advance(position + 2)
                self.is_terminated = self.is_terminated or is_top
                break
            if first == 10:
                self._advance(position + 1)
                self.is_terminated = self.is_terminated or is_top
                break
            if first == 45 and self._boundaries and (yield from self._is_boundary_here()):
                break
            buffer, position = self._buffer, self._position
            match = match_field(buffer, position)
            if not self._is_ended and (match.end() == len(buffer) if match else buffer.find(b"\n", position) < 0):
                if len(buffer) - position > MAX_HEADER_OCTETS:
                    raise _Unreadable("a header is too long")
                self.work_octets += len(buffer) - position
                yield
                continue
            if match is None:
                after = buffer.find(b"\n", position) + 1
                self._advance(after or len(buffer))
                problem = "a line of a header is not a header field"
            else:
                name, raw = match.groups()
                key = name.lower()
                if key in _KEPT_FIELDS and key not in fields:
                    fields[key] = raw
                if self.has_8bit and not raw.isascii():
                    self.has_8bit_header = True
                self._advance(match.end())
            count += 1
            if count > MAX_HEADER_FIELDS or self._base + self._position - begin > MAX_HEADER_OCTETS:
                raise _Unreadable("a header is too long")
        if is_top:
            self.body_offset = self._base + self._position
            self._body_lines = self._lines
        if problem:
            raise _Unreadable(problem)
        return fields

    # --- boundaries ---

    def _find_boundary(self) -> _Waits:
        """Move from the start of a line to the next line that is an open boundary, or to the end of the message."""
        self._hit_level, self._hit_cut = 0, 0
        if not self._boundaries:
            while True:
                self._advance(len(self._buffer))
                if self._is_ended:
                    return
                yield
        if (yield from self._is_boundary_here()):
            return
        search = self._position
        while True:
            buffer = self._buffer
            at = buffer.find(b"\n--", search)
            self.work_octets += (at if at >= 0 else len(buffer)) - search
            if at < 0:
                if self._is_ended:
                    self._advance(len(buffer))
                    return
                # The last three octets may be the beginning of CRLF and two hyphens.
                self._advance(max(self._position, len(buffer) - 3))
                yield
                search = self._position
                continue
            end = buffer.find(b"\n", at + 1, at + 1 + _MAX_BOUNDARY_LINE)
            if end < 0 and not self._is_ended and len(buffer) - at <= _MAX_BOUNDARY_LINE:
                self._advance(max(self._position, at - 1))
                yield
                search = self._position
                continue
            if self._is_boundary(buffer[at + 1 : end if end >= 0 else at + 1 + _MAX_BOUNDARY_LINE]):
                self._hit_cut = 2 if at > self._position and buffer[at - 1] == 13 else 1
                self._advance(at + 1)
                self._hit_length = (end + 1 if end >= 0 else len(buffer)) - self._position
                return
            search = at + 1

    def _is_boundary_here(self) -> Generator[None, None, bool]:
        """Whether the line at the position is an open boundary; if so, it is the hit."""
        yield from self._need(2)
        if not self._buffer.startswith(b"--", self._position):
            return False
        while (end := self._buffer.find(b"\n", self._position, self._position + _MAX_BOUNDARY_LINE)) < 0:
            if self._is_ended or len(self._buffer) - self._position > _MAX_BOUNDARY_LINE:
                break
            yield
        line_end = end if end >= 0 else self._position + _MAX_BOUNDARY_LINE
        if not self._is_boundary(self._buffer[self._position : line_end]):
            return False
        self._hit_length = (end + 1 if end >= 0 else len(self._buffer)) - self._position
        return True

    def _is_boundary(self, line: bytes) -> bool:
        key = line[2:].rstrip(b" \t\r")
        self.work_octets += len(line)
        level = self._boundaries.get(key)
        self._is_hit_close = False
        if level is None and key.endswith(b"--"):
            level = self._boundaries.get(key[:-2])
            self._is_hit_close = True
        if level is None:
            return False
        self._hit_level = level
        return True


def scan(octets: bytes) -> Structure:
    """Return the structure of a whole message. Never raises."""
    scanner = StructureScanner()
    scanner.feed(octets)
    return scanner.finish()


def _text(fields: _Fields, name: bytes) -> str:
    raw = fields.get(name)
    return "" if raw is None else unfold(raw)


def _media_type(fields: _Fields, default_type: str) -> tuple[str, str, dict[str, str]]:
    raw = fields.get(b"content-type")
    if raw is None:
        major, _, minor = default_type.partition("/")
        return major, minor, {}
    value = unfold(raw)
    try:
        return parse_media_type(value)
    except HeaderError:
        return (*salvage_media_type(value), {})
