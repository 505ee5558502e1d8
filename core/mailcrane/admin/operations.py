"""The list of operations: name, request, answer, function. The control socket and web pages read it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from msgspec import Struct

from mailcrane.admin import (
    accounts,
    configuration,
    domains,
    hold_rules,
    plugins,
    queue,
    queue_changes,
    queue_dump,
    queue_retired,
    queue_why,
    server,
    suppressions,
    webhook_replay,
    webhook_secrets,
    webhook_trial,
    webhooks,
)
from mailcrane.admin.administration import Administration
from mailcrane.admin.errors import AdminError
from mailcrane.config.convert import ConfigError, convert

Q = TypeVar("Q", bound=Struct)
A = TypeVar("A", bound=Struct)


class Operation(Struct, Generic[Q, A], frozen=True):
    """An operation.

    Attributes:
        name: On the control socket and in audit events.
        needs_server: Whether it makes sense only while the server runs.
    """

    name: str
    request: type[Q]
    answer: type[A]
    run: Callable[[Administration, Q], Awaitable[A]]
    needs_server: bool = False


ACCOUNT_ADD = Operation("account_add", accounts.AddAccount, accounts.Changed, accounts.add_account)
ACCOUNT_LIST = Operation("account_list", accounts.ListAccounts, accounts.AccountList, accounts.list_accounts)
PASSWORD_SET = Operation("password_set", accounts.SetPassword, accounts.Changed, accounts.set_password)
DOMAIN_ADD = Operation("domain_add", domains.AddDomain, domains.DomainAdded, domains.add_domain)
DOMAIN_LIST = Operation("domain_list", domains.ListDomains, domains.DomainList, domains.list_domains)
QUEUE_LIST = Operation("queue_list", queue.ListQueue, queue.QueueList, queue.list_queue)
QUEUE_COUNT = Operation("queue_count", queue.CountQueue, queue.QueueCount, queue.count_queue)
QUEUE_HOLD = Operation("queue_hold", queue_changes.SetHold, queue_changes.ChangedMany, queue_changes.set_hold)
QUEUE_SCHEDULE = Operation("queue_schedule", queue_changes.Schedule, queue_changes.ChangedMany, queue_changes.schedule)
QUEUE_TRANSPORT = Operation(
    "queue_transport", queue_changes.SetTransport, queue_changes.ChangedMany, queue_changes.set_transport
)
QUEUE_REQUIRE_TLS = Operation(
    "queue_require_tls", queue_changes.SetRequireTLS, queue_changes.ChangedMany, queue_changes.set_require_tls
)
QUEUE_END = Operation("queue_end", queue_changes.EndEntries, queue_changes.ChangedMany, queue_changes.end_entries)
HOLD_RULE_LIST = Operation(
    "hold_rule_list", hold_rules.ListHoldRules, hold_rules.HoldRuleList, hold_rules.list_hold_rules
)
HOLD_RULE_ADD = Operation("hold_rule_add", hold_rules.AddHoldRule, hold_rules.HoldRuleAdded, hold_rules.add_hold_rule)
HOLD_RULE_APPLY = Operation(
    "hold_rule_apply", hold_rules.ApplyHoldRule, queue_changes.ChangedMany, hold_rules.apply_hold_rule
)
HOLD_RULE_REMOVE = Operation(
    "hold_rule_remove", hold_rules.RemoveHoldRule, hold_rules.HoldRuleRemoved, hold_rules.remove_hold_rule
)
QUEUE_WHY = Operation("queue_why", queue_why.WhyDomain, queue_why.DomainReport, queue_why.why_domain)
QUEUE_DUMP_HEADER = Operation(
    "queue_dump_header", queue_dump.DumpHeader, queue_dump.DumpedHeader, queue_dump.dump_header
)
QUEUE_DUMP_PIECE = Operation("queue_dump_piece", queue_dump.DumpPiece, queue_dump.DumpedPiece, queue_dump.dump_piece)
QUEUE_RETIRED_LIST = Operation(
    "queue_retired_list", queue_retired.ListRetired, queue_retired.RetiredList, queue_retired.list_retired
)
QUEUE_SHOW = Operation("queue_show", queue.ShowEntry, queue.EntryDetails, queue.show_entry)
SUPPRESSION_LIST = Operation(
    "suppression_list",
    suppressions.ListSuppressions,
    suppressions.SuppressionList,
    suppressions.list_suppressions,
)
SUPPRESSION_LOOK_UP = Operation(
    "suppression_look_up",
    suppressions.LookUpSuppression,
    suppressions.SuppressionFound,
    suppressions.look_up_suppression,
)
SUPPRESSION_ADD = Operation(
    "suppression_add", suppressions.AddSuppression, suppressions.ListedSuppression, suppressions.add_suppression
)
SUPPRESSION_REMOVE = Operation(
    "suppression_remove",
    suppressions.RemoveSuppression,
    suppressions.ListedSuppression,
    suppressions.remove_suppression,
)
SUPPRESSION_IMPORT = Operation(
    "suppression_import",
    suppressions.ImportSuppressions,
    suppressions.SuppressionsImported,
    suppressions.import_suppressions,
)
WEBHOOK_CALL_LIST = Operation("webhook_call_list", webhooks.ListCalls, webhooks.CallList, webhooks.list_calls)
WEBHOOK_CALL_SHOW = Operation("webhook_call_show", webhooks.ShowCall, webhooks.CallDetails, webhooks.show_call)
WEBHOOK_CALL_CANCEL = Operation(
    "webhook_call_cancel", webhooks.CancelCalls, webhooks.CallsChanged, webhooks.cancel_calls
)
WEBHOOK_CALL_SCHEDULE = Operation(
    "webhook_call_schedule", webhooks.ScheduleCalls, webhooks.CallsChanged, webhooks.schedule_calls
)
WEBHOOK_CALL_RETIRED_LIST = Operation(
    "webhook_call_retired_list", webhooks.ListRetiredCalls, webhooks.RetiredCallList, webhooks.list_retired_calls
)
WEBHOOK_DEAD_FORGET = Operation(
    "webhook_dead_forget", webhooks.ForgetDeadCalls, webhooks.CallsChanged, webhooks.forget_dead_calls
)
WEBHOOK_DISABLED_LIST = Operation(
    "webhook_disabled_list",
    webhooks.ListDisabledWebhooks,
    webhooks.DisabledWebhookList,
    webhooks.list_disabled_webhooks,
)
WEBHOOK_ENABLE = Operation("webhook_enable", webhooks.EnableWebhook, webhooks.WebhooksEnabled, webhooks.enable_webhook)
WEBHOOK_REPLAY_CALLS = Operation(
    "webhook_replay_calls",
    webhook_replay.ReplayCalls,
    webhook_replay.Replayed,
    webhook_replay.replay_calls,
    needs_server=True,
)
WEBHOOK_REPLAY_EVENTS = Operation(
    "webhook_replay_events",
    webhook_replay.ReplayEvents,
    webhook_replay.Replayed,
    webhook_replay.replay_events,
    needs_server=True,
)
WEBHOOK_REPLAY_RANGE = Operation(
    "webhook_replay_range",
    webhook_replay.ReplayRange,
    webhook_replay.RangeReplayed,
    webhook_replay.replay_range,
    needs_server=True,
)
WEBHOOK_TRY = Operation("webhook_try", webhook_trial.TryWebhook, webhook_trial.Tried, webhook_trial.try_webhook)
WEBHOOK_SECRET_ROTATE = Operation(
    "webhook_secret_rotate", webhook_secrets.RotateSecret, webhook_secrets.SecretRotated, webhook_secrets.rotate_secret
)
WEBHOOK_SECRET_LIST = Operation(
    "webhook_secret_list", webhook_secrets.ListSecrets, webhook_secrets.SecretList, webhook_secrets.list_secrets
)
WEBHOOK_SECRET_REMOVE = Operation(
    "webhook_secret_remove",
    webhook_secrets.RemoveSecrets,
    webhook_secrets.SecretsRemoved,
    webhook_secrets.remove_secrets,
)
CONFIG_EXPORT = Operation(
    "config_export", configuration.ExportConfiguration, configuration.Exported, configuration.export_configuration
)
CONFIG_DIFF = Operation(
    "config_diff", configuration.DiffConfiguration, configuration.Difference, configuration.diff_configuration
)
CONFIG_APPLY = Operation(
    "config_apply", configuration.ApplyConfiguration, configuration.Difference, configuration.apply_configuration
)
PLUGIN_DEAD = Operation("plugin_dead", plugins.ListDeadEvents, plugins.DeadEvents, plugins.list_dead_events)
PLUGIN_REPLAY = Operation(
    "plugin_replay", plugins.ReplayEvents, plugins.EventsReplayed, plugins.replay_events, needs_server=True
)
HEALTH = Operation("health", server.GetHealth, server.ServerHealth, server.get_health, needs_server=True)
LOG_LEVELS = Operation("log_levels", server.GetLogLevels, server.LogLevels, server.get_log_levels, needs_server=True)
LOG_LEVEL_SET = Operation(
    "log_level_set", server.SetLogLevel, server.LogLevels, server.set_log_level, needs_server=True
)
STOP = Operation("stop", server.StopServer, server.Stopping, server.stop_server, needs_server=True)

OPERATIONS: dict[str, Operation[Any, Any]] = {
    operation.name: operation
    for operation in (
        ACCOUNT_ADD,
        ACCOUNT_LIST,
        PASSWORD_SET,
        DOMAIN_ADD,
        DOMAIN_LIST,
        QUEUE_LIST,
        QUEUE_COUNT,
        QUEUE_HOLD,
        QUEUE_SCHEDULE,
        QUEUE_TRANSPORT,
        QUEUE_REQUIRE_TLS,
        QUEUE_END,
        HOLD_RULE_LIST,
        HOLD_RULE_ADD,
        HOLD_RULE_APPLY,
        HOLD_RULE_REMOVE,
        QUEUE_SHOW,
        QUEUE_WHY,
        QUEUE_DUMP_HEADER,
        QUEUE_DUMP_PIECE,
        QUEUE_RETIRED_LIST,
        SUPPRESSION_LIST,
        SUPPRESSION_LOOK_UP,
        SUPPRESSION_ADD,
        SUPPRESSION_REMOVE,
        SUPPRESSION_IMPORT,
        WEBHOOK_CALL_LIST,
        WEBHOOK_CALL_SHOW,
        WEBHOOK_CALL_CANCEL,
        WEBHOOK_CALL_SCHEDULE,
        WEBHOOK_CALL_RETIRED_LIST,
        WEBHOOK_DEAD_FORGET,
        WEBHOOK_DISABLED_LIST,
        WEBHOOK_ENABLE,
        WEBHOOK_REPLAY_CALLS,
        WEBHOOK_REPLAY_EVENTS,
        WEBHOOK_REPLAY_RANGE,
        WEBHOOK_TRY,
        WEBHOOK_SECRET_ROTATE,
        WEBHOOK_SECRET_LIST,
        WEBHOOK_SECRET_REMOVE,
        CONFIG_EXPORT,
        CONFIG_DIFF,
        CONFIG_APPLY,
        PLUGIN_DEAD,
        PLUGIN_REPLAY,
        HEALTH,
        LOG_LEVELS,
        LOG_LEVEL_SET,
        STOP,
    )
}


async def run_named(administration: Administration, name: str, arguments: Any) -> Struct:
    """Run an operation by its name, with arguments as a table.

    Raises:
        AdminError: there is no such operation, an argument is wrong, or it was refused.
    """
    operation = OPERATIONS.get(name)
    if operation is None:
        raise AdminError("bad_request", f'there is no operation "{name}"')
    try:
        request = convert(arguments, operation.request, "")
    except ConfigError as error:
        raise AdminError("bad_request", str(error).removeprefix(": ")) from None
    try:
        answer: Struct = await operation.run(administration, request)
    except ConfigError as error:
        raise AdminError("bad_configuration", str(error)) from None
    return answer
