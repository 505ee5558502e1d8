"""``mailcrane account`` and ``mailcrane password``."""

from __future__ import annotations

import sys

import click

from mailcrane.admin.accounts import AddAccount, ListAccounts, SetPassword
from mailcrane.admin.operations import ACCOUNT_ADD, ACCOUNT_LIST, PASSWORD_SET
from mailcrane.cli.output import json_option, write_json, write_table
from mailcrane.cli.reach import run
from mailcrane.observe.secret import NO_SECRET, Secret

_stdin_option = click.option("--stdin", "from_stdin", is_flag=True, help="Read the password from standard input.")


@click.command(short_help="Add an account with its first address.")
@click.argument("name")
@click.argument("address")
@click.option("--full-name", default="", help="Name of the person.")
@click.option("--no-password", is_flag=True, help="Set none now; nobody can log in until one is set.")
@_stdin_option
def add(name: str, address: str, full_name: str, no_password: bool, from_stdin: bool) -> None:
    """Add an account NAME with its first ADDRESS, at a domain that exists, and ask for its password."""
    secret = NO_SECRET if no_password else _read_password(from_stdin)
    changed = run(ACCOUNT_ADD, AddAccount(name, address, secret, full_name))
    click.echo(f"account {name} added with {address} (configuration version {changed.version})")


@click.command("list", short_help="List the accounts.")
@json_option
def list_(as_json: bool) -> None:
    """List the accounts with their addresses."""
    listed = run(ACCOUNT_LIST, ListAccounts())
    if as_json:
        write_json(listed.accounts)
        return
    write_table(
        ("ACCOUNT", "DOMAIN", "LOGIN", "ADDRESSES"),
        [
            (
                account.name,
                account.domain,
                "disabled" if account.is_login_disabled else "yes" if account.has_password else "no password",
                account.addresses,
            )
            for account in listed.accounts
        ],
    )


@click.command(short_help="Set the password of an account.")
@click.argument("account")
@_stdin_option
def password(account: str, from_stdin: bool) -> None:
    """Set the password of ACCOUNT, named by itself or one of its addresses. It is asked for."""
    run(PASSWORD_SET, SetPassword(account, _read_password(from_stdin)))
    click.echo(f"password of {account} set")


def _read_password(from_stdin: bool) -> Secret:
    if from_stdin:
        return Secret(sys.stdin.readline().rstrip("\r\n"))
    return Secret(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
