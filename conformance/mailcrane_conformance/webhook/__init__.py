"""The webhook suites: what receivers must do (``webhook/...``), and what senders must do (``webhook-sender/...``).

from mailcrane_conformance import webhook
test_receiver = webhook.make_test(webhook.Receiver("http://localhost:8000/hooks", secret="whsec_..."))
test_sender = webhook.make_sender_test(webhook.Sender(make_something_happen))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mailcrane_conformance import kit
from mailcrane_conformance.kit import Result, run_kit
from mailcrane_conformance.webhook import receiver, sender
from mailcrane_conformance.webhook.receiver import Receiver as Receiver
from mailcrane_conformance.webhook.sender import Sender as Sender

BEHAVIOURS = receiver.BEHAVIOURS
SENDER_BEHAVIOURS = sender.BEHAVIOURS


async def run(subject: Receiver, only: Sequence[str] = ()) -> list[Result]:
    """Try the behaviours of a receiver.

    Raises:
        ValueError: ``only`` has an id that the suite lacks.
    """
    return await run_kit(BEHAVIOURS, subject, only)


async def run_sender(subject: Sender, only: Sequence[str] = ()) -> list[Result]:
    """Try the behaviours of a sender.

    Raises:
        ValueError: ``only`` has an id that the suite lacks.
    """
    return await run_kit(SENDER_BEHAVIOURS, subject, only)


def make_test(subject: Receiver) -> Callable[..., None]:
    """Make a test function for pytest, with a case for each behaviour of a receiver."""
    return kit.make_test(BEHAVIOURS, lambda: subject)


def make_sender_test(subject: Sender) -> Callable[..., None]:
    """Make a test function for pytest, with a case for each behaviour of a sender."""
    return kit.make_test(SENDER_BEHAVIOURS, lambda: subject)
