"""``mailcrane queue holdrules``."""

from __future__ import annotations

import click

from mailcrane.admin.hold_rules import AddHoldRule, ApplyHoldRule, ListHoldRules, RemoveHoldRule
from mailcrane.admin.operations import HOLD_RULE_ADD, HOLD_RULE_APPLY, HOLD_RULE_LIST, HOLD_RULE_REMOVE
from mailcrane.admin.queue_filter import MAX_ID
from mailcrane.cli.output import json_option, write_json, write_table
from mailcrane.cli.queue_changes import in_pieces
from mailcrane.cli.reach import run


@click.command("list", short_help="List the hold rules.")
@json_option
def list_(*, as_json: bool) -> None:
    """List the hold rules. A field that is empty fits everything."""
    rules = run(HOLD_RULE_LIST, ListHoldRules()).rules
    if as_json:
        write_json(rules)
        return
    write_table(
        ("ID", "ADDED", "ACCOUNT", "SENDER DOMAIN", "RECIPIENT DOMAIN"),
        [(rule.id, rule.created_at, rule.account, rule.sender_domain, rule.recipient_domain) for rule in rules],
    )


@click.command(short_help="Hold what fits, now and later.")
@click.option("--account", default="", help="Of this account.")
@click.option("--sender-domain", default="", help="From this domain of the reverse-path.")
@click.option("--recipient-domain", default="", help="To this domain.")
@click.option("--all", "is_all", is_flag=True, help="Everything: has to be said without the others.")
@json_option
def add(*, account: str, sender_domain: str, recipient_domain: str, is_all: bool, as_json: bool) -> None:
    """Hold entries to which all that is given fits: those in the queue and those that are added later."""
    if not (account or sender_domain or recipient_domain or is_all):
        raise click.UsageError("that would hold everything: say --all when that is meant")
    if is_all and (account or sender_domain or recipient_domain):
        raise click.UsageError("--all cannot be given with a condition")
    added = run(HOLD_RULE_ADD, AddHoldRule(account, sender_domain, recipient_domain))
    # An equal rule may be there from a command that was interrupted here.
    held = in_pieces(HOLD_RULE_APPLY, ApplyHoldRule(id=added.rule.id), "held").changed
    if as_json:
        write_json({"rule": added.rule, "is_new": added.is_new, "held": held})
    elif added.is_new:
        click.echo(f"hold rule {added.rule.id} is added; {held} entries of the queue are held by it")
    else:
        click.echo(f"hold rule {added.rule.id} was there already; {held} more entries of the queue are held by it")


@click.command(short_help="Remove a hold rule.")
@click.argument("id", type=click.IntRange(1, MAX_ID))
def remove(id: int) -> None:
    """Remove the hold rule ID. What it holds stays held until `mailcrane queue unhold`."""
    run(HOLD_RULE_REMOVE, RemoveHoldRule(id))
    click.echo(f"hold rule {id} is removed; what it held is still held")
