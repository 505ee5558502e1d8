"""Generated messages: the scanner never raises, agrees with itself over chunks, and with the standard library."""

from __future__ import annotations

import email
import email.policy
from datetime import UTC, datetime
from email.message import Message

from hypothesis import example, given, settings
from hypothesis import strategies as st

from mailcrane.message.addresses import AddressListError, NamedMailbox, parse_address_list
from mailcrane.message.body import decode_transfer, decoded_body, readable_parts
from mailcrane.message.compose import compose
from mailcrane.message.date import parse_date
from mailcrane.message.draft import Draft, DraftFile
from mailcrane.message.encoded_word import decode
from mailcrane.message.header import HeaderError, canonical_message_id, parse_header
from mailcrane.message.inspection import Inspector, inspect
from mailcrane.message.structure import Part, Structure
from mailcrane.model.address import Mailbox

_PIECES = st.sampled_from(
    [
        b"\r\n", b"\n", b"\r", b" ", b"\t", b"--", b"--a", b"--a--", b"\r\n--a\r\n", b"\r\n--a--\r\n", b"--b\r\n",
        b"\r\n--b--", b"Content-Type: multipart/mixed; boundary=a\r\n", b'Content-Type: multipart/digest; boundary="b"',
        b"Content-Type: message/rfc822\r\n\r\n", b"Content-Type: text/plain; charset=\xe9\r\n", b"x", b":", b"\xff",
        b"Content-Transfer-Encoding: base64\r\n", b"Content-Disposition: attachment; filename*0*=x", b"S: =?utf-8?q?=C",
    ]
)  # fmt: skip
_HOSTILE = st.one_of(st.binary(max_size=200), st.lists(_PIECES, max_size=40).map(b"".join))


def _check(part: Part, begin: int, end: int) -> None:
    assert begin <= part.header_offset <= part.body_offset <= part.end_offset <= end
    at = part.body_offset
    for child in part.parts:
        _check(child, at, part.end_offset)
        at = child.end_offset
    if part.message is not None:
        assert part.message.header_offset == part.body_offset
        _check(part.message, part.body_offset, part.end_offset)


@settings(max_examples=300, deadline=None)
@given(_HOSTILE)
@example(b"Content-Type: multipart/mixed; boundary=a\r\n--a\r\n--a--\r\n")
def test_no_octets_upset_the_scanner(octets: bytes) -> None:
    inspection = inspect(octets)
    root = inspection.structure.root
    assert root.header_offset == 0
    assert root.end_offset == len(octets)
    _check(root, 0, len(octets))
    for part in root.walk():
        assert part.line_count == octets.count(b"\n", part.body_offset, part.end_offset)
        decoded_body(octets, part)
        assert isinstance(part.file_name, str)
    readable_parts(root)
    assert Structure.unpack(inspection.structure.pack()) == inspection.structure


@settings(max_examples=300, deadline=None)
@given(_HOSTILE, st.integers(1, 9))
def test_chunks_do_not_matter(octets: bytes, size: int) -> None:
    inspector = Inspector()
    for offset in range(0, len(octets), size):
        inspector.feed(octets[offset : offset + size])
    assert inspector.finish() == inspect(octets)


@settings(max_examples=200, deadline=None)
@given(_HOSTILE, st.text(max_size=80))
def test_readers_of_fields_raise_only_what_they_say(octets: bytes, text: str) -> None:
    try:
        parse_header(octets)
    except HeaderError:
        pass
    parse_header(octets, is_strict=False)
    decode(text)
    decode("=?utf-8?q?" + text + "?=")
    parse_date(text)
    canonical_message_id(text)
    for encoding in ("base64", "quoted-printable", "8bit"):
        decode_transfer(octets, encoding)
    for value in (text, f"<{text}@a.example>", f'"{text}" <b@a.example>'):
        try:
            parse_address_list(value)
        except AddressListError:
            pass


# --- well-formed messages ---

_WORDS = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)
_LEAVES = st.builds(
    lambda kind, lines: (kind, "\r\n".join(lines)),
    st.sampled_from(["text/plain", "text/html", "application/x-one", ""]),
    st.lists(st.sampled_from(["line", "-- ", "--", "--b", " --b0", "", "é", "--b00", "From x"]), max_size=6),
)
_TREES = st.recursive(_LEAVES, lambda inner: st.lists(inner, min_size=1, max_size=4), max_leaves=12)
_Tree = tuple[str, str] | list["_Tree"]


def _write(tree: _Tree, path: str) -> bytes:
    if isinstance(tree, tuple):
        kind, text = tree
        head = f"Content-Type: {kind}\r\n" if kind else "X: y\r\n"
        return (head + "\r\n" + text).encode()
    boundary = f"=_{path}".encode()
    octets = b'Content-Type: multipart/mixed; boundary="' + boundary + b'"\r\n\r\n'
    for index, child in enumerate(tree):
        octets += b"\r\n--" + boundary + b"\r\n" + _write(child, f"{path}.{index}")
    return octets + b"\r\n--" + boundary + b"--\r\n"


def _compare(octets: bytes, part: Part, theirs: Message) -> None:
    assert (part.content_type if part.media_type else "text/plain") == theirs.get_content_type()
    if theirs.is_multipart():
        payload = theirs.get_payload()
        assert isinstance(payload, list)
        assert len(payload) == len(part.parts)
        for ours, child in zip(part.parts, payload, strict=True):
            assert isinstance(child, Message)
            _compare(octets, ours, child)
    else:
        assert decoded_body(octets, part) == theirs.get_payload(decode=True)


@settings(max_examples=200, deadline=None)
@given(_TREES)
def test_the_standard_library_sees_the_same_parts(tree: _Tree) -> None:
    octets = b"Subject: x\r\n" + _write(tree, "b")
    inspection = inspect(octets)
    assert inspection.structure.problem == ""
    _compare(octets, inspection.structure.root, email.message_from_bytes(octets, policy=email.policy.compat32))


_TEXTS = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Z")), max_size=60)
_BODIES = st.text(st.characters(codec="utf-8"), max_size=120)
_FILES = st.builds(DraftFile, octets=st.binary(max_size=200), name=_TEXTS, content_type=st.just("image/x-y"))


@settings(max_examples=150, deadline=None)
@given(
    st.tuples(_TEXTS, _TEXTS), st.tuples(_BODIES, _BODIES), st.lists(_FILES, max_size=3), st.lists(_FILES, max_size=2)
)
def test_a_composed_message_comes_back(
    names: tuple[str, str], texts: tuple[str, str], attached: list[DraftFile], inline: list[DraftFile]
) -> None:
    subject, name = names
    text, html = texts
    author = NamedMailbox(name.strip(), Mailbox.parse("ann@a.example"))
    draft = Draft(
        author=author, to=(author,), subject=subject, text=text or "x", html=html,
        attached_files=tuple(attached), inline_files=tuple(inline),
    )  # fmt: skip
    composition = compose(draft, hostname="h.example", now=datetime(2026, 1, 1, tzinfo=UTC))
    octets = composition.octets
    inspection = inspect(octets)
    assert inspection.subject == subject.strip(" ")
    assert inspection.structure.problem == ""
    assert not inspection.needs_smtputf8
    assert parse_address_list(parse_header(octets).get("From") or "") == (author,)
    theirs = email.message_from_bytes(octets, policy=email.policy.compat32)
    _compare(octets, inspection.structure.root, theirs)
    files = [part for part in inspection.structure.root.walk() if part.disposition == "attachment"]
    assert [decoded_body(octets, part) for part in files] == [file.octets for file in attached]
    assert [part.file_name for part in files] == [file.name for file in attached]
    chosen = readable_parts(inspection.structure.root)
    assert chosen.text is not None
    body = decoded_body(octets, chosen.text).decode()
    wanted = (text or "x").replace("\r\n", "\n")
    assert body == (wanted if wanted.endswith("\n") else wanted + "\n").replace("\n", "\r\n")
