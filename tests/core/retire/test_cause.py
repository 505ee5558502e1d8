"""What replies of real receivers say of an address. The texts are as these systems send them, with names made up."""

from __future__ import annotations

import time

import pytest

from mailcrane.model.reply import Reply
from mailcrane.model.suppression import FailureCause
from mailcrane.retire.cause import failure_cause

ADDRESS, UNCLEAR, SENDER = FailureCause.ADDRESS, FailureCause.UNCLEAR, FailureCause.SENDER

REPLIES = [
    # Gmail
    (ADDRESS, "550 5.1.1 The email account that you tried to reach does not exist. Please try double-checking"),
    (ADDRESS, "550 5.2.1 The email account that you tried to reach is inactive. For more information, go to"),
    (UNCLEAR, "552 5.2.2 The recipient's inbox is out of storage space. Please direct the recipient to"),
    (UNCLEAR, "452 4.2.2 The recipient's inbox is out of storage space."),
    (SENDER, "550 5.7.26 Your email has been blocked because the sender is unauthenticated. Gmail requires all"),
    (SENDER, "550 5.7.1 Our system has detected that this message is likely unsolicited mail. To reduce the amount of"),
    (SENDER, "550 5.7.1 This message does not comply with RFC 5322, specifically there is no valid From: header"),
    (SENDER, "550 5.7.25 The IP address sending this message does not have a PTR record setup"),
    (SENDER, "552 5.7.0 This message was blocked because its content presents a potential security issue."),
    (SENDER, "552 5.3.4 Your message exceeded Google's message size limits."),
    (SENDER, "421 4.7.0 Our system has detected an unusual rate of unsolicited mail originating from your IP address."),
    (SENDER, "550 5.4.5 Daily user sending quota exceeded. Too many messages"),
    # Outlook.com and Exchange Online
    (ADDRESS, "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup"),
    (ADDRESS, "550 5.4.1 Recipient address rejected: Access denied. AS(201806281)"),
    (
        SENDER,
        "550 5.7.1 Unfortunately, messages from [192.0.2.1] weren't sent. Please contact your Internet service"
        " provider since part of their network is on our block list (S3140).",
    ),
    (SENDER, "550 5.7.606 Access denied, banned sending IP [192.0.2.1]. To request removal from this list please"),
    (SENDER, "550 5.7.515 Access denied, sending domain EXAMPLE.ORG does not meet the required authentication level."),
    (SENDER, "550 5.7.509 Access denied, sending domain example.org does not pass DMARC verification"),
    (SENDER, "550 5.7.64 TenantAttribution; Relay Access Denied"),
    (UNCLEAR, "554 5.2.2 mailbox full; STOREDRV.Deliver.Exception:QuotaExceededException.MapiExceptionShutoffQuota"),
    (UNCLEAR, "554 5.4.14 Hop count exceeded - possible mail loop ATTR34"),
    (SENDER, "550 5.7.133 RESOLVER.RST.SenderNotAuthenticatedForGroup; authentication required; Delivery restriction"),
    (SENDER, "550 5.1.8 Access denied, bad outbound sender."),
    # Yahoo
    (UNCLEAR, "554 delivery error: dd This user doesn't have a yahoo.com account (you@yahoo.com)"),
    (UNCLEAR, "554 30 Sorry, your message to you@yahoo.com cannot be delivered. This mailbox is disabled (554.30)."),
    (SENDER, "553 5.7.1 [BL21] Connections will not be accepted from 192.0.2.1, because the ip is in Spamhaus's list"),
    (SENDER, "554 5.7.9 Message not accepted for policy reasons. See https://postmaster.yahooinc.com/error-codes"),
    (
        SENDER,
        "421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume or user complaints",
    ),
    (SENDER, "550 5.7.9 This mail has been blocked because the sender is unauthenticated. Yahoo requires all senders"),
    # Postfix
    (ADDRESS, "550 5.1.1 <you@example.net>: Recipient address rejected: User unknown in virtual mailbox table"),
    (ADDRESS, "554 5.7.1 <you@example.net>: Relay access denied"),
    (ADDRESS, "550 5.1.2 <you@example.net>: Recipient address rejected: Domain not found"),
    (SENDER, "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org"),
    (SENDER, "550 5.7.1 <ann@example.org>: Sender address rejected: not owned by user"),
    (SENDER, "450 4.1.8 <ann@example.org>: Sender address rejected: Domain not found"),
    (SENDER, "550 5.7.23 <you@example.net>: Recipient address rejected: Message rejected due to: SPF fail - not"),
    (SENDER, "504 5.5.2 <localhost>: Helo command rejected: need fully-qualified hostname"),
    (UNCLEAR, "451 4.3.0 <you@example.net>: Temporary lookup failure"),
    (UNCLEAR, "450 4.2.0 <you@example.net>: Recipient address rejected: Greylisted, see the documentation"),
    (SENDER, "550 5.7.1 Blocked by SpamAssassin"),
    (SENDER, "550 5.6.6 <you@example.net>: Binary or unencoded data is not supported here"),
    (SENDER, "553 5.6.7 Address requires SMTPUTF8, which is not supported"),
    # Exim
    (ADDRESS, "550 Unrouteable address"),
    (ADDRESS, "550 relay not permitted"),
    (ADDRESS, "550 No Such User Here"),
    (
        SENDER,
        "550 Verification failed for <ann@example.org> The mail server could not deliver mail to ann@example.org."
        " No Such User Here Sender verify failed",
    ),
    (SENDER, "550 Administrative prohibition"),
    (SENDER, "550 JunkMail rejected - (mail.example.org) [192.0.2.1]:40000 is in an RBL: see"),
    (SENDER, "552 Message size exceeds maximum permitted"),
    (SENDER, "550 maximum allowed line length is 998 octets, got 2000; RFC 5322"),
    # Others
    (ADDRESS, "550 Mailbox unavailable"),
    (ADDRESS, "551 User not local; please try <you@example.com>"),
    (ADDRESS, "521 mx.example.net does not accept mail"),
    (ADDRESS, "556 5.1.10 The domain says that it accepts no mail (null MX)"),
    (ADDRESS, "550 5.7.17 Mailbox owner has changed"),
    (ADDRESS, "550 5.2.1 mailbox disabled because it sent spam"),
    (ADDRESS, "554 5.1.6 The mailbox has moved"),
    (UNCLEAR, "554 Transaction failed"),
    (SENDER, "554 5.4.6 Too many hops"),
    (UNCLEAR, "450 4.1.1 unverified address: connection timed out"),
    (UNCLEAR, "500 5.0.0 odd"),
    (SENDER, "554 5.7.1 Message rejected due to content restrictions; contains a virus: Eicar"),
    (SENDER, "550 SPF check failed: example.org does not designate 192.0.2.1"),
    (SENDER, "550 rejected because 192.0.2.1 is listed at bl.spamcop.net"),
    (SENDER, "530 5.7.0 Must issue a STARTTLS command first"),
    (SENDER, "554 5.7.30 REQUIRETLS support required"),
    (SENDER, "554 5.7.0 made to fail"),
]


@pytest.mark.parametrize(("cause", "text"), REPLIES, ids=[text[:50] for _, text in REPLIES])
def test_a_reply_speaks_of_the_address_or_of_us(cause: FailureCause, text: str) -> None:
    code, _, words = text.partition(" ")
    assert failure_cause(Reply.from_lines(int(code), (words,))) is cause


@pytest.mark.parametrize("code", [521, 550, 551, 553, 556])
@pytest.mark.parametrize("detail", ["", "5.0.0", "5.2.0", "5.4.4", "5.7.1"])
def test_these_codes_suppress_at_once_whatever_stands_beside_them_of_the_address(code: int, detail: str) -> None:
    assert failure_cause(Reply(code, detail, ("refused",))) is ADDRESS


@pytest.mark.parametrize("detail", ["5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.2.1", "5.7.1"])
def test_these_enhanced_codes_suppress_at_once_with_every_permanent_code(detail: str) -> None:
    assert failure_cause(Reply(554, detail, ("refused",))) is ADDRESS
    assert failure_cause(Reply(450, f"4{detail[1:]}", ("not now",))) is UNCLEAR


@pytest.mark.parametrize("detail", [f"5.7.{number}" for number in (0, 2, 3, 8, *range(20, 31))])
def test_what_our_security_or_policy_is_refused_for_never_suppresses(detail: str) -> None:
    assert failure_cause(Reply(550, detail, ("no",))) is SENDER


def test_without_a_reply_nothing_is_said() -> None:
    assert failure_cause(None) is FailureCause.NO_REPLY


def test_a_reply_that_is_made_to_be_slow_to_read_is_read_fast() -> None:
    began = time.perf_counter()
    for words in ("verification failed for <" * 40_000, "ip " * 300_000, "user " * 200_000, "mail from " * 100_000):
        failure_cause(Reply(550, "", (words,)))
    assert time.perf_counter() - began < 0.5
