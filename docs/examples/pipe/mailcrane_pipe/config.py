"""What stands in ``[transports.NAME]``, and how a command line is made of it."""

import re
from typing import Annotated

import msgspec

from mailcrane.api import Mailbox, ReversePath

_PLACEHOLDER = re.compile(r"\{(?:sender|recipient|local_part|domain)\}")


class PipeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[transports.NAME]`` with ``type = "pipe"``."""

    command: Annotated[
        tuple[str, ...],
        msgspec.Meta(
            min_length=1,
            description="Program and arguments, without a shell. {sender}, {recipient}, {local_part} and {domain} are "
            "replaced in arguments, not in the program. It is run once for each recipient and reads the message.",
        ),
    ]
    timeout_seconds: Annotated[
        float, msgspec.Meta(gt=0, description="Time that one run may take; then it is killed and tried again later.")
    ] = 300.0
    concurrency: Annotated[int, msgspec.Meta(ge=1, description="How many runs there are at the same time.")] = 10
    folder: Annotated[str, msgspec.Meta(description="Folder in which it is run.")] = "/"
    environment: Annotated[
        dict[str, str],
        msgspec.Meta(description="Its environment, besides PATH. Nothing else of the server's is in it."),
    ] = {}


class UnsafeArgument(Exception):
    """A stranger's address would be read as something else than an address."""


def command_line(config: PipeConfig, sender: ReversePath, recipient: Mailbox) -> list[str]:
    """Make the arguments of a run. A null reverse-path is an empty text.

    Raises:
        UnsafeArgument: an address begins an argument with a dash, so that it would be an option, or has a NUL.
    """
    values = {
        "{sender}": "" if sender.is_null else str(sender),
        "{recipient}": str(recipient),
        "{local_part}": recipient.local_part,
        "{domain}": recipient.domain,
    }
    program, *arguments = config.command
    return [program, *(_filled(argument, values) for argument in arguments)]


def _filled(template: str, values: dict[str, str]) -> str:
    # In one pass: what an address brings in is not looked at again.
    filled = _PLACEHOLDER.sub(lambda found: values[found[0]], template)
    if filled.startswith("-") and not template.startswith("-"):
        raise UnsafeArgument(f"an address that begins with a dash would be an option of the command: {filled!r}")
    if "\0" in filled:
        raise UnsafeArgument("an address has a NUL")
    return filled
