from __future__ import annotations

import email
import email.header
import email.policy
import email.utils
from collections.abc import Iterator
from datetime import UTC, datetime
from email.message import EmailMessage

import pytest

import mailcrane
from mailcrane.message.addresses import NamedMailbox, parse_address_list
from mailcrane.message.compose import Composition, bcc_field, compose
from mailcrane.message.draft import CompositionError, Draft, DraftFile
from mailcrane.message.encoding import encode_quoted_printable
from mailcrane.message.header import parse_header
from mailcrane.message.inspection import inspect
from mailcrane.message.sniff import sniff
from mailcrane.model.address import Mailbox
from mailcrane.model.message import HeaderField

_NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)
_ANN = NamedMailbox("Ann", Mailbox.parse("ann@a.example"))
_BOB = NamedMailbox("", Mailbox.parse("bob@b.example"))


def _compose(**fields: object) -> Composition:
    draft = Draft(**{"author": _ANN, "to": (_BOB,), "text": "hello", **fields})  # type: ignore[arg-type]
    return compose(draft, hostname="mx.example", now=_NOW)


def _parse(composition: Composition) -> EmailMessage:
    message = email.message_from_bytes(composition.octets, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


def _names(octets: bytes) -> list[str]:
    return [field.name for field in parse_header(octets)]


def test_the_header_is_in_the_promised_order() -> None:
    composition = _compose(
        cc=(_BOB,),
        reply_to=(_ANN,),
        subject="Hi",
        references=("<1@x>", "<2@x>"),
        headers=(HeaderField("X-One", "1"), HeaderField("X-Two", "2")),
    )
    assert _names(composition.octets) == [
        "From", "Reply-To", "To", "Cc", "Subject", "Date", "Message-Id", "References", "In-Reply-To", "MIME-Version",
        "X-One", "X-Two", "User-Agent", "Content-Type", "Content-Transfer-Encoding",
    ]  # fmt: skip
    header = parse_header(composition.octets)
    assert header.get("From") == "Ann <ann@a.example>"
    assert header.get("In-Reply-To") == "<2@x>"
    assert b"References: <1@x>\r\n\t<2@x>\r\n" in composition.octets
    assert header.get("Date") == "Fri, 20 Nov 2026 12:00:00 +0000"
    assert header.get("User-Agent") == f"mailcrane/{mailcrane.__version__}"


@pytest.mark.parametrize("name", ["X-Mailer", "user-agent"])
def test_a_caller_may_name_its_own_agent(name: str) -> None:
    names = [n.lower() for n in _names(_compose(headers=(HeaderField(name, "mine"),)).octets)]
    assert (names.count("user-agent"), names.count("x-mailer")) in {(1, 0), (0, 1)}


def test_a_message_id_is_made_where_none_is_given() -> None:
    one, two = _compose(), _compose()
    assert one.message_id != two.message_id
    assert one.message_id.startswith("<")
    assert one.message_id.endswith("@mx.example>")
    assert len(one.message_id) == 22 + len("<@mx.example>")
    assert _compose(message_id="<own@x>").message_id == "<own@x>"
    assert inspect(one.octets).message_id == one.message_id


@pytest.mark.parametrize(
    "subject",
    [
        "plain",
        "é",
        "é é  é",
        "two  spaces",
        " leading and trailing ",
        "=?utf-8?q?not_encoded?=",
        "long " * 40,
        "日本語" * 50,
        "a" * 300,
        "mixed ascii and ünïcode wörds " * 10,
    ],
)
def test_a_subject_comes_back_from_other_readers(subject: str) -> None:
    composition = _compose(subject=subject)
    lines = composition.octets.split(b"\r\n\r\n")[0].split(b"\r\n")
    assert max(len(line) for line in lines if b"a" * 100 not in line) <= 78
    assert composition.octets.partition(b"\r\n\r\n")[0].isascii()
    assert inspect(composition.octets).subject == subject.strip()
    assert _parse(composition)["Subject"].strip() == subject.strip()


@pytest.mark.parametrize(
    "name", ["Ann Example", "Doe, Ann", 'An "q" \\ b', "Zöe Ünïcode", "J. Q.", "日本語" * 20, "=?x?="]
)
def test_display_names_come_back(name: str) -> None:
    person = NamedMailbox(name, Mailbox.parse("ann@a.example"))
    header = parse_header(_compose(author=person, to=(person, _BOB)).octets)
    (author,) = parse_address_list(header.get("From") or "")
    assert author == person
    assert parse_address_list(header.get("To") or "") == (person, _BOB)
    # The second opinion; its newer interface puts spaces between encoded words.
    text, _ = email.utils.parseaddr(header.get("From") or "")
    assert str(email.header.make_header(email.header.decode_header(text))) == name


def test_many_recipients_are_folded() -> None:
    people = tuple(NamedMailbox("", Mailbox.parse(f"recipient{n}@b.example")) for n in range(50))
    composition = _compose(to=people)
    assert max(map(len, composition.octets.split(b"\r\n"))) <= 78
    assert len(_parse(composition)["To"].addresses) == 50


def test_smtputf8_is_used_only_for_a_local_part_that_needs_it() -> None:
    plain = _compose(to=(NamedMailbox("Zöe", Mailbox.parse("z@bücher.example")),), subject="é")
    assert not plain.needs_smtputf8
    assert b"z@xn--bcher-kva.example" in plain.octets
    needy = _compose(to=(NamedMailbox("Zöe", Mailbox.parse("zöe@bücher.example")),), subject="é")
    assert needy.needs_smtputf8
    header = parse_header(needy.octets)
    assert header.get("To") == '"Zöe" <zöe@bücher.example>'
    assert header.get("Subject") == "é"
    assert header.get("Content-Transfer-Encoding") == "8bit"
    assert inspect(needy.octets).needs_smtputf8


@pytest.mark.parametrize(
    ("text", "encoding", "charset"),
    [
        ("hello", "7bit", "us-ascii"),
        ("hé", "8bit", "utf-8"),
        ("x" * 76, "7bit", "us-ascii"),
        ("x" * 77, "quoted-printable", "us-ascii"),
        ("é" * 39, "quoted-printable", "utf-8"),
        ("a\r", "quoted-printable", "us-ascii"),
        ("a\rb", "quoted-printable", "us-ascii"),
        ("a\r\nb\n", "7bit", "us-ascii"),
    ],
)
def test_text_gets_the_simplest_encoding_that_keeps_it(text: str, encoding: str, charset: str) -> None:
    composition = _compose(text=text)
    message = _parse(composition)
    assert message["Content-Transfer-Encoding"] == encoding
    assert message.get_content_charset() == charset
    payload = message.get_payload(decode=True)
    assert isinstance(payload, bytes)
    assert payload.decode() == text.replace("\r\n", "\n").removesuffix("\n").replace("\n", "\r\n") + "\r\n"


def test_quoted_printable_lines_are_short_and_end_without_white_space() -> None:
    encoded = encode_quoted_printable("é=\t ".encode() * 50 + b"\r\n" + b"x" * 76 + b"\r\n" + b" " * 80)
    assert max(map(len, encoded.split(b"\r\n"))) <= 76
    assert not any(line.endswith((b" ", b"\t")) for line in encoded.split(b"\r\n"))


def test_parts_nest_only_as_deep_as_needed() -> None:
    file = DraftFile(b"%PDF-1", "a.pdf")

    def shape(**fields: object) -> list[str]:
        return [part.get_content_type() for part in _parse(_compose(**fields)).walk()]

    assert shape() == ["text/plain"]
    assert shape(text="", html="<p>") == ["text/html"]
    assert shape(html="<p>") == ["multipart/alternative", "text/plain", "text/html"]
    assert shape(alternative_files=(file,)) == ["multipart/alternative", "text/plain", "application/pdf"]
    assert shape(inline_files=(file,)) == ["multipart/related", "text/plain", "application/pdf"]
    assert shape(html="<p>", inline_files=(file,), attached_files=(file,)) == [
        "multipart/mixed", "multipart/related", "multipart/alternative", "text/plain", "text/html",
        "application/pdf", "application/pdf",
    ]  # fmt: skip


def test_files_come_back_with_name_type_and_octets() -> None:
    files = (
        DraftFile(bytes(range(256)) * 3, "plain.bin"),
        DraftFile(b"hello", "naïve file.txt", "text/x-own; charset=utf-8"),
        DraftFile(b"\x89PNG\r\n\x1a\n", 'quo"te.png', content_id="cid@x"),
        DraftFile(b"", ""),
    )
    composition = _compose(attached_files=files)
    assert max(map(len, composition.octets.split(b"\r\n"))) <= 78
    parts = list(_parse(composition).iter_attachments())
    assert [part.get_payload(decode=True) for part in parts] == [file.octets for file in files]
    assert [part.get_filename() for part in parts] == ["plain.bin", "naïve file.txt", 'quo"te.png', ""]
    assert [part.get_content_type() for part in parts] == [
        "application/octet-stream", "text/x-own", "image/png", "text/plain",
    ]  # fmt: skip
    assert parts[2]["Content-ID"] == "<cid@x>"
    ours = inspect(composition.octets).structure.root.parts[1:]
    assert [part.file_name for part in ours] == [file.name for file in files]


def test_a_large_file_is_composed_in_pieces() -> None:
    composition = _compose(attached_files=(DraftFile(b"x" * 1_000_000, "big"),))
    chunks = list(composition.chunks(100_000))
    assert {len(chunk) for chunk in chunks[:-1]} == {100_000}
    assert b"".join(chunks) == composition.octets


@pytest.mark.parametrize("size", [0, 1, 2, 3, 56, 57, 58, 171_000, 171_001, 400_000])
def test_the_size_is_known_before_the_body_is_written(size: int) -> None:
    class Source:
        size_octets = size

        def pieces(self, octets: int) -> Iterator[bytes]:
            return (bytes(min(octets, size - at)) for at in range(0, size, octets))

    held = _compose(attached_files=(DraftFile(bytes(size), "a"), DraftFile(b"b", "b")), html="x")
    composition = _compose(attached_files=(DraftFile(Source(), "a"), DraftFile(b"b", "b")), html="x")
    assert composition.size_octets == len(composition.octets) == held.size_octets
    (file, _) = _parse(composition).iter_attachments()
    assert file.get_payload(decode=True) == bytes(size)
    (same, _) = _parse(held).iter_attachments()
    assert file["Content-Type"] == same["Content-Type"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"headers": (HeaderField("X" * 1000, "a"),)}, f"header {'X' * 1000}"),
        ({"message_id": f"<{'a' * 1000}@a.example>"}, "header Message-Id"),
        ({"references": ("<1@a.example>", f"<{'a' * 1000}@a.example>")}, "header References"),
        ({"to": (NamedMailbox("a" * 1000, _BOB.mailbox),)}, "header To"),
        ({"attached_files": (DraftFile(b"x", "ä" * 200),)}, "header Content-Disposition"),
        ({"attached_files": (DraftFile(b"x", content_type=f"text/plain; x={'y' * 1000}"),)}, "header Content-Type"),
    ],
)
def test_a_header_field_that_does_not_fit_on_lines_is_refused(fields: dict[str, object], field: str) -> None:
    with pytest.raises(CompositionError, match="998") as caught:
        _compose(**fields)
    assert (caught.value.code, caught.value.field) == ("user", field)


def test_a_line_of_a_header_may_be_998_octets_long() -> None:
    composition = _compose(headers=(HeaderField("X-Long", "a" * 990),))
    assert max(map(len, composition.octets.split(b"\r\n"))) == 998


@pytest.mark.parametrize("text", ["a" * 5000, "short " + "é" * 5000 + " short"])
def test_a_word_that_is_too_long_for_a_line_is_encoded(text: str) -> None:
    to_unicode = NamedMailbox("", Mailbox.parse("jörg@b.example"))
    for to in (_BOB, to_unicode):
        composition = _compose(to=(to,), subject=text, headers=(HeaderField("X-Long", text),))
        assert max(map(len, composition.octets.split(b"\r\n"))) < 100
        message = _parse(composition)
        assert message["Subject"] == message["X-Long"] == text


@pytest.mark.parametrize("name", ["a\r\nb", "a" * 1000])
def test_a_bcc_name_is_checked_as_other_names_are(name: str) -> None:
    with pytest.raises(CompositionError) as caught:
        bcc_field([NamedMailbox(name, _BOB.mailbox)])
    assert caught.value.code == "user"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"subject": "a\nb"}, "subject"),
        ({"author": NamedMailbox("a\x00b", _ANN.mailbox)}, "display name in from"),
        ({"to": (NamedMailbox("a\tb", _ANN.mailbox),)}, "display name in to"),
        ({"headers": (HeaderField("X", "a\r\nb"),)}, "header X"),
        ({"headers": (HeaderField("X Y", "a"),)}, "header name"),
        ({"headers": (HeaderField("X\n", "a"),)}, "header name"),
        ({"message_id": "<a\x01b>"}, "message id"),
        ({"references": ("<a\nb>",)}, "reference"),
        ({"attached_files": (DraftFile(b"", "a\nb"),)}, "file name"),
        ({"attached_files": (DraftFile(b"", "a", "text/x\n"),)}, "content type"),
        ({"attached_files": (DraftFile(b"", "a", "nonsense"),)}, "content type"),
        ({"inline_files": (DraftFile(b"", "a", content_id="a\nb"),)}, "content id"),
        ({"inline_files": (DraftFile(b"", "a", content_id="\u00e9@x"),)}, "content id"),
        ({"subject": "\ud800"}, "subject"),
        ({"text": "\ud800"}, "text"),
    ],
)
def test_control_characters_are_refused_with_the_field_they_are_in(fields: dict[str, object], field: str) -> None:
    with pytest.raises(CompositionError) as caught:
        _compose(**fields)
    assert (caught.value.code, caught.value.field) == ("user", field)


def test_a_bad_message_id_and_a_missing_body_have_codes_of_their_own() -> None:
    with pytest.raises(CompositionError) as caught:
        _compose(message_id="a@b")
    assert caught.value.code == "malformedMessageID"
    with pytest.raises(CompositionError) as caught:
        _compose(text="")
    assert caught.value.code == "missingBody"


def test_a_long_header_value_is_folded_and_a_usual_one_is_verbatim() -> None:
    long = "word " * 300 + "end"
    composition = _compose(headers=(HeaderField("X-Long", long), HeaderField("X-Short", "a  b " * 30 + "c")))
    assert max(map(len, composition.octets.split(b"\r\n"))) <= 998
    header = parse_header(composition.octets)
    assert header.get("X-Long") == long
    assert b"X-Short: " + b"a  b " * 30 + b"c\r\n" in composition.octets


def test_the_bcc_field_is_made_for_the_own_copy_alone() -> None:
    assert bcc_field(()) == b""
    assert bcc_field((_ANN, _BOB)) == b"Bcc: Ann <ann@a.example>, bob@b.example\r\n"


@pytest.mark.parametrize(
    ("octets", "content_type"),
    [
        (b"", "text/plain; charset=utf-8"),
        (b"hello", "text/plain; charset=utf-8"),
        (b"\n\t <!doctype html>", "text/html; charset=utf-8"),
        (b"<HTML", "text/plain; charset=utf-8"),
        (b"<b>", "text/html; charset=utf-8"),
        (b"<bx>", "text/plain; charset=utf-8"),
        (b" <?xml version", "text/xml; charset=utf-8"),
        (b"%PDF-1.7", "application/pdf"),
        (b"\xff\xfea\0", "text/plain; charset=utf-16le"),
        (b"GIF89a", "image/gif"),
        (b"RIFF....WEBPVP8 ", "image/webp"),
        (b"RIFF....WAVEfmt ", "audio/wave"),
        (b"\0\0\0\x18ftypisom\0\0\0\0mp41\0\0\0\0", "video/mp4"),
        (b"\0\0\0\x18ftypisom\0\0\0\0xxxx\0\0\0\0", "application/octet-stream"),
        (b"PK\x03\x04", "application/zip"),
        (b"\0" * 34 + b"LP", "application/vnd.ms-fontobject"),
        (b"\x01\x02", "application/octet-stream"),
        (b"a" * 512 + b"\x01", "text/plain; charset=utf-8"),
    ],
)
def test_types_are_found_out_from_the_first_octets(octets: bytes, content_type: str) -> None:
    assert sniff(octets) == content_type


def test_a_long_text_is_composed_in_one_go() -> None:
    # Quadratic work, or dozens of looks at each octet, would take long here.
    lines = ("x" * 75 + "\n") * 5_000
    for text in (lines, "=?x" * 100_000, "é" * 100_000):
        composition = _compose(text=text, subject=text[:20_000].replace("\n", " "))
        assert composition.size_octets > len(text)
