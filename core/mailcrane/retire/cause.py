"""What the last reply of a failed entry says of the address (docs/decisions/0008).

Enhanced status codes (RFC 3463, and the registry of RFC 5248) are believed first, as far as they speak of the mailbox,
of the sender or of the message; then the words of the reply, which can only excuse an address, never convict it; then
the reply code. Receivers use 5.7.1 and bare 550 for everything, so that the words matter there.
"""

from __future__ import annotations

import re
from typing import Final

from mailcrane.model.reply import Reply
from mailcrane.model.suppression import FailureCause

# RFC 3463: bad mailbox, bad system, bad syntax, mailbox moved, mailbox disabled.
_OF_THE_ADDRESS: Final = frozenset({"1.1", "1.2", "1.3", "1.6", "2.1"})

# Bad sender's mailbox or system, message longer than the mailbox or the system takes.
_OF_THE_SENDER: Final = frozenset({"1.7", "1.8", "2.3", "3.4"})
# Protocol, content and media, security and policy.
_SUBJECTS_OF_THE_SENDER: Final = ("5.", "6.", "7.")
# Of the last, these speak of the recipient: refused to deliver (used for everything, so that words decide), and a
# mailbox or domain that has another owner now (RFC 7293).
_NOT_OF_THE_SENDER: Final = frozenset({"7.1", "7.17", "7.18"})

# RFC 5321 section 4.2.3: mailbox unavailable, not local, name not allowed. RFC 7504: accepts no mail.
_CODES_OF_THE_ADDRESS: Final = frozenset({521, 550, 551, 553, 556})

# A reply is as long as the peer likes; what matters stands at its beginning.
_MOST_CHARACTERS: Final = 2000

_SENDER_IS_REFUSED: Final = re.compile(
    r"sender (?:address )?(?:rejected|verif|refused|denied|is not allowed|domain)|verification failed for <|"
    r"(?:envelope|mail) from .{0,60}(?:rejected|refused|denied)|your (?:ip|host|server|domain) "
)
_ADDRESS_IS_UNKNOWN: Final = re.compile(
    r"(?:no such|unknown|invalid|non-?existent|inactive|disabled) (?:user|recipient|mailbox|account|address)|"
    r"(?:user|recipient|mailbox|account|address)(?: \S+)? (?:is )?(?:unknown|not found|inactive|disabled|invalid)|"
    r"(?:user|recipient|mailbox|account|address) (?:does not|doesn't|not) (?:exist|have)|"
    r"no (?:mailbox|account) (?:here )?(?:by|with|of) that name|not a valid (?:user|mailbox|recipient|address)"
)
_MESSAGE_IS_REFUSED: Final = re.compile(
    # Taken for unwanted.
    r"spam|unsolicited|\bbulk\b|\bjunk\b|phish|virus|malware|infected|reputation|suspicious|abus(?:e|ive)|"
    r"content (?:is |was )?(?:rejected|refused|blocked|denied)|message (?:content )?(?:was |is |has been )?blocked|"
    # Taken from the wrong place.
    r"block ?list|black ?list|deny ?list|blocked (?:using|by|due)|listed (?:at|in|by|on)|\brbl\b|dnsbl|sorbs|"
    r"barracuda|uceprotect|\b(?:ip|host|network|client)\b.{0,60}(?:blocked|banned|denied|rejected|not allowed)|"
    r"ptr record|reverse (?:dns|lookup|hostname)|\brdns\b|\bhelo\b|\behlo\b|"
    # Not shown to be ours.
    r"\bspf\b|\bdkim\b|\bdmarc\b|unauthenticated|authentication|starttls|must use tls|"
    # Against rules.
    r"polic(?:y|ies)|prohibit|rate limit|too many|too fast|throttl|quota for sending|"
    r"too (?:big|large|long)|size (?:limit|exceed)|exceed(?:s|ed) .{0,40}size|"
    r"rfc ?[25]?[83]22|non-?compliant|malformed|attachment"
)


def failure_cause(reply: Reply | None) -> FailureCause:
    """Return what the last reply to an entry that failed says of the address.

    Args:
        reply: Of the next hop, also a 4yz one when the entry ran out of attempts; None when nothing was heard.
    """
    if reply is None:
        return FailureCause.NO_REPLY
    detail = reply.enhanced_status_code.partition(".")[2]
    if detail in _OF_THE_ADDRESS:
        return FailureCause.ADDRESS if reply.is_permanent_failure else FailureCause.UNCLEAR
    is_of_the_sender = detail in _OF_THE_SENDER or (
        detail.startswith(_SUBJECTS_OF_THE_SENDER) and detail not in _NOT_OF_THE_SENDER
    )
    if is_of_the_sender or _excuses(reply.text[:_MOST_CHARACTERS].lower()):
        return FailureCause.SENDER
    if reply.is_permanent_failure and (reply.code in _CODES_OF_THE_ADDRESS or detail == "7.1"):
        return FailureCause.ADDRESS
    return FailureCause.UNCLEAR


def _excuses(words: str) -> bool:
    """Whether the words of a reply say that it is about the sender or the message."""
    if _SENDER_IS_REFUSED.search(words):
        return True
    return not _ADDRESS_IS_UNKNOWN.search(words) and bool(_MESSAGE_IS_REFUSED.search(words))
