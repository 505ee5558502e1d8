"""What each kind of event tells: when it is recorded, and the keys of its data.

The page ``docs/reference/events.md`` is made from here, and a test holds real events against it.
"""

from __future__ import annotations

from msgspec import Struct

from mailcrane.model.event import EVENT_FORMAT, OUTGOING_EVENT_KINDS, EventKind


class KindDescription(Struct, frozen=True):
    """One kind of event.

    Attributes:
        told_when: In words.
        keys: The keys of `mailcrane.model.event.Event.data`, each with what it holds.
        optional: Those of the keys that are not always there.
        is_recorded: False for a kind whose name is kept for what this version does not do.
    """

    told_when: str
    keys: dict[str, str]
    optional: frozenset[str] = frozenset()
    is_recorded: bool = True


_OUTGOING = {
    "queue_msg_id": "Id of the entry.",
    "from_id": "Unique id in the reverse-path; empty without one.",
    "message_id": "With its angle brackets; empty where the message has none.",
    "subject": "Decoded.",
    "smtp_code": "Of the next hop's reply; 0 for `delivered` and where there was no reply.",
    "smtp_enhanced_code": "Such as `5.1.1`; empty where `smtp_code` is 0.",
    "error": "In words; empty for `delivered`.",
    "extra": "A table of what the application attached to the message.",
    "dsn": "Whether it is known from a delivery status notification that came in.",
    "suppressing": "Whether the recipient was put on the suppression list because of it.",
}


def _outgoing(told_when: str, *, is_recorded: bool = True) -> KindDescription:
    return KindDescription(told_when, _OUTGOING, is_recorded=is_recorded)


EVENT_KINDS: dict[EventKind, KindDescription] = {
    EventKind.MESSAGE_STORED: KindDescription(
        "A message was placed in a folder of the account.",
        {
            "message_id": "With its angle brackets; empty where the message has none.",
            "folder": "Name of the folder.",
            "uid": "Of the message in the folder.",
            "size_octets": "Of the message with the fields that were put in front.",
            "reverse_path": "Empty for the null reverse-path.",
        },
    ),
    EventKind.MESSAGE_QUEUED: KindDescription(
        "An entry was put into the queue; a message has one for each forward-path.",
        {
            "message_id": "With its angle brackets.",
            "reverse_path": "With the unique id, where it has one.",
            "forward_path": "The recipient.",
            "size_octets": "Of the message.",
            "protocol": "Over which it came in: `smtp`, `submission`, `submissions` or `http`.",
            "session": "Id of the session, as in the log.",
            "login": "The address that the client logged in with; empty where nobody did.",
            "remote_ip": "Of the client.",
            "held_by": "What holds it, in words; only where it is held.",
            "hold_rule": "Id of the hold rule; only where a rule holds it.",
            "due_at": "When the first attempt may begin (RFC 3339); only where that is later.",
        },
        frozenset({"held_by", "hold_rule", "due_at"}),
    ),
    EventKind.ENTRY_CHANGED: KindDescription(
        "An operator, or a hold rule that was added, changed an entry in the queue.",
        {
            "by": "Who did it.",
            "change": "`held`, `released`, `rescheduled`, `transport_set` or `require_tls_set`.",
            "before": "Whether it was held; the due time (RFC 3339); the name of the transport, empty for none; "
            "whether TLS was required, null for the usual policy.",
            "after": "The same as it is now.",
            "held_by": "The hold rule in words; only where a rule holds it.",
            "hold_rule": "Id of the hold rule; only where a rule holds it.",
        },
        frozenset({"held_by", "hold_rule"}),
    ),
    EventKind.ATTEMPT_FINISHED: KindDescription(
        "An attempt to deliver an entry came to an end, after hooks had their say on its result.",
        {
            "attempt": "Its number, from 1.",
            "transport": "Name of the transport; empty where there was no route.",
            "route": "Which rule or plugin chose the transport; empty where there was no route.",
            "outcome": "`delivered`, `deferred` or `failed`.",
            "code": "Of the next hop's reply; 0 where there was none.",
            "enhanced_code": "Such as `4.7.1`; empty where there was none.",
            "error": "In words; empty where there was none.",
            "remote_mta": "The next hop; empty where none was reached.",
            "tls": "What TLS was spoken with it, in words; empty where that is not known.",
            "is_maybe_delivered": "Whether the connection was lost after the final dot.",
            "notes": "A list of what else the transport told.",
            "duration_seconds": "Null when it is not known.",
            "forward_path": "The recipient.",
            "due_at": "When the next attempt may begin (RFC 3339); only where there is to be one.",
        },
        frozenset({"due_at"}),
    ),
    EventKind.ENTRY_RETIRED: KindDescription(
        "An entry left the queue.",
        {
            "event": "The kind of the event that the application is told of.",
            "is_success": "Whether it was delivered.",
            "attempts": "How many there were.",
            "is_kept": "Whether `mailcrane queue show` still has it.",
            "forward_path": "The recipient.",
        },
    ),
    EventKind.WEBHOOK_RETIRED: KindDescription(
        "A webhook call came to an end.",
        {
            "call_id": "As in the header field `X-Mox-Webhook-ID`.",
            "event_id": "Of the event that the call told of, as in `webhook-id`.",
            "url": "Where it was posted to.",
            "event": "The kind of that event.",
            "is_success": "Whether the receiver took it.",
            "code": "HTTP status of the last attempt; 0 without a response.",
            "attempts": "How many there were.",
            "superseded_by": "Id of the event whose call took its place; empty otherwise.",
            "is_disabling": "Whether the receiver said that it is gone for good.",
            "canceled_by": "Who canceled it; empty otherwise.",
        },
    ),
    EventKind.CONFIGURATION_CHANGED: KindDescription(
        "Domains, accounts, addresses, keys or routes were changed. It is in the feed of no account.",
        {
            "version": "The new version of the configuration.",
            "operation": "Such as `config_apply`.",
            "by": "Who did it.",
            "changes": "A list of lines as `mailcrane config diff` shows them, at most 200.",
            "more_changes": "How many lines there were beyond those.",
        },
    ),
    EventKind.SUPPRESSION_CHANGED: KindDescription(
        "An address was put on the account's suppression list, or taken off it.",
        {
            "change": "`added` or `removed`.",
            "address": "As it was when it was put on the list.",
            "base_address": "What is compared.",
            "reason": "In words.",
            "origin": "`queue`, `dsn`, `manual`, `import` or `plugin`: who put it on the list.",
            "is_manual": "Whether a person or an application put it on the list.",
            "code": "Of the reply that it was put on the list for; 0 for none.",
            "enhanced_code": "Such as `5.1.1`; empty for none.",
            "by": "Who changed the list; empty for the queue.",
        },
    ),
    EventKind.DELIVERED: _outgoing("The next hop took the message for this recipient."),
    EventKind.DELAYED: _outgoing("An attempt was deferred; there will be another."),
    EventKind.FAILED: _outgoing("There will be no more attempts."),
    EventKind.SUPPRESSED: _outgoing("The recipient is on the suppression list."),
    EventKind.RELAYED: _outgoing("A notification says that it went on to where none are sent.", is_recorded=False),
    EventKind.EXPANDED: _outgoing("A notification says that it went on to several addresses.", is_recorded=False),
    EventKind.CANCELED: _outgoing("The entry was taken out of the queue by hand."),
    EventKind.UNRECOGNIZED: _outgoing("A notification came in that is not understood.", is_recorded=False),
}


def render() -> str:
    """Return the reference page."""
    parts = [
        "# Events",
        "Made from `mailcrane.model.event_kinds`; do not edit.",
        "What happened is a row, stored in the same commit as what it tells of. `mailcrane queue show` prints the "
        "events of an entry; the hook `event_recorded` and the other notify hooks are fed from them, and so are "
        "webhooks.",
        f"This is event format {EVENT_FORMAT}; `mailcrane queue show --json` names it as `event_format`. "
        "[What is promised](event-format.txt) is a list that only grows. Within a "
        "format, kinds and keys are only added: a reader passes over those that it does not know. A kind or key that "
        "is taken away, gets another name or another meaning makes the next format, which the release notes announce. "
        "The texts of the timeline are for people, and may change with any release.",
    ]
    for kind, description in EVENT_KINDS.items():
        if kind not in OUTGOING_EVENT_KINDS:
            parts += [f"## {kind}", description.told_when, _table(description)]
    parts += ["## What applications are told", "These become webhooks, and have all the same keys.", _kinds()]
    parts.append(_table(EVENT_KINDS[EventKind.DELIVERED]))
    parts += [
        "## Events of plugins",
        "A plugin may add kinds of its own, named `<plugin>.<name>`, with the hook `register_event_types`, and record "
        "them with `context.events`. They have the keys above, of the entry that they are about, and `data`, which is "
        "the plugin's. A webhook is told of them only where its `events` name them, with `Data` as its last field.",
    ]
    return "\n\n".join(parts) + "\n"


def render_format(promised: str) -> str:
    """Return the list of kinds and keys that are promised in this format: it only grows.

    Args:
        promised: The list as it is. What it has and the code has not any more stays, so that a test finds it.
    """
    lines = promised.splitlines()
    known = set(lines)
    return "\n".join([*lines, *(line for line in format_lines() if line not in known)]) + "\n"


def format_lines() -> list[str]:
    """Return a line for the format, and one for each key of each kind."""
    lines = [f"format {EVENT_FORMAT}"]
    for kind, described in EVENT_KINDS.items():
        lines += [f"{kind} {key}{' optional' if key in described.optional else ''}" for key in described.keys]
    return lines


def _table(description: KindDescription) -> str:
    rows = [f"| `{key}` | {meaning} |" for key, meaning in description.keys.items()]
    return "\n".join(["| key | what it holds |", "|---|---|", *rows])


def _kinds() -> str:
    rows = []
    for kind, description in EVENT_KINDS.items():
        if kind in OUTGOING_EVENT_KINDS:
            later = "" if description.is_recorded else " (Not recorded by this version.)"
            rows.append(f"| `{kind}` | {description.told_when}{later} |")
    return "\n".join(["| kind | when |", "|---|---|", *rows])
