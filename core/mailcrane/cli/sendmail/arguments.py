"""The command line of sendmail, as cron, mutt, git and PHP write it."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

# Options of other sendmails that have a value, in the same word or in the next.
_WITH_VALUE = frozenset("ABCDFLNORVXfhopr")
_WITHOUT_VALUE = frozenset("GUcimnstv")
# What the letters after -b ask for besides delivering a message.
_OTHER_MODES = {
    "a": "ARPANET mode",
    "d": "a daemon",
    "D": "a daemon",
    "h": "host statistics",
    "H": "host statistics",
    "i": "the alias database",
    "p": "the queue",
    "s": "SMTP on standard input",
    "t": "a test mode",
    "v": "checking addresses",
}

USAGE = "usage: sendmail [-t] [-i] [-f ADDRESS] [--] [RECIPIENT...] < MESSAGE"


class UsageError(Exception):
    """The command line asks for what is not done here."""


class Arguments(Struct, frozen=True):
    """What the command line says.

    Attributes:
        recipients: As written.
        is_from_header: ``-t``: also the recipients that To, Cc and Bcc name.
        reverse_path: ``-f`` or ``-r``, as written; empty when not given.
        ends_at_dot: A line with a single dot ends the message; ``-i`` and ``-oi`` say that it does not.
    """

    recipients: tuple[str, ...] = ()
    is_from_header: bool = False
    reverse_path: str = ""
    ends_at_dot: bool = True


def parse_arguments(words: Sequence[str]) -> Arguments:
    """Read the words behind the program's name. Options that have no meaning here are passed over.

    Raises:
        UsageError: another mode than delivering is asked for, or an option lacks its value.
    """
    waiting = list(words)
    recipients: list[str] = []
    is_from_header, reverse_path, ends_at_dot = False, "", True
    while waiting:
        word = waiting.pop(0)
        if word == "--":
            recipients += waiting
            break
        if not word.startswith("-") or word == "-":
            recipients.append(word)
            continue
        if word.startswith("--"):
            raise UsageError(f"unknown option {word}")
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            if letter == "b":
                if letters != "m":
                    raise UsageError(f"-b{letters} asks for {_OTHER_MODES.get(letters, 'another mode')}")
                break
            if letter == "q":
                raise UsageError("-q asks for the queue, and nothing is queued here")
            if letter == "d":
                break  # What is to be traced stands in the same word, if at all.
            if letter in _WITH_VALUE:
                if not letters and not waiting:
                    raise UsageError(f"-{letter} needs a value")
                value = letters or waiting.pop(0)
                if letter in "fr":
                    reverse_path = value
                elif letter == "o" and value == "i":
                    ends_at_dot = False
                break
            if letter not in _WITHOUT_VALUE:
                raise UsageError(f"unknown option -{letter}")
            is_from_header = is_from_header or letter == "t"
            ends_at_dot = ends_at_dot and letter != "i"
    return Arguments(tuple(recipients), is_from_header, reverse_path, ends_at_dot)
