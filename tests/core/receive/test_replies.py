from mailcrane.model.address import Mailbox
from mailcrane.model.reply import Reply
from mailcrane.receive.replies import merge_refusals

A, B = Mailbox("a", "example.org"), Mailbox("b", "example.org")
SPAM = Reply.make(550, "5.7.1", "no spam please")
LATER = Reply.make(451, "4.7.1", "come back later")
FULL = Reply.make(552, "5.2.2", "mailbox is full")


def test_equal_refusals_by_everybody_are_told_as_they_are() -> None:
    assert merge_refusals([(A, SPAM), (B, SPAM)], accepted=0) == SPAM


def test_different_refusals_become_554_with_a_line_each() -> None:
    reply = merge_refusals([(A, SPAM), (B, FULL)], accepted=0)
    assert (reply.code, len(reply.lines)) == (554, 2)


def test_one_that_is_put_off_puts_off_the_message() -> None:
    assert merge_refusals([(A, SPAM), (B, LATER)], accepted=3).code == 451


def test_a_refusal_beside_acceptances_refuses_the_message_and_says_so() -> None:
    reply = merge_refusals([(A, SPAM)], accepted=1)
    assert reply.code == 554
    assert "nobody has received" in reply.lines[-1]
