"""Header fields that a server adds: Received, Return-Path, Delivered-To, Authentication-Results, Date, Message-Id."""

from __future__ import annotations

import secrets
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from datetime import datetime

from mailcrane.message.date import format_date
from mailcrane.model.address import Mailbox, ReversePath
from mailcrane.model.message import HeaderField
from mailcrane.model.session import SessionInfo

# RFC 5322 section 2.1.1: lines should be no longer than 78 characters; Received is folded a little earlier.
_LINE = 76


def received(
    session: SessionInfo,
    *,
    hostname: str,
    at: datetime,
    forward_path: Mailbox | None,
    from_name: str = "",
    is_smtputf8: bool = False,
    is_require_tls: bool = False,
) -> HeaderField:
    """Make the Received field of a message that another server handed over (RFC 5321 section 4.4).

    Args:
        forward_path: For the ``for`` clause; None with several recipients, who must not learn of each other.
        from_name: Verified reverse name of the client; shown where it differs from what the client said.
    """
    claimed = session.ehlo if _is_safe(session.ehlo) else "unknown"
    literal = _address_literal(session.remote_ip)
    comment = f"({from_name} {literal})" if from_name and from_name.lower() != claimed.lower() else f"({literal})"
    words = ["from", claimed, comment, "by", hostname]
    if session.local_ip:
        words.append(f"({_address_literal(session.local_ip)})")
    words += ["via", "tcp", "with", _protocol(session, is_smtputf8)]
    if is_require_tls:
        words.append("(requiretls)")
    words += ["id", session.id, *_tls(session)]
    return HeaderField("Received", _finish(words, forward_path, at, is_utf8=is_smtputf8))


def received_submission(
    session: SessionInfo,
    *,
    hostname: str,
    at: datetime,
    forward_path: Mailbox | None,
    is_smtputf8: bool = False,
    is_require_tls: bool = False,
) -> HeaderField:
    """Make the Received field of a submission over SMTP; it does not tell where the author is."""
    words = ["from", hostname, "by", hostname, "via", "tcp", "with", _protocol(session, is_smtputf8)]
    if is_require_tls:
        words.append("(requiretls)")
    words += ["id", session.id, *_tls(session)]
    return HeaderField("Received", _finish(words, forward_path, at, is_utf8=is_smtputf8))


def received_http(
    session: SessionInfo, *, hostname: str, at: datetime, forward_path: Mailbox | None, is_smtputf8: bool = False
) -> HeaderField:
    """Make the Received field of a submission over HTTP: no ``with`` clause, and a ``for`` clause that is empty with
    several recipients."""
    words = ["from", hostname, "by", hostname, "id", session.id, *_tls(session)]
    words += ["for", "<>" if forward_path is None else f"<{forward_path}>"]
    return HeaderField("Received", _finish(words, None, at, is_utf8=is_smtputf8))


def return_path(reverse_path: ReversePath) -> HeaderField:
    """Make the Return-Path field of final delivery (RFC 5321 section 4.4)."""
    return HeaderField("Return-Path", f"<{reverse_path}>")


def delivered_to(forward_path: Mailbox) -> HeaderField:
    """Make the Delivered-To field of final delivery (RFC 9228)."""
    return HeaderField("Delivered-To", str(forward_path))


def authentication_results_submission(*, hostname: str, reverse_path: ReversePath) -> HeaderField:
    """Make the Authentication-Results field of a message that an authenticated identity submitted (RFC 8601)."""
    # The null reverse-path names nobody, and a property must have a value (section 2.2).
    mailbox = "" if reverse_path.is_null else f" smtp.mailfrom={reverse_path}"
    return authentication_results(hostname=hostname, results=(f"auth=pass{mailbox}",))


def authentication_results(*, hostname: str, results: Sequence[str]) -> HeaderField:
    """Make an Authentication-Results field (RFC 8601).

    Args:
        results: ``method=result property=value …``, one per method; ``none`` stands alone where there is none.
    """
    words = [f"{hostname};"]
    statements = list(results) or ["none"]
    for index, statement in enumerate(statements):
        parts = statement.split(" ")
        if index + 1 < len(statements):
            parts[-1] += ";"
        words += parts
    return HeaderField("Authentication-Results", fold("Authentication-Results", words))


def date(at: datetime) -> HeaderField:
    """Make the Date field."""
    return HeaderField("Date", format_date(at))


def new_message_id(hostname: str) -> str:
    """Make a message id that nobody can guess, with its angle brackets."""
    return f"<{urlsafe_b64encode(secrets.token_bytes(16)).rstrip(b'=').decode()}@{hostname}>"


def fold(name: str, words: Sequence[str], *, width: int = _LINE) -> str:
    """Put words after a field's name, folding with CRLF and a tab before a word that would pass the width."""
    out: list[str] = []
    column = len(name) + 1
    for word in words:
        if out and column + 1 + len(word) > width:
            out.append("\r\n\t" + word)
            column = 8 + len(word)
        else:
            out.append((" " if out else "") + word)
            column += 1 + len(word)
    return "".join(out)


def _finish(words: list[str], forward_path: Mailbox | None, at: datetime, *, is_utf8: bool) -> str:
    if forward_path is not None and (is_utf8 or not forward_path.needs_smtputf8):
        words += ["for", f"<{forward_path}>"]
    words[-1] += ";"
    return fold("Received", [*words, format_date(at)])


def _protocol(session: SessionInfo, is_smtputf8: bool) -> str:
    """The ``with`` value (RFC 3848, RFC 6531 section 4.3)."""
    if not session.is_extended:
        return "SMTP"
    base = "UTF8SMTP" if is_smtputf8 else "ESMTP"
    return base + ("S" if session.tls else "") + ("A" if session.account else "")


def _tls(session: SessionInfo) -> list[str]:
    return [] if session.tls is None else [f"({session.tls.version} {session.tls.cipher})"]


def _address_literal(ip: str) -> str:
    return f"[IPv6:{ip}]" if ":" in ip else f"[{ip}]"


def _is_safe(name: str) -> bool:
    return bool(name) and name.isascii() and name.isprintable() and not set(name) & set(' ()<>,;\\"')
