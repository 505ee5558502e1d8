"""What a delivery status notification says to a person: what happened, why, and what to do now."""

from __future__ import annotations

import enum
import re
import textwrap
from datetime import datetime

from mailcrane.message.date import format_date
from mailcrane.model.delivery import Entry, RecipientResult
from mailcrane.model.suppression import FailureCause

_WIDTH = 72
# Of what a next hop or a subject says: enough to be understood.
_MOST_CHARACTERS = 1000
_SPACE = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")


class Why(enum.Enum):
    """What made an entry fail, as far as it matters for what to do."""

    ADDRESS = FailureCause.ADDRESS
    UNCLEAR = FailureCause.UNCLEAR
    SENDER = FailureCause.SENDER
    NO_REPLY = FailureCause.NO_REPLY
    SUPPRESSED = "suppressed"
    BY_HAND = "by hand"


_ADVICE = {
    Why.ADDRESS: "Check the address for a mistake. If it is written as you know it, it is not in use any more, or "
    "takes no mail: ask the recipient in another way for the right one.",
    Why.UNCLEAR: "You can send the message again later. If that fails as well, reach the recipient in another way.",
    Why.SENDER: "The receiving server objects to the message or to where it comes from, not to the address. Sending "
    "the same message again will not help. Show this notice to whoever runs your mail server. A message that is "
    "smaller, or has no attachments, may be accepted.",
    Why.NO_REPLY: "The receiving server was not reached, or did not answer. Check what stands behind the @ of the "
    "address for a mistake. If it is right, send the message again later, or reach the recipient in another way.",
    Why.SUPPRESSED: "Nothing is sent to this address from your account, because earlier messages to it failed, or "
    "because somebody wants it so. If you know that it takes mail, have it taken off the suppression list, then send "
    "the message again.",
    Why.BY_HAND: "Somebody who runs your mail server ended the delivery by hand. Ask them before you send the message "
    "again.",
}

_SUPPRESSING = (
    "The address is now on the suppression list of your account. Nothing more is sent to it until it is taken off."
)


def failure_words(entry: Entry, result: RecipientResult, why: Why, *, is_suppressing: bool = False) -> str:
    """Return the text of a notification that a message was not delivered.

    Args:
        entry: Which failed.
        result: Its last one.
        why: What made it fail.
        is_suppressing: Whether its recipient is put on the suppression list at once.
    """
    tries = "" if entry.attempts < 2 else f" It was tried {entry.attempts} times."
    return _text(
        entry,
        f"Your message was not delivered to {entry.forward_path.unicode}, and is not tried again.{tries}",
        _reason(result),
        f"What you can do: {_ADVICE[why]}",
        _SUPPRESSING if is_suppressing else "",
    )


def delay_words(entry: Entry, result: RecipientResult, *, give_up_at: datetime, attempts_left: int) -> str:
    """Return the text of a notification that a message is late.

    Args:
        entry: Which is tried again.
        result: Of the attempt that failed last.
        give_up_at: When the last attempt is made.
        attempts_left: How many there are to be.
    """
    times = "once more" if attempts_left == 1 else f"{attempts_left} more times"
    return _text(
        entry,
        f"Your message was not delivered to {entry.forward_path.unicode} yet. It was tried {entry.attempts} times, and "
        f"is tried {times}, until {format_date(give_up_at)}.",
        _reason(result),
        "What you can do: nothing, for now. Do not send the message again. You are told if it cannot be delivered; if "
        "you hear nothing more, it was. If it is urgent, reach the recipient in another way.",
    )


def _text(entry: Entry, *paragraphs: str) -> str:
    which = [
        f"    Subject: {_one_line(entry.subject) or '(none)'}",
        f"    Sent: {format_date(entry.queued_at)}",
        f"    To: {entry.forward_path.unicode}",
    ]
    first, *others = [_wrapped(paragraph) for paragraph in paragraphs if paragraph]
    return "\n\n".join([first, "\n".join(which), *others]) + "\n"


def _reason(result: RecipientResult) -> str:
    if result.reply is None:
        return f"The reason: {_one_line(result.error) or 'the receiving server did not answer'}."
    said = _one_line(str(result.reply))
    if not result.remote_mta:
        # Found out here: a domain that takes no mail, a loop, a transport that only fails.
        return f"The reason: {said}"
    return f"The reason: the receiving server {_one_line(result.remote_mta)} answered: {said}"


def _one_line(text: str) -> str:
    return _SPACE.sub(" ", text[: 2 * _MOST_CHARACTERS])[:_MOST_CHARACTERS].strip()


def _wrapped(paragraph: str) -> str:
    return textwrap.fill(paragraph, _WIDTH, break_long_words=False, break_on_hyphens=False)
