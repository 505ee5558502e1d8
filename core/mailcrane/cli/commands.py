"""The table of commands: names and one line each; the modules are imported when they are used."""

from __future__ import annotations

import click

import mailcrane
from mailcrane.cli.lazy import COMMANDS_GROUP, LazyGroup

ACCOUNT = {
    "add": ("mailcrane.cli.account:add", "Add an account with its first address."),
    "list": ("mailcrane.cli.account:list_", "List the accounts."),
}

DOMAIN = {
    "add": ("mailcrane.cli.domain:add", "Add a domain with new DKIM keys."),
    "list": ("mailcrane.cli.domain:list_", "List the domains."),
}

QUEUE = {
    "list": ("mailcrane.cli.queue:list_", "List entries of the queue."),
    "count": ("mailcrane.cli.queue:count", "Count entries of the queue."),
    "show": ("mailcrane.cli.queue:show", "Show one entry with its attempts and timeline."),
    "why": ("mailcrane.cli.queue_why:why", "Say why nothing moves to a domain."),
    "dump": ("mailcrane.cli.queue_why:dump", "Write the message of an entry as it travels."),
    "hold": ("mailcrane.cli.queue_changes:hold", "Hold entries: no attempts are made until they are released."),
    "unhold": ("mailcrane.cli.queue_changes:unhold", "Release entries that are held."),
    "schedule": ("mailcrane.cli.queue_changes:schedule", "Move the next attempt of entries."),
    "transport": ("mailcrane.cli.queue_changes:transport", "Set the transport that entries take."),
    "requiretls": ("mailcrane.cli.queue_changes:requiretls", "Set whether entries need a verified TLS connection."),
    "fail": ("mailcrane.cli.queue_changes:fail", "Fail entries: the sender is told that they are not delivered."),
    "drop": ("mailcrane.cli.queue_changes:drop", "Drop entries: only the application is told."),
    "retired": ("mailcrane.cli.commands:retired", "See what left the queue."),
    "suppress": ("mailcrane.cli.commands:suppress", "See and change to whom accounts send nothing."),
    "webhook": ("mailcrane.cli.commands:queue_webhook", "See and change webhook calls."),
    "holdrules": ("mailcrane.cli.commands:holdrules", "Hold what is added to the queue, by rules."),
}

QUEUE_WEBHOOK = {
    "list": ("mailcrane.cli.webhook:list_", "List webhook calls that are queued."),
    "show": ("mailcrane.cli.webhook:show", "Show a webhook call with its attempts and payload."),
    "cancel": ("mailcrane.cli.webhook:cancel", "Cancel queued webhook calls."),
    "schedule": ("mailcrane.cli.webhook:schedule", "Move the next attempt of webhook calls."),
    "retired": ("mailcrane.cli.commands:queue_webhook_retired", "See webhook calls that ended."),
    "dead": ("mailcrane.cli.webhook:dead", "List webhook calls that were given up."),
    "replay": ("mailcrane.cli.webhook_replay:replay", "Post events to webhooks once more."),
    "test": ("mailcrane.cli.webhook_replay:test", "Post a made-up payload to a URL."),
    "disabled": ("mailcrane.cli.webhook:disabled", "List webhooks that their receivers disabled."),
    "enable": ("mailcrane.cli.webhook:enable", "Post to a webhook again that its receiver disabled."),
}

QUEUE_WEBHOOK_RETIRED = {
    "list": ("mailcrane.cli.webhook:retired_list", "List webhook calls that ended."),
    "show": ("mailcrane.cli.webhook:show", "Show a webhook call with its attempts and payload."),
}

WEBHOOK = {
    "secret": ("mailcrane.cli.commands:webhook_secret", "Change the secrets that webhook calls are signed with."),
}

WEBHOOK_SECRET = {
    "rotate": ("mailcrane.cli.webhook_secret:rotate", "Sign with a new secret, and with the old one for a while."),
    "list": ("mailcrane.cli.webhook_secret:list_", "List the secrets that sign."),
    "remove": ("mailcrane.cli.webhook_secret:remove", "Sign no longer with a secret."),
}

HOLDRULES = {
    "list": ("mailcrane.cli.holdrules:list_", "List the hold rules."),
    "add": ("mailcrane.cli.holdrules:add", "Hold what fits, now and later."),
    "remove": ("mailcrane.cli.holdrules:remove", "Remove a hold rule."),
}

SUPPRESS = {
    "list": ("mailcrane.cli.suppress:list_", "List suppressed addresses."),
    "lookup": ("mailcrane.cli.suppress:lookup", "Say whether and why an address is suppressed."),
    "add": ("mailcrane.cli.suppress:add", "Put an address on a suppression list."),
    "remove": ("mailcrane.cli.suppress:remove", "Take an address off a suppression list."),
    "export": ("mailcrane.cli.suppress:export", "Write a whole suppression list."),
    "import": ("mailcrane.cli.suppress:import_", "Read a whole suppression list."),
}

RETIRED = {
    "list": ("mailcrane.cli.queue_retired:list_", "List entries that left the queue."),
    "show": ("mailcrane.cli.queue:show", "Show one entry with its attempts and timeline."),
}

PLUGINS = {
    "list": ("mailcrane.cli.plugins:list_", "List enabled and installed plugins."),
    "order": ("mailcrane.cli.plugins:order", "Show who is asked in each hook, in order."),
    "show": ("mailcrane.cli.plugins:show", "Show what a plugin implements and its configuration."),
    "check": ("mailcrane.cli.plugins:check", "Find what would keep plugins from starting."),
    "dead": ("mailcrane.cli.plugins:dead", "List events that a plugin kept failing at."),
    "replay": ("mailcrane.cli.plugins:replay", "Tell a plugin once more of such events."),
}

CONFIG = {
    "test": ("mailcrane.cli.config:test", "Check mailcrane.toml, the plugins and transports in it."),
    "describe": ("mailcrane.cli.config:describe", "Explain every field of the configuration."),
    "export": ("mailcrane.cli.config:export", "Write domains, accounts and keys as TOML."),
    "diff": ("mailcrane.cli.config:diff", "Show what applying a file would change."),
    "apply": ("mailcrane.cli.config:apply", "Replace domains, accounts and keys by those of a file."),
}

TOP = {
    "serve": ("mailcrane.cli.serve:serve", "Run the server."),
    "localserve": ("mailcrane.cli.serve:localserve", "Run a development server in a directory of its own."),
    "stop": ("mailcrane.cli.serve:stop", "Stop the running server."),
    "health": ("mailcrane.cli.serve:health", "Show how the running server is."),
    "loglevels": ("mailcrane.cli.serve:loglevels", "Show or set log levels of the running server."),
    "queue": ("mailcrane.cli.commands:queue", "See and change what waits to be delivered."),
    "account": ("mailcrane.cli.commands:account", "Add and list accounts."),
    "password": ("mailcrane.cli.account:password", "Set the password of an account."),
    "domain": ("mailcrane.cli.commands:domain", "Add and list domains."),
    "webhook": ("mailcrane.cli.commands:webhook", "Set up webhooks."),
    "plugins": ("mailcrane.cli.commands:plugins", "See and check plugins."),
    "sendmail": ("mailcrane.cli.sendmail.command:sendmail", "Submit a message from standard input."),
    # Of a shipped plugin: only its name is known here.
    "example": ("mailcrane.cli.example:example", "Show pieces of configuration, a plugin, payloads of webhooks."),
    "config": ("mailcrane.cli.commands:config", "Check, explain and change the configuration."),
}

_HELP = {"help_option_names": ["-h", "--help"]}


@click.group(cls=LazyGroup, lazy=TOP, plugin_group=COMMANDS_GROUP, context_settings=_HELP)
@click.option(
    "--config",
    "config_path",
    envvar="MAILCRANE_CONFIG",
    default="mailcrane.toml",
    show_default=True,
    show_envvar=True,
    metavar="PATH",
    help="The static configuration; names the data directory of the server that is meant.",
)
@click.version_option(mailcrane.__version__, message="mailcrane %(version)s")
@click.pass_context
def cli(context: click.Context, config_path: str) -> None:
    """A complete mail server whose every stage is a hook."""
    context.obj = config_path


holdrules = LazyGroup("holdrules", lazy=HOLDRULES, short_help=QUEUE["holdrules"][1], help=QUEUE["holdrules"][1])
suppress = LazyGroup("suppress", lazy=SUPPRESS, short_help=QUEUE["suppress"][1], help=QUEUE["suppress"][1])
retired = LazyGroup("retired", lazy=RETIRED, short_help=QUEUE["retired"][1], help=QUEUE["retired"][1])
queue = LazyGroup("queue", lazy=QUEUE, short_help=TOP["queue"][1], help=TOP["queue"][1])
queue_webhook = LazyGroup(
    "webhook",
    lazy=QUEUE_WEBHOOK,
    short_help=QUEUE["webhook"][1],
    help="See and change webhook calls: those that are queued, those that ended, those that were given up.",
)
queue_webhook_retired = LazyGroup(
    "retired", lazy=QUEUE_WEBHOOK_RETIRED, short_help=QUEUE_WEBHOOK["retired"][1], help="See webhook calls that ended."
)
webhook = LazyGroup("webhook", lazy=WEBHOOK, short_help=TOP["webhook"][1], help="Set up webhooks.")
webhook_secret = LazyGroup(
    "secret",
    lazy=WEBHOOK_SECRET,
    short_help=WEBHOOK["secret"][1],
    help="Change the secrets that webhook calls are signed with (Standard Webhooks).",
)
account = LazyGroup("account", lazy=ACCOUNT, short_help=TOP["account"][1], help="Add and list accounts.")
domain = LazyGroup("domain", lazy=DOMAIN, short_help=TOP["domain"][1], help="Add and list domains.")
plugins = LazyGroup("plugins", lazy=PLUGINS, short_help=TOP["plugins"][1], help="See and check plugins.")
config = LazyGroup(
    "config",
    lazy=CONFIG,
    short_help=TOP["config"][1],
    help="""Check, explain and change the configuration.

    mailcrane.toml is read once at start; domains, accounts, addresses, keys and routes change while the server runs.
    """,
)
