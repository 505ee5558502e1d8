"""``mailcrane webhook secret``: the secrets that an account's webhook calls are signed with."""

from __future__ import annotations

import sys

import click

from mailcrane.admin.operations import WEBHOOK_SECRET_LIST, WEBHOOK_SECRET_REMOVE, WEBHOOK_SECRET_ROTATE
from mailcrane.admin.webhook_secrets import ListSecrets, RemoveSecrets, RotateSecret
from mailcrane.cli.output import json_option, write_json, write_table
from mailcrane.cli.reach import run
from mailcrane.observe.secret import NO_SECRET, Secret


@click.command(short_help="Sign with a new secret, and with the old one for a while.")
@click.argument("account")
@click.option(
    "--keep-for", default="48h", show_default=True, metavar="DURATION", help="How long old ones sign as well."
)
@click.option("--stdin", "from_stdin", is_flag=True, help="Read the new secret from standard input; or one is made.")
@json_option
def rotate(account: str, keep_for: str, from_stdin: bool, as_json: bool) -> None:
    """Sign calls of ACCOUNT with a new secret, which is written this once, and with those before for a while.

    The receiver may go over at any moment in between: it takes calls with the old secret as with the new one.
    """
    secret = Secret(sys.stdin.readline().strip()) if from_stdin else NO_SECRET
    rotated = run(WEBHOOK_SECRET_ROTATE, RotateSecret(account, keep_for, secret))
    if as_json:
        write_json(rotated)
        return
    click.echo(rotated.secret.reveal())
    if rotated.kept_until is not None:
        until = rotated.kept_until.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        click.echo(f"earlier secrets sign as well until {until}", err=True)


@click.command("list", short_help="List the secrets that sign.")
@click.argument("account")
@json_option
def list_(account: str, as_json: bool) -> None:
    """List the secrets that calls of ACCOUNT are signed with, the newest first, by their fingerprints."""
    listed = run(WEBHOOK_SECRET_LIST, ListSecrets(account))
    if as_json:
        write_json(listed)
        return
    write_table(("FINGERPRINT", "SIGNS UNTIL"), [(one.fingerprint, one.until or "-") for one in listed.secrets])


@click.command(short_help="Sign no longer with a secret.")
@click.argument("account")
@click.argument("fingerprint", default="")
@json_option
def remove(account: str, fingerprint: str, as_json: bool) -> None:
    """Sign calls of ACCOUNT no longer with the secret FINGERPRINT, or with none but the newest."""
    removed = run(WEBHOOK_SECRET_REMOVE, RemoveSecrets(account, fingerprint))
    if as_json:
        write_json(removed)
        return
    click.echo(f"{len(removed.fingerprints)} removed" + "".join(f" {mark}" for mark in removed.fingerprints))
