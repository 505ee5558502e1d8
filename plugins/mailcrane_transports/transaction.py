"""One message in a session: as many SMTP transactions as its forward-paths need."""

from __future__ import annotations

from mailcrane.api import Delivery, Reply
from mailcrane.api.transport import is_push_back
from mailcrane_transports import metrics
from mailcrane_transports.dialog import DialogFailed
from mailcrane_transports.progress import Progress
from mailcrane_transports.session import Session

# RFC 5321 section 4.5.3.1.10: too many recipients, when it is not the first of them.
_TOO_MANY = frozenset({452, 552})
_MESSAGE_TOO_LARGE = "5.3.4"


class SessionStale(Exception):
    """A session that was kept had ended when it was used again; nothing of the message was taken."""


async def transact(session: Session, progress: Progress) -> str:
    """Send the message to the forward-paths that wait; what becomes of each is noted in `progress`.

    Returns:
        What the next hop said when it asked to slow down; empty when it did not.

    Raises:
        SessionStale: make a new session and try again.
    """
    dialog, delivery = session.dialog, progress.delivery
    is_kept = session.messages > 0
    needs_smtputf8 = _needs_smtputf8(delivery)
    refusal = dialog.extensions.refusal(
        size_octets=delivery.content.size_octets,
        needs_smtputf8=needs_smtputf8,
        require_tls=delivery.require_tls is True,
    )
    if refusal is not None:
        _refuse(progress, refusal)
        return ""
    notes: tuple[str, ...] = ()
    if delivery.has_8bit and "8BITMIME" not in dialog.extensions:
        # Converting would break signatures, and what does not offer 8BITMIME takes 8-bit content all the same today.
        notes = ("8-bit content was sent as it is: the next hop does not offer 8BITMIME",)
    push_back = ""
    paths = delivery.forward_paths
    waiting = list(progress.waiting)
    in_content: frozenset[int] = frozenset()
    try:
        with dialog.patience():
            if session.needs_reset:
                session.needs_reset = False
                await dialog.reset()
            while waiting:
                most = session.target.max_recipients
                size = min(dialog.extensions.max_recipients or most, most)
                batch, waiting = waiting[:size], waiting[size:]
                envelope = await dialog.envelope(
                    delivery.reverse_path,
                    [paths[position] for position in batch],
                    size_octets=delivery.content.size_octets,
                    has_8bit=delivery.has_8bit,
                    smtputf8=needs_smtputf8,
                    require_tls=delivery.require_tls is True,
                )
                if is_kept and envelope.mail.code == 421:
                    raise SessionStale
                is_kept = False
                session.messages += 1
                accepted: list[int] = []
                for position, reply in zip(batch, envelope.recipients, strict=True):
                    push_back = push_back or _push_back(reply)
                    if reply.is_positive:
                        accepted.append(position)
                    elif reply.code in _TOO_MANY and envelope.may_send_content and position != batch[0]:
                        waiting.append(position)
                    elif reply.code == 552 and envelope.mail.is_positive:
                        # To RCPT it is to be treated as 452 (RFC 5321 section 4.5.3.1.10).
                        progress.deferred(position, reply, "RCPT")
                    else:
                        progress.answered(position, reply, "RCPT" if envelope.mail.is_positive else "MAIL")
                session.needs_reset = not envelope.may_send_content
                if envelope.may_send_content:
                    in_content = frozenset(accepted)
                    final = await dialog.content(delivery.content)
                    in_content = frozenset()
                    push_back = push_back or _push_back(final)
                    for position in accepted:
                        progress.answered(position, final, "content", notes=notes if final.is_positive else ())
                if waiting and dialog.is_over:
                    progress.lost("next hop closed the connection before all forward-paths were tried")
                    break
                if waiting and session.needs_reset:
                    session.needs_reset = False
                    await dialog.reset()
    except DialogFailed as failure:
        if is_kept:
            raise SessionStale from failure
        session.is_broken = True
        progress.lost(str(failure), in_content if failure.is_after_content else frozenset())
    except SessionStale:
        raise
    except BaseException:
        # Cancelled, or a fault of ours: who may have it is to be known whatever comes of that.
        if dialog.is_after_content:
            progress.lost("the delivery was broken off before the reply to the final dot", in_content)
        raise
    return push_back


def _needs_smtputf8(delivery: Delivery) -> bool:
    sender = delivery.reverse_path.mailbox
    return (
        delivery.needs_smtputf8
        or any(path.needs_smtputf8 for path in delivery.forward_paths)
        or (sender is not None and sender.needs_smtputf8)
    )


def _refuse(progress: Progress, refusal: Reply) -> None:
    if refusal.enhanced_status_code == _MESSAGE_TOO_LARGE:
        for position in list(progress.waiting):
            progress.answered(position, refusal, "EHLO")
        return
    if refusal.enhanced_status_code == "5.7.30":
        metrics.requiretls_unsupported.inc("unsupported")
    progress.lacks(refusal)


def _push_back(reply: Reply) -> str:
    return str(reply) if is_push_back(reply) else ""
