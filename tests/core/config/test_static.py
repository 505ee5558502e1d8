"""mailcrane.toml: defaults, errors with their key path."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailcrane.config.convert import ConfigError
from mailcrane.config.static import load, parse, split_address

HEAD = 'hostname = "mail.example.org"\ndata_dir = "data"\n'


def error_of(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse(HEAD + text)
    return caught.value


def test_two_lines_are_a_whole_file() -> None:
    config = parse(HEAD, base_dir="/srv")
    assert config.hostname == "mail.example.org"
    assert config.data_dir == "/srv/data"
    assert config.store_path == "/srv/data/mailcrane.db"
    assert config.control_path == "/srv/data/control"
    assert config.queue.max_attempts == 8


def test_relative_paths_are_taken_from_the_directory_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mailcrane.toml"
    path.write_text(HEAD + '[tls.main]\ncert_file = "a.pem"\nkey_file = "/etc/a.key"\n[store]\npath = "x.db"\n')
    config = load(path)
    assert config.tls["main"].cert_file == str(tmp_path / "a.pem")
    assert config.tls["main"].key_file == "/etc/a.key"
    assert config.store_path == str(tmp_path / "x.db")


def test_a_hostname_is_kept_as_a_labels() -> None:
    assert parse('hostname = "Bücher.example"\ndata_dir = "d"').hostname == "xn--bcher-kva.example"


def test_an_unknown_key_suggests_the_near_one() -> None:
    error = error_of('[listeners."to all"]\nprotocol = "smtp"\naddreses = []\n')
    assert error.key_path == 'listeners."to all".addreses'
    assert "Did you mean addresses?" in str(error)


def test_an_unknown_section_is_refused() -> None:
    assert error_of("[quue]\n").hint == "Did you mean queue?"


def test_a_missing_key_says_what_to_add() -> None:
    with pytest.raises(ConfigError) as caught:
        parse('data_dir = "d"')
    assert caught.value.key_path == "hostname"
    assert "Add hostname" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "key_path", "words"),
    [
        ('[queue]\nconcurrency = "ten"', "queue.concurrency", '"ten" does not fit; expected a whole number'),
        ("[queue]\nconcurrency = 0", "queue.concurrency", "0 does not fit; expected a whole number >= 1"),
        ('[log]\nlevel = "loud"', "log.level", 'Write one of "error", "warning"'),
        ('[log.levels]\n"mailcrane.smtp" = "x"', 'log.levels."mailcrane.smtp"', '"x" is not a known value'),
        ("log = 3", "log", "expected a table"),
        ('[webhooks]\nallow_networks = ["10.0.0.0/8", "x"]', "webhooks.allow_networks[1]", "is not a network"),
        ('[dns]\nservers = ["127.0.0.1", "ns.example"]', "dns.servers[1]", "is not an IP address"),
        ('[dns]\ntrusted = ["10.0.0.0/8"]', "dns.trusted[0]", "is not an IP address"),
        ('[plugins]\nenabled = ["a", "a"]', "plugins.enabled[1]", "twice"),
        ("[transports.a]\nhost = 1", "transports.a", "has no type"),
        ('[queue]\ndefault_transport = "out"', "queue.default_transport", 'no transport "out"'),
        ('[listeners.a]\nprotocol = "smtp"\naddresses = []', "listeners.a.addresses", "is empty"),
        ('[listeners.a]\nprotocol = "smtp"\naddresses = ["x:1"]', "listeners.a.addresses[0]", "not an address"),
        ('[listeners.a]\nprotocol = "smtp"\naddresses = ["1.2.3.4"]', "listeners.a.addresses[0]", "not an address"),
        ('[listeners.a]\nprotocol = "smtp"\naddresses = ["1.2.3.4:1"]\ntls = "t"', "listeners.a.tls", "no certificate"),
        ('[listeners.a]\nprotocol = "https"\naddresses = ["1.2.3.4:1"]', "listeners.a.tls", "is missing"),
        (
            '[listeners.a]\nprotocol = "submission"\naddresses = ["1.2.3.4:1"]',
            "listeners.a.require_tls_for_auth",
            "nobody could log in",
        ),
        (
            '[listeners.a]\nprotocol = "smtp"\naddresses = ["1.2.3.4:1"]\nservices = { x = "/" }',
            "listeners.a.services",
            "is not for smtp",
        ),
        (
            '[listeners.a]\nprotocol = "http"\naddresses = ["1.2.3.4:1"]\nspecial_recipients = true',
            "listeners.a.special_recipients",
            "is not for http. Remove it, or move it to a listener for smtp, submission, submissions",
        ),
        (
            '[listeners.a]\nprotocol = "smtp"\naddresses = ["1.2.3.4:1"]\nrequire_tls_for_auth = false',
            "listeners.a.require_tls_for_auth",
            "is not for smtp",
        ),
        (
            '[listeners.a]\nprotocol = "http"\naddresses = ["1.2.3.4:1"]\nservices = { webapi = "x/" }',
            "listeners.a.services.webapi",
            "does not begin with a slash",
        ),
        (
            '[listeners.a]\nprotocol = "http"\naddresses = ["1.2.3.4:1"]\nservices = { webapi = "/a/", hooks = "/a" }',
            "listeners.a.services.hooks",
            '"/a" is the path of webapi',
        ),
        (
            '[listeners.a]\nprotocol = "http"\naddresses = ["1.2.3.4:1"]\nservices = { webapi = "/a/../b" }',
            "listeners.a.services.webapi",
            "has an empty or dot segment",
        ),
        (
            '[listeners.a]\nprotocol = "smtp"\naddresses = ["1.2.3.4:1"]\nmax_connections_per_minute = [-1, 2, 3]',
            "listeners.a.max_connections_per_minute[0]",
            "expected a whole number >= 0",
        ),
        (
            '[listeners.a]\nprotocol = "smtp"\naddresses = ["1.2.3.4:1"]\nrelay_networks = ["10.0.0.0/8"]',
            "listeners.a.relay_account",
            "is missing",
        ),
        (
            '[listeners.a]\nprotocol = "smtp"\naddresses = ["1.2.3.4:1"]\nrequire_starttls = true',
            "listeners.a.require_starttls",
            "without a certificate",
        ),
    ],
)
def test_an_error_names_the_key_and_the_value(text: str, key_path: str, words: str) -> None:
    error = error_of(text)
    assert error.key_path == key_path
    assert words in str(error)
    assert str(error).startswith(f"mailcrane.toml: {key_path}: ")


@pytest.mark.parametrize("paths", ['a = "/", b = "/b/c"', 'a = "/a", b = "/a/b/"'])
def test_services_may_be_mounted_below_each_other(paths: str) -> None:
    parse(f'{HEAD}[listeners.a]\nprotocol = "http"\naddresses = ["127.0.0.1:0"]\nservices = {{ {paths} }}')


def test_a_port_is_used_once() -> None:
    error = error_of(
        '[listeners.a]\nprotocol = "smtp"\naddresses = ["1.2.3.4:25"]\n'
        '[listeners.b]\nprotocol = "smtp"\naddresses = ["1.2.3.4:25"]\n'
    )
    assert error.key_path == "listeners.b.addresses[0]"
    assert "taken by listeners.a" in str(error)


def test_port_0_may_be_used_often() -> None:
    parse(HEAD + '[listeners.a]\nprotocol = "smtp"\naddresses = ["127.0.0.1:0", "127.0.0.1:0"]')


def test_what_is_not_toml_names_the_line() -> None:
    assert "line 3" in str(error_of("x = = 1"))


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load(tmp_path / "none.toml")


def test_a_file_that_is_not_utf_8_says_so(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="is not UTF-8"):
        load(tmp_path / "x.toml")


def test_listener_addresses_are_split() -> None:
    assert split_address("127.0.0.1:25") == ("127.0.0.1", 25)
    assert split_address("[::1]:465") == ("::1", 465)
    for text in ("::1:25", "localhost:25", "127.0.0.1:70000", "127.0.0.1:", "[::1]"):
        with pytest.raises(ValueError, match=r".+"):
            split_address(text)
