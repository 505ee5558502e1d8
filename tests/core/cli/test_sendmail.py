"""The sendmail command without a server: its command line, its file, and what it makes of a message."""

from __future__ import annotations

import base64
import io
import ssl
import stat
import sys
import tracemalloc
from pathlib import Path

import pytest
from click.testing import CliRunner

from mailcrane.cli import main as cli_main
from mailcrane.cli.commands import cli
from mailcrane.cli.sendmail import run
from mailcrane.cli.sendmail.arguments import Arguments, UsageError, parse_arguments
from mailcrane.cli.sendmail.client import SubmissionFailed, make_context
from mailcrane.cli.sendmail.config import SendmailConfig, load_config
from mailcrane.cli.sendmail.message import BadMessage, OutgoingMessage, make_message
from mailcrane.config.convert import ConfigError
from mailcrane.observe.secret import Secret

CONFIG = SendmailConfig("mail.example.org", "host@example.org", default_destination="admin@example.org")
MESSAGE = b"To: a@example.com\nCc: B <b@example.com>,\n root\nBcc: c@example.com\nSubject: hi\n\nbody\n"


def made(octets: bytes, *words: str, config: SendmailConfig = CONFIG) -> OutgoingMessage:
    return make_message(octets, parse_arguments(words), config)


def paths(message: OutgoingMessage) -> list[str]:
    return [str(path) for path in message.forward_paths]


# --- the command line ---


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("-FCronDaemon -i -B8BITMIME -oem root", Arguments(("root",), ends_at_dot=False)),
        ("-oem -oi -f me@a.example -- x@b.example y", Arguments(("x@b.example", "y"), False, "me@a.example", False)),
        ("-t -i", Arguments((), True, "", False)),
        ("-ti", Arguments((), True, "", False)),
        ("-it -fme@a.example", Arguments((), True, "me@a.example", False)),
        ("-r me@a.example x -v y", Arguments(("x", "y"), False, "me@a.example")),
        ("-F Name -N success,failure -R hdrs -V id -O Timeout=1 -odb -bm x", Arguments(("x",))),
        ("-o i x", Arguments(("x",), ends_at_dot=False)),
        ("-Ac -d0.1 -h 3 -L tag -p smtp -X log -C file -G -U -n -m -s x", Arguments(("x",))),
        ("-- -x", Arguments(("-x",))),
        ("", Arguments()),
    ],
)
def test_the_command_line_is_read_as_other_sendmails_read_it(line: str, expected: Arguments) -> None:
    assert parse_arguments(line.split()) == expected


@pytest.mark.parametrize("line", ["-bs", "-bp", "-bd", "-bi", "-q", "-q15m", "-f", "-F", "-z", "--version"])
def test_what_is_not_done_here_is_refused(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError):
        parse_arguments(line.split())
    assert run.main(line.split()) == 64
    assert "usage: sendmail" in capsys.readouterr().err


# --- the message ---


def test_the_author_is_replaced_and_bcc_goes() -> None:
    message = made(b"From: root (Cron)\nBcc: x@example.com\nTo: you\nSubject: a\n b\n\nbody", "you@example.com")
    assert message.content == (b"From: <host@example.org>\r\nTo: you\r\nSubject: a\r\n b\r\n\r\nbody\r\n")
    assert str(message.reverse_path) == "host@example.org"
    assert paths(message) == ["you@example.com"]


def test_to_is_put_in_where_nobody_is_named() -> None:
    assert (
        b"\r\nTo: <a@example.com>,\r\n\t<b@example.com>\r\n\r\n"
        in made(b"Subject: x\n\n", "a@example.com", "b@example.com").content
    )
    assert b"To:" not in made(b"Cc: a@example.com\n\n", "a@example.com").content
    assert b"To: undisclosed-recipients:;\r\n\r\n" in made(b"Bcc: a@example.com\n\n", "-t").content


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_line_ends_become_crlf(end: bytes) -> None:
    message = made(end.join([b"Subject: x", b"To: a@example.com", b"", b"one", b"", b"two"]), "-t")
    assert message.content.endswith(b"Subject: x\r\nTo: a@example.com\r\n\r\none\r\n\r\ntwo\r\n")
    assert b"\n" not in message.content.replace(b"\r\n", b"")


def test_text_without_a_header_is_the_body() -> None:
    assert made(b"just a line\n", "you@example.com").content == (
        b"From: <host@example.org>\r\nTo: <you@example.com>\r\n\r\njust a line\r\n"
    )
    assert made(b"Subject: x\nno field\n", "you@example.com").content.endswith(b"\r\n\r\nno field\r\n")
    assert made(b"From me Mon Jan 1\nSubject: x\n\ny\n", "you@example.com").content.startswith(b"From: <host@")
    assert made(b"", "you@example.com").content.endswith(b"\r\n\r\n")


def test_a_single_dot_ends_the_message_unless_told_otherwise() -> None:
    octets = b"Subject: x\n\none\n.\ntwo\n"
    assert made(octets, "you@example.com").content.endswith(b"one\r\n")
    assert made(octets, "-i", "you@example.com").content.endswith(b"one\r\n.\r\ntwo\r\n")
    assert made(b".\nSubject: x\n", "you@example.com").content.endswith(b"To: <you@example.com>\r\n\r\n")
    assert made(b"\n..\n.a\na.\n.", "you@example.com").content.endswith(b"\r\n\r\n..\r\n.a\r\na.\r\n")


def test_a_large_message_takes_a_few_times_its_size_of_memory() -> None:
    octets = b"Subject: x\n\n" + b"sixty-three octets and a line end, as texts have them, or so..\n" * 100_000
    tracemalloc.start()
    try:
        message = made(octets, "you@example.com")
        assert not message.needs_smtputf8
        assert tracemalloc.get_traced_memory()[1] < 5 * len(octets)
    finally:
        tracemalloc.stop()


def test_one_argument_may_list_several_recipients() -> None:
    assert paths(made(b"\n", "a@example.com,b@example.com", "Cy <c@example.com>, root")) == [
        "a@example.com",
        "b@example.com",
        "c@example.com",
        "admin@example.org",
    ]


def test_with_t_the_header_names_recipients_and_the_command_line_adds_to_them() -> None:
    assert paths(made(MESSAGE, "-t")) == ["a@example.com", "b@example.com", "admin@example.org", "c@example.com"]
    assert paths(made(b"To: a@example.com\n\n", "-t", "b@example.com", "A@EXAMPLE.com", "a@example.com")) == [
        "b@example.com",
        "A@example.com",
        "a@example.com",
    ]
    assert paths(made(b"To: root, daemon\nCc:\n\n", "-t")) == ["admin@example.org"]


def test_a_name_without_a_domain_goes_to_the_default_destination() -> None:
    assert paths(made(b"\n", "root", "you@example.com", "<daemon>")) == ["admin@example.org", "you@example.com"]
    with pytest.raises(BadMessage, match="default_destination"):
        made(b"\n", "root", config=SendmailConfig("h", "me@example.org"))


@pytest.mark.parametrize(
    ("octets", "words"),
    [
        (b"Subject: x\n\n", ["-t"]),
        (b"To: a <b\n\n", ["-t"]),
        (b"To: root, (b\n\n", ["-t"]),
        (b'To: root, "b\n\n', ["-t"]),
        (b"\n", []),
        (b"\n", ["a b@example.com"]),
        (b"\n", ["@"]),
    ],
)
def test_without_a_recipient_nothing_is_sent(octets: bytes, words: list[str]) -> None:
    with pytest.raises(BadMessage):
        made(octets, *words)


def test_the_author_may_be_kept() -> None:
    config = SendmailConfig("h", "me@example.org", keep_from=True)
    octets = b"From: Ann <ann@example.org>\nTo: a@example.com\n\n"
    kept = made(octets, "-t", config=config)
    assert kept.content.startswith(b"From: Ann <ann@example.org>\r\n")
    assert str(kept.reverse_path) == "ann@example.org"
    assert str(made(octets, "-t", "-f", "b@example.org", config=config).reverse_path) == "b@example.org"
    local = made(b"From: root\nTo: a@example.com\n\n", "-t", "-f", "root", config=config)
    assert local.content.startswith(b"From: <me@example.org>\r\nTo")
    assert str(local.reverse_path) == "me@example.org"
    assert str(made(octets, "-t", "-f", "b@example.org").reverse_path) == "host@example.org"


def test_tls_failures_may_be_waived() -> None:
    config = SendmailConfig("h", "me@example.org", require_tls="no")
    content = made(b"To: a@example.com\nTLS-Required: x\n\n", "-t", config=config).content
    assert content.count(b"TLS-Required: No\r\n") == content.count(b"TLS-Required") == 1


# --- the file ---


def write(monkeypatch: pytest.MonkeyPatch, folder: Path, text: str) -> None:
    path = folder / "sendmail.toml"
    path.write_text(text)
    monkeypatch.setenv("MAILCRANE_SENDMAIL_CONFIG", str(path))


def test_the_file_is_read_and_ports_follow_from_tls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write(monkeypatch, tmp_path, 'host = "h"\nfrom = "me@example.org"\nusername = "me"\npassword = "x"\n')
    config = load_config()
    assert (config.from_, config.port_number, config.password) == ("me@example.org", 465, Secret("x"))
    assert SendmailConfig("h", "f", tls="starttls").port_number == 587
    assert SendmailConfig("h", "f", port=2525).port_number == 2525


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "host"),
        ('host = "h"\nfrom = "nonsense"\n', "from"),
        ('host = "h"\nfrom = "a@b.example"\nhots = 1\n', "hots"),
        ('host = "h"\nfrom = "a@b.example"\nusername = "x"\n', "exactly one secret"),
        ('host = "h"\nfrom = "a@b.example"\npassword = "x"\n', "without a login"),
        (
            'host = "h"\nfrom = "a@b.example"\nusername = "x"\npassword = "x"\nclient_certificate_file = "y"\n',
            "exactly one secret",
        ),
        ('host = "h"\nfrom = "a@b.example"\ntls = "none"\nrequire_tls = "yes"\n', "require_tls"),
        (
            'host = "h"\nfrom = "a@b.example"\ntls = "none"\nusername = "x"\nclient_ed25519_key = "y"\n',
            "only be shown in TLS",
        ),
        ("nonsense", "is not TOML"),
    ],
)
def test_a_file_that_is_wrong_is_exit_code_78_and_the_message_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, problem: str
) -> None:
    write(monkeypatch, tmp_path, text)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(MESSAGE)))
    with pytest.raises(ConfigError):
        load_config()
    assert run.main(["-t"]) == 78
    assert problem in capsys.readouterr().err
    (kept,) = (tmp_path / "mailcrane-sendmail.failures").iterdir()
    assert kept.read_bytes() == MESSAGE
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_a_file_that_is_not_there_says_how_to_name_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MAILCRANE_SENDMAIL_CONFIG", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="MAILCRANE_SENDMAIL_CONFIG"):
        load_config()


def test_every_field_of_the_file_is_explained() -> None:
    output = CliRunner().invoke(cli, ["config", "describe", "--sendmail"]).output
    for name in ("host", "from", "tls_insecure_skip_verify", "client_ed25519_key", "default_destination", "keep_from"):
        assert f"# {name} = " in output


def test_a_key_is_shown_in_a_certificate_that_is_made_of_it(tmp_path: Path) -> None:
    seed = base64.urlsafe_b64encode(bytes(range(32))).rstrip(b"=").decode()
    config = SendmailConfig("h", "me@example.org", username="me", client_ed25519_key=Secret(seed))
    assert isinstance(make_context(config), ssl.SSLContext)
    for wrong in (
        SendmailConfig("h", "me@example.org", client_ed25519_key=Secret("AAAA")),
        SendmailConfig("h", "me@example.org", client_certificate_file=str(tmp_path / "none")),
    ):
        with pytest.raises(SubmissionFailed, match="cannot be used"):
            make_context(wrong)


@pytest.mark.parametrize("argv", [["/usr/sbin/sendmail", "-bs"], ["mailcrane", "sendmail", "-bs"]])
def test_it_is_reached_by_its_name_and_by_the_name_of_the_program(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], argv: list[str]
) -> None:
    monkeypatch.setattr(sys, "argv", argv)
    with pytest.raises(SystemExit) as exited:
        cli_main()
    assert exited.value.code == 64
    assert "SMTP on standard input" in capsys.readouterr().err


def test_its_help_is_that_of_the_other_commands() -> None:
    result = CliRunner().invoke(cli, ["sendmail", "--help"])
    assert result.exit_code == 0
    assert "sysexits.h" in result.output
    assert CliRunner().invoke(cli, ["sendmail", "-bs"]).exit_code == 64
