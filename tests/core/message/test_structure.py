from __future__ import annotations

import pytest

from mailcrane.message.body import decode_transfer, decoded_body, decoded_size, decoded_text, readable_parts
from mailcrane.message.inspection import Inspector, inspect
from mailcrane.message.mime_fields import parse_disposition, parse_media_type
from mailcrane.message.scanner import MAX_DEPTH, StructureScanner, scan
from mailcrane.message.structure import Part, Structure


def _crlf(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode()


def _slice(octets: bytes, part: Part) -> bytes:
    return octets[part.body_offset : part.end_offset]


_ALTERNATIVE = _crlf(
    """\
Subject: =?utf-8?q?caf=C3=A9?=
Message-ID: <1@a.example>
Content-Type: multipart/alternative; boundary="b 1"

preamble
--b 1
Content-Type: text/plain; charset=UTF-8

one
two
--b 1  \t
Content-Type: text/html

<p>one
--b 1--
epilogue
--b 1
"""
)


def test_parts_of_a_multipart_have_offsets_and_line_counts() -> None:
    root = scan(_ALTERNATIVE).root
    assert [part.content_type for part in root.walk()] == ["multipart/alternative", "text/plain", "text/html"]
    assert [_slice(_ALTERNATIVE, part) for part in root.parts] == [b"one\r\ntwo", b"<p>one"]
    assert [part.line_count for part in root.parts] == [1, 0]
    assert root.end_offset == len(_ALTERNATIVE)
    assert _ALTERNATIVE[root.parts[0].header_offset :].startswith(b"Content-Type: text/plain")
    assert root.parts[0].params == {"charset": "UTF-8"}


def test_a_plain_message_is_one_part() -> None:
    octets = b"Subject: x\r\n\r\nline\r\nline\r\n"
    structure = scan(octets)
    assert structure.problem == ""
    assert structure.root.content_type == "/"
    assert structure.root.line_count == 2
    assert _slice(octets, structure.root) == b"line\r\nline\r\n"


def test_a_structure_survives_being_packed() -> None:
    structure = scan(_ALTERNATIVE)
    assert Structure.unpack(structure.pack()) == structure


def test_a_nested_message_has_a_structure_of_its_own() -> None:
    octets = _crlf(
        """\
Content-Type: multipart/mixed; boundary=o

--o
Content-Type: message/rfc822

Subject: inner
Content-Type: multipart/mixed; boundary=i

--i

text
--i--
--o--
"""
    )
    outer = scan(octets).root.parts[0]
    assert outer.message is not None
    assert octets[outer.message.header_offset :].startswith(b"Subject: inner")
    assert outer.message.header_offset == outer.body_offset
    assert _slice(octets, outer.message.parts[0]) == b"text"
    assert outer.end_offset == outer.message.end_offset


def test_a_base64_message_in_a_message_is_not_taken_apart() -> None:
    root = scan(b"Content-Type: message/global\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\r\n").root
    assert root.message is None


def test_parts_of_a_digest_are_messages_by_default() -> None:
    octets = _crlf("Content-Type: multipart/digest; boundary=d\n\n--d\n\nSubject: one\n\nbody\n--d--\n")
    part = scan(octets).root.parts[0]
    assert part.content_type == "message/rfc822"
    assert part.message is not None
    assert _slice(octets, part.message) == b"body"


@pytest.mark.parametrize(
    "tail",
    [
        "",
        "--o\n",
        "--o\nSubject: x",
        "--o\nContent-Type: message/rfc822\n\nSubject: cut\n",
        "--o\n\ntext",
        "--o\n\nt\n--o",
    ],
)
def test_a_multipart_that_is_cut_short_is_tolerated(tail: str) -> None:
    structure = scan(_crlf("Content-Type: multipart/report; boundary=o\n\n" + tail))
    assert structure.problem == ""
    assert structure.root.content_type == "multipart/report"


def test_an_inner_multipart_ends_where_its_parent_goes_on() -> None:
    octets = _crlf(
        "Content-Type: multipart/mixed; boundary=o\n\n--o\nContent-Type: multipart/mixed; boundary=i\n\n"
        "--i\n\ninner\n--o\n\nsecond\n--o--\n"
    )
    first, second = scan(octets).root.parts
    assert _slice(octets, first.parts[0]) == b"inner"
    assert _slice(octets, second) == b"second"


def test_a_boundary_ends_a_header_that_has_no_empty_line() -> None:
    octets = _crlf("Content-Type: multipart/mixed; boundary=o:o\n\n--o:o\nX: y\n--o:o\n\ntext\n--o:o--\n")
    first, second = scan(octets).root.parts
    assert first.size_octets == 0
    assert _slice(octets, second) == b"text"


def test_a_longer_line_with_the_same_beginning_is_no_boundary() -> None:
    octets = _crlf("Content-Type: multipart/mixed; boundary=o\n\n--o\n\n--ox\n --o\n--o x\n-- o\n--o--\n")
    (part,) = scan(octets).root.parts
    assert _slice(octets, part) == _crlf("--ox\n --o\n--o x\n-- o")


def test_an_inner_multipart_may_use_the_boundary_of_the_outer() -> None:
    octets = _crlf(
        "Content-Type: multipart/mixed; boundary=o\n\n--o\nContent-Type: multipart/mixed; boundary=o\n\n"
        "--o\n\ninner\n--o--\n--o\n\nsecond\n--o--\n"
    )
    first, second = scan(octets).root.parts
    assert _slice(octets, first.parts[0]) == b"inner"
    assert _slice(octets, second) == b"second"


@pytest.mark.parametrize(
    ("octets", "problem"),
    [
        (b"Subject: x\r\nno field\r\nX: y\r\n\r\nbody", "header field"),
        (b"Content-Type: multipart/mixed\r\n\r\nbody", "no boundary"),
        (b"Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\nno field\r\n\r\n--o--\r\n", "header field"),
    ],
)
def test_a_message_that_cannot_be_taken_apart_is_octets_with_a_header(octets: bytes, problem: str) -> None:
    structure = scan(octets)
    assert problem in structure.problem
    assert structure.root.content_type == "application/octet-stream"
    assert structure.root.parts == ()
    assert structure.root.body_offset == octets.index(b"\r\n\r\n") + 4
    assert structure.root.end_offset == len(octets)


def test_nesting_and_the_number_of_parts_are_limited() -> None:
    nested = b"Content-Type: message/rfc822\r\n\r\n"
    assert scan(nested * (MAX_DEPTH - 1)).problem == ""
    assert "nested too deeply" in scan(nested * (MAX_DEPTH + 1)).problem
    many = b"Content-Type: multipart/mixed; boundary=o\r\n\r\n" + b"--o\r\n\r\n" * 10_001
    assert "too many parts" in scan(many).problem


def test_a_header_that_never_ends_is_given_up() -> None:
    structure = scan(b"Subject: x\r\n" + b"A: b\r\n" * 20_000 + b"\r\n")
    assert "too long" in structure.problem


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("text/plain; broken", "text/plain"),
        ("text/plain; charset=\"open", "text/plain"),
        ("multipart/mixed; \"", "application/octet-stream"),
        ("text", "application/octet-stream"),
        ("", "application/octet-stream"),
    ],
)  # fmt: skip
def test_a_bad_content_type_is_salvaged(value: str, expected: str) -> None:
    structure = scan(b"Content-Type: " + value.encode() + b"\r\n\r\nbody")
    assert structure.problem == ""
    assert structure.root.content_type == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Text/HTML; Charset=UTF-8", {"charset": "UTF-8"}),
        ('text/html; a="x\\"y;z" ; b=c', {"a": 'x"y;z', "b": "c"}),
        ("text/html;; a=b;", {"a": "b"}),
        ("text/html (comment); a=b (comment)", {"a": "b"}),
        ("text/html; name=some file.txt", {"name": "some file.txt"}),
        ("text/html; name*=utf-8'en'%E2%82%AC; name=plain", {"name": "€"}),
        ("text/html; name*1*=%AC.txt; name*0*=utf-8''%E2%82", {"name": "€.txt"}),
        ("text/html; name*0=a; name*1=\"b c\"", {"name": "ab c"}),
        ("text/html; a=1; a=2", {"a": "1"}),
    ],
)  # fmt: skip
def test_parameters_are_read(value: str, expected: dict[str, str]) -> None:
    assert parse_media_type(value) == ("text", "html", expected)


def test_a_disposition_that_is_none_is_empty() -> None:
    assert parse_disposition("") == ("", {})
    assert parse_disposition('Attachment; filename="a.b"') == ("attachment", {"filename": "a.b"})
    assert parse_disposition("inline; =") == ("inline", {})


def test_a_file_name_is_decoded() -> None:
    def name(fields: str) -> str:
        return scan(_crlf(fields + "\n\n")).root.file_name

    assert name('Content-Disposition: attachment; filename="=?utf-8?q?=C3=A9?="') == "é"
    assert name("Content-Type: text/plain; name=x.txt") == "x.txt"
    assert name("Content-Type: text/plain") == ""


def test_inspection_tells_what_the_store_needs() -> None:
    inspection = inspect(_ALTERNATIVE)
    assert inspection.subject == "café"
    assert inspection.message_id == "<1@a.example>"
    assert inspection.is_terminated
    assert not inspection.has_8bit
    assert not inspection.needs_smtputf8
    assert inspection.body_offset == _ALTERNATIVE.index(b"preamble")
    assert inspection.size_octets == len(_ALTERNATIVE)


def test_8bit_in_a_body_does_not_need_smtputf8_but_in_any_header_it_does() -> None:
    body = inspect("Subject: x\r\n\r\né".encode())
    assert (body.has_8bit, body.needs_smtputf8) == (True, False)
    inner = inspect("Content-Type: message/rfc822\r\n\r\nSubject: é\r\n\r\n".encode())
    assert (inner.has_8bit, inner.needs_smtputf8) == (True, True)


def test_an_empty_message_is_inspected() -> None:
    inspection = inspect(b"")
    assert inspection.body_offset == 0
    assert not inspection.is_terminated
    assert inspection.structure.root.size_octets == 0


def test_chunks_give_the_same_as_the_whole() -> None:
    whole = inspect(_ALTERNATIVE)
    for size in (1, 2, 3, 7, 50):
        inspector = Inspector()
        for offset in range(0, len(_ALTERNATIVE), size):
            inspector.feed(_ALTERNATIVE[offset : offset + size])
        assert inspector.finish() == whole


# --- work ---


def _work(octets: bytes, chunk: int = 1 << 30) -> int:
    scanner = StructureScanner()
    for offset in range(0, len(octets), chunk):
        scanner.feed(octets[offset : offset + chunk])
    scanner.finish()
    return scanner.work_octets


def _nested(depth: int, filler: bytes) -> bytes:
    octets = b"".join(
        b"Content-Type: multipart/mixed; boundary=b%03d\r\n\r\n--b%03d\r\n" % (n, n) for n in range(depth)
    )
    return octets + b"\r\n" + filler


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda n: b"A: b\r\n" * n + b"\r\n", id="fields"),
        pytest.param(lambda n: b"A: b\r\n" + b" c\r\n" * n + b"\r\n", id="folded lines"),
        pytest.param(lambda n: b"A: " + b"x" * n * 10 + b"\r\n\r\n", id="a long line"),
        pytest.param(lambda n: b"\r\n" + b"line\r\n" * n, id="lines"),
        pytest.param(lambda n: _nested(1, b"\r\n--x\r\n" * n), id="lines like boundaries"),
        pytest.param(lambda n: _nested(1, b"\r\n--" * n), id="hyphens"),
        pytest.param(lambda n: _nested(1, b"--b000\r\n\r\n" * n), id="parts"),
        pytest.param(lambda n: _nested(1, b"--b000\r\nX: y\r\n" * n), id="parts without an empty line"),
        pytest.param(lambda n: _nested(n // 40, b"\r\n--b" + b"x" * 4000), id="depth with a body"),
        pytest.param(lambda n: _nested(60, b"\r\n--x\r\n" * n), id="a body at depth"),
        pytest.param(lambda n: b"Content-Type: x/y" + b"; a=b" * n + b"\r\n\r\n", id="parameters"),
    ],
)
def test_twice_as_much_of_anything_is_at_most_twice_the_work(make) -> None:  # type: ignore[no-untyped-def]
    once, twice = make(1500), make(3000)
    assert _work(once) <= 8 * len(once) + 1000
    assert _work(twice) <= 2.05 * _work(once) + 1000


def test_chunks_do_not_multiply_the_work() -> None:
    octets = _nested(20, b"\r\n--x\r\n" * 100_000)
    assert _work(octets, 65_536) <= 1.1 * _work(octets) + 100_000


# --- bodies ---


@pytest.mark.parametrize(
    ("octets", "encoding", "expected"),
    [
        (b"aGVs\r\nbG8=\r\n", "base64", b"hello"),
        (b"aGVsbG8", "base64", b"hello"),
        (b"aGVsb", "base64", b"hel"),
        (b"aGk=aGk=", "base64", b"hihi"),
        (b"!a*G-k=\xff", "base64", b"hi"),
        (b"====", "base64", b""),
        (b"a=3Db =\r\nc  \r\nd", "quoted-printable", b"a=b c\r\nd"),
        (b"=ZZ=", "quoted-printable", b"=ZZ"),
        (b"as is", "8bit", b"as is"),
        (b"as is", "x-unknown", b"as is"),
    ],
)
def test_bodies_are_decoded_as_far_as_they_go(octets: bytes, encoding: str, expected: bytes) -> None:
    assert decode_transfer(octets, encoding) == expected


def test_the_text_of_a_part_has_line_feeds_and_an_end() -> None:
    octets = b"Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: base64\r\n\r\n6Q0K6Q==\r\n"
    root = scan(octets).root
    assert decoded_text(octets, root) == "é\né"
    assert decoded_text(octets, root, max_octets=1) == "é"
    assert decoded_size(octets, root) == 4
    assert decoded_body(octets, root) == b"\xe9\r\n\xe9"


def _tree(content_type: str, *parts: Part) -> Part:
    major, _, minor = content_type.partition("/")
    return Part(0, 0, 0, 0, major, minor, parts=parts)


def test_readable_parts_follow_the_rules() -> None:
    plain, other, html = _tree("text/plain"), _tree("text/plain"), _tree("text/html")
    assert readable_parts(plain) == (plain, None)
    assert readable_parts(html) == (None, html)
    assert readable_parts(_tree("image/png")) == (None, None)
    assert readable_parts(_tree("multipart/alternative", plain, html)) == (plain, html)
    assert readable_parts(_tree("multipart/mixed", html, plain)) == (None, html)
    assert readable_parts(_tree("multipart/mixed", _tree("image/png"), plain)) == (plain, None)
    nested = _tree("multipart/alternative", plain, _tree("multipart/related", html))
    assert readable_parts(nested) == (plain, None)
    deep = _tree("multipart/mixed", _tree("multipart/mixed"), nested, _tree("multipart/alternative", html))
    assert readable_parts(deep) == (plain, None)
    last = readable_parts(_tree("multipart/alternative", plain, other)).text
    assert last is other
