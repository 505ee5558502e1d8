"""Look-ups of the mail path."""

from __future__ import annotations

import pytest

from mailcrane.config.directory import Directory, route_matches
from mailcrane.config.rows import Configuration, Route
from mailcrane.model.address import Mailbox
from mailcrane.model.receive import LocalDestination


@pytest.fixture
def directory(configuration: Configuration) -> Directory:
    return Directory(configuration, hostname="mail.example.org")


def placed(directory: Directory, address: str) -> tuple[str, str] | None:
    found = directory.lookup(Mailbox.parse(address))
    return None if found is None else (found.account, found.folder)


def test_local_parts_are_looked_up_without_case_and_without_what_a_separator_begins(directory: Directory) -> None:
    assert placed(directory, "ann@example.org") == ("ann", "Inbox")
    assert placed(directory, "ANN+shop@EXAMPLE.org") == ("ann", "Inbox")
    assert placed(directory, "ann-a+b@example.org") == ("ann", "Inbox")
    assert placed(directory, "shop@example.org") == ("ann", "Shop")


def test_case_counts_where_the_domain_says_so(directory: Directory) -> None:
    assert placed(directory, "Bob@case.example") == ("bob", "Inbox")
    assert placed(directory, "bob@case.example") is None


def test_a_separator_in_front_does_not_cut(directory: Directory) -> None:
    assert directory.canonical_address(Mailbox.parse("+x+y@example.org")) == Mailbox("+x+y", "example.org")


def test_a_catchall_takes_the_rest_of_its_domain(directory: Directory) -> None:
    assert placed(directory, "anybody@example.org") == ("bob", "Rest")
    assert placed(directory, "anybody@off.example") is None


def test_postmaster_is_there_at_the_hostname_and_at_every_domain(directory: Directory) -> None:
    assert placed(directory, "PostMaster@mail.example.org") == ("ann", "Inbox")
    assert placed(directory, "postmaster@off.example") == ("ann", "Inbox")
    assert placed(directory, "postmaster@example.org") == ("bob", "Rest")
    assert placed(directory, "postmaster@elsewhere.example") is None
    assert directory.postmaster == LocalDestination("ann")


def test_without_a_postmaster_account_there_is_none(configuration: Configuration) -> None:
    assert Directory(Configuration()).postmaster is None


def test_other_domains_are_not_local(directory: Directory) -> None:
    assert not directory.is_local_domain("elsewhere.example")
    assert placed(directory, "ann@elsewhere.example") is None
    assert directory.canonical_address(Mailbox.parse("Ann+x@elsewhere.example")) == Mailbox(
        "Ann+x", "elsewhere.example"
    )


def test_an_account_sends_as_its_addresses_and_their_variants(directory: Directory) -> None:
    assert directory.may_send_as("ann", Mailbox.parse("Ann+x@example.org"))
    assert directory.may_send_as("bob", Mailbox.parse("anybody@example.org"))
    assert not directory.may_send_as("bob", Mailbox.parse("ann@example.org"))
    assert not directory.may_send_as("ann", Mailbox.parse("postmaster@mail.example.org"))


def test_logins_are_addresses(directory: Directory) -> None:
    assert directory.login("ann+x@example.org") == "ann"
    assert directory.login("postmaster@mail.example.org") is None
    assert directory.login("ann") is None
    assert directory.login("") is None


def test_only_keys_that_sign_are_given(directory: Directory) -> None:
    assert [key.selector for key in directory.signing_keys("example.org")] == ["2026a"]
    assert directory.signing_keys("case.example") == ()


def test_routes_are_asked_account_then_domain_then_global(directory: Directory) -> None:
    assert [scoped.scope for scoped in directory.routes("ann", "example.org")] == [
        "account ann",
        "domain example.org",
        "global",
    ]
    assert [scoped.scope for scoped in directory.routes("gone", "elsewhere.example")] == ["global"]


def test_the_first_route_that_matches_wins(directory: Directory) -> None:
    def transport(account: str, reverse: str, forward: str, attempts: int) -> str | None:
        found = directory.select_route(account, reverse, forward, attempts)
        return None if found is None else found.route.transport

    assert transport("ann", "example.org", "x.example.net", 0) == "own"
    assert transport("bob", "example.org", "x.example.net", 0) == "smarthost"
    assert transport("bob", "example.org", "x.example.net", 3) == "slow"
    assert transport("bob", "", "elsewhere.example", 9) is None


@pytest.mark.parametrize(
    ("pattern", "domain", "matches"),
    [
        ("example.org", "example.org", True),
        ("example.org", "x.example.org", False),
        (".example.org", "example.org", True),
        (".example.org", "x.example.org", True),
        (".example.org", "badexample.org", False),
        (".", "example.org", False),
        (".", "", True),
        (".", "[192.0.2.1]", True),
        ("example.org", "", False),
    ],
)
def test_a_domain_of_a_route_matches_as_the_manual_says(pattern: str, domain: str, matches: bool) -> None:
    assert route_matches(Route("t", from_domains=(pattern,)), domain, "x.example", 0) is matches
    assert route_matches(Route("t", to_domains=(pattern,)), "x.example", domain, 0) is matches
