"""One SMTP reply from what became of several recipients (RFC 5321 section 4.2.5: one reply after the final dot).

A message that some recipients take and others refuse cannot be told so in one reply, and a bounce for the refused
ones is not written here. So that nothing is lost silently, such a message is stored for nobody: put off as a whole
when any recipient is put off, and otherwise refused as a whole, with a line for each recipient that refused it; the
sender's server then tells the sender, who may leave that recipient out. The session keeps known and unknown
recipients of ours in separate transactions, so that a mistyped address does not do this to the others.
"""

from __future__ import annotations

from collections.abc import Sequence

from mailcrane.model.address import Mailbox
from mailcrane.model.reply import Reply


def merge_refusals(refusals: Sequence[tuple[Mailbox, Reply]], accepted: int) -> Reply:
    """Make the reply of a message that at least one recipient did not take.

    Args:
        refusals: 4yz and 5yz replies with the forward-path that each is about; not empty.
        accepted: How many other recipients would have taken the message.
    """
    replies = [reply for _, reply in refusals]
    first = replies[0]
    if not accepted and all(
        (reply.code, reply.enhanced_status_code) == (first.code, first.enhanced_status_code) for reply in replies
    ):
        return Reply(first.code, first.enhanced_status_code, tuple(dict.fromkeys(_lines(replies))))
    transient = [(path, reply) for path, reply in refusals if reply.is_transient_failure]
    if transient:
        return Reply(451, "4.3.0", tuple(f"{path}: {reply.text}" for path, reply in transient))
    lines = [f"{path}: {reply.text}" for path, reply in refusals]
    if accepted:
        lines.append("nobody has received the message; leave out the refused recipients and send it again")
    return Reply(554, "5.5.0", tuple(lines))


def _lines(replies: Sequence[Reply]) -> list[str]:
    return [line for reply in replies for line in reply.lines]
