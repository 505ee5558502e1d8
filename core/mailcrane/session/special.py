"""Local parts that ask for a failure, for those who test their own mail sending against a development server.

A local part that ends in ``temperror``, ``permerror``, ``timeout`` or three digits from 400 to 599 fails in that way:
a reverse-path that begins with ``mailfrom`` at MAIL, a forward-path that begins with ``rcptto`` at RCPT, any other
forward-path after the final dot. With ``x`` and a number after it, it fails that many times and is then accepted, and
several such steps may follow each other with a hyphen between them: ``ann-451x2`` is deferred twice and then delivered,
``ann-451x1-550`` is deferred once and then refused. Listeners with ``special_recipients`` do this; no other listener
does.
"""

from __future__ import annotations

import functools
import re
from collections import OrderedDict
from collections.abc import Sequence

from msgspec import Struct

from mailcrane.message.header import parse_header
from mailcrane.model.address import Mailbox, ReversePath
from mailcrane.model.reply import Reply


class SpecialFailure(Struct, frozen=True):
    """A failure that a local part asks for.

    Attributes:
        reply: What is answered.
        delay: Seconds of silence before it.
    """

    reply: Reply
    delay: float = 0.0


class Step(Struct, frozen=True):
    """A failure and how often it comes.

    Attributes:
        count: 0 is always.
    """

    failure: SpecialFailure
    count: int = 0


_TIMEOUT_SECONDS = 3600.0

# Tries are remembered until the message is accepted; of those that never are, the oldest is forgotten.
_MAX_REMEMBERED = 10_000

_FAILURE = r"(?:temperror|permerror|timeout|[45][0-9]{2})"
_STEPS = re.compile(rf"((?:{_FAILURE}x[1-9][0-9]?-)*{_FAILURE}(?:x[1-9][0-9]?)?)\Z")


@functools.lru_cache(maxsize=1024)
def steps_of(local_part: str) -> tuple[Step, ...]:
    """Return the failures that a local part asks for, in order; none for most."""
    found = _STEPS.search(local_part)
    if found is None:
        return ()
    steps = []
    for text in found[1].split("-"):
        name, _, count = text.partition("x")
        steps.append(Step(_failure(name), int(count or 0)))
    return tuple(steps)


class SpecialTries:
    """Says what fails on one listener, and remembers how often it has.

    At MAIL and RCPT tries are counted per reverse-path, and per reverse-path and forward-path. After the final dot the
    message counts too: its Message-Id, or its Subject where it has none. So two tests that send to the same address do
    not disturb each other. What is accepted is forgotten, and begins anew.
    """

    def __init__(self) -> None:
        self._tries: OrderedDict[tuple[str, ...], int] = OrderedDict()

    def at_mail(self, reverse_path: ReversePath) -> SpecialFailure | None:
        """Count a try of a reverse-path at MAIL; returns how it fails."""
        mailbox = reverse_path.mailbox
        if mailbox is None or not mailbox.local_part.startswith("mailfrom"):
            return None
        return self._next((str(mailbox),), steps_of(mailbox.local_part))

    def at_rcpt(self, reverse_path: ReversePath, forward_path: Mailbox) -> SpecialFailure | None:
        """Count a try of a forward-path at RCPT; returns how it fails."""
        if not forward_path.local_part.startswith("rcptto"):
            return None
        return self._next((str(reverse_path), str(forward_path)), steps_of(forward_path.local_part))

    def at_end_of_content(
        self, reverse_path: ReversePath, forward_paths: Sequence[Mailbox], header: bytes
    ) -> SpecialFailure | None:
        """Count a try of a message after its final dot; returns how it fails.

        One reply is for all recipients (RFC 5321 section 4.2.5): the first of them that is to fail says which.

        Args:
            header: The message's header section.
        """
        asked = [(path, steps) for path in forward_paths if (steps := _steps_after_rcpt(path))]
        if not asked:
            return None
        message = _identity(header)
        keys = [(str(reverse_path), str(path), message) for path, _ in asked]
        failures = [
            failure
            for key, (_, steps) in zip(keys, asked, strict=True)
            if (failure := self._next(key, steps, forget=False)) is not None
        ]
        if failures:
            return failures[0]
        for key in keys:
            self._tries.pop(key, None)
        return None

    def _next(self, key: tuple[str, ...], steps: Sequence[Step], *, forget: bool = True) -> SpecialFailure | None:
        before = self._tries.get(key, 0)
        failure = _failure_of_try(steps, before)
        if failure is None and forget:
            self._tries.pop(key, None)
        elif any(step.count for step in steps):
            self._tries[key] = before + 1
            self._tries.move_to_end(key)
            if len(self._tries) > _MAX_REMEMBERED:
                self._tries.popitem(last=False)
        return failure


def _steps_after_rcpt(forward_path: Mailbox) -> tuple[Step, ...]:
    """The steps of a forward-path after the final dot; what had its turns at RCPT has none here."""
    steps = steps_of(forward_path.local_part)
    return () if forward_path.local_part.startswith("rcptto") and steps and steps[-1].count else steps


def _failure_of_try(steps: Sequence[Step], before: int) -> SpecialFailure | None:
    for step in steps:
        if not step.count or before < step.count:
            return step.failure
        before -= step.count
    return None


def _identity(header: bytes) -> str:
    fields = parse_header(header, is_strict=False)
    return fields.get("message-id") or f"Subject: {fields.get('subject') or ''}"


def _failure(name: str) -> SpecialFailure:
    if name == "timeout":
        return SpecialFailure(_reply(451), _TIMEOUT_SECONDS)
    return SpecialFailure(_reply({"temperror": 451, "permerror": 550}.get(name) or int(name)))


def _reply(code: int) -> Reply:
    return Reply.make(code, f"{code // 100}.0.0", "the local part of the address asks for this failure")
